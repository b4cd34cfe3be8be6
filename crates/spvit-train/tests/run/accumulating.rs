//! Batches in parts that are computed one after another.

use burn::{
    backend::{Autodiff, Flex},
    module::{Module, ModuleVisitor, Param, ParamId},
    tensor::{Tensor, TensorData},
};
use spvit_data::Batch;
use spvit_layers::{Init, ModelConfig, SearchVit, Vit, VitConfig, state};
use spvit_search::{BudgetTerm, Gates};
use spvit_train::{
    Classification, Devices, RunConfig, SearchObjective, Searched, Uniforms,
    step::{Group, Replicas, StepOptions},
};

use crate::resuming::same_bits;

type B = Autodiff<Flex>;

const IMAGES: usize = 13;

pub fn shape() -> ModelConfig {
    VitConfig::deit([12, 4, 1, 5, 16, 2, 2]).into()
}

/// Thirteen images of noise with smoothed labels.
pub fn batch() -> Batch {
    let noise = |i: usize| ((i as f32 * 12.9898).sin() * 43758.547).fract() * 2.0;
    let labels: Vec<u16> = (0..IMAGES).map(|image| (image * 3 % 5) as u16).collect();
    let mut targets = vec![0.02; IMAGES * 5];
    for (row, &label) in labels.iter().enumerate() {
        targets[row * 5 + usize::from(label)] += 0.9;
    }
    let images = (0..IMAGES * 144).map(noise).collect();
    Batch {
        index: 0,
        images,
        part: (0..IMAGES).collect(),
        shape: [IMAGES, 1, 12, 12],
        labels,
        targets,
        classes: 5,
    }
}

fn options(accumulate: usize, micro_batches: usize) -> StepOptions {
    StepOptions {
        seed: 3,
        micro_batches,
        accumulate,
        drop_path: 0.3,
        depth: 2,
        ..StepOptions::default()
    }
}

fn dense(options: StepOptions) -> Replicas<B, Classification<B>> {
    let device = Default::default();
    let model = Vit::new(&shape(), &shape().dense_blocks(), &mut Init::new(7, &device));
    let objective = Classification { teacher: None };
    Replicas::new(
        objective,
        model,
        [Group::new(0.05).clipped(0.1)],
        options,
        &Devices::one(&device),
    )
}

fn searched(options: StepOptions) -> Replicas<B, SearchObjective> {
    let device = Default::default();
    let config = RunConfig { model: shape(), ..RunConfig::default() };
    let table = config.cost_table();
    let gates = Gates::new(&table, 0.5, &device);
    let scale = table.dense();
    let budget = BudgetTerm { table, budget: config.budget(), lambda: 3.0, scale };
    let model = SearchVit::new(&shape(), &mut Init::new(7, &device));
    let objective = SearchObjective::new(vec![budget], Uniforms::Seeded);
    let groups = [Group::new(0.05), Group::new(0.0)];
    Replicas::new(objective, Searched { model, gates }, groups, options, &Devices::one(&device))
}

/// Parameters in a fixed order.
struct Ids(Vec<ParamId>);

impl ModuleVisitor<B> for Ids {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.0.push(param.id);
    }
}

/// Loss, images classified rightly, and the gradient of every parameter that has one.
fn gradients_of(replicas: &Replicas<B, Classification<B>>) -> (f64, usize, Vec<Vec<f32>>) {
    let mut ids = Ids(Vec::new());
    replicas.model().visit(&mut ids);
    let step = replicas.gradients(&batch(), 4).unwrap();
    let values = |id: &ParamId| Some(step.groups[0].get(*id)?.to_data().to_vec::<f32>().unwrap());
    (step.report.loss, step.report.correct, ids.0.iter().filter_map(values).collect())
}

/// The gradients of five parts, each of two or three images, are those of the whole batch.
#[test]
fn parts_one_after_another_have_the_gradients_of_the_whole_batch() {
    let (loss, correct, whole) = gradients_of(&dense(options(1, 1)));
    assert!(whole.len() > 20);
    for accumulate in [2, 5, IMAGES] {
        let (own_loss, own_correct, own) = gradients_of(&dense(options(accumulate, 1)));
        assert!((loss - own_loss).abs() < 1e-6, "{accumulate}: loss {own_loss}, not {loss}");
        assert_eq!((correct, whole.len()), (own_correct, own.len()));
        let mut worst = 0.0f32;
        for (a, b) in whole.iter().zip(&own) {
            let scale = a.iter().fold(0.0f32, |most, x| most.max(x.abs())).max(1e-3);
            let error = a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale);
            worst = error.fold(worst, f32::max);
        }
        println!("accumulate = {accumulate}: gradients within {worst:e} of their tensor's largest");
        assert!(worst < 1e-5, "{accumulate}: gradients differ by {worst}");
    }
}

/// The same parts give the same bits, however many of them are computed at the same time: weights,
/// moments, thresholds and batch statistics after two steps.
#[test]
fn the_same_parts_give_the_same_bits_at_once_or_one_after_another() {
    let of_dense = |options| {
        let mut replicas = dense(options);
        let losses = [0, 1].map(|number| replicas.step(&batch(), number, &[1e-3]).unwrap().loss);
        let moments = replicas.optimisers().next().unwrap().state();
        (losses, state::export(replicas.model()), moments)
    };
    let of_search = |options| {
        let mut replicas = searched(options);
        let losses =
            [0, 1].map(|number| replicas.step(&batch(), number, &[1e-3, 1e-2]).unwrap().loss);
        let thresholds: TensorData = replicas.model().gates.ffn.val().into_data();
        (losses, state::export(&replicas.model().model), thresholds)
    };
    let (first, search) = (of_dense(options(1, 4)), of_search(options(1, 4)));
    for (accumulate, micro_batches) in [(4, 1), (2, 2)] {
        let options = options(accumulate, micro_batches);
        assert!(first == of_dense(options), "{accumulate} times {micro_batches}");
        assert!(search == of_search(options), "search: {accumulate} times {micro_batches}");
    }
    assert!(search.1 != of_search(options(1, 1)).1, "a batch norm sees a part alone");
}

/// Which gates are open is read with the figures of the step before, unless something changes in between: each
/// has the bits of the other, and so has a step whose number was not expected.
#[test]
fn gates_read_a_step_ahead_are_those_of_the_step() {
    let left = |numbers: [u64; 4], forget: bool| {
        let mut replicas = searched(options(2, 1));
        let losses = numbers.map(|number| {
            let report = replicas.step(&batch(), number, &[1e-3, 0.5]).unwrap();
            if forget {
                replicas.change(|model| model);
            }
            report.loss
        });
        (losses, state::export(&replicas.model().model))
    };
    let [one, other] = [[0, 1, 2, 3], [7, 3, 4, 4]].map(|numbers| {
        let ahead = left(numbers, false);
        assert!(ahead == left(numbers, true), "{numbers:?}");
        ahead
    });
    assert!(one.0 != other.0, "other steps have other gates");
}

#[test]
fn a_resumed_run_that_accumulates_has_the_same_bits() {
    same_bits::<Flex>(&["search.accumulate=3", "finetune.accumulate=2", "run.micro_batches=2"]);
}

/// Backward passes at the same time, of one training or of two in one process, end: a pass that waits for a
/// part of its own work must not take up another pass.
#[test]
fn passes_at_the_same_time_do_not_wait_for_each_other() {
    let train = |micro_batches: usize| {
        let mut replicas = dense(options(1, micro_batches));
        for number in 0..150 {
            assert!(replicas.step(&batch(), number, &[1e-4]).unwrap().loss.is_finite());
        }
    };
    train(3);
    std::thread::scope(|scope| {
        let threads = [1, 1, 2].map(|parts| scope.spawn(move || train(parts)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
