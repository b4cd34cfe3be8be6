//! A budget of time that lies in a jump of the time.

use burn::backend::Flex;
use spvit_layers::{BlockConfig, BlockShape, ModelConfig};
use spvit_search::{
    Architecture, BlockArchitecture, CostModel, LatencyTable, Timing, WholeModel, probes,
};
use spvit_train::{
    Event, Observer, RunFolder, TrainError,
    latency::{Effort, Request, Runtime, Scale, measure},
};

use crate::{config, run};

/// The block that jumps, the width from which on it does, and by which share of the dense model's time.
const BLOCK: usize = 5;
const WIDTH: usize = 100;
const JUMP: f64 = 0.2;

/// A machine on which a model takes what the table's parts do, but for the jump.
#[derive(Default)]
struct Machine {
    messages: Vec<String>,
    /// Of every model that was timed: the width in that block, and its share of the dense model's time.
    shares: Vec<(usize, f64)>,
}

impl Observer for Machine {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Message(text) = event {
            self.messages.push(text.to_string());
        }
    }

    fn time_models(
        &mut self,
        scale: Scale<'_>,
        models: &[Vec<BlockConfig>],
    ) -> Option<Result<Vec<Timing>, TrainError>> {
        let dense = scale.table.dense.median;
        let time = |blocks: &Vec<BlockConfig>| {
            let all = blocks.iter().map(BlockArchitecture::first).collect();
            let model = scale.table.model.clone();
            let own = Architecture::new(model, CostModel::Macs, all, None);
            let parts = own.cost(&scale.table.cost_table()).unwrap();
            let jumps = blocks[BLOCK].hidden > WIDTH;
            parts + if jumps { JUMP * dense } else { 0.0 }
        };
        let times: Vec<f64> = models.iter().map(time).collect();
        let pairs = models.iter().zip(&times);
        self.shares.extend(pairs.map(|(own, time)| (own[BLOCK].hidden, time / dense)));
        Some(Ok(times.iter().map(|time| Timing::of(&[*time])).collect()))
    }
}

/// A table of this machine whose times are those of the MACs, so that every machine derives the same models.
fn table(model: &ModelConfig) -> LatencyTable {
    let request = Request {
        config: model,
        batch: 1,
        runtime: Runtime::Burn,
        device: "test",
        effort: Effort { least: 1, most: 1, seconds: 0.0 },
    };
    let measured = measure::<Flex>(&request, &Default::default(), |_, _| true).unwrap().unwrap();
    let blocks = |own: &WholeModel| -> Vec<BlockConfig> {
        let parts = own.operations.iter().zip(&own.heads).zip(&own.hidden);
        let parts = parts.zip(model.blocks());
        let block = |(((&operation, &heads), &hidden), shape): (_, BlockShape)| BlockConfig {
            operation,
            hidden,
            heads: Some(heads).filter(|&heads| heads > 0 && heads < shape.heads),
        };
        parts.map(block).collect()
    };
    let whole: Vec<_> = measured.whole.iter().map(blocks).collect();
    let probes = probes(model);
    let milliseconds = |blocks: &Vec<BlockConfig>| {
        let all = blocks.iter().map(BlockArchitecture::first).collect();
        let own = Architecture::new(model.clone(), CostModel::Macs, all, None);
        vec![1e-6 * own.flops_by(CostModel::Macs) as f64]
    };
    let all = probes.iter().map(|probe| &probe.blocks).chain(&whole);
    let times: Vec<_> = all.map(milliseconds).collect();
    LatencyTable::of_times(model, (measured.place, 1), &whole, &times).unwrap()
}

#[test]
fn the_block_that_jumps_over_the_budget_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table.json");
    let few = [
        "data.train_limit=256",
        "data.test_limit=20",
        "search.start_images=64",
        "search.trial_steps=1",
        "finetune.refit=16",
        "finetune.epochs=1",
        "search.start=magnitude",
        "search.budget=0.6",
        r#"search.budget_unit="latency""#,
    ];
    let mut config = config("demo.toml", &few);
    let table = table(&config.model);
    std::fs::write(&path, table.to_json().unwrap()).unwrap();
    config.search.latency_table = path;
    let mut machine = Machine::default();
    let root = folder.path().join("run");
    let summary = run::<Flex>(&config, &root, &mut machine).unwrap().unwrap();

    let (target, dense) = (summary.target_milliseconds.unwrap(), table.dense.median);
    let text = std::fs::read_to_string(RunFolder::open(&root).unwrap().architecture()).unwrap();
    let architecture = Architecture::from_json(&text).unwrap();
    let jumped: Vec<_> = machine.shares.iter().filter(|(width, _)| *width > WIDTH).collect();
    assert!(jumped.iter().any(|(_, share)| share * dense > target), "{:?}", machine.shares);
    let held = architecture.block_configs()[BLOCK].hidden;
    assert!(held <= WIDTH, "{:?}", machine.shares);
    // While the block stayed as it was, the others grew.
    let reached = summary.models.last().unwrap().milliseconds.unwrap();
    let same = machine.shares.iter().filter(|(width, _)| *width == held);
    let least = same.map(|(_, share)| share * dense).fold(f64::INFINITY, f64::min);
    assert!(least < reached && reached <= target, "{least} {reached} {target}");
}
