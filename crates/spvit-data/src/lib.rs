//! spvit-data
