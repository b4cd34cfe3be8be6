//! Two steps of AdamW on weights and thresholds against the published code's.

#[macro_use]
#[path = "../../spvit-search/tests/support/mod.rs"]
mod support;

use burn::backend::Autodiff;
use spvit_core::FusedOps;
use spvit_layers::state::{self, StateDict};
use spvit_layers::{Init, Mode, SearchVit, TrainContext};
use spvit_search::{BudgetTerm, CostModel, CostTable, Gates};
use spvit_train::optim::{AdamW, AdamWConfig, Gradients};

use support::{
    Case, Errors, Scale, cases, cross_entropy, gradient_scale, gradients, host, split_qkv,
    threshold_gradients, thresholds, values,
};

on_all_backends!(weights_and_thresholds_after_two_steps);

/// Weights and thresholds by published name.
fn export<B: FusedOps>(model: &SearchVit<Autodiff<B>>, gates: &Gates<Autodiff<B>>) -> StateDict {
    let mut state = state::export(model);
    split_qkv(&mut state);
    state.extend(thresholds(gates));
    state
}

fn budget(case: &Case) -> BudgetTerm {
    BudgetTerm {
        table: CostTable::new(&case.config(), CostModel::Paper),
        target: case.number("/target_flops_G") * 1e9,
        lambda: case.number("/loss_lambda"),
        unit: 1e9,
    }
}

fn weights_and_thresholds_after_two_steps<B: FusedOps>() {
    let mut errors = Errors::new::<B>("after two steps");
    for case in cases("deit_search") {
        let fresh = SearchVit::new(&case.config(), &mut Init::new(0, &B::Device::default()));
        let state = case.state(&fresh);
        let mut model: SearchVit<Autodiff<B>> = state::import(fresh, &state).unwrap();
        let mut gates: Gates<Autodiff<B>> = case.gates();
        let before = export(&model, &gates);

        let [lr, arc_lr, weight_decay] = ["lr", "arc_lr", "weight_decay"]
            .map(|name| case.number(&format!("/optim/adamw/{name}")));
        let weights = AdamWConfig::new(weight_decay);
        let stored = [case.number("/optim/adamw/betas/0"), case.number("/optim/adamw/betas/1")];
        assert_eq!((weights.betas, weights.epsilon), (stored, case.number("/optim/adamw/eps")));
        let mut optimiser = AdamW::new(weights);
        let mut threshold_optimiser = AdamW::new(AdamWConfig::new(0.0));

        let mut steps: Vec<StateDict> = Vec::new();
        for _ in 0..2 {
            let (context, sampled) = (TrainContext::new(), gates.sample(&case.uniforms()));
            let logits = model.forward(case.tensor("input"), &sampled, &Mode::Train(&context));
            let loss = cross_entropy(logits, case.labels()) + budget(&case).loss(&gates);
            if steps.len() == 1 {
                let expected = case.number("/optim/loss_step2") as f32;
                errors.check(
                    "loss of the second step",
                    &case.name,
                    &host(loss.clone()),
                    &[expected],
                    (2e-5, Scale::AtLeastOne),
                );
            }
            let mut grads = loss.backward();
            let mut found = gradients(&model, &grads);
            split_qkv(&mut found);
            found.extend(threshold_gradients(&gates, &grads));
            steps.push(found);
            let of_weights = Gradients::of(&model, &mut grads);
            let of_thresholds = Gradients::of(&gates, &mut grads);
            model = optimiser.step(model, &of_weights, lr);
            gates = threshold_optimiser.step(gates, &of_thresholds, arc_lr);
        }

        let after = export(&model, &gates);
        let mut compared = 0;
        for (name, expected) in &case.io {
            let Some(name) = name.strip_prefix("after2steps.") else { continue };
            let rate = if name.contains("_thresholds") { arc_lr } else { lr } as f32;
            let all = [expected, &after[name], &steps[0][name], &steps[1][name]].map(values);
            let scale = gradient_scale(name, &steps[0]);
            // Adam's first step is the gradient's sign, so where the gradient is rounding, so is
            // the step. Where it is zero in both steps, only the decay is left.
            let told = |&i: &usize| {
                let [first, second] = [all[2][i], all[3][i]];
                first.abs() > 1e-6 * scale || (first == 0.0 && second == 0.0)
            };
            let told: Vec<usize> = (0..all[0].len()).filter(told).collect();
            compared += told.len();
            let [expected, found] =
                [&all[0], &all[1]].map(|x| told.iter().map(|&i| x[i]).collect());
            let (expected, found): (Vec<f32>, Vec<f32>) = (expected, found);
            let kind = if name.contains("_thresholds") { "thresholds" } else { "weights" };
            errors.check(
                kind,
                &format!("{}: {name}", case.name),
                &found,
                &expected,
                (0.01, Scale::Given(rate)),
            );
        }
        let all: usize = after.values().map(|data| data.num_elements()).sum();
        assert!(compared as f64 > 0.95 * all as f64, "{}: {compared} of {all} compared", case.name);
        let running = |name: &String| name.contains("running_");
        assert!(after.iter().filter(|(name, _)| running(name)).all(|(name, x)| *x == before[name]));
    }
}
