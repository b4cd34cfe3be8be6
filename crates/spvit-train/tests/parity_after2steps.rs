//! Two steps of AdamW on weights and thresholds against the published code's.

#[macro_use]
#[path = "../../spvit-search/tests/support/mod.rs"]
mod support;

use burn::backend::Autodiff;
use burn::module::Module;
use spvit_core::FusedOps;
use spvit_layers::state::{self, StateDict};
use spvit_layers::{Init, Mode, SearchVit, TrainContext};
use spvit_search::{BudgetTerm, CostModel, CostTable, Gates};
use spvit_train::optim::{AdamW, AdamWConfig, Gradients};

use support::{
    Case, Errors, Scale, cases, cross_entropy, gradient_scale, gradients, host, split_qkv,
    threshold_gradients, thresholds, values,
};

on_both_backends!(weights_and_thresholds_after_two_steps);

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

        let [lr, arc_lr, weight_decay] =
            ["lr", "arc_lr", "weight_decay"].map(|name| case.number(&format!("/optim/adamw/{name}")));
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
                errors.check("loss of the second step", &case.name, &host(loss.clone()),
                    &[expected], (1e-4, Scale::AtLeastOne));
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
        for (name, expected) in &case.io {
            let Some(name) = name.strip_prefix("after2steps.") else { continue };
            let rate = if name.contains("_thresholds") { arc_lr } else { lr } as f32;
            let all = [expected, &after[name], &before[name], &steps[0][name], &steps[1][name]];
            let all = all.map(values);
            let scale = gradient_scale(name, &steps[0]);
            let mut worst = vec![];
            for i in 0..all[0].len() {
                let [expected, found, before, g1, g2] = [0, 1, 2, 3, 4].map(|k| all[k][i]);
                worst.push(((found - expected).abs() / rate, g1 / scale, g2/scale, expected - before, found-before));
            }
            worst.sort_by(|a, b| b.0.total_cmp(&a.0));
            println!("{} {name} {:.1e} {:?}", case.name, scale, &worst[..3.min(worst.len())]);
        }
    }
}
