//! The model of a search's gates whose measured time is within a budget of time.
//!
//! Targets of the table are tried until the measured time is near the budget ([`Aim`]). A time may jump
//! from one target to the next: an attention layer comes back, or a product becomes just large enough to
//! be split among threads. Where the budget lies in such a jump, the block that jumps is held as it is
//! before it, and larger targets make the other blocks larger.

use spvit_core::TrainBackend;
use spvit_layers::ModelConfig;
use spvit_search::{
    Architecture, BlockArchitecture, BlockProbabilities, CostModel, DeriveError, Limits, Unit,
    derive_within, sighted,
};

use super::aim::{Aim, Next};
use crate::{Run, TrainError};

/// Blocks that are held at most.
const HELD: usize = 4;

/// What targets give.
struct Targets<'a> {
    model: &'a ModelConfig,
    cost_model: CostModel,
    limits: &'a Limits,
    probabilities: &'a [BlockProbabilities],
    /// Blocks that stay as they are, whatever the target.
    held: Vec<Option<BlockArchitecture>>,
    /// Models measured for them.
    measured: usize,
}

impl Targets<'_> {
    /// The architecture of a target in milliseconds by the table.
    fn derive(&self, target: f64) -> Result<Architecture, DeriveError> {
        let limits = self.limits.clone().in_time(target);
        let architecture = derive_within(self.model, self.cost_model, &limits, self.probabilities)?;
        let held = self.held.iter().enumerate();
        let held = held.filter_map(|(block, own)| Some((block, own.clone()?)));
        Ok(held.fold(architecture, |own, (block, held)| own.with_block(block, held)))
    }

    /// Whether a model sees the image and meets the budgets besides that of time: what is derived does, but
    /// with blocks that are held it may not.
    fn holds(&self, architecture: &Architecture) -> bool {
        let operations = architecture.blocks.iter().map(|block| block.operation);
        let mut others = self.limits.iter().filter(|own| own.table.unit != Unit::Milliseconds);
        (!self.model.sees_by_attention() || sighted(operations))
            && others
                .all(|own| architecture.cost(&own.table).is_some_and(|cost| cost <= own.target))
    }
}

/// A model and its time in milliseconds.
type Timed = (Architecture, f64);

impl<B: TrainBackend> Run<'_, B> {
    /// The architecture of these gates, whose measured time is within a budget of time: the table's target
    /// is corrected until it is. Without such a budget, and on another machine than the table's, what the
    /// tables give.
    pub(crate) fn derive_in_time(
        &mut self,
        limits: &Limits,
        probabilities: &[BlockProbabilities],
    ) -> Result<Architecture, TrainError> {
        let config = self.config.clone();
        let (model, cost_model) = (&config.model, config.search.cost_model);
        let held = vec![None; probabilities.len()];
        let mut targets = Targets { model, cost_model, limits, probabilities, held, measured: 0 };
        let time = limits.iter().find(|limit| limit.table.unit == Unit::Milliseconds);
        let timed = time.zip(config.latency.as_ref()).filter(|(_, table)| self.scale(table));
        let Some((time, table)) = timed else {
            return Ok(derive_within(model, cost_model, limits, probabilities)?);
        };
        let budget = time.target;
        let mut aim = Aim::new(budget, table.cost_table().dense());
        let mut found: Vec<Timed> = Vec::new();
        let mut taken = self.approach(&mut targets, &mut aim, &mut found)?;
        for _ in 0..HELD {
            let Some(over) = aim.over(taken).filter(|_| !aim.is_close(taken)) else { break };
            let Some(block) = self.jump(&mut targets, &found[taken].0, &found[over].0)? else {
                break;
            };
            targets.held[block] = Some(found[taken].0.blocks[block].clone());
            aim = aim.from(taken);
            found = vec![found.swap_remove(taken)];
            taken = self.approach(&mut targets, &mut aim, &mut found)?;
        }
        let (mut architecture, reached) = found.swap_remove(taken);
        architecture.target_milliseconds = Some(budget);
        let mut line = format!(
            "{reached:.4} ms measured, {:.1} % of the budget of {budget:.4} ms ({} models measured)",
            100.0 * reached / budget,
            targets.measured,
        );
        if reached < 0.95 * budget {
            line += match architecture.block_configs() == config.model.dense_blocks() {
                true => "; it is the dense model, which takes no more",
                false => {
                    "; no larger model that the gates and budgets give was found within the budget"
                }
            };
        }
        self.say(&line);
        Ok(architecture)
    }

    /// Measures what targets give until one is near the budget; its place among those found.
    fn approach(
        &mut self,
        targets: &mut Targets,
        aim: &mut Aim,
        found: &mut Vec<Timed>,
    ) -> Result<usize, TrainError> {
        let mut smallest: Option<DeriveError> = None;
        loop {
            match aim.next() {
                Next::Target(target) => match targets.derive(target) {
                    Ok(architecture) => {
                        // One that is not allowed is as one that takes too long.
                        let reached = match targets.holds(&architecture) {
                            true => self.time_of(targets, &architecture, found)?,
                            false => f64::INFINITY,
                        };
                        aim.reached(target, reached);
                        found.push((architecture, reached));
                    }
                    Err(error) => {
                        aim.too_small(target);
                        smallest = Some(error);
                    }
                },
                Next::Take(index) => return Ok(index),
                Next::Fail => return Err(self.unmet(aim.budget(), found, smallest)),
            }
        }
    }

    /// The block whose change from one model to a larger one takes the longest; none where all that differ
    /// are held.
    fn jump(
        &mut self,
        targets: &mut Targets,
        from: &Architecture,
        to: &Architecture,
    ) -> Result<Option<usize>, TrainError> {
        let pairs = from.blocks.iter().zip(&to.blocks).zip(&targets.held).enumerate();
        let differing: Vec<usize> = pairs
            .filter(|(_, ((from, to), held))| from != to && held.is_none())
            .map(|(block, _)| block)
            .collect();
        if let [] | [_] = differing[..] {
            return Ok(differing.first().copied());
        }
        let changed = |&block: &usize| from.clone().with_block(block, to.blocks[block].clone());
        let models: Vec<_> = differing.iter().map(changed).map(|own| own.block_configs()).collect();
        let times = self.times_of(&models)?;
        targets.measured += models.len();
        let all = differing.into_iter().zip(times);
        Ok(all.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(block, _)| block))
    }

    /// Milliseconds of an architecture, which may have been measured before.
    fn time_of(
        &mut self,
        targets: &mut Targets,
        architecture: &Architecture,
        known: &[Timed],
    ) -> Result<f64, TrainError> {
        let blocks = architecture.block_configs();
        if let Some((_, time)) = known.iter().find(|(own, _)| own.block_configs() == blocks) {
            return Ok(*time);
        }
        targets.measured += 1;
        Ok(self.times_of(&[blocks])?.first().copied().unwrap_or(f64::NAN))
    }

    /// The error of a budget that no model meets.
    fn unmet(&self, budget: f64, found: &[Timed], smallest: Option<DeriveError>) -> TrainError {
        let fastest = found.iter().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
        match smallest {
            Some(error) if found.is_empty() => error.into(),
            _ => TrainError::Config {
                source_name: format!("the budget of {budget:.4} ms"),
                problem: format!(
                    "the fastest model that the gates give takes {fastest:.4} ms as measured; raise the \
                     budget or choose a smaller dense model"
                ),
            },
        }
    }
}
