//! Pages of made-up runs: whole ones, old ones, unfinished ones, hostile ones, large ones.

mod comparing;
mod showing;

use std::{fs, path::Path};

use spvit_layers::{ModelConfig, Operation};
use spvit_search::{Architecture, BlockArchitecture, CostModel};
use spvit_train::{
    BlockGateReport, Difference, EpochReport, Evaluation, FfnGates, GateReport, ModelByClass,
    ModelFigures, Phase, RunConfig, Software, Summary,
};

/// A PNG of one pixel.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg==";

/// What a made-up run is like.
struct Made {
    preset: &'static str,
    classes: Vec<String>,
    /// Bytes of each picture's text.
    picture: usize,
    /// Epochs of the search.
    epochs: usize,
    accuracy: f64,
    /// Share of every FFN that is kept.
    kept: f64,
}

impl Default for Made {
    fn default() -> Self {
        let classes = (0..10).map(|class| format!("kind {class}")).collect();
        Self { preset: "vit_micro", classes, picture: 0, epochs: 0, accuracy: 0.9, kept: 0.5 }
    }
}

impl Made {
    fn model(&self) -> ModelConfig {
        let mut model = ModelConfig::preset(self.preset).unwrap();
        model.set_classes(self.classes.len());
        model
    }

    fn architecture(&self) -> Architecture {
        let model = self.model();
        let operations =
            [Operation::Msa, Operation::BConv(1), Operation::BConv(3), Operation::Shortcut];
        let block = |(i, shape): (usize, spvit_layers::BlockShape)| BlockArchitecture {
            operation: operations[i % 4],
            kept: (0..(self.kept * shape.hidden as f64) as usize).collect(),
            heads: if i == 0 && shape.heads > 1 { vec![1] } else { vec![] },
        };
        let blocks = model.blocks().into_iter().enumerate().map(block).collect();
        Architecture::new(model, CostModel::Paper, blocks, Some(10_000_000))
    }

    fn figures(&self, name: &str) -> ModelFigures {
        let architecture = self.architecture();
        let dense = name == "dense";
        ModelFigures {
            name: name.into(),
            accuracy: if dense { 0.92 } else { self.accuracy },
            flops: if dense { architecture.dense_flops } else { architecture.flops },
            parameters: if dense { 305_034 } else { 168_681 },
            latency_one: 0.0011,
            latency_batch: if dense { 0.031 } else { 0.031 * self.kept },
            milliseconds: None,
            onnxruntime: None,
        }
    }

    fn summary(&self) -> Summary {
        Summary {
            backend: "flex".into(),
            seed: 7,
            data: "made up".into(),
            data_fingerprint: "0123abcd".into(),
            test_images: 100 * self.classes.len(),
            cost_model: CostModel::Paper,
            target_flops: Some(10_000_000),
            target_parameters: None,
            target_milliseconds: None,
            latency_table: None,
            latency_batch_size: 64,
            models: ["dense", "searched", "compact"].map(|name| self.figures(name)).to_vec(),
        }
    }

    fn gates(&self, epoch: usize) -> GateReport {
        let shift = 0.9 - 0.3 * epoch as f32 / self.epochs.max(1) as f32;
        let block = |shape: &spvit_layers::BlockShape| BlockGateReport {
            path: vec![Operation::BConv(1), Operation::BConv(3), Operation::Msa],
            operations: vec![0.8, shift, 0.4],
            heads: vec![shift; shape.heads],
            ffn: FfnGates {
                gates: shape.hidden,
                open: shape.hidden / 2,
                quantiles: vec![0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0],
            },
        };
        let blocks = self.model().blocks().iter().map(block).collect();
        GateReport { epoch, cost: 16e6 - 5e6 * f64::from(1.0 - shift), blocks }
    }

    fn epoch(&self, phase: Phase, epoch: usize, epochs: usize) -> EpochReport {
        let done = (epoch + 1) as f64 / epochs as f64;
        EpochReport {
            phase,
            epoch,
            epochs,
            loss: 1.0 - 0.5 * done,
            train_accuracy: 0.7 + 0.1 * done,
            validation_accuracy: Some(0.75 + 0.15 * done),
            learning_rate: 1e-3,
            flops: (phase == Phase::Search).then_some((16e6 - 6e6 * done) as u64),
            derived_flops: (phase == Phase::Search).then_some(10_000_000),
            milliseconds: None,
            derived_milliseconds: None,
            best: true,
        }
    }

    fn evaluation(&self) -> Evaluation {
        let classes = self.classes.len();
        let by_class: Vec<[usize; 2]> = (0..classes).map(|class| [90 - class % 40, 100]).collect();
        let model = |name: &str| ModelByClass { name: name.into(), by_class: by_class.clone() };
        let wrong = (0..classes).map(|class| [class, (class + 1) % classes, 10 + class % 40]);
        let right = (0..classes).map(|class| [class, class, 90 - class % 40]);
        let png = match self.picture {
            0 => PIXEL.to_string(),
            bytes => "A".repeat(bytes),
        };
        let difference = |class: usize| Difference {
            class,
            guesses: [class, (class + 1) % classes],
            probabilities: [0.9, 0.8],
            png: png.clone(),
        };
        Evaluation {
            class_names: self.classes.clone(),
            images: 100 * classes,
            models: ["dense", "searched", "compact"].map(model).to_vec(),
            confusion: right.chain(wrong).collect(),
            differing: 77,
            differences: (0..12).map(|i| difference(i % classes)).collect(),
            software: Software { spvit: "0.1.0".into(), burn: "0.21.0".into(), system: "x".into() },
        }
    }

    /// Writes the run's files.
    fn write(&self, root: &Path) {
        fs::create_dir_all(root).unwrap();
        let epochs = format!("search.epochs={}", self.epochs);
        let config =
            RunConfig::parse("", "test", &[epochs, "search.start=importance".into()]).unwrap();
        let config = RunConfig { model: self.model(), ..config };
        fs::write(root.join("config.toml"), config.to_toml().unwrap()).unwrap();
        fs::write(root.join("architecture.json"), self.architecture().to_json().unwrap()).unwrap();
        let json = |value: serde_json::Result<String>| value.unwrap() + "\n";
        fs::write(root.join("summary.json"), json(serde_json::to_string(&self.summary()))).unwrap();
        let evaluation = json(serde_json::to_string(&self.evaluation()));
        fs::write(root.join("evaluation.json"), evaluation).unwrap();
        let search = (0..self.epochs).map(|epoch| self.epoch(Phase::Search, epoch, self.epochs));
        let epochs = search.chain((0..6).map(|epoch| self.epoch(Phase::Finetune, epoch, 6)));
        let lines: String = epochs.map(|epoch| json(serde_json::to_string(&epoch))).collect();
        fs::write(root.join("metrics.jsonl"), lines).unwrap();
        let gates = (0..=self.epochs).map(|epoch| json(serde_json::to_string(&self.gates(epoch))));
        fs::write(root.join("gates.jsonl"), gates.collect::<String>()).unwrap();
    }
}
