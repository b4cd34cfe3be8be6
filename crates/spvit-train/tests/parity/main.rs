//! The product's own training step against the published code's: gates and values of the forward pass
//! are held to it in spvit-search.

#![allow(missing_docs)]

#[macro_use]
#[path = "../../../spvit-search/tests/support/mod.rs"]
mod support;

mod after2steps;
mod finetune;
mod search;

use burn::backend::Autodiff;
use burn::module::{ModuleMapper, Param};
use burn::tensor::Tensor;
use spvit_core::FusedOps;
use spvit_data::Batch;
use spvit_layers::state::{self, Named, StateDict};
use spvit_layers::{Init, SearchVit};
use spvit_search::{Budget, BudgetTerm, CostModel, CostTable, Gates};
use spvit_train::{
    Devices, SearchObjective, Searched, Uniforms,
    optim::Gradients,
    step::{Group, Replicas, StepOptions},
};

use support::{Case, split_qkv, values};

/// A case's images and labels.
fn batch(case: &Case) -> Batch {
    let images = &case.io["input"];
    let shape: [usize; 4] = images.shape.to_vec().try_into().unwrap();
    let classes = case.config().classes();
    let labels: Vec<u16> = case.io["labels"].iter::<i64>().map(|label| label as u16).collect();
    let mut targets = vec![0.0; labels.len() * classes];
    for (row, &label) in labels.iter().enumerate() {
        targets[row * classes + usize::from(label)] = 1.0;
    }
    let part = (0..labels.len()).collect();
    Batch { index: 0, images: values(images), part, shape, labels, targets, classes }
}

/// The case's search, before its first step.
fn search<B: FusedOps>(
    case: &Case,
    groups: [Group; 2],
    lambda: f64,
) -> Replicas<Autodiff<B>, SearchObjective> {
    search_with(case, groups, lambda, StepOptions::default())
}

fn search_with<B: FusedOps>(
    case: &Case,
    groups: [Group; 2],
    lambda: f64,
    options: StepOptions,
) -> Replicas<Autodiff<B>, SearchObjective> {
    let device = crate::support::device::<B>();
    let fresh = SearchVit::new(&case.config(), &mut Init::new(0, &device));
    let state = case.state(&fresh);
    let model = state::import(fresh, &state).unwrap();
    let budget = BudgetTerm {
        table: CostTable::new(&case.config(), CostModel::Paper),
        budget: Budget::flops((case.number("/target_flops_G") * 1e9) as u64),
        lambda,
        scale: 1e9,
    };
    let objective = SearchObjective::new(vec![budget], Uniforms::Given(case.uniforms()));
    let searched = Searched { model, gates: case.gates() };
    Replicas::new(objective, searched, groups, options, &Devices::one(&device))
}

/// Gradients of a module's parameters by published name and layout; zero where there is none.
fn by_name<B: FusedOps, M: Named<Autodiff<B>>>(module: &M, found: &Gradients<B>) -> StateDict {
    struct Replace<'a, B: FusedOps>(&'a Gradients<B>);
    impl<B: FusedOps> ModuleMapper<Autodiff<B>> for Replace<'_, B> {
        fn map_float<const D: usize>(
            &mut self,
            param: Param<Tensor<Autodiff<B>, D>>,
        ) -> Param<Tensor<Autodiff<B>, D>> {
            let grad = self.0.get(param.id);
            param.map(|value| match grad {
                Some(grad) => Tensor::from_inner(grad.reshape(value.shape())),
                None => value.detach().zeros_like(),
            })
        }
    }
    let mut gradients = state::export(&module.clone().map(&mut Replace(found)));
    gradients.retain(|name, _| !name.contains("running_"));
    split_qkv(&mut gradients);
    gradients
}

/// Gradients of thresholds by published name; zero where there is none.
fn of_thresholds<B: FusedOps>(gates: &Gates<Autodiff<B>>, found: &Gradients<B>) -> StateDict {
    let mut gates = gates.clone();
    let [operations, ffn] = [gates.operations.id, gates.ffn.id].map(|id| found.get(id));
    gates.operations = gates.operations.map(|value| match operations {
        Some(grad) => Tensor::from_inner(grad.reshape(value.shape())),
        None => value.detach().zeros_like(),
    });
    gates.ffn = gates.ffn.map(|value| match ffn {
        Some(grad) => Tensor::from_inner(grad),
        None => value.detach().zeros_like(),
    });
    support::thresholds(&gates)
}

/// Gradients of weights and thresholds.
fn all_gradients<B: FusedOps>(
    case: &Case,
    searched: &Searched<Autodiff<B>>,
    groups: &[Gradients<B>],
) -> StateDict {
    let mut found = by_name(&searched.model, &groups[0]);
    found.extend(case.published(of_thresholds(&searched.gates, &groups[1])));
    found
}
