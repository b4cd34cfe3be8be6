//! spvit-core
