//! Which blocks keep attention, found by trying.

use burn::tensor::{Tensor, backend::Backend};
use spvit_core::FusedOps;
use spvit_layers::{Init, Mode, ModelConfig, Operation, SearchVit, Vit};

use crate::{
    Architecture, BlockProbabilities, BlockScores, CostModel, Limits, derive_within, expand,
    importance::divergence, prune, refit, sighted,
};

/// A model so many times as far from the dense one as the nearest is no candidate.
const HOPELESS: f64 = 6.0;

/// Whether a model does not meet the budget, with its loss or else what attention is worth; the block
/// without attention; the model, if it does.
type Tried<B> = ((bool, f64), usize, Option<Candidate<B>>);

/// What candidates are tried on.
struct Trial<'a, B: FusedOps> {
    dense: &'a Vit<B>,
    search: SearchVit<B>,
    config: &'a ModelConfig,
    limits: &'a Limits,
    scores: &'a [BlockScores],
    images: &'a [Tensor<B, 4>],
    logits: Vec<Tensor<B, 2>>,
}

/// Attention in some blocks, and what is then left at the budget.
#[derive(Debug, Clone)]
pub struct Candidate<B: Backend> {
    /// Whether each block keeps attention, or what else is the dearest of its path.
    pub kept: Vec<bool>,
    /// Mean over the images of `KL(p ‖ q)` of the dense predictions p and the model's q, in nats.
    pub loss: f64,
    /// The architecture at the budget, its hidden dimensions by their scores.
    pub architecture: Architecture,
    /// The dense weights, cut and fitted ([`refit()`]).
    pub model: Vit<B>,
}

/// Takes attention out of one block after another, of those that still have it always the one whose
/// loss leaves the model that follows the dense one best, hidden dimensions filling the budgets by their
/// scores; returns what is left after every round in which the budgets are met.
///
/// With so many blocks that have a choice, `n`, at most `n·(n + 1)/2` models are cut, fitted and
/// compared; it ends where a round's best is six times as far from the dense model as the
/// nearest. Before every model `progress` is told its number and how many there may be; where it says
/// no, what has been found is returned.
pub fn candidates<B: FusedOps>(
    dense: &Vit<B>,
    (config, limits): (&ModelConfig, &Limits),
    scores: &[BlockScores],
    images: &[Tensor<B, 4>],
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Vec<Candidate<B>> {
    let mut search = expand(dense, config, &mut Init::new(0, &dense.device()));
    for block in &mut search.blocks {
        block.attn.reset_head_distribution();
    }
    let logits = images.iter().map(|batch| dense.forward(batch.clone(), &Mode::Evaluate)).collect();
    let trial = Trial { dense, search, config, limits, scores, images, logits };
    let table = &limits.first().table;
    let paths: Vec<Vec<Operation>> =
        table.blocks.iter().map(|block| block.path().map(|(op, _)| op).collect()).collect();
    let mut kept = vec![true; paths.len()];
    let mut found: Vec<Candidate<B>> = trial.candidate(&paths, &kept).into_iter().collect();
    let choices = paths.iter().filter(|path| path.len() > 1).count();
    let (mut done, tries) = (0, choices * (choices + 1) / 2);
    loop {
        let mut best: Option<Tried<B>> = None;
        for block in (0..paths.len()).filter(|&block| kept[block] && paths[block].len() > 1) {
            if !progress(done, tries) {
                return found;
            }
            done += 1;
            let mut without = kept.clone();
            without[block] = false;
            if config.sees_by_attention() && !sighted(chosen(&paths, &without)) {
                continue;
            }
            let own = trial.candidate(&paths, &without);
            // Where nothing fits yet, what attention is worth by itself decides.
            let worth = own.as_ref().map_or(scores[block].attention, |own| own.loss);
            let worth = (own.is_none(), worth);
            if best.as_ref().is_none_or(|(least, ..)| worth < *least) {
                best = Some((worth, block, own));
            }
        }
        let Some((_, block, own)) = best else { break };
        kept[block] = false;
        let Some(own) = own else { continue };
        let least = found.iter().map(|own| own.loss).fold(own.loss, f64::min);
        if own.loss > HOPELESS * least {
            break;
        }
        found.push(own);
    }
    found
}

/// The last operation of a block's path where it keeps it, else the first.
fn chosen<'a>(
    paths: &'a [Vec<Operation>],
    kept: &'a [bool],
) -> impl Iterator<Item = Operation> + 'a {
    let operation = |(path, &kept): (&Vec<Operation>, &bool)| {
        let operation = if kept { path.last() } else { path.first() };
        operation.copied().unwrap_or(Operation::Msa)
    };
    paths.iter().zip(kept).map(operation)
}

impl<B: FusedOps> Trial<'_, B> {
    /// `None` where the operations alone exceed the budget.
    fn candidate(&self, paths: &[Vec<Operation>], kept: &[bool]) -> Option<Candidate<B>> {
        let architecture = self.architecture(paths, kept)?;
        let cut = prune(&self.search, &architecture);
        let model = refit(cut, self.dense, self.images, |_, _| {});
        let pairs = self.images.iter().zip(&self.logits);
        let sum: f64 = pairs
            .map(|(batch, logits)| {
                divergence(logits.clone(), model.forward(batch.clone(), &Mode::Evaluate))
            })
            .sum();
        let count: usize = self.images.iter().map(|batch| batch.dims()[0]).sum();
        let loss = sum / count.max(1) as f64;
        Some(Candidate { kept: kept.to_vec(), loss, architecture, model })
    }

    fn architecture(&self, paths: &[Vec<Operation>], kept: &[bool]) -> Option<Architecture> {
        let among: Vec<Vec<Operation>> = chosen(paths, kept).map(|op| vec![op]).collect();
        let limits = self.limits.clone().among(&among);
        let probabilities: Vec<BlockProbabilities> = self
            .scores
            .iter()
            .map(|block| BlockProbabilities {
                operations: Vec::new(),
                ffn: block.ffn.iter().map(|&score| score as f32).collect(),
                heads: block.heads.iter().map(|&score| score as f32).collect(),
            })
            .collect();
        derive_within(self.config, CostModel::Paper, &limits, &probabilities).ok()
    }
}
