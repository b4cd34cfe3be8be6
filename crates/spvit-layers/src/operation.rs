//! The operations that a searched attention layer may become.

use serde::{Deserialize, Serialize};

/// What a searched attention layer becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Operation {
    /// Nothing: the residual alone.
    Shortcut,
    /// A bottleneck convolution with a square kernel of this (odd) side.
    BConv(usize),
    /// Multi-head self-attention.
    Msa,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Shortcut => f.pad("shortcut"),
            Self::BConv(k) => f.pad(&format!("bconv{k}x{k}")),
            Self::Msa => f.pad("msa"),
        }
    }
}

impl From<Operation> for String {
    fn from(operation: Operation) -> Self {
        operation.to_string()
    }
}

impl std::str::FromStr for Operation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let kernel = || {
            let (a, b) = name.strip_prefix("bconv")?.split_once('x')?;
            (a == b).then(|| a.parse::<usize>().ok()).flatten().filter(|k| k % 2 == 1)
        };
        match name {
            "shortcut" => Ok(Self::Shortcut),
            "msa" => Ok(Self::Msa),
            _ => kernel().map(Self::BConv).ok_or_else(|| {
                format!(
                    "unknown operation '{name}': expected shortcut, msa or bconvKxK with an odd \
                     K, such as bconv3x3"
                )
            }),
        }
    }
}

impl TryFrom<String> for Operation {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}
