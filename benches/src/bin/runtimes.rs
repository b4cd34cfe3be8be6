//! Dense and compact models in spvit's own forward pass and in onnxruntime, timed in turn.
//!
//!     runtimes SHAPE...
//!
//! prints for batches of 1, 8 and 64 images the medians in milliseconds, and spvit's share of onnxruntime's.
//! ORT_DYLIB_PATH names onnxruntime's library.

use std::error::Error;

use burn::backend::Flex;
use mimalloc::MiMalloc;
use spvit_benches::mixed_architecture;
use spvit_layers::ModelConfig;
use spvit_train::latency::{Effort, Runtime, medians};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const BATCHES: [usize; 3] = [1, 8, 64];

#[allow(clippy::result_large_err)]
fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:10} {:>5} {:8} {:>10} {:>12} {:>8}",
        "model", "batch", "", "spvit ms", "onnxruntime", "share"
    );
    for name in std::env::args().skip(1) {
        let config = ModelConfig::preset(&name)?;
        let forms = [
            ("dense", config.dense_blocks()),
            ("compact", mixed_architecture(&config).block_configs()),
        ];
        for batch in BATCHES {
            let mut loaded = Vec::new();
            for (_, blocks) in &forms {
                for runtime in [Runtime::Burn, Runtime::OnnxRuntime] {
                    loaded.push(runtime.load::<Flex>(
                        &config,
                        blocks,
                        batch,
                        &Default::default(),
                    )?);
                }
            }
            let effort = Effort { least: 5, most: 60, seconds: 60.0 };
            let times = medians(loaded.len(), effort, |model| loaded[model]())?;
            for ((form, _), own) in forms.iter().zip(times.chunks(2)) {
                let [own, theirs] = own else { continue };
                let (own, theirs, share) = (1e3 * own, 1e3 * theirs, own / theirs);
                println!("{name:10} {batch:5} {form:8} {own:10.3} {theirs:12.3} {share:8.2}");
            }
        }
    }
    Ok(())
}
