//! What a configuration's choices cost, and its budgets.

use spvit_search::{
    BlockCost, BlockProbabilities, Budget, CostTable, Limit, Limits, Unit, derive_within,
};

use super::{BudgetUnit, GivenBudget, RunConfig};
use crate::TrainError;

impl BudgetUnit {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flops => "flops",
            Self::Parameters => "parameters",
            Self::Milliseconds => "milliseconds",
            Self::Latency => "latency",
        }
    }

    /// The unit that it is a budget of.
    pub fn unit(self) -> Unit {
        match self {
            Self::Flops => Unit::Flops,
            Self::Parameters => Unit::Parameters,
            Self::Milliseconds | Self::Latency => Unit::Milliseconds,
        }
    }
}

impl RunConfig {
    /// The search's first budget.
    pub fn budget(&self) -> Budget {
        self.limit(self.search.given_budget()).budget()
    }

    /// All budgets that hold, in the order of their units.
    pub fn budgets(&self) -> Vec<Budget> {
        let mut all: Vec<Budget> = self.limits().iter().map(Limit::budget).collect();
        all.sort_by_key(|budget| budget.unit);
        all
    }

    /// The first budget of each model that `search.budgets` asks for.
    pub fn front(&self) -> Vec<Budget> {
        self.search.budgets.iter().map(|&given| self.limit(given).budget()).collect()
    }

    /// The budgets, with the costs of the choices that are searched.
    pub fn limits(&self) -> Limits {
        let others = self.search.further_budgets.iter().map(|&given| self.limit(given));
        let limits = Limits::new(self.limit(self.search.given_budget()), others.collect());
        limits.in_multiples(self.search.round)
    }

    /// Whether a budget is one of time.
    pub fn has_time_budget(&self) -> bool {
        let Self { search, .. } = self;
        let all = [search.given_budget()].into_iter().filter(|_| search.budgets.is_empty());
        let mut all = all.chain(search.further_budgets.iter().chain(&search.budgets).copied());
        all.any(|given| given.unit.unit() == Unit::Milliseconds)
    }

    /// What the dense model costs in the unit of every limit, in their order.
    pub fn dense_costs(&self) -> Vec<f64> {
        let given = std::iter::once(self.search.given_budget());
        let given = given.chain(self.search.further_budgets.iter().copied());
        given.map(|given| self.dense_cost(given.unit)).collect()
    }

    /// What the budgets are after a share of a search's steps: they fall evenly from the dense model's
    /// costs, `dense`.
    pub fn fallen(&self, limits: &Limits, dense: &[f64], share: f64) -> Limits {
        if share >= self.search.budget_fall {
            return limits.clone();
        }
        let fallen = share / self.search.budget_fall;
        let targets = dense.iter().zip(limits.iter());
        let targets = targets.map(|(dense, limit)| dense - (dense - limit.target) * fallen);
        limits.clone().with_targets(targets)
    }

    fn limit(&self, given: GivenBudget) -> Limit {
        let table = self.searched(self.whole_table_in(given.unit));
        let GivenBudget { target, unit } = given;
        let target = if given.is_share() { self.dense_cost(unit) * target } else { target };
        // Counts are whole numbers.
        let whole = unit.unit() != Unit::Milliseconds;
        Limit { table, target: if whole { target.trunc() } else { target } }
    }

    /// What the dense model costs; of time, what was measured.
    pub(crate) fn dense_cost(&self, unit: BudgetUnit) -> f64 {
        match (&self.latency, unit.unit()) {
            (Some(table), Unit::Milliseconds) => table.dense.median,
            // Nothing was measured, and nothing costs less.
            (None, Unit::Milliseconds) => 0.0,
            _ => self.whole_table_in(unit).dense(),
        }
    }

    /// The choices of a table that are searched.
    fn searched(&self, whole: CostTable) -> CostTable {
        let among = self.search.operations_by_block(self.model.depth());
        let table = whole.among(&among.unwrap_or_default());
        let table = if self.search.ffn { table } else { table.with_whole_ffns() };
        if self.search.heads { table.with_heads() } else { table }
    }

    /// Costs of the choices that are searched, in the first budget's unit; with several budgets those
    /// that are on the single paths of all.
    pub fn cost_table(&self) -> CostTable {
        self.limits().first().table.clone()
    }

    /// Costs of all choices of the model, in the first budget's unit.
    pub fn whole_table(&self) -> CostTable {
        self.whole_table_in(self.search.budget_unit)
    }

    /// Costs of all choices of the model.
    pub(crate) fn whole_costs(&self, unit: Unit) -> CostTable {
        CostTable::in_unit(&self.model, self.search.cost_model, unit)
            .unwrap_or_else(|| self.whole_table_in(BudgetUnit::Milliseconds))
    }

    fn whole_table_in(&self, unit: BudgetUnit) -> CostTable {
        match unit {
            BudgetUnit::Flops => CostTable::new(&self.model, self.search.cost_model),
            BudgetUnit::Parameters => CostTable::parameters(&self.model),
            BudgetUnit::Milliseconds | BudgetUnit::Latency => match &self.latency {
                Some(table) => table.cost_table(),
                None => CostTable::unmeasured(&self.model),
            },
        }
    }

    /// Whether any architecture meets the budgets, and sees the image.
    pub(crate) fn check_reachable(&self) -> Result<(), TrainError> {
        let limits = self.limits();
        let even = |cost: &BlockCost| BlockProbabilities {
            operations: vec![0.5; cost.path().count() - 1],
            ffn: vec![0.5; cost.ffn_gates()],
            heads: vec![0.5; cost.head_gates()],
        };
        let even: Vec<_> = limits.first().table.blocks.iter().map(even).collect();
        let derived = derive_within(&self.model, self.search.cost_model, &limits, &even)?;
        match derived.blind() {
            Some(line) => Err(TrainError::Config {
                source_name: "search.operations".into(),
                problem: line.into(),
            }),
            None => Ok(()),
        }
    }

    /// A line for each unit on the operations that the single paths leave out.
    pub(crate) fn dominated(&self) -> impl Iterator<Item = String> {
        let all = std::iter::once(self.search.budget_unit);
        let all = all.chain(self.search.further_budgets.iter().map(|given| given.unit));
        all.filter_map(|unit| self.searched(self.whole_table_in(unit)).dominated())
    }
}
