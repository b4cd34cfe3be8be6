//! `spvit profile`: what every part of a model costs.

use std::path::Path;

use comfy_table::{CellAlignment, LineStyle, Table, presets};
use spvit_core::TrainBackend;
use spvit_interchange::{ReadOptions, memory, read as read_model, weights::read_architecture};
use spvit_layers::{BlockConfig, Init, Vit};
use spvit_report::{
    numbers::{flops_text, milliseconds, thousands},
    picture,
};
use spvit_search::{Architecture, Cost, CostModel, Profile};
use spvit_train::{LATENCY_BATCH, RunConfig, evaluate, write_atomically};

use crate::{
    args::ProfileArguments,
    convert,
    device::{DeviceName, Work, dispatch},
    failure::Failure,
    model_arguments::ModelArguments,
    output::{say, tell},
};

/// Prints the profile of the file's model.
pub fn show(arguments: &ProfileArguments) -> Result<(), Failure> {
    let architecture = read(&arguments.file, &arguments.model)?;
    if let Some(line) = architecture.blind() {
        tell(format!("{}: {line}", arguments.file.display()));
    }
    let profile = Profile::new(&architecture);
    let dense = Architecture::dense(architecture.model.clone(), architecture.cost_model);
    let dense_profile = Profile::new(&dense);
    say(render(&architecture, &profile, &dense_profile).trim_end())?;
    if let Some(path) = &arguments.svg {
        write_atomically(path, picture::draw(&architecture, &profile).as_bytes())?;
        say(format!("wrote {}", path.display()))?;
    }
    if arguments.measure {
        let (own, whole) = (memory::check_architecture(&architecture), memory::check(&dense.model));
        own.and(whole)
            .map_err(|problem| Failure::run(format!("{}: {problem}", arguments.file.display())))?;
        let [own, whole] = dispatch(arguments.device, Measure { architecture, dense })?;
        let device = arguments.device.name();
        say(format!(
            "Latency on {device}, median of forward passes, of this and of the dense model:"
        ))?;
        for (name, own, whole) in [
            ("one image".to_string(), own[0], whole[0]),
            (format!("batch of {LATENCY_BATCH}"), own[1], whole[1]),
        ] {
            let (this, dense) = (milliseconds(own), milliseconds(whole));
            let ratio = whole / own;
            say(format!("  {name}: {this}, dense {dense}, {ratio:.2} times as fast"))?;
        }
    }
    Ok(())
}

/// The architecture in a configuration (dense), an architecture file or a model.
pub fn read(path: &Path, model: &ModelArguments) -> Result<Architecture, Failure> {
    if let Some(operations) = &model.operations {
        return convert::search_result(path, operations, model);
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    if let (Some("toml" | "json"), Some(option)) = (extension, model.given()) {
        let problem = "applies to weights of other programs; this file says it itself";
        return Err(Failure::usage(format!("{}: {option} {problem}", path.display())));
    }
    match extension {
        Some("toml") => {
            let config = RunConfig::read(path, &[])?;
            Ok(Architecture::dense(config.model, config.search.cost_model))
        }
        Some("json") => Ok(read_architecture(path)?),
        extension if path.is_dir() || extension.is_some_and(|e| WEIGHTS.contains(&e)) => {
            let described = Described { path, options: model.options() };
            let (architecture, notes) = dispatch(DeviceName::FIRST, described)?;
            for note in notes {
                tell(format!("{}: {note}", path.display()));
            }
            Ok(architecture)
        }
        _ => Err(Failure::usage(format!(
            "{}: expected a configuration (.toml), an architecture (.json) or a model \
             (.safetensors, .pth)",
            path.display()
        ))),
    }
}

/// How files of weights end.
const WEIGHTS: [&str; 4] = ["safetensors", "pth", "pt", "bin"];

/// Reads a model's weights whole, so that what cannot be converted has no profile.
struct Described<'a> {
    path: &'a Path,
    options: ReadOptions,
}

impl Work for Described<'_> {
    type Output = (Architecture, Vec<String>);

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, Failure> {
        let read = read_model::<B::InnerBackend>(self.path, &self.options, 0, &device)?;
        Ok((read.architecture, read.notes))
    }
}

fn render(architecture: &Architecture, profile: &Profile, dense: &Profile) -> String {
    let total = profile.total();
    let row = |name: &str, kept: String, cost: Cost, whole: Cost| {
        let share = |part: u64, whole: u64| format!("{:.1} %", 100.0 * part as f64 / whole as f64);
        [
            name.to_string(),
            kept,
            flops_text(cost.paper),
            share(cost.paper, whole.paper),
            flops_text(cost.macs),
            share(cost.macs, whole.macs),
            thousands(cost.parameters as usize),
        ]
    };
    let shapes = architecture.model.blocks();
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header([
        "part",
        "kept",
        "FLOPs (paper)",
        "share",
        "FLOPs (macs)",
        "share",
        "parameters",
    ]);
    table.add_row(row("embedding", String::new(), profile.embedding, total));
    for (index, (block, shape)) in profile.blocks.iter().zip(&shapes).enumerate() {
        let (number, hidden) = (index + 1, shape.hidden);
        let operation = format!("{number} {}", block.operation);
        let kept = format!("{}/{hidden}", block.hidden);
        let heads =
            block.heads.map_or(String::new(), |heads| format!("{heads}/{} heads", shape.heads));
        table.add_row(row(&operation, heads, block.mixer, total));
        table.add_row(row(&format!("{number} ffn"), kept, block.ffn, total));
    }
    if profile.merging != Cost::default() {
        table.add_row(row("patch merging", String::new(), profile.merging, total));
    }
    table.add_row(row("head", String::new(), profile.head, total));
    table.add_row(row("total", String::new(), total, total));
    table.add_row(row("of dense", String::new(), dense.total(), dense.total()));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let whole = dense.total();
    let relative = |own: u64, whole: u64| 100.0 * own as f64 / whole as f64;
    format!(
        "{table}\nFLOPs are multiply-adds counted once, by the cost models paper and macs; every \
         part has the norm before it.\nOf the dense model: {:.2} % of the FLOPs by paper, {:.2} % by \
         macs, {:.2} % of the parameters.\n",
        relative(total.flops(CostModel::Paper), whole.flops(CostModel::Paper)),
        relative(total.flops(CostModel::Macs), whole.flops(CostModel::Macs)),
        relative(total.parameters, whole.parameters),
    )
}

/// Latency of two models of one shape with random weights, of one image and of a batch.
struct Measure {
    architecture: Architecture,
    dense: Architecture,
}

impl Work for Measure {
    type Output = [[f64; 2]; 2];

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, Failure> {
        let config = &self.architecture.model;
        let model = |blocks: Vec<BlockConfig>| {
            Vit::<B::InnerBackend>::new(config, &blocks, &mut Init::new(0, &device))
        };
        let own = model(self.architecture.block_configs());
        let dense = model(self.dense.block_configs());
        let both = [&own, &dense];
        let one = evaluate::latency(&both, config, 1, (50, 5.0), &device);
        let many = evaluate::latency(&both, config, LATENCY_BATCH, (20, 10.0), &device);
        Ok([[one[0], many[0]], [one[1], many[1]]])
    }
}
