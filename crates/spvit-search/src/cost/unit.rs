//! Units of costs, and budgets in them.

use serde::{Deserialize, Serialize};

/// How FLOPs are counted. FLOPs are multiply-adds counted once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostModel {
    /// Eqs. 14 and 15, to the last multiply-add of the published code: FFNs and convolutions count
    /// the map's tokens, attention all, and a ViT's final norm is left out.
    Paper,
    /// A true count of the compact model: every product of a matrix or convolution (padding
    /// counted), and one multiply-add per element of a normalisation or scale.
    Macs,
}

impl std::fmt::Display for CostModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Paper => "paper",
            Self::Macs => "macs",
        })
    }
}

/// What a cost is measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Multiply-adds counted once.
    Flops,
    /// Trained values.
    Parameters,
    /// Milliseconds on the machine that a table was measured on.
    Milliseconds,
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Flops => "FLOPs",
            Self::Parameters => "parameters",
            Self::Milliseconds => "ms",
        })
    }
}

/// The most that a compact model may cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// The most, in `unit`.
    pub target: f64,
    /// Its unit.
    pub unit: Unit,
}

impl Budget {
    /// A budget of multiply-adds.
    pub fn flops(target: u64) -> Self {
        Self { target: target as f64, unit: Unit::Flops }
    }

    /// A budget of time, in milliseconds.
    pub fn milliseconds(target: f64) -> Self {
        Self { target, unit: Unit::Milliseconds }
    }

    /// A budget of trained values.
    pub fn parameters(target: u64) -> Self {
        Self { target: target as f64, unit: Unit::Parameters }
    }
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { target, unit } = self;
        match unit {
            Unit::Flops | Unit::Parameters => write!(f, "{target} {unit}"),
            Unit::Milliseconds => write!(f, "{target:.4} {unit}"),
        }
    }
}
