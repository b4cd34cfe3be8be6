//! A training step of the search form against the published code's: gates, values, every gradient
//! and the running statistics.

use burn::backend::Autodiff;
use spvit_core::FusedOps;
use spvit_layers::state::{self, StateDict};
use spvit_layers::{
    Init, Mode, Operation, OperationGates, SearchVit, TrainContext, apply_batch_statistics,
};
use spvit_search::{Budget, BudgetTerm, CostModel, CostTable, Gates};

use crate::support::{
    Case, Errors, Scale, cases, cross_entropy, gradients, host, split_qkv, threshold_gradients,
    values,
};

on_all_backends!(
    sampled_gates,
    expected_gates,
    candidates_of_every_block,
    logits_and_losses,
    gradients_of_every_parameter,
    running_statistics,
);

fn model<B: FusedOps>(case: &Case) -> SearchVit<Autodiff<B>> {
    let fresh = SearchVit::new(&case.config(), &mut Init::new(0, &B::Device::default()));
    let state = case.state(&fresh);
    state::import(fresh, &state).unwrap()
}

fn budget(case: &Case) -> BudgetTerm {
    BudgetTerm {
        table: CostTable::new(&case.config(), CostModel::Paper),
        budget: Budget::flops((case.number("/target_flops_G") * 1e9) as u64),
        lambda: case.number("/loss_lambda"),
        scale: 1e9,
    }
}

/// Tensors of the case under a prefix, without it.
fn stored(case: &Case, prefix: &str) -> StateDict {
    let tensors = case.io.iter();
    tensors.filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
}

/// The layer's own gates: the signs of the stored logits.
fn own_gates(case: &Case, block: usize) -> Vec<bool> {
    let logits = case.stored(&format!("train.block{block}.kernel_gate_logits"));
    logits.iter().map(|&logit| logit > 0.0).collect()
}

fn sampled_gates<B: FusedOps>() {
    for case in cases("deit_search") {
        let gates = case.gates::<Autodiff<B>>().sample(&case.uniforms());
        let cumulative = case.rows("/train/kernel_gates_sampled_cumprod");
        for (i, gates) in gates.into_iter().enumerate() {
            let place = format!("{}, block {i}", case.name);
            let OperationGates::Sampled { coefficients, open, .. } = gates.operation else {
                panic!()
            };
            assert_eq!(open, own_gates(&case, i), "{place}");
            let level = open.iter().take_while(|&&gate| gate).count();
            assert_eq!(level as f64, cumulative[i].iter().sum::<f64>(), "{place}");
            let one_hot: Vec<f32> = (1..=open.len()).map(|n| f32::from(n == level)).collect();
            assert_eq!(host(coefficients), one_hot, "{place}");
            let ffn = case.stored(&format!("train.block{i}.ffn_gates_sampled"));
            assert_eq!(host(gates.ffn.unwrap()), ffn, "{place}");
        }
    }
}

fn expected_gates<B: FusedOps>() {
    for case in cases("deit_search") {
        let (operations, ffn) = case.gates::<B>().expected();
        let stored = case.rows("/train/kernel_gates_expected").concat();
        assert_eq!(host(operations), stored.iter().map(|&gate| gate as f32).collect::<Vec<_>>());
        let sums = case.json.pointer("/train/ffn_gate_sum_expected").unwrap().as_array().unwrap();
        for (gates, sum) in host(ffn).chunks(case.config().blocks()[0].hidden).zip(sums) {
            assert_eq!(Some(f64::from(gates.iter().sum::<f32>())), sum.as_f64(), "{}", case.name);
        }
    }
}

fn candidates_of_every_block<B: FusedOps>() {
    let mut errors = Errors::new::<B>("train");
    for case in cases("deit_search") {
        for (i, block) in model::<B>(&case).blocks.iter().enumerate() {
            for (value, operation) in [
                ("cand_msa", Operation::Msa),
                ("cand_bconv3x3", Operation::BConv(3)),
                ("cand_bconv1x1", Operation::BConv(1)),
                ("cand_none", Operation::Shortcut),
            ] {
                let context = TrainContext::new();
                let input = case.tensor(&format!("train.block{i}.norm1_out"));
                let fixed = OperationGates::Fixed(operation);
                let found = block.attn.forward(input, &fixed, &Mode::Train(&context));
                let name = format!("train.block{i}.{value}");
                let expected = case.stored(&name);
                errors.check(
                    "candidates",
                    &format!("{}: {name}", case.name),
                    &host(found),
                    &expected,
                    (1e-5, Scale::AtLeastOne),
                );
            }
        }
    }
}

fn logits_and_losses<B: FusedOps>() {
    let mut errors = Errors::new::<B>("train");
    for case in cases("deit_search") {
        let context = TrainContext::new();
        let gates = case.gates().sample(&case.uniforms());
        let logits =
            model::<B>(&case).forward(case.tensor("input"), &gates, &Mode::Train(&context));
        errors.check(
            "logits",
            &case.name,
            &host(logits.clone()),
            &case.stored("train.logits"),
            (1e-5, Scale::One),
        );
        let ce = cross_entropy(logits, case.labels());
        errors.check(
            "cross-entropy",
            &case.name,
            &host(ce),
            &[case.number("/train/ce") as f32],
            (1e-5, Scale::AtLeastOne),
        );
        let gates: Gates<B> = case.gates();
        let expected = case.number("/train/bops_loss") as f32;
        errors.check(
            "budget loss",
            &case.name,
            &host(budget(&case).loss(&gates)),
            &[expected],
            (1e-4, Scale::Given(expected)),
        );
    }
}

fn gradients_of_every_parameter<B: FusedOps>() {
    let mut errors = Errors::new::<B>("train");
    for case in cases("deit_search") {
        let (model, gates) = (model::<B>(&case), case.gates::<Autodiff<B>>());
        let cross_entropy = || {
            let (context, sampled) = (TrainContext::new(), gates.sample(&case.uniforms()));
            let logits = model.forward(case.tensor("input"), &sampled, &Mode::Train(&context));
            cross_entropy(logits, case.labels())
        };
        let cost = || budget(&case).loss(&gates);

        let grads = (cross_entropy() + cost()).backward();
        let mut found = gradients(&model, &grads);
        split_qkv(&mut found);
        found.extend(threshold_gradients(&gates, &grads));
        errors.check_gradients("gradients", &found, &stored(&case, "grad."));
        assert_eq!(found.len(), stored(&case, "grad.").len(), "no gradient is left out");

        let grads = cross_entropy().backward();
        let found = threshold_gradients(&gates, &grads);
        errors.check_gradients("of CE", &found, &stored(&case, "grad_ce."));

        let grads = cost().backward();
        let found = threshold_gradients(&gates, &grads);
        errors.check_gradients("of the cost", &found, &stored(&case, "grad_flops."));
    }
}

/// The published code computes every candidate in every step, this one only those whose value is
/// used; their statistics must move as published, the others' must not move at all.
fn running_statistics<B: FusedOps>() {
    let mut errors = Errors::new::<B>("train");
    for case in cases("deit_search") {
        let (model, context) = (model::<B>(&case), TrainContext::new());
        let gates = case.gates().sample(&case.uniforms());
        model.forward(case.tensor("input"), &gates, &Mode::Train(&context));
        let moved = apply_batch_statistics(model, vec![context.into_statistics()]);
        let state = state::export(&moved);
        for i in 0..case.config().depth() {
            // From the table of the method's 'The gradient needs one branch'.
            let computed = match own_gates(&case, i)[..] {
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
                    match computed {
                        true => errors.check(
                            "running statistics",
                            &name,
                            &found,
                            &after,
                            (1e-5, Scale::AtLeastOne),
                        ),
                        false => assert_eq!(found, before, "{}: {name}", case.name),
                    }
                }
            }
        }
    }
}
