//! The budget's part of the objective.

use burn::tensor::{Tensor, backend::Backend};

use crate::{CostTable, Gates};

/// `λ·(F*/unit - F/unit)²` (Eq. 13), F being the FLOPs at the expected gates.
///
/// The paper's unit is 10⁹ FLOPs. With the dense model's FLOPs as the unit, one λ serves models of
/// any size.
#[derive(Debug, Clone)]
pub struct BudgetTerm {
    /// FLOPs of every choice.
    pub table: CostTable,
    /// F*, the budget in FLOPs.
    pub target: f64,
    /// Weight against the cross-entropy.
    pub lambda: f64,
    /// FLOPs that count as one.
    pub unit: f64,
}

impl BudgetTerm {
    /// The term at the current thresholds, `[1]`.
    pub fn loss<B: Backend>(&self, gates: &Gates<B>) -> Tensor<B, 1> {
        let (operations, ffn) = gates.expected();
        let flops = self.table.expected(operations, ffn, self.unit);
        (flops - self.target / self.unit).square() * self.lambda
    }

    /// FLOPs at the expected gates, exactly.
    pub fn flops<B: Backend>(&self, gates: &Gates<B>) -> u64 {
        let blocks = gates.probabilities();
        let cost = blocks.iter().zip(&self.table.blocks).map(|(block, cost)| {
            let level = block.operations.iter().take_while(|&&p| p > 0.5).count();
            let kept = block.ffn.iter().filter(|&&p| p > 0.5).count() as u64;
            cost.operations[level] + kept * cost.hidden_dimension
        });
        self.table.fixed + cost.sum::<u64>()
    }
}
