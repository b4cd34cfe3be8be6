//! Losses, every gradient and the running statistics of a search step.

use spvit_core::{FusedOps, Precision};
use spvit_layers::OperationGates;
use spvit_layers::state::{self, StateDict};
use spvit_train::{
    optim::Gradients,
    step::{Group, StepOptions},
};

use crate::support::{Case, Errors, Scale, cases, values};
use crate::{all_gradients, batch, of_thresholds, search, search_with};

on_all_backends!(losses, gradients_of_every_parameter, lower_precisions, running_statistics);

fn groups() -> [Group; 2] {
    [Group::new(0.0), Group::new(0.0)]
}

/// Tensors of the case under a prefix, without it.
fn stored(case: &Case, prefix: &str) -> StateDict {
    let tensors = case.io.iter();
    tensors.filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
}

/// DeiT's cases, and those of Swin in whose step no 3×3 convolution takes part: the published search
/// of Swin convolves inside each shifted window, this project the whole map.
fn comparable() -> Vec<Case> {
    let swins = cases("swin_search").into_iter().filter(|case| {
        let gates = case.gates::<burn::backend::Flex>().sample(&case.uniforms());
        !gates.iter().any(|gates| {
            let OperationGates::Sampled { open, .. } = &gates.operation else { return false };
            spvit_core::gates::Plan::new(open).values.contains(&1)
        })
    });
    cases("deit_search").into_iter().chain(swins).collect()
}

fn losses<B: FusedOps>() {
    let mut errors = Errors::new::<B>("step");
    for case in comparable() {
        let lambda = case.number("/loss_lambda");
        let loss = |lambda: f64| {
            search::<B>(&case, groups(), lambda).gradients(&batch(&case), 0).unwrap().report.loss
                as f32
        };
        let [ce, budget] = ["/train/ce", "/train/bops_loss"].map(|path| case.number(path) as f32);
        let scale = (1e-5, Scale::AtLeastOne);
        errors.check("cross-entropy", &case.name, &[loss(0.0)], &[ce], scale);
        let scale = (1e-4, Scale::Given((ce + budget).max(1.0)));
        errors.check("loss", &case.name, &[loss(lambda)], &[ce + budget], scale);
    }
}

fn gradients_of_every_parameter<B: FusedOps>() {
    let mut errors = Errors::new::<B>("step");
    for case in comparable() {
        let whole = search::<B>(&case, groups(), case.number("/loss_lambda"));
        let found = whole.gradients(&batch(&case), 0).unwrap();
        let found = all_gradients(&case, whole.model(), &found.groups);
        let mut expected = stored(&case, "grad.");
        state::name_as_timm(&mut expected);
        errors.check_gradients("gradients", &found, &expected);
        assert_eq!(found.len(), expected.len(), "no gradient is left out");

        // Without the budget's term, thresholds have the cross-entropy's gradient.
        let free = search::<B>(&case, groups(), 0.0);
        let found = free.gradients(&batch(&case), 0).unwrap();
        let found = case.published(of_thresholds(&free.model().gates, &found.groups[1]));
        errors.check_gradients("of CE", &found, &stored(&case, "grad_ce."));
    }
}

/// With products of a lower type the loss and the direction of all gradients together are the published
/// ones but for the type's error.
fn lower_precisions<B: FusedOps>() {
    for case in comparable() {
        let lambda = case.number("/loss_lambda");
        let [ce, budget] = ["/train/ce", "/train/bops_loss"].map(|path| case.number(path));
        let mut expected = stored(&case, "grad.");
        state::name_as_timm(&mut expected);
        for (precision, most) in [(Precision::Bf16, 2e-2), (Precision::F16, 2e-3)] {
            let device = crate::support::device::<B>();
            if !B::EMULATED && !B::supports_dtype(&device, precision.dtype()) {
                eprintln!("passed over: no {precision:?} on {device:?}");
                continue;
            }
            let options = StepOptions { precision, ..StepOptions::default() };
            let mut low = search_with::<B>(&case, groups(), lambda, options);
            let mut found = low.gradients(&batch(&case), 0).unwrap();
            // What a device gives in float16 may overflow until the loss's factor has come down.
            for _ in 0..16 {
                if found.groups.iter().all(Gradients::is_finite) {
                    break;
                }
                low.step(&batch(&case), 0, &[0.0, 0.0]).unwrap();
                found = low.gradients(&batch(&case), 0).unwrap();
            }
            let off = (found.report.loss - ce - budget).abs() / (ce + budget).max(1.0);
            let found = all_gradients(&case, low.model(), &found.groups);
            let [mut both, mut own, mut theirs] = [0.0f64; 3];
            for (name, expected) in &expected {
                for (&a, &b) in values(&found[name]).iter().zip(&values(expected)) {
                    let (a, b) = (f64::from(a), f64::from(b));
                    (both, own, theirs) = (both + a * b, own + a * a, theirs + b * b);
                }
            }
            assert!(own.is_finite(), "{}: gradients of {own}", case.name);
            let sine = (1.0 - both * both / (own * theirs)).max(0.0).sqrt();
            println!("{} {precision:?}: loss off by {off:.1e}, sine {sine:.1e}", case.name);
            assert!(off < most && sine < 2.0 * most, "{}: {off:e}, {sine:e}", case.name);
            assert!(sine > 1e-5, "{}: nothing was rounded", case.name);
        }
    }
}

/// The published code computes every candidate in every step, this one only those whose value is
/// used; their statistics must move as published, the others' must not move at all.
fn running_statistics<B: FusedOps>() {
    let mut errors = Errors::new::<B>("step");
    for case in cases("deit_search") {
        let mut search = search::<B>(&case, groups(), 0.0);
        search.step(&batch(&case), 0, &[0.0, 0.0]).unwrap();
        let state = state::export(&search.model().model);
        for i in 0..case.config().depth() {
            let own = case.stored(&format!("train.block{i}.kernel_gate_logits"));
            let own: Vec<bool> = own.iter().map(|&logit| logit > 0.0).collect();
            // From the table of the method's 'The gradient needs one branch'.
            let computed = match own[..] {
                [true, true, true] => [false, true],
                [true, ..] | [false, true, _] => [true, true],
                _ => [true, false],
            };
            for (kernel, computed) in ["1x1", "3x3"].into_iter().zip(computed) {
                for statistic in ["running_mean", "running_var"] {
                    let name = format!("blocks.{i}.attn.bn_{kernel}.{statistic}");
                    let found = values(&state[&name]);
                    let before = values(&case.weights[&name]);
                    let after = case.stored(&format!("train.after.{name}"));
                    assert_ne!(before, after, "{name}: nothing to tell apart");
                    let scale = (1e-5, Scale::AtLeastOne);
                    match computed {
                        true => errors.check("running statistics", &name, &found, &after, scale),
                        false => assert_eq!(found, before, "{}: {name}", case.name),
                    }
                }
            }
        }
    }
}
