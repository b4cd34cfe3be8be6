//! The search form in training against the published code's: gates, candidates and logits. Gradients
//! and statistics are held to it where the step is, in spvit-train.

use burn::backend::Autodiff;
use spvit_core::FusedOps;
use spvit_layers::state;
use spvit_layers::{Init, Mode, Operation, OperationGates, SearchVit, TrainContext};
use spvit_search::{Budget, BudgetTerm, CostModel, CostTable, Gates};

use crate::support::{Case, Errors, Scale, cases, device, host};

on_all_backends!(sampled_gates, expected_gates, candidates_of_every_block, logits_and_budget_loss,);

fn model<B: FusedOps>(case: &Case) -> SearchVit<Autodiff<B>> {
    let fresh = SearchVit::new(&case.config(), &mut Init::new(0, &device::<B>()));
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
            let OperationGates::Sampled { coefficients, first, open, .. } = gates.operation else {
                panic!()
            };
            assert_eq!(open, own_gates(&case, i), "{place}");
            let level = open.iter().take_while(|&&gate| gate).count();
            assert_eq!(level as f64, cumulative[i].iter().sum::<f64>(), "{place}");
            let one_hot: Vec<f32> = (1..=open.len()).map(|n| f32::from(n == level)).collect();
            let own = coefficients.narrow(0, first, open.len());
            assert_eq!(host(own), one_hot, "{place}");
            let ffn = case.stored(&format!("train.block{i}.ffn_gates_sampled"));
            assert_eq!(host(gates.ffn.unwrap().values()), ffn, "{place}");
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

fn logits_and_budget_loss<B: FusedOps>() {
    let mut errors = Errors::new::<B>("train");
    for case in cases("deit_search") {
        let context = TrainContext::new();
        let gates = case.gates().sample(&case.uniforms());
        let logits =
            model::<B>(&case).forward(case.tensor("input"), &gates, &Mode::Train(&context));
        errors.check(
            "logits",
            &case.name,
            &host(logits),
            &case.stored("train.logits"),
            (1e-5, Scale::One),
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
