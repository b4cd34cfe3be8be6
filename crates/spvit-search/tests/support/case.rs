//! The stored cases of the published code.

use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{Tensor, TensorData, backend::Backend};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use spvit_layers::state::{self, Named, StateDict};
use spvit_layers::{Operation, VitConfig};
use spvit_search::{BlockUniforms, Gates};

use super::values;

/// One stored case: `NAME.json`, `NAME.io.safetensors` and `NAME.weights.safetensors`.
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

    /// Stored rows of numbers.
    pub fn rows(&self, path: &str) -> Vec<Vec<f64>> {
        serde_json::from_value(self.json.pointer(path).unwrap_or_else(|| panic!("{path}")).clone())
            .unwrap()
    }

    /// A stored tensor's values.
    pub fn stored(&self, name: &str) -> Vec<f32> {
        values(self.io.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name)))
    }

    /// A stored tensor on a backend.
    pub fn tensor<B: Backend, const D: usize>(&self, name: &str) -> Tensor<B, D> {
        let data = self.io.get(name).unwrap_or_else(|| panic!("{}: no {name}", self.name));
        Tensor::from_data(data.clone(), &B::Device::default())
    }

    /// The model's shape before its FFNs were cut.
    pub fn config(&self) -> VitConfig {
        let size = |field: &str| self.number(&format!("/config/{field}")) as usize;
        let dim = size("embed_dim");
        VitConfig {
            image_size: [size("img_size"); 2],
            patch_size: size("patch_size"),
            channels: size("in_chans"),
            classes: size("num_classes"),
            dim,
            depth: size("depth"),
            heads: size("num_heads"),
            hidden: (self.number("/config/mlp_ratio") * dim as f64) as usize,
            kernels: vec![1, 3],
            alpha: self.number("/alpha"),
            layer_norm_epsilon: 1e-6,
            shortcut_adds_norm: false,
        }
    }

    /// The thresholds of a search case.
    pub fn gates<B: Backend>(&self) -> Gates<B> {
        let config = self.config();
        let device = B::Device::default();
        let all = |name: &str| -> Vec<f32> {
            let blocks = 0..config.depth;
            blocks.flat_map(|i| values(&self.weights[&format!("blocks.{i}.{name}")])).collect()
        };
        let mut gates = Gates::new(&config, 0.0, &device);
        let shape = gates.operations.dims();
        let operations = TensorData::new(all("attn.kernel_thresholds"), shape);
        gates.operations = Param::from_data(operations, &device);
        let ffn = all("mlp.ffn_thresholds");
        let count = ffn.len();
        gates.ffn = Param::from_data(TensorData::new(ffn, [count]), &device);
        gates
    }

    /// The uniforms that a search case's training step drew.
    pub fn uniforms(&self) -> Vec<BlockUniforms> {
        (0..self.config().depth)
            .map(|i| BlockUniforms {
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
        for (name, data) in own {
            state.entry(name).or_insert(data);
        }
        state
    }
}

/// The operation that cumulative gates choose.
pub fn operation(config: &VitConfig, cumulative: &[f64]) -> Operation {
    match cumulative.iter().filter(|&&gate| gate == 1.0).count() {
        0 => Operation::Shortcut,
        open => config.operations()[open - 1],
    }
}
