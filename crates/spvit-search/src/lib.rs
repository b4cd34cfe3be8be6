//! What an SPViT search learns and decides.
//!
//! - [`Gates`]: the thresholds, a module of their own with their own optimiser.
//! - [`CostTable`]: what every choice costs, in FLOPs (multiply-adds counted once, by two cost
//!   models), parameters or milliseconds.
//! - [`BudgetTerm`]: the part of the objective that pulls the cost to the budget.
//! - [`Architecture`]: what a search gives to everything later, a small JSON file.
//! - [`Profile`]: what every part of an architecture costs.
//! - [`derive()`]: from gates to the architecture that meets a budget.
//! - [`prune`] and [`expand`]: from search weights to compact ones, from dense to search ones.

mod architecture;
mod cost;
mod derive;
mod gates;
mod objective;
mod profile;
mod prune;

pub use architecture::{Architecture, ArchitectureError, BlockArchitecture};
pub use cost::{BlockCost, Budget, CostModel, CostTable, Unit};
pub use derive::{DeriveError, derive, derive_blocks, derive_for, sighted};
pub use gates::{BlockProbabilities, BlockUniforms, GateLayout, Gates};
pub use objective::BudgetTerm;
pub use profile::{BlockProfile, Cost, Profile};
pub use prune::{expand, prune};
