//! The objectives of the phases.

use burn::{module::AutodiffModule, tensor::Tensor};
use spvit_core::{TrainBackend, fused::cross_entropy};
use spvit_layers::{SearchVit, Vit};
use spvit_search::{BlockUniforms, BudgetTerm, Gates};

use crate::{
    Teacher,
    micro_batch::MicroBatch,
    random::gate_uniforms,
    step::{GroupMapper, GroupVisitor, Loss, Objective, StepContext, Trainable},
};

/// Pretraining and fine-tuning: cross-entropy, and how far a teacher's predictions are followed. Where
/// a model has a classifier on a distillation token, that one follows the teacher, and the other the
/// labels; without a teacher the mean of both follows the labels.
pub struct Classification<B: TrainBackend> {
    /// Nobody, unless the loss follows one.
    pub teacher: Option<Teacher<B>>,
}

impl<B: TrainBackend> Objective<B> for Classification<B> {
    type Model = Vit<B>;

    fn loss(&self, model: &Vit<B>, batch: &MicroBatch<B>, context: &StepContext<B>) -> Loss<B> {
        let labels = |logits| cross_entropy(logits, batch.targets.clone(), batch.total);
        let heads = model.forward_heads(batch.images.clone(), &context.mode());
        let logits = heads.clone().mean();
        let value = match &self.teacher {
            Some(teacher) => {
                let follows = heads.distillation.unwrap_or_else(|| heads.class.clone());
                let follow = teacher.follow(follows, batch, context.number);
                labels(heads.class) * (1.0 - teacher.share) + follow * teacher.share
            }
            None => labels(logits.clone()),
        };
        Loss { value, logits }
    }

    fn on_device(&self, device: &B::Device) -> Self {
        Self { teacher: self.teacher.as_ref().map(|teacher| teacher.on_device(device)) }
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
#[derive(Clone)]
pub enum Uniforms {
    /// The step's seed and number.
    Seeded,
    /// The same numbers in every step, one entry for each block.
    Given(Vec<BlockUniforms>),
}

/// The search: cross-entropy at sampled gates, one draw per layer and step that the whole batch
/// shares, and the budget's term.
#[derive(Clone)]
pub struct SearchObjective {
    /// The terms of the budgets, of which that counts whose budget is exceeded most.
    pub budgets: Vec<BudgetTerm>,
    /// The gates' draws.
    pub uniforms: Uniforms,
    /// Which operation gates are open in a step, where that was read before it.
    open: Option<(u64, Vec<bool>)>,
}

impl SearchObjective {
    /// An objective before the first step.
    pub fn new(budgets: Vec<BudgetTerm>, uniforms: Uniforms) -> Self {
        Self { budgets, uniforms, open: None }
    }

    /// A step's draws.
    fn draws<B: TrainBackend>(
        &self,
        gates: &Gates<B>,
        number: u64,
        seed: u64,
    ) -> Vec<BlockUniforms> {
        match &self.uniforms {
            Uniforms::Seeded => gate_uniforms(seed, number, &gates.draws()),
            Uniforms::Given(uniforms) => uniforms.clone(),
        }
    }

    /// The term of the budget that is exceeded most.
    fn binding<B: TrainBackend>(&self, gates: &Gates<B>) -> Option<&BudgetTerm> {
        match &self.budgets[..] {
            // The costs of one need not be read from the device.
            [only] => Some(only),
            all => {
                let share = |term: &BudgetTerm| term.cost(gates) / term.budget.target;
                all.iter().max_by(|a, b| share(a).total_cmp(&share(b)))
            }
        }
    }
}

impl<B: TrainBackend> Objective<B> for SearchObjective {
    type Model = Searched<B>;

    fn loss(
        &self,
        Searched { model, gates }: &Searched<B>,
        batch: &MicroBatch<B>,
        context: &StepContext<B>,
    ) -> Loss<B> {
        let draws = self.draws(gates, context.number, context.seed);
        let sampled = match &self.open {
            Some((number, open)) if *number == context.number => gates.sample_opened(&draws, open),
            _ => gates.sample(&draws),
        };
        let logits = model.forward(batch.images.clone(), &sampled, &context.mode());
        let mut value = cross_entropy(logits.clone(), batch.targets.clone(), batch.total);
        if batch.first() == 0
            && let Some(term) = self.binding(gates)
        {
            value = value + term.loss(gates);
        }
        Loss { value, logits }
    }

    fn ahead(
        &self,
        Searched { gates, .. }: &Searched<B>,
        number: u64,
        seed: u64,
    ) -> Option<Tensor<B::InnerBackend, 1>> {
        gates.valid().operation_gates(&self.draws(gates, number, seed))
    }

    fn told(&mut self, ahead: Option<(u64, Vec<f32>)>) {
        self.open = ahead
            .map(|(number, gates)| (number, gates.into_iter().map(|gate| gate > 0.5).collect()));
    }

    fn on_device(&self, _device: &B::Device) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::{Autodiff, Flex};
    use burn::tensor::{Tensor, TensorData, backend::BackendTypes};
    use spvit_layers::{Init, Mode, ModelConfig, TrainContext, VitConfig};

    use crate::TeacherNetwork;

    type B = Autodiff<Flex>;
    type Rows = [[f64; 3]; 2];

    const TEACHER: Rows = [[0.3, 2.0, -1.0], [1.5, -0.5, 0.2]];
    const TARGETS: Rows = [[0.9, 0.05, 0.05], [0.05, 0.05, 0.9]];
    const SHARE: f64 = 0.3;

    fn tensor<A: burn::tensor::backend::Backend>(rows: Rows) -> Tensor<A, 2> {
        let values = rows.concat().into_iter().map(|x| x as f32).collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(values, [2, 3]), &Default::default())
    }

    struct Fixed;

    impl TeacherNetwork<B> for Fixed {
        fn logits(&self, _images: Tensor<Flex, 4>) -> Result<Tensor<Flex, 2>, String> {
            Ok(tensor(TEACHER))
        }

        fn on_device(&self, _: &<Flex as BackendTypes>::Device) -> Box<dyn TeacherNetwork<B>> {
            Box::new(Fixed)
        }
    }

    fn model(distilled: bool) -> Vit<B> {
        let shape = VitConfig { distilled, ..VitConfig::deit([8, 4, 1, 3, 16, 1, 2]) };
        let shape: ModelConfig = shape.into();
        Vit::new(&shape, &shape.dense_blocks(), &mut Init::new(11, &Default::default()))
    }

    fn batch() -> MicroBatch<B> {
        let values: Vec<f32> = (0..2 * 64).map(|i| (i as f32 * 0.9).sin()).collect();
        let images = Tensor::from_data(TensorData::new(values, [2, 1, 8, 8]), &Default::default());
        MicroBatch { places: vec![0, 1], total: 2, images, targets: tensor(TARGETS) }
    }

    fn loss(model: &Vit<B>, temperature: Option<f64>) -> Loss<B> {
        let teacher = temperature.map(|heat| Teacher::new(Box::new(Fixed), SHARE, heat));
        let context = StepContext { number: 0, seed: 0, train: TrainContext::new() };
        Classification { teacher }.loss(model, &batch(), &context)
    }

    fn rows(logits: Tensor<B, 2>) -> Rows {
        let values: Vec<f64> = logits.into_data().iter::<f64>().collect();
        [0, 1].map(|row| [0, 1, 2].map(|column| values[3 * row + column]))
    }

    /// Logarithms of a row's probabilities.
    fn logs(row: [f64; 3], heat: f64) -> [f64; 3] {
        let sum: f64 = row.iter().map(|x| (x / heat).exp()).sum();
        row.map(|x| x / heat - sum.ln())
    }

    /// DeiT's `DistillationLoss`, as it is defined: `(1 - α)·base(class) + α·distillation(dist)`.
    fn defined(class: Rows, dist: Rows, heat: f64) -> f64 {
        let image = |row: usize| {
            let own = logs(class[row], 1.0);
            let base: f64 = (0..3).map(|c| -TARGETS[row][c] * own[c]).sum();
            let follow = if heat == 0.0 {
                // Its likeliest classes are 1 and 0.
                -logs(dist[row], 1.0)[[1, 0][row]]
            } else {
                let (theirs, ours) = (logs(TEACHER[row], heat), logs(dist[row], heat));
                let divergence: f64 = (0..3).map(|c| theirs[c].exp() * (theirs[c] - ours[c])).sum();
                divergence * heat * heat / 3.0
            };
            (1.0 - SHARE) * base + SHARE * follow
        };
        (0..2).map(image).sum::<f64>() / 2.0
    }

    #[test]
    fn the_distillation_token_follows_the_teacher_and_the_class_token_the_labels() {
        for distilled in [true, false] {
            let model = model(distilled);
            let heads = model.forward_heads(batch().images, &Mode::Evaluate);
            assert_eq!(heads.distillation.is_some(), distilled);
            let class = rows(heads.class.clone());
            let dist = heads.distillation.clone().map_or(class, rows);
            let mean = rows(heads.mean());
            for heat in [0.0, 1.0, 3.0] {
                let found = loss(&model, Some(heat));
                let (value, expected) = (
                    found.value.into_data().iter::<f64>().sum::<f64>(),
                    defined(class, dist, heat),
                );
                assert!((value - expected).abs() < 2e-6, "{distilled} {heat}: {value}, {expected}");
                assert_eq!(rows(found.logits), mean, "what the accuracy in training is of");
            }
            // Without a teacher the labels are what the mean of both learns.
            let value = loss(&model, None).value.into_data().iter::<f64>().sum::<f64>();
            let own = mean.map(|row| logs(row, 1.0));
            let expected: f64 =
                (0..6).map(|i| -TARGETS[i / 3][i % 3] * own[i / 3][i % 3] / 2.0).sum();
            assert!((value - expected).abs() < 2e-6, "{distilled}: {value}, {expected}");
        }
    }

    /// With a teacher alone, no gradient reaches the other classifier.
    #[test]
    fn each_classifier_has_the_gradient_of_its_own_part() {
        let model = model(true);
        let teacher = Some(Teacher::new(Box::new(Fixed), 1.0, 0.0));
        let context = StepContext { number: 0, seed: 0, train: TrainContext::new() };
        let loss = Classification { teacher }.loss(&model, &batch(), &context);
        let gradients = loss.value.backward();
        let most = |weight: Tensor<B, 2>| {
            weight.grad(&gradients).map_or(0.0, |grad| grad.abs().max().into_scalar())
        };
        let dist = model.head_dist.as_ref().unwrap().weight.val();
        assert_eq!(most(model.head.weight.val()), 0.0);
        assert!(most(dist) > 1e-3);
    }
}
