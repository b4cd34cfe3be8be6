//! The released architectures: FLOPs to the last multiply-add, and DeiT's parameter counts.

use std::path::Path;

use burn::backend::Flex;
use serde_json::Value;
use spvit_layers::state::parameter_count;
use spvit_layers::{BlockConfig, Init, Operation, SearchVit, Vit, VitConfig};
use spvit_search::{Architecture, BlockArchitecture, CostModel, CostTable, Gates, SwinShape};

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

    fn deits() -> Vec<Self> {
        Self::all().into_iter().filter(|released| released.name.contains("deit")).collect()
    }

    fn size(&self, field: &str) -> usize {
        self.json[field].as_u64().unwrap_or_else(|| panic!("{}: no {field}", self.name)) as usize
    }

    /// The preset with the file's embedding, which must have the file's other figures too.
    fn config(&self) -> VitConfig {
        let names = ["deit_tiny", "deit_small", "deit_base"];
        let presets = names.map(|name| VitConfig::preset(name).unwrap());
        let config = presets.into_iter().find(|p| p.dim == self.size("embed_dim")).unwrap();
        let figures = ["depth", "num_heads", "hidden_full"].map(|field| self.size(field));
        assert_eq!([config.depth, config.heads, config.hidden], figures, "{}", self.name);
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
        };
        blocks.map(block).collect()
    }
}

/// Parameters of a compact model, one block at a time, so that the largest need not be built.
fn compact_parameters(config: &VitConfig, blocks: &[BlockConfig]) -> usize {
    let count = |blocks: &[BlockConfig]| {
        parameter_count(&Vit::<Flex>::new(config, blocks, &mut Init::new(0, &Default::default())))
    };
    let outside = count(&[]);
    let mut known: Vec<(&BlockConfig, usize)> = Vec::new();
    let inside = blocks.iter().map(|block| {
        if let Some((_, count)) = known.iter().find(|(other, _)| *other == block) {
            return *count;
        }
        let parameters = count(std::slice::from_ref(block)) - outside;
        known.push((block, parameters));
        parameters
    });
    outside + inside.sum::<usize>()
}

/// Parameters of the search form with its thresholds.
fn search_parameters(config: &VitConfig) -> usize {
    let count = |depth| {
        let config = VitConfig { depth, ..config.clone() };
        let model = SearchVit::<Flex>::new(&config, &mut Init::new(0, &Default::default()));
        parameter_count(&model)
    };
    let outside = count(0);
    let thresholds = Gates::<Flex>::new(config, 1.5, &Default::default());
    outside + config.depth * (count(1) - outside) + parameter_count(&thresholds)
}

#[test]
fn flops_to_the_last_multiply_add() {
    for released in Released::deits() {
        let table = CostTable::new(&released.config(), CostModel::Paper);
        let exact = released.json["flops_formula_exact_int"].as_u64().unwrap();
        assert_eq!(table.total(&released.blocks()), Some(exact), "{}", released.name);

        let kept = |block: BlockConfig| BlockArchitecture {
            operation: block.operation,
            kept: (0..block.hidden).collect(),
        };
        let blocks = released.blocks().into_iter().map(kept).collect();
        let architecture = Architecture::new(released.config(), CostModel::Paper, blocks, None);
        assert_eq!(architecture.flops, exact, "{}", released.name);

        // The file's dense figure is a float32 sum; the method's Eq. 14 gives it exactly.
        let [n, d, depth, h] = [196, released.size("embed_dim"), 12, released.size("hidden_full")];
        let msa = 4 * (n + 1) * d * d + 2 * d * (n + 1) * (n + 1);
        let block = 2 * d * (n + 1) + msa + 2 * n * d * h;
        let dense = (n * d * 3 * 16 * 16 + d * 1000 + depth * block) as u64;
        assert_eq!(architecture.dense_flops, dense, "{}", released.name);
        let stored = released.json["dense_flops_formula_G"].as_f64().unwrap() * 1e9;
        assert!((stored / dense as f64 - 1.0).abs() < 1e-6, "{}: {stored}", released.name);
    }
}

#[test]
fn flops_of_swin_to_the_last_multiply_add() {
    let shape = SwinShape::tiny();
    let table = CostTable::swin(&shape);
    let mut found = Released::all();
    found.retain(|released| released.name.contains("swin"));
    let [swin] = found.as_slice() else { panic!("{} Swins", found.len()) };
    assert_eq!(swin.size("embed_dim"), shape.embed_dim);
    assert_eq!(swin.size("window_size"), shape.window);
    let exact = swin.json["flops_formula_exact_int"].as_u64();
    assert_eq!(table.total(&swin.blocks()), exact);

    let whole = swin.json["blocks"].as_array().unwrap().iter();
    let whole: Vec<_> = whole
        .map(|block| BlockConfig {
            operation: Operation::Msa,
            hidden: block["hidden_full"].as_u64().unwrap() as usize,
        })
        .collect();
    let dense = table.total(&whole).unwrap() as f64;
    let stored = swin.json["dense_flops_formula_G"].as_f64().unwrap() * 1e9;
    assert!((stored / dense - 1.0).abs() < 1e-6, "{dense}, stored {stored}");
}

#[test]
fn parameters_of_search_compact_and_dense_forms() {
    for released in Released::deits() {
        let (config, blocks) = (released.config(), released.blocks());
        let name = &released.name;
        let compact = compact_parameters(&config, &blocks);
        assert_eq!(compact, released.size("params_optimized"), "{name}");
        let dense = compact_parameters(&config, &config.dense_blocks());
        assert_eq!(dense, released.size("params_dense_deit"), "{name}");
        assert_eq!(search_parameters(&config), released.size("params_search"), "{name}");
    }
}

/// Counting block by block, as above, gives what the whole model has.
#[test]
fn parameters_add_up_over_blocks() {
    let released = &Released::deits()[2];
    let (config, blocks) = (released.config(), released.blocks());
    assert_eq!(config.dim, 192, "the smallest");
    let whole = Vit::<Flex>::new(&config, &blocks, &mut Init::new(0, &Default::default()));
    assert_eq!(parameter_count(&whole), compact_parameters(&config, &blocks));
    let search = SearchVit::<Flex>::new(&config, &mut Init::new(0, &Default::default()));
    let thresholds = Gates::<Flex>::new(&config, 1.5, &Default::default());
    let whole = parameter_count(&search) + parameter_count(&thresholds);
    assert_eq!(whole, search_parameters(&config));
}
