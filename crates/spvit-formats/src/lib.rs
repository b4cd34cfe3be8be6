//! spvit-formats
