//! The search form of Swin against the published code's values.
//!
//! The published search convolves inside each shifted window, this project the whole map, as the
//! published fine-tuning form does. So a 3×3 convolution's values are compared where a token's
//! neighbours on the map are its neighbours in the window; whole steps of the cases in which no 3×3
//! convolution takes part are compared in spvit-train.

use burn::backend::Autodiff;
use burn::tensor::{Tensor, TensorData};
use spvit_core::FusedOps;
use spvit_layers::{
    BlockShape, Init, Mode, Operation, OperationGates, SearchVit, TrainContext,
    apply_batch_statistics,
    state::{self, StateDict},
};
use spvit_search::{Budget, BudgetTerm, CostModel, CostTable, Gates};

use crate::support::{
    Case, Errors, Scale, cases, device, host, operation, threshold_gradients, values,
};

on_all_backends!(
    gates_and_costs,
    blocks_in_evaluation,
    candidates_in_training,
    statistics_of_pointwise_convolutions,
    gradients_of_the_cost,
);

const INNER: (f32, Scale) = (1e-5, Scale::AtLeastOne);

fn model<B: FusedOps>(case: &Case) -> SearchVit<B> {
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

/// Place on the map of every token of every window, in the published order of windows.
fn places(shape: &BlockShape) -> Vec<usize> {
    let window = shape.window.unwrap();
    let ([rows, columns], [height, width]) = (shape.map, window.size);
    let across = columns / width;
    let place = |index: usize| {
        let (w, t) = (index / (height * width), index % (height * width));
        let row = (w / across * height + t / width + window.shift[0]) % rows;
        let column = (w % across * width + t % width + window.shift[1]) % columns;
        row * columns + column
    };
    (0..rows * columns).map(place).collect()
}

/// Values by window, on the map: `[batch, patches, dim]`.
fn on_map(values: &[f32], shape: &BlockShape) -> Vec<f32> {
    let (image, dim) = (shape.patches() * shape.dim, shape.dim);
    let mut out = vec![0.0; values.len()];
    let places = places(shape);
    for (from, to) in values.chunks(image).zip(out.chunks_mut(image)) {
        for (row, &place) in from.chunks(dim).zip(&places) {
            to[place * dim..(place + 1) * dim].copy_from_slice(row);
        }
    }
    out
}

/// Whether a token's eight neighbours on the map lie around it in its window, too.
fn inner_tokens(shape: &BlockShape) -> Vec<bool> {
    let window = shape.window.unwrap();
    let ([rows, columns], [height, width]) = (shape.map, window.size);
    let mut inner = vec![false; rows * columns];
    for (index, place) in places(shape).into_iter().enumerate() {
        let t = index % (height * width);
        let inside = |at: usize, side: usize| at > 0 && at + 1 < side;
        let (row, column) = (place / columns, place % columns);
        inner[place] = inside(t / width, height)
            && inside(t % width, width)
            && inside(row, rows)
            && inside(column, columns);
    }
    inner
}

/// The rows of `[batch, patches, dim]` where a 3×3 convolution is the same by both definitions.
fn comparable(values: Vec<f32>, shape: &BlockShape, operation: Operation) -> Vec<f32> {
    if operation != Operation::BConv(3) {
        return values;
    }
    let inner = inner_tokens(shape);
    let rows = values.chunks(shape.dim).enumerate();
    let kept = rows.filter(|(i, _)| inner[i % inner.len()]);
    kept.flat_map(|(_, row)| row.to_vec()).collect()
}

const CANDIDATES: [(&str, Operation); 4] = [
    ("cand_msa", Operation::Msa),
    ("cand_bconv3x3", Operation::BConv(3)),
    ("cand_bconv1x1", Operation::BConv(1)),
    ("cand_none", Operation::Shortcut),
];

fn gates_and_costs<B: FusedOps>() {
    let mut errors = Errors::new::<B>("swin");
    for case in cases("swin_search") {
        let gates: Gates<B> = case.gates();
        let config = case.config();
        let cumulative = case.rows("/eval/kernel_gates_cumprod");
        for (i, own) in gates.deterministic().into_iter().enumerate() {
            let chosen = operation(&config, &cumulative[i]);
            assert!(matches!(own.operation, OperationGates::Fixed(found) if found == chosen));
        }
        for (i, own) in case.gates::<Autodiff<B>>().sample(&case.uniforms()).iter().enumerate() {
            let OperationGates::Sampled { open, .. } = &own.operation else { panic!() };
            let stored = case.stored(&format!("train.{}.kernel_gates_sampled", case.block(i)));
            let mut product = 1.0;
            let found: Vec<f32> = open
                .iter()
                .map(|&gate| {
                    product *= f32::from(gate);
                    product
                })
                .collect();
            assert_eq!(found, stored, "{}, block {i}", case.name);
            let ffn = case.stored(&format!("train.{}.ffn_gates_sampled", case.block(i)));
            assert_eq!(host(own.ffn.as_ref().unwrap().values()), ffn, "{}, block {i}", case.name);
        }
        let term = budget(&case);
        assert_eq!(term.cost(&gates), case.number("/eval/flops"), "{}", case.name);
        let expected = case.number("/eval/bops_loss") as f32;
        let scale = (1e-4, Scale::Given(expected));
        errors.check("budget loss", &case.name, &host(term.loss(&gates)), &[expected], scale);
    }
}

fn blocks_in_evaluation<B: FusedOps>() {
    let mut errors = Errors::new::<B>("swin eval");
    for case in cases("swin_search") {
        let model = model::<B>(&case);
        let gates = case.gates::<B>().deterministic();
        for (i, (block, shape)) in model.blocks.iter().zip(case.config().blocks()).enumerate() {
            let name = |value: &str| format!("eval.{}.{value}", case.block(i));
            let stored = |value: &str| case.tensor::<B, 3>(&name(value));
            for (value, operation) in CANDIDATES {
                let fixed = OperationGates::Fixed(operation);
                let found = block.attn.forward(stored("norm1_out"), &fixed, &Mode::Evaluate);
                let found = comparable(host(found), &shape, operation);
                let expected = on_map(&case.stored(&name(value)), &shape);
                let expected = comparable(expected, &shape, operation);
                assert!(!found.is_empty());
                errors.check(value, &name(value), &found, &expected, INNER);
            }
            let mixed = on_map(&case.stored(&name("attn_out")), &shape);
            let rows = [case.json["eval"]["logits"].as_array().unwrap().len(), shape.patches()];
            let mixed = TensorData::new(mixed, [rows[0], rows[1], shape.dim]);
            let middle = stored("x_in") + Tensor::from_data(mixed, &device::<B>());
            let norm2 = block.norm2.forward(middle.clone());
            let mlp = block.mlp.forward(stored("norm2_out"), gates[i].ffn.as_ref());
            let out = middle + stored("mlp_out");
            for (value, found) in [
                ("norm1_out", block.norm1.forward(stored("x_in"))),
                ("norm2_out", norm2),
                ("mlp_out", mlp),
                ("x_out", out),
            ] {
                let expected = case.stored(&name(value));
                errors.check("block values", &name(value), &host(found), &expected, INNER);
            }
        }
        for (stage, (merging, &after)) in model.merges.iter().zip(model.merges_after()).enumerate()
        {
            let input = case.tensor::<B, 3>(&format!("eval.{}.x_out", case.block(after)));
            let expected = case.stored(&format!("eval.layer{stage}.downsample_out"));
            let found = host(merging.forward(input));
            errors.check("merging", &case.name, &found, &expected, INNER);
        }
        let patches = host(model.patch_embed.forward(case.tensor("input")));
        let expected = case.stored("eval.patch_embed_out");
        errors.check("patch embedding", &case.name, &patches, &expected, INNER);
    }
}

fn candidates_in_training<B: FusedOps>() {
    let mut errors = Errors::new::<B>("swin train");
    for case in cases("swin_search") {
        let model = model::<B>(&case);
        for (i, (block, shape)) in model.blocks.iter().zip(case.config().blocks()).enumerate() {
            for (value, operation) in CANDIDATES {
                // The batch's statistics are over all tokens, so that no 3×3 value is the same.
                if operation == Operation::BConv(3) {
                    continue;
                }
                let context = TrainContext::new();
                let input = case.tensor(&format!("train.{}.norm1_out", case.block(i)));
                let fixed = OperationGates::Fixed(operation);
                let found = host(block.attn.forward(input, &fixed, &Mode::Train(&context)));
                let name = format!("train.{}.{value}", case.block(i));
                let expected = on_map(&case.stored(&name), &shape);
                errors.check(value, &name, &found, &expected, INNER);
            }
        }
    }
}

fn statistics_of_pointwise_convolutions<B: FusedOps>() {
    let mut errors = Errors::new::<B>("swin train");
    for case in cases("swin_search") {
        let model = model::<B>(&case);
        let context = TrainContext::new();
        for (i, block) in model.blocks.iter().enumerate() {
            let input = case.tensor(&format!("train.{}.norm1_out", case.block(i)));
            let fixed = OperationGates::Fixed(Operation::BConv(1));
            block.attn.forward(input, &fixed, &Mode::Train(&context));
        }
        let moved = apply_batch_statistics(model, vec![context.into_statistics()]);
        for (name, data) in state::export(&moved) {
            if name.contains("bn_1x1.running_") {
                let expected = case.stored(&format!("train.after.{name}"));
                errors.check("statistics", &name, &values(&data), &expected, INNER);
            }
        }
    }
}

fn stored(case: &Case, prefix: &str) -> StateDict {
    let tensors = case.io.iter();
    tensors.filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone()))).collect()
}

fn gradients_of_the_cost<B: FusedOps>() {
    let mut errors = Errors::new::<B>("swin");
    for case in cases("swin_search") {
        let gates = case.gates::<Autodiff<B>>();
        let grads = budget(&case).loss(&gates).backward();
        let found = case.published(threshold_gradients(&gates, &grads));
        errors.check_gradients("of the cost", &found, &stored(&case, "grad_flops."));
    }
}
