//! spvit-train
