//! Dense, search and compact forms are one function where they should be: for kernels of four
//! sizes, on a map that is not square, with two channels.

use burn::tensor::Tensor;
use spvit_core::FusedOps;
use spvit_layers::{
    BlockGates, DropPath, Family, Init, Mode, ModelConfig, Operation, OperationGates, SearchSpace,
    SearchVit, TrainContext, Vit, VitConfig, apply_batch_statistics, state,
};
use spvit_search::{
    Architecture, BlockArchitecture, BlockUniforms, CostModel, Gates, expand, prune,
};

use crate::support::{Errors, Noise, Scale, gates_of, host, magnitude, values};

on_all_backends!(
    compact_is_search_form_in_evaluation,
    search_form_with_all_gates_open_is_dense,
    a_dropped_path_adds_nothing,
    running_statistics_move_by_the_mean_of_the_shards,
);

/// The last block's attention carries what the first does to the patches to the class token.
fn config() -> ModelConfig {
    let deit = VitConfig::deit([24, 4, 2, 5, 24, 2, 3]);
    ModelConfig {
        family: Family::Vit(VitConfig { image_size: [24, 32], hidden: HIDDEN, ..deit }),
        space: SearchSpace { kernels: vec![1, 3, 5, 7], alpha: 0.01, separate: false },
    }
}

const HIDDEN: usize = 20;

fn images<B: FusedOps>() -> Tensor<B, 4> {
    Noise::new(7).tensor([3, 2, 24, 32], 1.5)
}

fn search_form<B: FusedOps>(config: &ModelConfig) -> SearchVit<B> {
    Noise::new(3).fill(SearchVit::new(config, &mut Init::new(0, &B::Device::default())))
}

fn compact_is_search_form_in_evaluation<B: FusedOps>() {
    let mut errors = Errors::new::<B>("compact = search form");
    for (shortcut_adds_norm, separate) in [(false, false), (true, false), (false, true)] {
        let mut config = config();
        config.space.separate = separate;
        if let Family::Vit(vit) = &mut config.family {
            vit.style.shortcut_adds_norm = shortcut_adds_norm;
        }
        let search = search_form::<B>(&config);
        let operations = [vec![Operation::Shortcut], config.operations()].concat();
        let mut all = Vec::new();
        for operation in operations {
            // Half of the hidden dimensions, differently in each block.
            let choices = [(operation, 0), (Operation::Msa, 1)];
            let block = |(operation, first): (Operation, usize)| BlockArchitecture {
                operation,
                kept: (first..HIDDEN).step_by(2).collect(),
                heads: if first == 1 { vec![0, 2] } else { vec![] },
            };
            let blocks = choices.map(block).to_vec();
            let gates: Vec<BlockGates<B>> = blocks
                .iter()
                .map(|block| {
                    let open = |dimension| f32::from(block.kept.contains(&dimension));
                    let open: Vec<f32> = (0..HIDDEN).map(open).collect();
                    BlockGates {
                        operation: OperationGates::Fixed(block.operation),
                        heads: (!block.heads.is_empty()).then(|| {
                            Tensor::<B, 1>::from_floats([1.0, 0.0, 1.0], &B::Device::default())
                                .into()
                        }),
                        ffn: Some(
                            Tensor::<B, 1>::from_floats(open.as_slice(), &B::Device::default())
                                .into(),
                        ),
                    }
                })
                .collect();
            let expected = host(search.forward(images(), &gates, &Mode::Evaluate));
            let architecture = Architecture::new(config.clone(), CostModel::Paper, blocks, None);
            let compact = prune(&search, &architecture);
            let found = host(compact.forward(images(), &Mode::Evaluate));
            errors.check(
                "logits",
                &operation.to_string(),
                &found,
                &expected,
                (1e-5, Scale::AtLeastOne),
            );

            // And what was written as named tensors is the same model when it is read.
            let fresh = Vit::<B>::new(
                &config,
                &architecture.block_configs(),
                &mut Init::new(9, &B::Device::default()),
            );
            let read = state::import(fresh, &state::export(&compact)).unwrap();
            assert_eq!(host(read.forward(images(), &Mode::Evaluate)), found, "{operation}");
            all.push(expected);
        }
        for (i, a) in all.iter().enumerate() {
            for b in &all[..i] {
                let difference: Vec<f32> = a.iter().zip(b).map(|(a, b)| a - b).collect();
                assert!(magnitude(&difference) > 1e-3, "two operations give the same logits");
            }
        }
    }
}

fn search_form_with_all_gates_open_is_dense<B: FusedOps>() {
    let mut errors = Errors::new::<B>("all gates open = dense");
    let config = config();
    let mut init = Init::new(0, &B::Device::default());
    let dense: Vit<B> = Noise::new(5).fill(Vit::new(&config, &config.dense_blocks(), &mut init));
    let search = expand(&dense, &config, &mut init);
    let expected = host(dense.forward(images(), &Mode::Evaluate));

    let gates: Gates<B> = gates_of(&config, 1.5, &B::Device::default());
    let deterministic = search.forward(images(), &gates.deterministic(), &Mode::Evaluate);
    errors.check(
        "in evaluation",
        "logits",
        &host(deterministic),
        &expected,
        (1e-6, Scale::AtLeastOne),
    );

    let open = BlockUniforms { operations: vec![0.9; 5], ffn: vec![0.9; HIDDEN], heads: vec![] };
    let (context, sampled) = (TrainContext::new(), gates.sample(&vec![open; config.depth()]));
    let sampled = search.forward(images(), &sampled, &Mode::Train(&context));
    errors.check("in training", "logits", &host(sampled), &expected, (1e-6, Scale::AtLeastOne));

    let architecture = Architecture::dense(config.clone(), CostModel::Paper);
    let found = state::export(&prune(&search, &architecture));
    assert_eq!(found, state::export(&dense), "nothing is lost on the way to dense again");
}

/// Factors of 0 leave an image's embedding alone; factors of 1 change nothing.
fn a_dropped_path_adds_nothing<B: FusedOps>() {
    let config = config();
    let search = search_form::<B>(&config);
    let gates = [BlockGates::fixed(Operation::Msa), BlockGates::fixed(Operation::Msa)];
    let run = |factors: [f32; 12]| {
        let factors = Tensor::<B, 1>::from_floats(factors, &B::Device::default()).reshape([4, 3]);
        let context = TrainContext::with_drop_path(DropPath { factors });
        host(search.forward(images(), &gates, &Mode::Train(&context)))
    };
    let plain = host(search.forward(images(), &gates, &Mode::Evaluate));
    assert_eq!(run([1.0; 12]), plain);

    // Image 1 drops everything: its logits are those of the class token alone.
    let dropped = run([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]);
    assert_eq!([&dropped[..5], &dropped[10..]], [&plain[..5], &plain[10..]]);
    let class = search.cls_token.as_ref().unwrap().val()
        + search.pos_embed.as_ref().unwrap().val().narrow(1, 0, 1);
    let alone =
        host(search.head.forward(search.norm.as_ref().unwrap().forward(class.squeeze_dim::<2>(1))));
    let mut errors = Errors::new::<B>("dropped path");
    errors.check("logits", "image 1", &dropped[5..10], &alone, (1e-6, Scale::AtLeastOne));

    // Row 2·i is the attention branch of block i, row 2·i + 1 its FFN.
    let first = run([2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    assert_ne!(first[..5], plain[..5]);
    assert_eq!(first[5..], plain[5..]);
}

fn running_statistics_move_by_the_mean_of_the_shards<B: FusedOps>() {
    let mut errors = Errors::new::<B>("running statistics");
    let config = config();
    let search = search_form::<B>(&config);
    let before = state::export(&search);
    let shard = |seed: u64, kernel: usize| {
        let context = TrainContext::new();
        let gates =
            [BlockGates::fixed(Operation::BConv(kernel)), BlockGates::fixed(Operation::Msa)];
        search.forward(
            Noise::new(seed).tensor([2, 2, 24, 32], 1.0),
            &gates,
            &Mode::Train(&context),
        );
        context.into_statistics()
    };
    let shards = vec![shard(1, 3), shard(2, 3)];
    let after = state::export(&apply_batch_statistics(search.clone(), shards.clone()));
    for (name, data) in &after {
        let moved = name.starts_with("blocks.0.attn.bn_3x3.running_");
        assert_eq!(data != &before[name], moved, "{name}");
        if !moved {
            continue;
        }
        let [a, b] = [0, 1].map(|i| {
            let statistics = shards[i][0].clone();
            match name.ends_with("mean") {
                true => host(statistics.mean),
                false => host(statistics.variance),
            }
        });
        let running = values(&before[name]).into_iter().zip(a.into_iter().zip(b));
        let expected: Vec<f32> =
            running.map(|(running, (a, b))| 0.9 * running + 0.1 * (a + b) / 2.0).collect();
        errors.check("two shards", name, &values(data), &expected, (1e-6, Scale::AtLeastOne));
    }
    let same = state::export(&apply_batch_statistics(search, vec![vec![], vec![]]));
    assert_eq!(same, before, "no statistics, no movement");
}
