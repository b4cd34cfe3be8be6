//! The search form in evaluation against the published code's values.

use burn::tensor::Tensor;
use spvit_core::{FusedOps, gates as gate_functions};
use spvit_layers::state;
use spvit_layers::{Init, Mode, Operation, OperationGates, SearchVit};
use spvit_search::{
    Architecture, BlockArchitecture, Budget, BudgetTerm, CostModel, CostTable, Gates, prune,
};

use crate::support::{Case, Errors, Scale, cases, device, host, operation};

on_all_backends!(
    logits_of_the_search_form,
    logits_of_the_pruned_form,
    candidates_and_values_of_every_block,
    own_and_cumulative_gates,
    flops_and_budget_loss,
);

const LOGITS: (f32, Scale) = (1e-5, Scale::One);
const INNER: (f32, Scale) = (1e-5, Scale::AtLeastOne);

fn model<B: FusedOps>(case: &Case) -> SearchVit<B> {
    let fresh = SearchVit::new(&case.config(), &mut Init::new(0, &device::<B>()));
    let state = case.state(&fresh);
    state::import(fresh, &state).unwrap()
}

/// The architecture of the deterministic gates, as the case stores them.
fn architecture(case: &Case) -> Architecture {
    let config = case.config();
    let cumulative = case.rows("/eval/kernel_gates_cumprod");
    let block = |(i, gates): (usize, &Vec<f64>)| {
        let open = case.stored(&format!("eval.block{i}.ffn_gates"));
        BlockArchitecture {
            operation: operation(&config, gates),
            kept: (0..config.blocks()[i].hidden)
                .filter(|&dimension| open[dimension] == 1.0)
                .collect(),
            heads: vec![],
        }
    };
    let blocks = cumulative.iter().enumerate().map(block).collect();
    Architecture::new(config, CostModel::Paper, blocks, None)
}

fn logits_of_the_search_form<B: FusedOps>() {
    let mut errors = Errors::new::<B>("eval");
    for case in cases("deit_search") {
        let gates = case.gates::<B>().deterministic();
        let logits = model(&case).forward(case.tensor("input"), &gates, &Mode::Evaluate);
        errors.check("logits", &case.name, &host(logits), &case.stored("eval.logits"), LOGITS);
    }
}

fn logits_of_the_pruned_form<B: FusedOps>() {
    let mut errors = Errors::new::<B>("eval");
    for case in cases("deit_search") {
        let compact = prune::<B>(&model(&case), &architecture(&case));
        let logits = compact.forward(case.tensor("input"), &Mode::Evaluate);
        errors.check(
            "logits of the pruned form",
            &case.name,
            &host(logits),
            &case.stored("eval.logits"),
            LOGITS,
        );
    }
}

fn candidates_and_values_of_every_block<B: FusedOps>() {
    let mut errors = Errors::new::<B>("eval");
    for case in cases("deit_search") {
        let model = model::<B>(&case);
        let gates = case.gates::<B>().deterministic();
        for (i, (block, gates)) in model.blocks.iter().zip(&gates).enumerate() {
            let name = |value: &str| format!("eval.block{i}.{value}");
            let stored = |value: &str| case.tensor::<B, 3>(&name(value));
            let mut check = |kind, value: &str, found: Tensor<B, 3>| {
                let place = format!("{}: {}", case.name, name(value));
                errors.check(kind, &place, &host(found), &case.stored(&name(value)), INNER);
            };
            for (value, operation) in [
                ("cand_msa", Operation::Msa),
                ("cand_bconv3x3", Operation::BConv(3)),
                ("cand_bconv1x1", Operation::BConv(1)),
                ("cand_none", Operation::Shortcut),
            ] {
                let fixed = OperationGates::Fixed(operation);
                let found = block.attn.forward(stored("norm1_out"), &fixed, &Mode::Evaluate);
                check("candidates", value, found);
            }
            let attn_out =
                block.attn.forward(stored("norm1_out"), &gates.operation, &Mode::Evaluate);
            check("block values", "attn_out", attn_out);
            check("block values", "norm1_out", block.norm1.forward(stored("x_in")));
            let middle = stored("x_in") + stored("attn_out");
            check("block values", "norm2_out", block.norm2.forward(middle));
            let mlp_out = block.mlp.forward(stored("norm2_out"), gates.ffn.as_ref());
            check("block values", "mlp_out", mlp_out);
            check(
                "block values",
                "x_out",
                block.forward(stored("x_in"), gates, i, &Mode::Evaluate),
            );
        }
    }
}

fn own_and_cumulative_gates<B: FusedOps>() {
    let mut errors = Errors::new::<B>("eval");
    for case in cases("deit_search") {
        let config = case.config();
        let gates = case.gates::<B>();
        let (blocks, operations) = (config.depth(), config.operations().len());
        let theta = gates.operations.val();
        let own = gate_functions::deterministic(theta).reshape([blocks, operations]);
        let cumulative = gate_functions::single_path(own.clone());
        let stored = case.rows("/eval/kernel_gates_cumprod").concat();
        assert_eq!(host(cumulative), stored.iter().map(|&gate| gate as f32).collect::<Vec<_>>());

        let (own, probabilities) = (host(own), gates.probabilities());
        for (i, gates) in gates.deterministic().into_iter().enumerate() {
            let stored = case.stored(&format!("eval.block{i}.kernel_probs"));
            errors.check(
                "probabilities",
                &case.name,
                &probabilities[i].operations,
                &stored,
                (1e-6, Scale::One),
            );
            let expected: Vec<f32> = stored.iter().map(|&p| f32::from(p > 0.5)).collect();
            assert_eq!(own[i * operations..(i + 1) * operations], expected, "block {i}");

            let chosen = operation(&config, &case.rows("/eval/kernel_gates_cumprod")[i]);
            assert!(matches!(gates.operation, OperationGates::Fixed(found) if found == chosen));
            let stored = case.stored(&format!("eval.block{i}.ffn_gates"));
            assert_eq!(host(gates.ffn.unwrap().values()), stored, "block {i}");
        }
    }
}

fn flops_and_budget_loss<B: FusedOps>() {
    let mut errors = Errors::new::<B>("eval");
    for case in cases("deit_search") {
        let flops = case.number("/eval/flops") as u64;
        let table = CostTable::new(&case.config(), CostModel::Paper);
        let architecture = architecture(&case);
        assert_eq!(table.total(&architecture.block_configs()), Some(flops as f64), "{}", case.name);
        assert_eq!(architecture.flops, flops, "{}", case.name);

        let term = BudgetTerm {
            table,
            budget: Budget::flops((case.number("/target_flops_G") * 1e9) as u64),
            lambda: case.number("/loss_lambda"),
            scale: 1e9,
        };
        let gates: Gates<B> = case.gates();
        assert_eq!(term.cost(&gates), flops as f64, "{}", case.name);
        let expected = case.number("/eval/bops_loss") as f32;
        // The loss is the square of a small difference of two costs in float32.
        errors.check(
            "budget loss",
            &case.name,
            &host(term.loss(&gates)),
            &[expected],
            (1e-4, Scale::Given(expected)),
        );
    }
}
