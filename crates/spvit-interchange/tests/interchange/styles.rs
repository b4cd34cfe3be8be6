//! Small models of every style, as tests/interop/styles.py makes them and some of our own: read,
//! pruned, and written in both forms for check_exports.py and tract. See tests/interop/README.md.

use std::{collections::BTreeMap, path::Path};

use spvit_formats::{HostTensor, StateDict, write_safetensors};
use spvit_interchange::{Form, ReadOptions, Target, weights, write, write_onnx};
use spvit_layers::{
    Activation, BlockShape, BlockStyle, FfnKind, Init, Mode, ModelConfig, NormKind, Operation,
    Pool, Rope, RopeKind, SwinConfig, Vit, VitConfig, state,
};
use spvit_search::{Architecture, BlockArchitecture, CostModel, expand, prune};

use crate::{
    interop::{cases, check, logits_limit, name},
    onnx::{Numbers, randomised},
    support::{B, difference, imported, off_by, tensor, tensors},
};

/// Every operation, cut FFNs and one without dimensions, where the model's blocks can be that. In a
/// Swin the attention that stays is in whole windows first, then in shifted ones.
fn pruned(config: &ModelConfig) -> Architecture {
    use Operation::{BConv, Msa, Shortcut};
    let choices = [(Msa, 2), (BConv(3), 3), (Shortcut, 1), (Msa, 0), (BConv(1), 2)];
    let block = |((operation, step), shape): ((Operation, usize), &BlockShape)| BlockArchitecture {
        operation: if shape.searches_attention() { operation } else { Msa },
        kept: match step {
            _ if !shape.searches_ffn() => (0..shape.hidden).collect(),
            0 => Vec::new(),
            _ => (0..shape.hidden).step_by(step).collect(),
        },
        heads: match operation {
            Msa if shape.searches_attention() && step > 1 => (1..shape.heads).collect(),
            _ => vec![],
        },
    };
    let blocks = choices.into_iter().cycle().zip(&config.blocks()).map(block).collect();
    let architecture = Architecture::new(config.clone(), CostModel::Macs, blocks, None);
    architecture.validate().unwrap();
    architecture
}

/// The compact form with a dense model's weights, and batch norms as after training.
fn compact(dense: &Vit<B>, architecture: &Architecture) -> Vit<B> {
    let mut init = Init::new(0, &Default::default());
    let search = expand(dense, &architecture.model, &mut init);
    let model = prune(&search, architecture);
    let mut numbers = Numbers(11);
    let mut tensors = weights::to_host(state::export(&model));
    for (name, tensor) in &mut tensors {
        let centre = match name.rsplit_once(".bconv.1.") {
            Some((_, "weight" | "running_var")) => 1.0,
            Some(_) => 0.0,
            None => continue,
        };
        tensor.data = numbers.take(tensor.data.len(), centre, 0.5);
    }
    state::import(model, &weights::from_host(tensors)).unwrap()
}

/// Writes a model as `FORM.onnx`, with our own logits beside it; these come back.
fn save(
    folder: &Path,
    form: &str,
    model: &Vit<B>,
    architecture: &Architecture,
    input: &HostTensor,
) -> Vec<f32> {
    let onnx = folder.join(format!("{form}.onnx"));
    write(&onnx, Target::Onnx, model, architecture, &Default::default())
        .unwrap_or_else(|e| panic!("{e}"));
    let half = folder.join(format!("{form}.half.onnx"));
    write_onnx(&half, model, architecture, &Form { half: true, ..Form::default() }).unwrap();
    let safetensors = folder.join(format!("{form}.safetensors"));
    write(&safetensors, Target::Safetensors, model, architecture, &Default::default()).unwrap();
    let logits = model.forward(tensor(input), &Mode::Evaluate).into_data();
    let shape = logits.shape.to_vec();
    let logits: Vec<f32> = logits.iter::<f32>().collect();
    let tensors = StateDict::from([
        ("input".to_owned(), input.clone()),
        ("logits".to_owned(), HostTensor { shape, data: logits.clone() }),
    ]);
    write_safetensors(folder.join(format!("{form}.io.safetensors")), &tensors, &BTreeMap::new())
        .unwrap();
    logits
}

/// Writes both forms of a dense model.
fn save_both(folder: &Path, dense: &Vit<B>, config: &ModelConfig, input: &HostTensor) {
    let whole = Architecture::dense(config.clone(), CostModel::Macs);
    let logits = save(folder, "dense", dense, &whole, input);
    let architecture = pruned(config);
    let model = compact(dense, &architecture);
    let other = save(folder, "compact", &model, &architecture, input);
    let kept = architecture.block_configs() == config.dense_blocks();
    let off = difference(&logits, &other);
    assert!(kept || off > 1e-3, "{}: both forms are one, off by {off}", name(folder));
}

#[test]
fn every_style_is_read_pruned_and_written() {
    let Some(folders) = cases("styles") else { return };
    for folder in folders.iter().filter(|folder| folder.join("io.safetensors").exists()) {
        let read = imported(&folder.join("model.safetensors"), &ReadOptions::default());
        let io = folder.join("io.safetensors");
        check(&name(folder), off_by(&read.model, &io, "logits"), logits_limit(&io));
        save_both(folder, &read.model, &read.architecture.model, &tensors(&io)["input"]);
    }
}

/// What layers can be beyond the models of other programs.
fn own() -> Vec<(&'static str, ModelConfig)> {
    let deit = VitConfig::deit([24, 8, 3, 5, 24, 5, 3]);
    let deit = || VitConfig { image_size: [24, 32], hidden: 20, ..deit.clone() };
    let default = BlockStyle::default();
    let styled = |style: BlockStyle| VitConfig { style, ..deit() };
    let rms = BlockStyle { norm: NormKind::Rms, qk_norm: true, ..default };
    let silu = BlockStyle { activation: Activation::Silu, ..default };
    let perception = Rope {
        offset: 1.0,
        reference: Some([2, 5]),
        columns_first: true,
        ..Rope::new(RopeKind::Eva)
    };
    let average = VitConfig { pool: Pool::Average, ..deit() };
    let map = VitConfig { pool: Pool::Map, pool_qk_norm: true, pool_hidden: Some(7), ..deit() };
    let odd_swin = SwinConfig {
        image_size: [36, 28],
        patch_size: 4,
        channels: 3,
        classes: 5,
        dim: 12,
        depths: vec![2, 4],
        heads: vec![2, 3],
        window: 4,
        mlp_ratio: 2.0,
        style: BlockStyle { epsilon: 1e-5, ..default },
    };
    let vits = [
        ("own_tanh", styled(BlockStyle { activation: Activation::Tanh, ..default })),
        ("own_gate_last", styled(BlockStyle { ffn: FfnKind::GateLast, ..silu })),
        (
            "own_all_norms_rms",
            VitConfig {
                pre_norm: true,
                fc_norm: true,
                ..styled(BlockStyle { attn_norm: true, mlp_norm: true, ..rms })
            },
        ),
        ("own_rope_offset", styled(BlockStyle { rope: Some(perception), ..default })),
        ("own_mean_of_all_tokens", VitConfig { pool_prefix: true, registers: 2, ..average }),
        ("own_pool_norms", VitConfig { style: rms, ..map }),
        (
            "own_norms_added",
            styled(BlockStyle { shortcut_adds_norm: true, layer_scale: true, ..default }),
        ),
    ];
    let vits = vits.into_iter().map(|(name, vit)| (name, vit.into()));
    vits.chain([("own_swin_padded", odd_swin.into())]).collect()
}

#[test]
fn styles_of_our_own_are_written() {
    let Some(folders) = cases("styles") else { return };
    let beside = folders[0].parent().unwrap();
    for (name, config) in own() {
        config.validate().unwrap();
        let folder = beside.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let fresh =
            Vit::new(&config, &config.dense_blocks(), &mut Init::new(0, &Default::default()));
        let [height, width] = config.image_size();
        let shape = vec![3, config.channels(), height, width];
        let data = Numbers(3).take(shape.iter().product(), 0.0, 1.5);
        save_both(&folder, &randomised(fresh), &config, &HostTensor { shape, data });
    }
}
