//! The objectives of the phases.

use burn::tensor::{Tensor, TensorData};
use spvit_core::TrainBackend;
use spvit_layers::{Mode, SearchVit, Vit};
use spvit_search::{BlockUniforms, BudgetTerm, Gates};

use crate::{
    loss::{classes, cross_entropy, soft_distillation},
    micro_batch::MicroBatch,
    random::gate_uniforms,
    step::{GroupMapper, GroupVisitor, Loss, Objective, StepContext, Trainable},
};

/// A teacher and the share of the loss that follows it.
pub struct Teacher<B: TrainBackend> {
    /// The model.
    pub model: Vit<B::InnerBackend>,
    /// From 0 to 1.
    pub share: f64,
    /// At which its predictions are followed (soft distillation); 0 follows its likeliest classes
    /// (hard distillation).
    pub temperature: f64,
}

/// Pretraining and fine-tuning: cross-entropy, and that against a teacher's choices.
pub struct Classification<B: TrainBackend> {
    /// Nobody, unless the loss follows one.
    pub teacher: Option<Teacher<B>>,
}

impl<B: TrainBackend> Teacher<B> {
    /// Cross-entropy against the classes that the teacher chooses, or the divergence from its
    /// predictions, `[1]`.
    fn follow(&self, logits: Tensor<B, 2>, batch: &MicroBatch<B>) -> Tensor<B, 1> {
        let theirs = self.model.forward(batch.images.clone().inner(), &Mode::Evaluate);
        if self.temperature > 0.0 {
            let theirs = Tensor::from_inner(theirs);
            return soft_distillation(logits, theirs, self.temperature, batch.total);
        }
        let chosen = classes(theirs.into_data());
        let [count, width] = logits.dims();
        let mut targets = vec![0.0f32; count * width];
        for (row, class) in chosen.into_iter().enumerate() {
            targets[row * width + class] = 1.0;
        }
        let targets = Tensor::from_data(TensorData::new(targets, [count, width]), &logits.device());
        cross_entropy(logits, targets, batch.total)
    }
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
