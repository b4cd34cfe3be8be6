//! Two steps of AdamW on weights and thresholds against the published code's.

use burn::backend::Autodiff;
use spvit_core::FusedOps;
use spvit_layers::state::{self, StateDict};
use spvit_train::{Searched, step::Group};

use crate::support::{Errors, Scale, cases, gradient_scale, split_qkv, thresholds, values};
use crate::{all_gradients, batch, search};

on_all_backends!(weights_and_thresholds_after_two_steps);

/// Weights and thresholds by published name.
fn export<B: FusedOps>(searched: &Searched<Autodiff<B>>) -> StateDict {
    let mut state = state::export(&searched.model);
    split_qkv(&mut state);
    state.extend(thresholds(&searched.gates));
    state
}

fn weights_and_thresholds_after_two_steps<B: FusedOps>() {
    let mut errors = Errors::new::<B>("after two steps");
    for case in cases("deit_search") {
        let [lr, arc_lr, weight_decay] = ["lr", "arc_lr", "weight_decay"]
            .map(|name| case.number(&format!("/optim/adamw/{name}")));
        let groups = [Group::new(weight_decay), Group::new(0.0)];
        let stored = [case.number("/optim/adamw/betas/0"), case.number("/optim/adamw/betas/1")];
        let own = groups[0].optimiser;
        assert_eq!((own.betas, own.epsilon), (stored, case.number("/optim/adamw/eps")));
        let mut search = search::<B>(&case, groups, case.number("/loss_lambda"));
        let before = export(search.model());

        let mut steps: Vec<StateDict> = Vec::new();
        for number in 0..2 {
            // Running statistics of these cases are stored as they were before.
            let mut found = search.gradients(&batch(&case), number).unwrap();
            found.statistics.clear();
            if number == 1 {
                let expected = case.number("/optim/loss_step2") as f32;
                errors.check(
                    "loss of the second step",
                    &case.name,
                    &[found.report.loss as f32],
                    &[expected],
                    (2e-5, Scale::AtLeastOne),
                );
            }
            steps.push(all_gradients(&case, search.model(), &found.groups));
            search.apply(found, &[lr, arc_lr]);
        }

        let after = export(search.model());
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
