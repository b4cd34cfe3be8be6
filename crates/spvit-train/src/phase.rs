//! What a run does, in order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of a run that trains. Its name stands in file names, configurations, metrics and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Training of a dense model from scratch.
    Pretrain,
    /// Training of a dense model of other classes with a new head.
    Transfer,
    /// The search for an architecture.
    Search,
    /// Training of the pruned model.
    Finetune,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Pretrain, Self::Transfer, Self::Search, Self::Finetune];

    /// `pretrain`, `transfer`, `search` or `finetune`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Transfer => "transfer",
            Self::Search => "search",
            Self::Finetune => "finetune",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
