//! The files in configs/, and settings over them.

use std::{collections::BTreeSet, fs, path::Path};

use spvit_layers::ModelConfig;
use spvit_train::{EpochReport, Phase, RunConfig};

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

#[test]
fn every_shipped_configuration_can_be_read_and_shows_every_key() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let every = keys_of(&RunConfig::default().to_toml().unwrap());
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let config = RunConfig::read(&path, &[]).unwrap();
        let own = keys_of(&fs::read_to_string(&path).unwrap());
        let lacking: Vec<_> = every.difference(&own).collect();
        assert!(lacking.is_empty(), "{} lacks {lacking:?}", path.display());
        let name = path.file_stem().unwrap().to_str().unwrap();
        if let Ok(preset) = ModelConfig::preset(name) {
            assert_eq!(config.model, preset, "{name}");
            assert!(config.target_flops() < config.dense_flops(), "{name}");
        }
        count += 1;
    }
    assert!(count >= 6, "{count} configurations");
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
    let line = r#"{"stage":"search","epoch":0,"epochs":2,"loss":1.5,"train_accuracy":0.5,
                   "validation_accuracy":0.5,"learning_rate":0.1,"best":true}"#;
    let report: EpochReport = serde_json::from_str(line).unwrap();
    assert_eq!(report.phase, Phase::Search);
    let written = serde_json::to_string(&report).unwrap();
    assert!(written.starts_with(r#"{"phase":"search""#), "{written}");
}

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
