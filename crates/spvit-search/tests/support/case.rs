//! The stored cases of the published code.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use spvit_layers::state::{self, Named, StateDict};
use spvit_layers::{
    BlockStyle, Family, ModelConfig, Operation, SearchSpace, SwinConfig, VitConfig,
};
use spvit_search::{BlockUniforms, GateLayout, Gates};

use super::values;

/// One stored case: `NAME.json`, `NAME.io.safetensors` and `NAME.weights.safetensors`.
#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub folder: PathBuf,
    /// Configuration and scalars.
    pub json: Value,
    /// Inputs, values and gradients.
    pub io: StateDict,
    /// Weights by published name, without the integer counters.
    pub weights: StateDict,
}

/// The cases of one kind in the folder that `SPVIT_GOLDEN` names, by default the project's own.
pub fn cases(kind: &str) -> Vec<Case> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spvit-search/tests/golden");
    let folder = std::env::var_os("SPVIT_GOLDEN").map_or(own, PathBuf::from).join(kind);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json"));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_string();
            let mut weights = read(&folder.join(format!("{name}.weights.safetensors")));
            weights.retain(|name, _| !name.ends_with("num_batches_tracked"));
            let json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let io = read(&folder.join(format!("{name}.io.safetensors")));
            Case { name, folder: folder.clone(), json, io, weights }
        })
        .collect()
}

/// Every tensor of a safetensors file.
pub fn read(path: &Path) -> StateDict {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
        let (bytes, shape) = (view.data(), view.shape().to_vec());
        let data = match view.dtype() {
            Dtype::F32 => TensorData::new(words(bytes, f32::from_le_bytes), shape),
            Dtype::F64 => TensorData::new(words(bytes, f64::from_le_bytes), shape),
            Dtype::I64 => TensorData::new(words(bytes, i64::from_le_bytes), shape),
            other => panic!("{name}: {other:?}"),
        };
        (name, data)
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn words<T, const N: usize>(bytes: &[u8], word: fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|chunk| word(chunk.try_into().unwrap())).collect()
}

impl Case {
    /// A stored number.
    pub fn number(&self, path: &str) -> f64 {
        self.json.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path}"))
    }

    /// Stored rows of numbers, one for each block.
    pub fn rows(&self, path: &str) -> Vec<Vec<f64>> {
        let rows = |value: &Value| serde_json::from_value(value.clone()).unwrap();
        let stored = self.json.pointer(path).unwrap_or_else(|| panic!("{path}"));
        match (stored, self.blocks()) {
            (Value::Object(blocks), Some(names)) => {
                names.iter().map(|name| rows(&blocks[name])).collect()
            }
            // One list for each stage.
            (_, Some(_)) => {
                let stages: Vec<Vec<Vec<f64>>> = serde_json::from_value(stored.clone())
                    .unwrap_or_else(|_| vec![serde_json::from_value(stored.clone()).unwrap()]);
                stages.concat()
            }
            _ => serde_json::from_value(stored.clone()).unwrap(),
        }
    }

    /// Stage and place of every block, as `stage.place`; `None` for a model without stages.
    pub fn blocks(&self) -> Option<Vec<String>> {
        let depths = self.json.pointer("/config/depths")?.as_array()?;
        let depth = |depth: &Value| depth.as_u64().unwrap();
        let names = depths
            .iter()
            .map(depth)
            .enumerate()
            .flat_map(|(stage, depth)| (0..depth).map(move |block| format!("{stage}.{block}")));
        Some(names.collect())
    }

    /// The name of a block's values, such as `block3` or `block1.0`.
    pub fn block(&self, index: usize) -> String {
        match self.blocks() {
            Some(names) => format!("block{}", names[index]),
            None => format!("block{index}"),
        }
    }

    /// The name of a block's weights, such as `blocks.3` or `layers.1.blocks.0`.
    pub fn layer(&self, index: usize) -> String {
        match self.blocks() {
            Some(names) => {
                let (stage, place) = names[index].split_once('.').unwrap();
                format!("layers.{stage}.blocks.{place}")
            }
            None => format!("blocks.{index}"),
        }
    }

    /// A stored tensor's values.
    pub fn stored(&self, name: &str) -> Vec<f32> {
        values(self.io.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name)))
    }

    /// A stored tensor on a backend.
    pub fn tensor<B: Backend, const D: usize>(&self, name: &str) -> Tensor<B, D> {
        let data = self.io.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name));
        Tensor::from_data(data.clone(), &super::device::<B>())
    }

    /// The model's shape before its FFNs were cut.
    pub fn config(&self) -> ModelConfig {
        let size = |field: &str| self.number(&format!("/config/{field}")) as usize;
        let sizes = |field: &str| -> Vec<usize> {
            let stored = self.json.pointer(&format!("/config/{field}")).unwrap();
            serde_json::from_value(stored.clone()).unwrap()
        };
        let dim = size("embed_dim");
        let ratio = self.number("/config/mlp_ratio");
        let (side, patch, channels, classes) =
            (size("img_size"), size("patch_size"), size("in_chans"), size("num_classes"));
        let family = match self.blocks() {
            Some(_) => Family::Swin(SwinConfig {
                image_size: [side; 2],
                patch_size: patch,
                channels,
                classes,
                dim,
                depths: sizes("depths"),
                heads: sizes("num_heads"),
                window: size("window_size"),
                mlp_ratio: ratio,
                style: BlockStyle { epsilon: 1e-5, ..BlockStyle::default() },
            }),
            None => {
                let (depth, heads) = (size("depth"), size("num_heads"));
                let hidden = (ratio * dim as f64) as usize;
                let shape = [side, patch, channels, classes, dim, depth, heads];
                Family::Vit(VitConfig { hidden, ..VitConfig::deit(shape) })
            }
        };
        let space =
            SearchSpace { kernels: vec![1, 3], alpha: self.number("/alpha"), separate: false };
        ModelConfig { family, space }
    }

    /// The thresholds of a search case.
    pub fn gates<B: Backend>(&self) -> Gates<B> {
        let config = self.config();
        let device = super::device::<B>();
        let all = |names: [&str; 2]| -> Vec<f32> {
            let blocks = 0..config.depth();
            let stored = |i: usize| {
                let names = names.map(|name| format!("{}.{name}", self.layer(i)));
                values(names.iter().find_map(|name| self.weights.get(name)).unwrap())
            };
            blocks.flat_map(stored).collect()
        };
        let mut gates = gates_of(&config, 0.0, &device);
        let flat = |values: Vec<f32>| {
            let count = values.len();
            Param::from_data(TensorData::new(values, [count]), &device)
        };
        gates.operations = flat(all(["attn.kernel_thresholds", "attn.kernel_thresholds_full"]));
        gates.ffn = flat(all(["mlp.ffn_thresholds", "mlp.ffn_thresholds"]));
        gates
    }

    /// Thresholds (or their gradients) by the names of the case.
    pub fn published(&self, found: StateDict) -> StateDict {
        if self.blocks().is_none() {
            return found;
        }
        let name = |name: String| {
            let mut parts = name.splitn(3, '.');
            let index = parts.nth(1).unwrap().parse().unwrap();
            let rest = parts.next().unwrap();
            let rest = rest.replace("kernel_thresholds", "kernel_thresholds_full");
            format!("{}.{rest}", self.layer(index))
        };
        found.into_iter().map(|(path, data)| (name(path), data)).collect()
    }

    /// The uniforms that a search case's training step drew.
    pub fn uniforms(&self) -> Vec<BlockUniforms> {
        (0..self.config().depth())
            .map(|i| BlockUniforms {
                heads: vec![],
                operations: self.stored(&format!("train.uniform.{:02}", 2 * i)),
                ffn: self.stored(&format!("train.uniform.{:02}", 2 * i + 1)),
            })
            .collect()
    }

    /// The weights, with Q, K and V in one map and without the thresholds. What the published form
    /// of a block does not have is taken from `model`, with Q and K zero where only V is there.
    pub fn state<B: Backend, M: Named<B>>(&self, model: &M) -> StateDict {
        let own = state::export(model);
        let mut state = self.weights.clone();
        state.retain(|name, _| !name.contains("_thresholds") && !name.contains("assigned_"));
        for name in own.keys().filter(|name| name.contains(".attn.qkv.")) {
            let [qk, v] = ["qk", "v"].map(|part| name.replace("qkv", part));
            if let (None, Some(v)) = (state.get(&qk), state.get(&v)) {
                let mut shape = v.shape.to_vec();
                shape[0] *= 2;
                let count = shape.iter().product();
                state.insert(qk, TensorData::new(vec![0.0f32; count], shape));
            }
        }
        state::merge_qkv(&mut state);
        state::name_as_timm(&mut state);
        for (name, data) in own {
            state.entry(name).or_insert(data);
        }
        state
    }
}

/// The operation that cumulative gates choose.
pub fn operation(config: &ModelConfig, cumulative: &[f64]) -> Operation {
    match cumulative.iter().filter(|&&gate| gate == 1.0).count() {
        0 => Operation::Shortcut,
        open => config.operations()[open - 1],
    }
}

/// Gates of every operation of a model, also of those that another one dominates.
pub fn gates_of<B: Backend>(config: &ModelConfig, start: f64, device: &B::Device) -> Gates<B> {
    let blocks = config.blocks();
    let layout = blocks.iter().map(|block| GateLayout {
        least: Operation::Shortcut,
        operations: config.operations().into(),
        hidden: block.hidden,
        heads: 0,
    });
    Gates::of(layout.collect(), start, device)
}
