//! The files in configs/, and settings over them.

use std::{collections::BTreeSet, fs, path::Path};

use spvit_layers::ModelConfig;
use spvit_search::{Budget, CostModel};
use spvit_train::{
    EpochReport, Given, Phase, RunConfig,
    config::{InitialWeights, Unit},
};

fn keys(prefix: &str, table: &toml::Table, all: &mut BTreeSet<String>) {
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => keys(&format!("{prefix}{key}."), inner, all),
            _ => {
                all.insert(format!("{prefix}{key}"));
            }
        }
    }
}

fn keys_of(text: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    keys("", &text.parse().unwrap(), &mut all);
    all
}

fn shipped(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs").join(name)
}

#[test]
fn every_shipped_configuration_can_be_read_and_the_demo_shows_every_key() {
    let mut count = 0;
    for entry in fs::read_dir(shipped("")).unwrap() {
        let path = entry.unwrap().path();
        RunConfig::read(&path, &[]).unwrap();
        let given = Given { file: Some(path.clone()), ..Given::default() };
        let resolved = given.resolve().unwrap();
        assert_eq!(resolved.config, RunConfig::read(&path, &[]).unwrap(), "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 9);
    let every = keys_of(&RunConfig::default().to_toml().unwrap());
    let own = keys_of(&fs::read_to_string(shipped("demo.toml")).unwrap());
    let lacking: Vec<_> = every.difference(&own).collect();
    assert!(lacking.is_empty(), "demo.toml lacks {lacking:?}");
}

/// The rows of the paper's recipe: λ, the budget in 10⁹ multiply-adds, the thresholds' rate, drop
/// path, the largest norm of the gradients, α and repeats.
#[test]
fn the_papers_rows_have_the_papers_values() {
    for (name, preset, [lambda, giga, rate, drop_path, clip, alpha], repeated) in [
        ("deit_ti", "deit_tiny", [20.0, 1.0, 1e-3, 0.1, 0.0, 0.01], 3),
        ("deit_s", "deit_small", [3.0, 3.2, 5e-4, 0.1, 0.0, 0.01], 3),
        ("deit_b", "deit_base", [0.06, 10.0, 1e-3, 0.1, 0.0, 0.01], 3),
        ("swin_t", "swin_tiny", [2.8, 3.2, 1e-3, 0.2, 5.0, 100.0], 1),
        ("swin_s", "swin_small", [0.4, 5.5, 1e-3, 0.3, 5.0, 100.0], 1),
        ("swin_b", "swin_base", [0.1, 10.0, 1e-3, 0.5, 5.0, 100.0], 1),
    ] {
        let config = RunConfig::read(&shipped(&format!("{name}.toml")), &[]).unwrap();
        let mut shape = ModelConfig::preset(preset).unwrap();
        shape.space.alpha = alpha;
        assert_eq!(config.model, shape, "{name}");
        let search = &config.search;
        assert_eq!(
            (search.lambda, search.unit, search.cost_model),
            (lambda, Unit::Giga, CostModel::Paper)
        );
        assert_eq!(config.budget(), Budget::flops((giga * 1e9) as u64), "{name}");
        assert!(config.budget().target < config.cost_table().dense(), "{name}");
        assert_eq!((search.threshold_start, search.threshold_learning_rate), (1.5, rate), "{name}");
        // 5e-5 for every 512 images.
        for phase in [search.training(), config.finetune.training()] {
            assert_eq!(phase.learning_rate, 5e-5 * phase.batch_size as f64 / 512.0, "{name}");
            assert_eq!(
                (phase.drop_path, phase.clip_norm, phase.weight_decay),
                (drop_path, clip, 0.05)
            );
            assert_eq!(phase.warmup_epochs, 0.0, "{name}");
        }
        assert!((12..=21).contains(&search.epochs), "{name}");
        assert_eq!(
            (config.finetune.epochs, config.finetune.min_learning_rate),
            (130, 1e-5),
            "{name}"
        );
        assert_eq!(config.finetune.init, InitialWeights::Dense, "{name}");
        let augment = &config.augment;
        assert_eq!(augment.rand_augment, "rand-m9-mstd0.5-inc1", "{name}");
        assert_eq!((augment.mixup, augment.cutmix, augment.switch_prob), (0.8, 1.0, 0.5), "{name}");
        assert_eq!((augment.label_smoothing, augment.random_erasing), (0.1, 0.25), "{name}");
        assert_eq!(augment.repeated, repeated, "{name}");
        assert!(augment.random_resized_crop.is_some() && augment.horizontal_flip, "{name}");
    }
}

#[test]
fn a_resolved_configuration_reads_back_as_itself() {
    let settings = ["seed=7", "search.budget=0.5", "data.folder=some where", "search.unit=giga"];
    let settings = settings.map(String::from);
    let config = RunConfig::parse("", "test", &settings).unwrap();
    assert_eq!(config.seed, 7);
    assert_eq!(config.data.folder, Path::new("some where"));
    assert_eq!(RunConfig::parse(&config.to_toml().unwrap(), "test", &[]).unwrap(), config);
}

/// `run.shards` is what earlier versions called it.
#[test]
fn files_of_earlier_versions_open() {
    let config = RunConfig::parse("[run]\nshards = 3\n", "test", &[]).unwrap();
    assert_eq!(config.run.micro_batches, 3);
    let set = RunConfig::parse("", "test", &["run.shards=2".to_string()]).unwrap();
    assert_eq!(set.run.micro_batches, 2);
    let old = RunConfig::parse("[finetune]\nepochs = 2\n", "test", &[]).unwrap();
    assert_eq!((old.finetune.accumulate, old.finetune.ema_decay), (1, 0.0));
    let line = r#"{"stage":"search","epoch":0,"epochs":2,"loss":1.5,"train_accuracy":0.5,
                   "validation_accuracy":0.5,"learning_rate":0.1,"best":true}"#;
    let report: EpochReport = serde_json::from_str(line).unwrap();
    assert_eq!(report.phase, Phase::Search);
    let written = serde_json::to_string(&report).unwrap();
    assert!(written.starts_with(r#"{"phase":"search""#), "{written}");
}

const TEACHER: &str = "[finetune]\ndistillation = 0.5\nteacher = 'a.onnx'\n";

#[test]
fn errors_name_what_is_wrong() {
    let cases = [
        ("", "epochs", "key=value"),
        ("", "=3", "empty"),
        ("", "search.lambda.x=3", "search.lambda"),
        ("", "search.lamda=3", "lamda"),
        ("", "search.lambda=many", "number"),
        ("", "search.lambda=-1", "search.lambda = -1"),
        ("", "search.budget=0", "search.budget"),
        ("", "model.heads=5", "model.heads"),
        ("", "model.kernels=[2]", "model.kernels"),
        ("", "search.min_learning_rate=1.0", "search.min_learning_rate"),
        ("", "run.micro_batches=0", "run.micro_batches"),
        ("", "run.micro_batches=100", "run.micro_batches"),
        ("", "run.timing_seconds=-1", "run.timing_seconds = -1: expected a number at least 0"),
        ("", "finetune.accumulate=0", "finetune.accumulate = 0: expected a whole number"),
        ("", "transfer.accumulate=65", "from 1 to batch_size, 64"),
        ("run.micro_batches = 4", "search.accumulate=17", "must not exceed search.batch_size = 64"),
        ("", "pretrain.ema_decay=1.0", "pretrain.ema_decay = 1: expected a number from 0 (off)"),
        ("", "finetune.ema_decay=-0.1", "finetune.ema_decay = -0.1"),
        ("", "search.ema_decay=0.9", "ema_decay"),
        ("[finetune]\ndistillation = 0.0", "finetune.teacher=a.onnx", "follows no teacher"),
        ("[finetune]\ndistillation = 0.5", "finetune.teacher_mean=[0.5]", "names no model"),
        (TEACHER, "finetune.teacher_mean=[0.5]", "expected 1 numbers each"),
        (TEACHER, "finetune.teacher_std=[0.5, 0.5]", "found 0 and 2"),
        ("", "augment.mixup=-1", "mixup"),
        ("[search]\nepochs = 0", "", "search.epochs"),
        ("[search]\nlamda = 0", "", "lamda"),
        ("[search\n", "", "line 1"),
        ("seed = 1\nseed = 2", "", "line 2"),
    ];
    for (text, setting, expected) in cases {
        let settings: Vec<String> =
            [setting].into_iter().filter(|s| !s.is_empty()).map(String::from).collect();
        let error = RunConfig::parse(text, "a.toml", &settings).unwrap_err().to_string();
        assert!(error.contains(expected), "{text:?} {setting:?}: {error}");
        assert!(!error.contains('\n'), "{error}");
        let source = if setting.is_empty() { "a.toml" } else { "--set" };
        assert!(error.starts_with(source), "{error}");
    }
}
