//! The released architectures: FLOPs to the last multiply-add, and DeiT's parameter counts.

use std::path::Path;

use burn::backend::Flex;
use serde_json::Value;
use spvit_layers::state::parameter_count;
use spvit_layers::{BlockConfig, BlockShape, Family, Init, ModelConfig, Operation, SearchVit, Vit};
use spvit_search::{Architecture, BlockArchitecture, CostModel, CostTable};

use crate::support::gates_of;

struct Released {
    name: String,
    json: Value,
}

impl Released {
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archs");
        let mut paths: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let all: Vec<Self> = paths
            .into_iter()
            .map(|path| Self {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                json: serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(),
            })
            .collect();
        assert_eq!(all.len(), 4, "DeiT-Ti, -S, -B and Swin-T");
        all
    }

    fn swin(&self) -> bool {
        self.name.contains("swin")
    }

    fn size(&self, field: &str) -> usize {
        self.json[field].as_u64().unwrap_or_else(|| panic!("{}: no {field}", self.name)) as usize
    }

    /// The preset with the file's embedding, which must have the file's other figures too.
    fn config(&self) -> ModelConfig {
        let names: &[&str] = match self.swin() {
            true => &["swin_tiny", "swin_base"],
            false => &["deit_tiny", "deit_small", "deit_base"],
        };
        let presets = names.iter().map(|name| ModelConfig::preset(name).unwrap());
        let config = presets.into_iter().find(|p| p.embed_dim() == self.size("embed_dim")).unwrap();
        match &config.family {
            Family::Vit(vit) => {
                let figures = ["depth", "num_heads", "hidden_full"].map(|field| self.size(field));
                assert_eq!([vit.depth, vit.heads, vit.hidden], figures, "{}", self.name);
            }
            Family::Swin(swin) => {
                assert_eq!(swin.window, self.size("window_size"));
                assert_eq!(serde_json::json!(swin.depths), self.json["depths"]);
                assert_eq!(serde_json::json!(swin.heads), self.json["num_heads"]);
                let blocks = self.json["blocks"].as_array().unwrap();
                for (block, shape) in blocks.iter().zip(config.blocks()) {
                    assert_eq!(block["hidden_full"].as_u64(), Some(shape.hidden as u64));
                    assert_eq!(block["res"].as_u64(), Some(shape.map[0] as u64));
                }
            }
        }
        config
    }

    fn blocks(&self) -> Vec<BlockConfig> {
        let blocks = self.json["blocks"].as_array().unwrap().iter();
        let block = |block: &Value| BlockConfig {
            operation: match block["msa"].as_str().unwrap() {
                "skip" => Operation::Shortcut,
                name => name.parse().unwrap(),
            },
            hidden: block["ffn_kept"].as_u64().unwrap() as usize,
            heads: None,
        };
        blocks.map(block).collect()
    }
}

/// Parameters of a model whose blocks are built one at a time, as the largest need not be built
/// whole: of everything but the blocks, and of each.
fn parameters_of(count: impl Fn(usize, &[BlockConfig]) -> usize, blocks: &[BlockConfig]) -> usize {
    let outside = count(0, &[]);
    let inside = blocks.iter().enumerate();
    outside
        + inside.map(|(i, block)| count(i, std::slice::from_ref(block)) - outside).sum::<usize>()
}

/// Parameters of the compact form. A Swin's blocks differ in shape, so that it is built whole.
fn compact_parameters(config: &ModelConfig, blocks: &[BlockConfig]) -> usize {
    let count = |blocks: &[BlockConfig]| {
        parameter_count(&Vit::<Flex>::new(config, blocks, &mut Init::new(0, &Default::default())))
    };
    match config.as_vit() {
        Some(_) => parameters_of(|_, block| count(block), blocks),
        None => count(blocks),
    }
}

/// Parameters of the search form with its thresholds.
fn search_parameters(config: &ModelConfig) -> usize {
    let count = |hidden: &[usize]| {
        let mut init = Init::new(0, &Default::default());
        parameter_count(&SearchVit::<Flex>::with_hidden(config, hidden, &mut init))
    };
    let hidden: Vec<usize> =
        config.blocks().iter().map(|shape: &BlockShape| shape.hidden).collect();
    let model = match config.as_vit() {
        Some(_) => count(&[]) + hidden.len() * (count(&hidden[..1]) - count(&[])),
        None => count(&hidden),
    };
    model + parameter_count(&gates_of::<Flex>(config, 1.5, &Default::default()))
}

#[test]
fn flops_to_the_last_multiply_add() {
    for released in Released::all() {
        let table = CostTable::new(&released.config(), CostModel::Paper);
        let exact = released.json["flops_formula_exact_int"].as_u64().unwrap();
        assert_eq!(table.total(&released.blocks()), Some(exact as f64), "{}", released.name);

        let blocks = released.blocks().iter().map(BlockArchitecture::first).collect();
        let architecture = Architecture::new(released.config(), CostModel::Paper, blocks, None);
        assert_eq!(architecture.flops, exact, "{}", released.name);

        // The file's dense figure is a float32 sum.
        let dense = architecture.dense_flops as f64;
        let stored = released.json["dense_flops_formula_G"].as_f64().unwrap() * 1e9;
        assert!((stored / dense - 1.0).abs() < 1e-6, "{}: {stored}", released.name);
    }
}

#[test]
fn parameters_of_search_compact_and_dense_forms() {
    for released in Released::all() {
        let (config, blocks) = (released.config(), released.blocks());
        let name = &released.name;
        let compact = compact_parameters(&config, &blocks);
        assert_eq!(compact, released.size("params_optimized"), "{name}");
        let dense = compact_parameters(&config, &config.dense_blocks());
        let stored = if released.swin() { "params_dense_swin" } else { "params_dense_deit" };
        assert_eq!(dense, released.size(stored), "{name}");
        assert_eq!(search_parameters(&config), released.size("params_search"), "{name}");

        let table = CostTable::parameters(&config);
        assert_eq!(table.total(&blocks), Some(compact as f64), "{name}");
        assert_eq!(table.dense(), dense as f64, "{name}");
    }
}
