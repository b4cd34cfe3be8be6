//! spvit-layers
