//! Two steps of a model on whatever devices.

use burn::{backend::Autodiff, tensor::TensorData};
use spvit_core::FusedOps;
use spvit_layers::{Init, SearchVit, Vit, state, state::StateDict};
use spvit_search::{BudgetTerm, Gates};
use spvit_train::{
    Classification, Devices, RunConfig, SearchObjective, Searched, Uniforms,
    step::{Group, Replicas, StepOptions},
};

use crate::accumulating::{batch, shape};

pub fn options(micro_batches: usize) -> StepOptions {
    StepOptions {
        seed: 3,
        micro_batches,
        accumulate: 1,
        drop_path: 0.3,
        depth: 2,
        ..StepOptions::default()
    }
}

pub type Left = (Vec<f64>, StateDict, StateDict);

/// Losses, weights and moments after two steps of the dense model.
pub fn of_dense<B: FusedOps>(devices: &Devices<Autodiff<B>>, options: StepOptions) -> Left {
    let mut init = Init::<Autodiff<B>>::new(7, devices.first());
    let model = Vit::new(&shape(), &shape().dense_blocks(), &mut init);
    let objective = Classification { teacher: None };
    let group = Group::new(0.05).clipped(0.1);
    let mut replicas = Replicas::new(objective, model, [group], options, devices);
    let step = |number| replicas.step(&batch(), number, &[1e-3]).unwrap().loss;
    let losses = [0, 1].map(step).to_vec();
    let moments = replicas.optimisers().next().unwrap().state();
    (losses, state::export(replicas.model()), moments)
}

/// Losses, weights and thresholds after two steps of a search, changed in between.
pub fn of_search<B: FusedOps>(devices: &Devices<Autodiff<B>>, options: StepOptions) -> Left {
    let device = devices.first();
    let config = RunConfig { model: shape(), ..RunConfig::default() };
    let table = config.cost_table();
    let gates = Gates::new(&table, 0.5, device);
    let scale = table.dense();
    let budget = BudgetTerm { table, budget: config.budget(), lambda: 3.0, scale };
    let model = SearchVit::new(&shape(), &mut Init::new(7, device));
    let objective = SearchObjective::new(vec![budget], Uniforms::Seeded);
    let groups = [Group::new(0.05), Group::new(0.0)];
    let mut replicas =
        Replicas::new(objective, Searched { model, gates }, groups, options, devices);
    let mut losses = Vec::new();
    for number in 0..2 {
        losses.push(replicas.step(&batch(), number, &[1e-3, 1e-2]).unwrap().loss);
        let limits = config.limits();
        replicas.change(|Searched { model, gates }| Searched {
            model,
            gates: gates.projected(&limits),
        });
    }
    let thresholds: TensorData = replicas.model().gates.ffn.val().into_data();
    let thresholds = StateDict::from([("thresholds".to_string(), thresholds)]);
    (losses, state::export(&replicas.model().model), thresholds)
}
