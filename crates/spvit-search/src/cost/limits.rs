//! Budgets that all hold.

use spvit_layers::{BlockConfig, Operation};

use super::{Budget, CostTable, Unit};

/// A budget, and what every choice costs in its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    /// Costs of every choice.
    pub table: CostTable,
    /// The most that a model may cost, in the table's unit.
    pub target: f64,
}

impl Limit {
    /// The budget alone.
    pub fn budget(&self) -> Budget {
        Budget { target: self.target, unit: self.table.unit }
    }
}

/// One or several budgets of one model, in different units, all of which a compact model meets.
///
/// Their tables have the same single paths: an operation that is dominated in any unit is on none.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    first: Limit,
    others: Vec<Limit>,
    multiple: usize,
}

impl Limits {
    /// One budget.
    pub fn one(table: CostTable, target: f64) -> Self {
        Self::new(Limit { table, target }, Vec::new())
    }

    /// A budget and others, whose tables are those of the same model.
    pub fn new(first: Limit, others: Vec<Limit>) -> Self {
        if others.is_empty() {
            return Self { first, others, multiple: 1 };
        }
        let on_path = |block: usize, operation: Operation| {
            let tables = others.iter().chain([&first]).map(|limit| &limit.table.blocks[block]);
            tables.into_iter().all(|cost| cost.path().any(|(own, _)| own == operation))
        };
        let blocks = first.table.blocks.iter().enumerate();
        let among: Vec<Vec<Operation>> = blocks
            .map(|(block, cost)| {
                let all = cost.path().map(|(operation, _)| operation);
                all.filter(|&operation| on_path(block, operation)).collect()
            })
            .collect();
        let kept = |limit: Limit| Limit { table: limit.table.among(&among), ..limit };
        let others = others.into_iter().map(kept).collect();
        Self { first: kept(first), others, multiple: 1 }
    }

    /// The same for FFNs whose widths are multiples of this number.
    pub fn in_multiples(self, multiple: usize) -> Self {
        Self { multiple: multiple.max(1), ..self }
    }

    /// The number of which the widths of FFNs that a search cuts are multiples.
    pub fn multiple(&self) -> usize {
        self.multiple
    }

    /// The first budget, whose table has the single paths of all.
    pub fn first(&self) -> &Limit {
        &self.first
    }

    /// All of them, the first first.
    pub fn iter(&self) -> impl Iterator<Item = &Limit> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The same with other targets, one for each budget.
    pub fn with_targets(mut self, targets: impl IntoIterator<Item = f64>) -> Self {
        let limits = std::iter::once(&mut self.first).chain(&mut self.others);
        for (limit, target) in limits.zip(targets) {
            limit.target = target;
        }
        self
    }

    /// The same with another target for the budget of time, if there is one.
    pub fn in_time(mut self, milliseconds: f64) -> Self {
        for limit in std::iter::once(&mut self.first).chain(&mut self.others) {
            if limit.table.unit == Unit::Milliseconds {
                limit.target = milliseconds;
            }
        }
        self
    }

    /// The same with these operations alone, one entry for each block ([`CostTable::among`]).
    pub fn among(self, operations: &[Vec<Operation>]) -> Self {
        let among = |limit: Limit| Limit { table: limit.table.among(operations), ..limit };
        let others = self.others.into_iter().map(among).collect();
        Self { first: among(self.first), others, multiple: self.multiple }
    }

    /// What a choice costs in all units together, each as a share of its budget, so that parts can be
    /// ordered by their worth for their cost; with one budget its own table.
    pub fn together(&self) -> CostTable {
        if self.others.is_empty() {
            return self.first.table.clone();
        }
        // In units of the first, so that a cost stays far from 0.
        let weight =
            |limit: &Limit| self.first.target / limit.target / (1 + self.others.len()) as f64;
        let mut sum = self.first.table.scaled(weight(&self.first));
        for limit in &self.others {
            sum.add(&limit.table, weight(limit));
        }
        sum
    }

    /// Whether a compact model meets all budgets; `None` if it does not fit the tables.
    pub fn met(&self, blocks: &[BlockConfig]) -> Option<bool> {
        let met = |limit: &Limit| Some(limit.table.total(blocks)? <= limit.target);
        self.iter().try_fold(true, |all, limit| Some(all & met(limit)?))
    }
}
