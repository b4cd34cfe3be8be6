//! The fine-tuning and compact forms against the published code's.

use burn::backend::Autodiff;
use burn::tensor::backend::Backend;
use spvit_core::FusedOps;
use spvit_layers::state::{self, StateDict};
use spvit_layers::{
    BlockConfig, BlockGates, Family, Init, Mode, ModelConfig, Operation, SearchVit, TrainContext,
    Vit,
};
use spvit_search::{Architecture, BlockArchitecture, CostModel, prune};

use crate::support::{
    Case, Errors, Scale, cases, device, host, magnitude, operation, read, values,
};

on_all_backends!(
    finetune_form_in_evaluation,
    finetune_form_in_training,
    compact_form_is_the_published_one,
    published_compact_file_loads,
    dense_file_loads,
);

const LOGITS: (f32, Scale) = (1e-5, Scale::One);

/// The cases of DeiT and of Swin.
fn both_families() -> Vec<Case> {
    [cases("deit_finetune"), cases("swin_finetune")].into_iter().flatten().collect()
}

/// Logits of the compact form. The published conversion of a Swin orders its kernels wrongly; what
/// is stored of it is mended.
fn compact_logits(case: &Case) -> Vec<f32> {
    let names = ["optimized.eval.logits", "optimized_fixed.eval.logits"];
    case.stored(names.iter().find(|name| case.io.contains_key(**name)).unwrap())
}

/// The published compact form's file.
fn compact_file(case: &Case) -> StateDict {
    let names = ["optimized", "optimized_fixed"];
    let names = names.map(|kind| format!("{}.{kind}.safetensors", case.name));
    let name = names.iter().find(|name| case.folder.join(name).exists()).unwrap();
    file(case, name)
}

/// The model's shape, with the published shortcut.
fn config(case: &Case) -> ModelConfig {
    let mut config = case.config();
    match &mut config.family {
        Family::Vit(vit) => vit.style.shortcut_adds_norm = true,
        Family::Swin(swin) => swin.style.shortcut_adds_norm = true,
    }
    config
}

/// Operation and width of every block.
fn blocks(case: &Case) -> Vec<BlockConfig> {
    let config = case.config();
    let gates = case.rows("/msa_indicators");
    let block = |(gates, kept): (&Vec<f64>, &Vec<f64>)| BlockConfig {
        operation: operation(&config, gates),
        hidden: kept.len(),
        heads: None,
    };
    gates.iter().zip(&case.rows("/ffn_keep")).map(block).collect()
}

fn fixed<B: Backend>(case: &Case) -> Vec<BlockGates<B>> {
    blocks(case).iter().map(|block| BlockGates::fixed(block.operation)).collect()
}

/// The published fine-tuning form: searched attention layers whose operation is given, FFNs cut.
fn finetune_form<B: FusedOps>(case: &Case) -> SearchVit<B> {
    let hidden: Vec<usize> = blocks(case).iter().map(|block| block.hidden).collect();
    let mut init = Init::new(0, &device::<B>());
    let fresh = SearchVit::with_hidden(&config(case), &hidden, &mut init);
    let state = case.state(&fresh);
    state::import(fresh, &state).unwrap()
}

/// The compact form of the case. Its FFNs are cut already, so every block keeps what it has.
fn compact_form<B: FusedOps>(case: &Case) -> Vit<B> {
    let blocks = blocks(case).iter().map(BlockArchitecture::first).collect();
    let architecture = Architecture::new(config(case), CostModel::Paper, blocks, None);
    prune(&finetune_form(case), &architecture)
}

/// Tensors of a file in this project's names.
fn file(case: &Case, name: &str) -> StateDict {
    let mut state = read(&case.folder.join(name));
    state.retain(|name, _| !name.ends_with("num_batches_tracked"));
    state::merge_qkv(&mut state);
    state::name_as_timm(&mut state);
    state
}

fn finetune_form_in_evaluation<B: FusedOps>() {
    let mut errors = Errors::new::<B>("fine-tuning");
    for case in both_families() {
        let logits =
            finetune_form::<B>(&case).forward(case.tensor("input"), &fixed(&case), &Mode::Evaluate);
        errors.check("logits", &case.name, &host(logits), &case.stored("eval.logits"), LOGITS);
    }
}

fn finetune_form_in_training<B: FusedOps>() {
    let mut errors = Errors::new::<B>("fine-tuning");
    for case in both_families() {
        let (model, context) = (finetune_form::<Autodiff<B>>(&case), TrainContext::new());
        let logits = model.forward(case.tensor("input"), &fixed(&case), &Mode::Train(&context));
        errors.check("logits", &case.name, &host(logits), &case.stored("train.logits"), LOGITS);
    }
}

fn compact_form_is_the_published_one<B: FusedOps>() {
    let mut errors = Errors::new::<B>("compact");
    for case in both_families() {
        let compact = compact_form::<B>(&case);
        let logits = compact.forward(case.tensor("input"), &Mode::Evaluate);
        errors.check("logits", &case.name, &host(logits), &compact_logits(&case), LOGITS);

        let found = state::export(&compact);
        let expected = compact_file(&case);
        assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (name, data) in &expected {
            assert_eq!(found[name].shape, data.shape, "{}: {name}", case.name);
            let (found, expected) = (values(&found[name]), values(data));
            let scale = Scale::Given(magnitude(&expected));
            errors.check("exported tensors", name, &found, &expected, (1e-6, scale));
        }
        let parameters = case.number("/n_params_optimized") as usize;
        assert_eq!(state::parameter_count(&compact), parameters, "{}", case.name);
    }
}

fn published_compact_file_loads<B: FusedOps>() {
    let mut errors = Errors::new::<B>("published compact file");
    for case in both_families() {
        let fresh =
            Vit::<B>::new(&config(&case), &blocks(&case), &mut Init::new(0, &device::<B>()));
        let state = compact_file(&case);
        let model = state::import(fresh, &state).unwrap();
        let logits = model.forward(case.tensor("input"), &Mode::Evaluate);
        errors.check("logits", &case.name, &host(logits), &compact_logits(&case), LOGITS);
    }
}

fn dense_file_loads<B: FusedOps>() {
    let mut errors = Errors::new::<B>("dense file");
    for case in both_families() {
        let config = case.config();
        let fresh =
            Vit::<B>::new(&config, &config.dense_blocks(), &mut Init::new(0, &device::<B>()));
        // One file serves the cases of a prefix: dense.safetensors, or w4_dense.safetensors for
        // w4_allkinds.
        let prefix =
            case.name.rsplit_once('_').map_or(String::new(), |(prefix, _)| format!("{prefix}_"));
        let own = format!("{}.dense.safetensors", case.name);
        let names = [own, format!("{prefix}dense.safetensors"), "dense.safetensors".to_string()];
        let name = names.iter().find(|name| case.folder.join(name).exists()).unwrap();
        let model = state::import(fresh, &file(&case, name)).unwrap();
        let logits = model.forward(case.tensor("input"), &Mode::Evaluate);
        errors.check("logits", &case.name, &host(logits), &case.stored("dense.logits"), LOGITS);
    }
}

/// Q and K without V, or of another width, are left for the import to name.
#[test]
fn only_matching_maps_are_merged() {
    use burn::tensor::TensorData;
    let tensor =
        |shape: &[usize]| TensorData::new(vec![1.0f32; shape.iter().product()], shape.to_vec());
    let mut state = StateDict::from([
        ("a.qk.weight".to_string(), TensorData::new(vec![1.0f32, 2.0, 3.0, 4.0], [2, 2])),
        ("a.v.weight".to_string(), TensorData::new(vec![5.0f32, 6.0], [1, 2])),
        ("b.qk.weight".to_string(), tensor(&[4, 2])),
        ("b.v.weight".to_string(), tensor(&[2, 3])),
        ("c.qk.bias".to_string(), tensor(&[4])),
        ("c.v.weight".to_string(), tensor(&[2, 2])),
    ]);
    state::merge_qkv(&mut state);
    let names: Vec<_> = state.keys().map(String::as_str).collect();
    assert_eq!(names, ["a.qkv.weight", "b.qk.weight", "b.v.weight", "c.qk.bias", "c.v.weight"]);
    assert_eq!(state["a.qkv.weight"].shape.to_vec(), [3, 2]);
    assert_eq!(values(&state["a.qkv.weight"]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
}

/// The published shortcut is norm1(x) and this project's is 0; the case has to show which is which.
#[test]
fn the_two_shortcuts_differ() {
    type B = burn::backend::Flex;
    for case in both_families() {
        if !blocks(&case).iter().any(|block| block.operation == Operation::Shortcut) {
            continue;
        }
        let config = case.config();
        assert!(!config.blocks()[0].style.shortcut_adds_norm);
        let fresh = Vit::<B>::new(&config, &blocks(&case), &mut Init::new(0, &device::<B>()));
        let state = compact_file(&case);
        let model = state::import(fresh, &state).unwrap();
        let logits = host(model.forward(case.tensor("input"), &Mode::Evaluate));
        let stored = compact_logits(&case);
        let difference =
            logits.iter().zip(&stored).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(difference > 0.01, "{}: {difference}", case.name);
    }
}
