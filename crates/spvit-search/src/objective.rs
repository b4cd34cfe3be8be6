//! The budget's part of the objective.

use burn::tensor::{Tensor, backend::Backend};
use spvit_core::FusedOps;

use crate::{Budget, CostTable, Gates};

/// `λ·(F*/scale - F/scale)²` (Eq. 13), F being the cost at the expected gates.
///
/// The paper's scale is 10⁹ FLOPs. With the dense model's cost as the scale, one λ serves models of
/// any size.
#[derive(Debug, Clone)]
pub struct BudgetTerm {
    /// Costs of every choice.
    pub table: CostTable,
    /// F*, in the table's unit.
    pub budget: Budget,
    /// Weight against the cross-entropy.
    pub lambda: f64,
    /// Cost that counts as one.
    pub scale: f64,
}

impl BudgetTerm {
    /// The term at the current thresholds, `[1]`.
    pub fn loss<B: FusedOps>(&self, gates: &Gates<B>) -> Tensor<B, 1> {
        let (operations, ffn) = gates.expected();
        let cost = self.table.expected(operations, ffn, self.scale);
        (cost - self.budget.target / self.scale).square() * self.lambda
    }

    /// Cost at the expected gates, exactly.
    pub fn cost<B: Backend>(&self, gates: &Gates<B>) -> f64 {
        let blocks = gates.probabilities();
        let cost = blocks
            .iter()
            .zip(&self.table.blocks)
            .map(|(block, cost)| cost.at(block.level(), block.open()));
        self.table.fixed() + cost.sum::<f64>()
    }
}
