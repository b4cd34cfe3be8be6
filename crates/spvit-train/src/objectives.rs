//! The objectives of the phases.

use spvit_core::TrainBackend;
use spvit_layers::{SearchVit, Vit};
use spvit_search::{BlockUniforms, BudgetTerm, Gates};

use crate::{
    Teacher,
    loss::cross_entropy,
    micro_batch::MicroBatch,
    random::gate_uniforms,
    step::{GroupMapper, GroupVisitor, Loss, Objective, StepContext, Trainable},
};

/// Pretraining and fine-tuning: cross-entropy, and how far a teacher's predictions are followed.
pub struct Classification<B: TrainBackend> {
    /// Nobody, unless the loss follows one.
    pub teacher: Option<Teacher<B>>,
}

impl<B: TrainBackend> Objective<B> for Classification<B> {
    type Model = Vit<B>;

    fn loss(&self, model: &Vit<B>, batch: &MicroBatch<B>, context: &StepContext<B>) -> Loss<B> {
        let logits = model.forward(batch.images.clone(), &context.mode());
        let mut value = cross_entropy(logits.clone(), batch.targets.clone(), batch.total);
        if let Some(teacher) = &self.teacher {
            let follow = teacher.follow(logits.clone(), batch);
            value = value * (1.0 - teacher.share) + follow * teacher.share;
        }
        Loss { value, logits }
    }
}

/// A model in search form with its gates: two groups of parameters, weights and thresholds.
#[derive(Clone)]
pub struct Searched<B: TrainBackend> {
    /// The weights.
    pub model: SearchVit<B>,
    /// The thresholds.
    pub gates: Gates<B>,
}

impl<B: TrainBackend> Trainable<B> for Searched<B> {
    fn visit_groups(&self, visitor: &mut impl GroupVisitor<B>) {
        visitor.group(&self.model);
        visitor.group(&self.gates);
    }

    fn map_groups(self, mapper: &mut impl GroupMapper<B>) -> Self {
        let model = mapper.group(self.model);
        Self { model, gates: mapper.group(self.gates) }
    }
}

/// Where the draws of a step's gates come from.
pub enum Uniforms {
    /// The step's seed and number.
    Seeded,
    /// The same numbers in every step, one entry for each block.
    Given(Vec<BlockUniforms>),
}

/// The search: cross-entropy at sampled gates, one draw per layer and step that the whole batch
/// shares, and the budget's term.
pub struct SearchObjective {
    /// The budget's term.
    pub budget: BudgetTerm,
    /// The gates' draws.
    pub uniforms: Uniforms,
}

impl<B: TrainBackend> Objective<B> for SearchObjective {
    type Model = Searched<B>;

    fn loss(
        &self,
        Searched { model, gates }: &Searched<B>,
        batch: &MicroBatch<B>,
        context: &StepContext<B>,
    ) -> Loss<B> {
        let sampled = match &self.uniforms {
            Uniforms::Seeded => {
                gates.sample(&gate_uniforms(context.seed, context.number, &gates.draws()))
            }
            Uniforms::Given(uniforms) => gates.sample(uniforms),
        };
        let logits = model.forward(batch.images.clone(), &sampled, &context.mode());
        let mut value = cross_entropy(logits.clone(), batch.targets.clone(), batch.total);
        if batch.start == 0 {
            value = value + self.budget.loss(gates);
        }
        Loss { value, logits }
    }
}
