//! spvit-search
