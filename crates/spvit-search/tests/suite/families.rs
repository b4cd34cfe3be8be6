//! What holds for every family and style: dense, search and compact form are one function where they
//! should be, also where a block goes entirely; and the tables count what the models have.

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use spvit_core::FusedOps;
use spvit_layers::{
    Activation, BlockGates, BlockShape, BlockStyle, FfnKind, Init, Mode, ModelConfig, NormKind,
    Operation, OperationGates, Pool, QkvBias, Rope, RopeKind, SearchVit, SwinConfig, Vit,
    VitConfig,
    state::{self, parameter_count},
};
use spvit_search::{
    Architecture, BlockArchitecture, BlockUniforms, Budget, BudgetTerm, CostModel, CostTable,
    Gates, Profile, derive, expand, prune,
};

use crate::support::{Errors, Noise, Scale, gates_of, gradients, host, magnitude};

on_all_backends!(
    dense_search_and_compact_forms_agree,
    what_is_left_of_an_ffn_is_folded,
    what_has_no_other_form_is_left_dense,
);

const LOGITS: (f32, Scale) = (1e-5, Scale::AtLeastOne);

/// A Swin with shifted windows, windows that do not divide the map, and odd maps to merge.
fn swin() -> ModelConfig {
    let style = BlockStyle { epsilon: 1e-5, ..BlockStyle::default() };
    SwinConfig {
        image_size: [36, 28],
        patch_size: 4,
        channels: 2,
        classes: 5,
        dim: 12,
        depths: vec![2, 2],
        heads: vec![2, 3],
        window: 4,
        mlp_ratio: 2.0,
        style,
    }
    .into()
}

fn vit() -> VitConfig {
    let deit = VitConfig::deit([24, 8, 2, 5, 24, 4, 3]);
    VitConfig { image_size: [24, 32], hidden: 20, ..deit }
}

/// One model of every kind.
fn all() -> Vec<(&'static str, ModelConfig)> {
    let styled = |style: BlockStyle| VitConfig { style, ..vit() };
    let default = BlockStyle::default();
    let silu = BlockStyle { activation: Activation::Silu, ..default };
    let both_norms = BlockStyle { attn_norm: true, mlp_norm: true, ffn: FfnKind::Split, ..silu };
    let beit = BlockStyle { relative_position_bias: true, layer_scale: true, ..default };
    let rope = |kind| Some(Rope::new(kind));
    let eva = BlockStyle { rope: rope(RopeKind::Eva), qk_norm: true, ..default };
    let dino = BlockStyle { rope: rope(RopeKind::DinoV3), layer_scale: true, ..default };
    let perception = Rope {
        offset: 1.0,
        reference: Some([2, 5]),
        columns_first: true,
        ..Rope::new(RopeKind::Eva)
    };
    let rms = BlockStyle { norm: NormKind::Rms, ..default };
    let average = VitConfig { pool: Pool::Average, class_token: false, ..vit() };
    let unembedded = VitConfig { position_embedding: false, ..average.clone() };
    let all_tokens = VitConfig {
        pool: Pool::Map,
        pool_prefix: true,
        pool_hidden: Some(7),
        pool_qk_norm: true,
        ..vit()
    };
    let vits = [
        ("deit", vit()),
        ("distilled", VitConfig { distilled: true, ..vit() }),
        ("registers", VitConfig { registers: 3, embed_prefix: false, ..vit() }),
        ("average", average.clone()),
        (
            "fc_norm",
            VitConfig { final_norm: false, fc_norm: true, registers: 2, ..average.clone() },
        ),
        ("no last norm", VitConfig { final_norm: false, ..average.clone() }),
        ("norms before and after the pool", VitConfig { fc_norm: true, ..vit() }),
        ("token and average", VitConfig { pool: Pool::TokenAverage, registers: 1, ..vit() }),
        ("patch norm", VitConfig { patch_norm: true, ..styled(rms) }),
        ("no positions", unembedded.clone()),
        ("map", VitConfig { pool: Pool::Map, pool_heads: Some(4), ..average.clone() }),
        ("map of all", all_tokens),
        ("pre-norm", VitConfig { pre_norm: true, patch_bias: false, ..vit() }),
        ("layer scale", styled(BlockStyle { layer_scale: true, ..default })),
        ("qk norm", styled(BlockStyle { qk_norm: true, qkv_bias: QkvBias::None, ..default })),
        ("rms norm", VitConfig { pre_norm: true, ..styled(BlockStyle { qk_norm: true, ..rms }) }),
        ("rms fc_norm", VitConfig { final_norm: false, fc_norm: true, ..styled(rms) }),
        ("glu", styled(BlockStyle { ffn: FfnKind::GateLast, ..default })),
        ("swiglu packed", styled(BlockStyle { ffn: FfnKind::GateFirst, ..silu })),
        ("swiglu", styled(BlockStyle { ffn: FfnKind::Split, ..silu })),
        ("attention norm", styled(BlockStyle { attn_norm: true, ..default })),
        ("mlp norm", styled(BlockStyle { mlp_norm: true, ..rms })),
        ("both norms", styled(both_norms)),
        ("beit", VitConfig { style: beit, class_token: true, ..unembedded }),
        ("eva rope", VitConfig { registers: 1, ..styled(eva) }),
        ("perception rope", styled(BlockStyle { rope: Some(perception), ..default })),
        ("dinov3 rope", VitConfig { position_embedding: false, registers: 2, ..styled(dino) }),
        ("tanh", styled(BlockStyle { activation: Activation::Tanh, ..default })),
        ("quick", styled(BlockStyle { activation: Activation::QuickGelu, ..default })),
    ];
    let vits = vits.into_iter().map(|(name, vit)| (name, vit.into()));
    vits.chain([("swin", swin())]).collect()
}

fn images<B: FusedOps>(config: &ModelConfig) -> Tensor<B, 4> {
    let [height, width] = config.image_size();
    Noise::new(7).tensor([3, config.channels(), height, width], 1.5)
}

/// Every operation, an FFN without dimensions, and a block of which nothing is left.
fn blocks(config: &ModelConfig) -> Vec<BlockArchitecture> {
    let shapes = config.blocks();
    let choices = [
        (Operation::Msa, 2),
        (Operation::BConv(3), 3),
        (Operation::Shortcut, 0),
        (Operation::Msa, 0),
    ];
    let block = |((operation, step), shape): ((Operation, usize), &BlockShape)| BlockArchitecture {
        operation: if shape.searches_attention() { operation } else { Operation::Msa },
        kept: match step {
            _ if !shape.searches_ffn() => (0..shape.hidden).collect(),
            0 => vec![],
            _ => (0..shape.hidden).step_by(step).collect(),
        },
        heads: match operation {
            Operation::Msa if shape.searches_attention() && step > 1 => (1..shape.heads).collect(),
            _ => vec![],
        },
    };
    choices.into_iter().zip(&shapes).map(block).collect()
}

fn search_form<B: FusedOps>(config: &ModelConfig) -> SearchVit<B> {
    Noise::new(3).fill(SearchVit::new(config, &mut Init::new(0, &B::Device::default())))
}

fn gates<B: FusedOps>(config: &ModelConfig, blocks: &[BlockArchitecture]) -> Vec<BlockGates<B>> {
    let block = |(block, hidden): (&BlockArchitecture, usize)| {
        let open = (0..hidden).map(|dimension| f32::from(block.kept.contains(&dimension)));
        let open: Vec<f32> = open.collect();
        BlockGates {
            operation: OperationGates::Fixed(block.operation),
            heads: (!block.heads.is_empty()).then(|| {
                let open: Vec<f32> = (0..=block.heads.len())
                    .map(|head| if block.heads.contains(&head) { 1.0 } else { 0.0 })
                    .collect();
                Tensor::<B, 1>::from_floats(open.as_slice(), &B::Device::default()).into()
            }),
            ffn: Some(Tensor::<B, 1>::from_floats(open.as_slice(), &B::Device::default()).into()),
        }
    };
    blocks.iter().zip(config.blocks().iter().map(|shape| shape.hidden)).map(block).collect()
}

fn dense_search_and_compact_forms_agree<B: FusedOps>() {
    let mut errors = Errors::new::<B>("families");
    let device = B::Device::default();
    let mut seen: Vec<Vec<f32>> = Vec::new();
    for (name, config) in all() {
        config.validate().unwrap();
        let mut init = Init::new(0, &device);
        let fresh = Vit::new(&config, &config.dense_blocks(), &mut init);
        let dense: Vit<B> = Noise::new(5).fill(fresh);
        let expected = host(dense.forward(images(&config), &Mode::Evaluate));
        for other in seen.iter().filter(|other| other.len() == expected.len()) {
            let difference: Vec<f32> = expected.iter().zip(other).map(|(a, b)| a - b).collect();
            assert!(magnitude(&difference) > 1e-3, "{name} has the logits of another kind");
        }
        seen.push(expected.clone());

        let search = expand(&dense, &config, &mut init);
        let open = gates_of(&config, 1.5, &device).deterministic();
        let found = host(search.forward(images(&config), &open, &Mode::Evaluate));
        errors.check("search form of dense", name, &found, &expected, LOGITS);
        let whole = Architecture::dense(config.clone(), CostModel::Paper);
        assert_eq!(state::export(&prune(&search, &whole)), state::export(&dense), "{name}");

        let (search, blocks) = (search_form::<B>(&config), blocks(&config));
        let gates = gates(&config, &blocks);
        let expected = host(search.forward(images(&config), &gates, &Mode::Evaluate));
        let architecture = Architecture::new(config.clone(), CostModel::Macs, blocks, None);
        architecture.validate().unwrap();
        let json = architecture.to_json().unwrap();
        assert_eq!(Architecture::from_json(&json).unwrap(), architecture, "{name}");
        let compact = prune(&search, &architecture);
        let found = host(compact.forward(images(&config), &Mode::Evaluate));
        errors.check("compact form", name, &found, &expected, LOGITS);
        let fresh = Vit::<B>::new(&config, &architecture.block_configs(), &mut init);
        let read = state::import(fresh, &state::export(&compact)).unwrap();
        assert_eq!(host(read.forward(images(&config), &Mode::Evaluate)), found, "{name}");

        let total = Profile::new(&architecture).total();
        let table = CostTable::parameters(&config);
        assert_eq!(total.parameters, parameter_count(&compact) as u64, "{name}");
        assert_eq!(architecture.cost(&table), Some(total.parameters as f64), "{name}");
        assert_eq!(table.dense() as usize, parameter_count(&dense), "{name}");
        for model in [CostModel::Paper, CostModel::Macs] {
            assert_eq!(total.flops(model), architecture.flops_by(model), "{name} {model}");
        }
    }
}

/// Where attention or a convolution stands before it, its constant goes into that one's bias: a
/// block of which nothing is left is the identity.
fn what_is_left_of_an_ffn_is_folded<B: FusedOps>() {
    for (name, folds) in [("deit", [true, true]), ("layer scale", [false, false])] {
        let (_, config) = all().into_iter().find(|(own, _)| *own == name).unwrap();
        let search = search_form::<B>(&config);
        let blocks = blocks(&config);
        let architecture = Architecture::new(config, CostModel::Macs, blocks, None);
        let compact = prune(&search, &architecture);
        for (index, folds) in [2, 3].into_iter().zip(folds) {
            let bias = compact.blocks[index].mlp.bias.as_ref().unwrap();
            let zero = magnitude(&host(bias.val())) == 0.0;
            assert_eq!(zero, folds, "{name}, block {index}");
        }
        assert_eq!(compact.blocks[2].is_identity(), folds[0], "{name}");
        assert!(!compact.blocks[3].is_identity(), "attention is left");
    }
}

/// The derivative in a random direction is the gradient's product with it, in every style; and no
/// tensor is left without a gradient.
#[test]
fn gradients_are_derivatives() {
    type A = Autodiff<Flex>;
    let device = Default::default();
    for (name, config) in all() {
        let mut init = Init::new(0, &device);
        let fresh = Vit::<A>::new(&config, &config.dense_blocks(), &mut init);
        let model = Noise::new(5).fill(fresh);
        let mut noise = Noise::new(11);
        let loss_weights: Tensor<A, 2> = noise.tensor([3, config.classes()], 1.0);
        let logits = model.forward(images(&config), &Mode::Evaluate);
        let grads = gradients(&model, &(logits * loss_weights.clone()).sum().backward());

        let start = state::export(&model);
        let mut moved = [start.clone(), start];
        let mut expected = 0.0;
        for (tensor, grad) in &grads {
            let grad: Vec<f32> = grad.iter().collect();
            assert!(magnitude(&grad) > 0.0, "{name}: {tensor} has no gradient");
            let direction: Vec<f32> = grad.iter().map(|_| noise.around_zero(1e-3)).collect();
            expected += grad.iter().zip(&direction).map(|(g, d)| g * d).sum::<f32>();
            for (state, sign) in moved.iter_mut().zip([1.0, -1.0]) {
                let data = &state[tensor];
                let values = data.iter::<f32>().zip(&direction).map(|(x, d)| x + sign * d);
                let values = TensorData::new(values.collect::<Vec<_>>(), data.shape.clone());
                state.insert(tensor.clone(), values);
            }
        }
        let [above, below] = moved.map(|state| {
            let fresh =
                Vit::<Flex>::new(&config, &config.dense_blocks(), &mut Init::new(0, &device));
            let model = state::import(fresh, &state).unwrap();
            let logits = model.forward(images(&config), &Mode::Evaluate);
            host(logits * loss_weights.clone().inner()).iter().sum::<f32>()
        });
        let found = (above - below) / 2.0;
        let error = (found - expected).abs();
        assert!(error < 2e-2 * expected.abs().max(1e-3), "{name}: {found} for {expected}");
    }
}

/// A norm before the last map takes the gates away; what is left of the search goes on.
fn what_has_no_other_form_is_left_dense<B: FusedOps>() {
    for (name, lines) in [
        ("deit", [false, false]),
        ("attention norm", [true, false]),
        ("mlp norm", [false, true]),
        ("both norms", [true, true]),
    ] {
        let (_, config) = all().into_iter().find(|(own, _)| *own == name).unwrap();
        let table = CostTable::new(&config, CostModel::Macs);
        let line = table.left_dense().unwrap_or_default();
        for (layer, left) in
            ["attention in every block", "the FFN in every block"].iter().zip(lines)
        {
            assert_eq!(line.contains(layer), left, "{name}: {line}");
        }
        let gates = Gates::<B>::new(&table, 1.5, &B::Device::default());
        let uniform = |[operations, ffn, heads]: [usize; 3]| BlockUniforms {
            operations: vec![0.5; operations],
            ffn: vec![0.5; ffn],
            heads: vec![0.5; heads],
        };
        let uniforms: Vec<BlockUniforms> = gates.draws().into_iter().map(uniform).collect();
        let search = search_form::<B>(&config);
        let [sampled, expected] = [gates.sample(&uniforms), gates.deterministic()]
            .map(|gates| host(search.forward(images(&config), &gates, &Mode::Evaluate)));
        assert_eq!(sampled, expected, "{name}: all gates are open");

        let target = table.dense() as u64;
        let budget = Budget::flops(target / 2);
        let term = BudgetTerm { table, budget, lambda: 1.0, scale: target as f64 };
        assert_eq!(term.cost(&gates), target as f64, "{name}");
        let loss = host(term.loss(&gates))[0];
        assert!((loss - 0.25).abs() < 1e-4, "{name}: {loss}");
        let derived = derive(&config, CostModel::Macs, &gates.probabilities(), target * 9 / 10);
        match derived {
            Ok(architecture) => architecture.validate().unwrap(),
            Err(_) => assert_eq!(lines, [true, true], "{name}: nothing is left to search"),
        }
    }
}

/// A table whose kernels cost more than attention orders what is left, and says what it left out.
#[test]
fn dominated_operations_leave_the_path() {
    let mut config = ModelConfig::preset("vit_micro").unwrap();
    assert_eq!(CostTable::new(&config, CostModel::Paper).dominated(), None);
    config.space.kernels = vec![1, 3, 5, 7];
    for model in [CostModel::Paper, CostModel::Macs] {
        let table = CostTable::new(&config, model);
        let path: Vec<Operation> = table.blocks[0].path().map(|(operation, _)| operation).collect();
        let expected =
            [Operation::Shortcut, Operation::BConv(1), Operation::BConv(3), Operation::Msa];
        assert_eq!(path, expected, "{model}");
        let line = table.dominated().unwrap();
        assert!(line.contains("bconv5x5 in every block; bconv7x7 in every block"), "{line}");
        for block in &table.blocks {
            let costs: Vec<f64> = block.path().map(|(_, cost)| cost).collect();
            assert!(costs.is_sorted(), "{costs:?}");
        }
    }
}
