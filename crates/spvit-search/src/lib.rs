//! What an SPViT search learns and decides.
//!
//! - [`Gates`]: the thresholds, a module of their own with their own optimiser.
//! - [`CostTable`]: what every choice costs, in FLOPs (multiply-adds counted once, by two cost
//!   models), parameters or milliseconds.
//! - [`Limits`]: one or several budgets, in different units, all of which hold.
//! - [`BudgetTerm`]: the part of the objective that pulls the cost to the budget.
//! - [`Architecture`]: what a search gives to everything later, a small JSON file.
//! - [`Profile`]: what every part of an architecture costs.
//! - [`derive()`]: from gates to the architecture that meets a budget.
//! - [`importance()`] and [`BlockScores`]: what a dense model loses with each of its parts, and the
//!   order in which thresholds begin.
//! - [`candidates()`]: which blocks may keep attention, found by trying.
//! - [`refit()`]: least squares that make a compact model follow the dense one.
//! - [`prune`] and [`expand`]: from search weights to compact ones, from dense to search ones.

mod architecture;
mod choose;
mod cost;
mod derive;
mod gates;
mod importance;
mod json;
mod moments;
mod multiples;
mod objective;
mod profile;
mod prune;
mod ranking;
mod refit;

pub use architecture::{Architecture, ArchitectureError, BlockArchitecture};
pub use choose::{Candidate, candidates};
pub use cost::{
    BlockCost, Budget, Choice, Correction, CostModel, CostTable, Entry, FitError, LatencyError,
    LatencyTable, Limit, Limits, OperationTime, Place, Probe, ShapeFit, Timing, Unit, WholeModel,
    probes,
};
pub use derive::{DeriveError, derive, derive_blocks, derive_for, derive_within, sighted};
pub use gates::{BlockProbabilities, BlockUniforms, GateLayout, Gates};
pub use importance::{BlockImportance, Labelled, PartImportance, importance};
pub use objective::BudgetTerm;
pub use profile::{BlockProfile, Cost, Profile};
pub use prune::{expand, prune};
pub use ranking::BlockScores;
pub use refit::refit;

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/extending.md")]
struct Extending;
