//! Benchmarks: criterion by backend, and steps in turn with PyTorch's.

mod count;
mod trace;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{
    interop, latency,
    shell::{self, Failure, cargo, release},
};

/// What a worker can do with a model.
const STEPS: [&str; 5] = ["dense", "search", "finetune", "dense_forward", "compact_forward"];

/// What to measure.
#[derive(clap::Args)]
pub struct Arguments {
    /// Backends, separated by commas: flex, ndarray, cuda, vulkan, wgpu, tch; with -bf16 or -f16, such as
    /// cuda-bf16, training steps have that as their run.precision
    #[arg(long, value_delimiter = ',', default_values_t = ["flex".to_string()])]
    backend: Vec<String>,
    /// First hold each backend against the stored values of the published code: a search step's
    /// logits, gates and gradients
    #[arg(long)]
    golden: bool,
    /// Compare steps with those of benches/pytorch/worker.py instead, measured in turn
    #[arg(long)]
    against_pytorch: bool,
    /// Compare steps among the backends only, measured in turn
    #[arg(long, conflicts_with = "against_pytorch")]
    in_turn: bool,
    /// Measure an attention layer and the convolutions in its place over growing maps: time and
    /// memory by the number of tokens
    #[arg(long, conflicts_with_all = ["against_pytorch", "in_turn"])]
    scaling: bool,
    /// Search at three budgets of time, on spvit's own forward pass and on onnxruntime, and measure the
    /// models anew: vit_micro, deit_tiny
    #[arg(long, value_name = "MODELS", num_args = 0.., value_delimiter = ',', default_missing_value = "vit_micro", conflicts_with_all = ["against_pytorch", "in_turn", "scaling"])]
    latency: Option<Vec<String>>,
    /// Compare spvit's own forward pass with onnxruntime's, dense and compact, at 1, 8 and 64 images, timed
    /// in turn
    #[arg(long, conflicts_with_all = ["against_pytorch", "in_turn", "scaling", "latency"])]
    runtimes: bool,
    /// Count the kernels that a dense, a search and a fine-tuning step and both forward passes launch, and
    /// the memory that they reserve, on cuda, vulkan or wgpu; on wgpu, the bytes that they read and write, too;
    /// before a comparison, if there is one
    #[arg(long, conflicts_with_all = ["scaling", "latency", "runtimes"])]
    count: bool,
    /// Shapes and batch sizes of the comparison and the count
    #[arg(long, value_delimiter = ',', default_values_t = ["vit_mini:64".to_string(), "deit_tiny:8".to_string()])]
    shape: Vec<String>,
    /// Measured rounds of the comparison, after two that are not
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// More arguments for criterion, such as a filter or --save-baseline NAME
    #[arg(last = true)]
    criterion: Vec<String>,
}

/// Measures.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(models) = &arguments.latency {
        return latency::compare(models);
    }
    if arguments.runtimes {
        return runtimes();
    }
    let parted = arguments.backend.iter().map(|name| parted(name));
    let parted = parted.collect::<Result<Vec<_>, _>>()?;
    let features = parted.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    let uncounted = |name: &&String| {
        let name = name.split('-').next().unwrap_or_default();
        arguments.count && !count::BACKENDS.contains(&name)
    };
    if let Some(name) = arguments.backend.iter().find(uncounted) {
        let counted = count::BACKENDS.join(", ");
        let problem = format!("--count --backend {name}: kernels are counted on {counted}");
        return Err(Failure::new(problem));
    }
    if arguments.golden {
        arguments.backend.iter().try_for_each(|backend| golden(backend))?;
    }
    let build = ["-p", "spvit-benches", "--no-default-features", "--features", &features];
    let compares = arguments.against_pytorch || arguments.in_turn;
    if !compares && !arguments.scaling && !arguments.count {
        let mut bench = cargo();
        bench.arg("bench").args(build).args(["--bench", "*", "--"]);
        return shell::run(bench.args(&arguments.criterion));
    }
    shell::run(cargo().args(["build", "--release", "--bin", "worker"]).args(build))?;
    if arguments.scaling {
        return arguments.backend.iter().try_for_each(|backend| scaling(backend));
    }
    let python = match arguments.against_pytorch {
        true => Some(interop::python()?),
        false => None,
    };
    for shape in &arguments.shape {
        let Some((shape, batch)) = shape.split_once(':') else {
            return Err(Failure::new(format!(
                "--shape {shape}: expected NAME:BATCH, such as vit_mini:64"
            )));
        };
        if arguments.count {
            arguments.backend.iter().try_for_each(|name| count::print(name, shape, batch))?;
        }
        if compares {
            compare(shape, batch, &arguments, python.as_deref())?;
        }
    }
    Ok(())
}

/// A backend, and the precision of its training steps.
fn parted(name: &str) -> Result<(&str, &str), Failure> {
    match name.split_once('-') {
        None => Ok((name, "f32")),
        Some((backend, precision @ ("bf16" | "f16"))) => Ok((backend, precision)),
        Some((_, other)) => Err(Failure::new(format!(
            "--backend {name}: '{other}' is no precision: expected bf16 or f16"
        ))),
    }
}

/// A process that answers for a backend.
fn worker(backend: &str) -> Result<Command, Failure> {
    let (backend, precision) = parted(backend)?;
    let program = release().join("worker");
    // It may run in another folder.
    let program = program.canonicalize().map_err(|error| count::failed(&program, error))?;
    let mut command = Command::new(program);
    command.args(["--backend", backend, "--precision", precision]);
    Ok(command)
}

/// Forward passes here and in onnxruntime.
fn runtimes() -> Result<(), Failure> {
    let library = interop::needed_library()?;
    let build = ["build", "--release", "--workspace", "--features", "spvit-benches/onnxruntime"];
    shell::run(cargo().args(build))?;
    let mut program = Command::new(release().join("runtimes"));
    program.args(["vit_micro", "deit_tiny"]).env("ORT_DYLIB_PATH", library);
    // As `spvit` sets itself.
    shell::run(program.env("MIMALLOC_PURGE_DELAY", "-1"))
}

/// The parity tests on one backend, which has those of lower precisions among them.
fn golden(backend: &str) -> Result<(), Failure> {
    if parted(backend)?.1 != "f32" {
        return Ok(());
    }
    // Tests on wgpu are there twice: as its kernels are compiled, and by way of WGSL.
    let (feature, only, besides) = match backend {
        "vulkan" => ("wgpu", "wgpu::", ",spvit-core/vulkan"),
        "wgpu" => ("wgpu", "by_wgsl::", ""),
        other => (other, &*format!("{other}::"), ""),
    };
    let mut tests = cargo();
    tests.args(["test", "--release", "--workspace", "--test", "suite", "--test", "parity"]);
    if !["flex", "ndarray"].contains(&backend) {
        let features = format!("spvit-search/{feature},spvit-train/{feature}{besides}");
        tests.args(["--features", &features]);
    }
    // One at a time: a GPU's memory is shared by all.
    tests.args(["--", "--test-threads", "1", "--nocapture", only]);
    if backend == "vulkan" {
        tests.args(["--skip", "by_wgsl::"]);
    }
    shell::run(&mut tests)
}

/// A process that times one step for every line.
struct Worker {
    name: String,
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Worker {
    fn start(name: &str, command: &mut Command) -> Result<Self, Failure> {
        let failed = |problem: String| Failure::new(format!("worker {name}: {problem}"));
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(failed("no pipes".into()));
        };
        Ok(Self { name: name.into(), process, to, from: BufReader::new(from) })
    }

    fn ask(&mut self, step: &str) -> Result<f64, Failure> {
        let mut line = String::new();
        let answered = writeln!(self.to, "{step}")
            .and_then(|()| self.to.flush())
            .and_then(|()| self.from.read_line(&mut line));
        let failed =
            |problem: String| Failure::new(format!("worker {}: {step}: {problem}", self.name));
        answered.map_err(|error| failed(error.to_string()))?;
        line.trim().parse().map_err(|_| failed(format!("answered '{}'", line.trim())))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It waits for a line that will not come.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// PyTorch in one of its forms.
struct Rival {
    name: &'static str,
    /// That of the backends that it is compared with.
    precision: &'static str,
    compiled: bool,
}

/// What runs beside these backends, and where: what `torch.compile` makes of a model, too, on a GPU.
fn rivals(backends: &[String]) -> Result<(&'static str, Vec<Rival>), Failure> {
    const ALL: [Rival; 4] = [
        Rival { name: "pytorch", precision: "f32", compiled: false },
        Rival { name: "pytorch-compiled", precision: "f32", compiled: true },
        Rival { name: "pytorch-bf16", precision: "bf16", compiled: false },
        Rival { name: "pytorch-bf16-compiled", precision: "bf16", compiled: true },
    ];
    let own = backends.iter().map(|name| parted(name)).collect::<Result<Vec<_>, _>>()?;
    let cuda = own.iter().any(|(backend, _)| *backend == "cuda");
    let asked = |rival: &Rival| {
        let beside = own.iter().any(|(_, precision)| *precision == rival.precision);
        beside && (cuda || !rival.compiled)
    };
    Ok((if cuda { "cuda" } else { "cpu" }, ALL.into_iter().filter(asked).collect()))
}

/// One worker for each program and step, so that each has its own peak memory.
fn workers(
    shape: &str,
    batch: &str,
    arguments: &Arguments,
    python: Option<&Path>,
) -> Result<Vec<(Worker, &'static str)>, Failure> {
    let own = ["--shape", shape, "--batch", batch];
    let mut all = Vec::new();
    for backend in &arguments.backend {
        for step in STEPS {
            let mut command = worker(backend)?;
            command.args(own).env("MIMALLOC_PURGE_DELAY", "-1");
            all.push((Worker::start(backend, &mut command)?, step));
        }
    }
    let Some(python) = python else { return Ok(all) };
    let (device, rivals) = rivals(&arguments.backend)?;
    for Rival { name, precision, compiled } in rivals {
        let dtype = if precision == "bf16" { "bfloat16" } else { "float32" };
        for step in ["dense", "search", "dense_forward"] {
            let mut command = Command::new(python);
            command.arg("benches/pytorch/worker.py").args(own);
            command.args(["--device", device, "--dtype", dtype]);
            command.args(compiled.then_some("--compile"));
            all.push((Worker::start(name, &mut command)?, step));
        }
    }
    Ok(all)
}

/// Prints medians, means, memory and ratios of all steps, measured in turn.
fn compare(
    shape: &str,
    batch: &str,
    arguments: &Arguments,
    python: Option<&Path>,
) -> Result<(), Failure> {
    let mut all = workers(shape, batch, arguments, python)?;
    let mut times = vec![Vec::new(); all.len()];
    for round in 0..arguments.rounds + 2 {
        for ((worker, step), times) in all.iter_mut().zip(&mut times) {
            let seconds = worker.ask(step)?;
            if round >= 2 {
                times.push(seconds);
            }
        }
    }
    println!("\n{shape}, batch {batch}, {} rounds in turn", arguments.rounds);
    println!(
        "{:21} {:16} {:>10} {:>10} {:>12}",
        "program", "step", "median s", "mean s", "peak MiB"
    );
    let mut rows = Vec::new();
    for ((worker, step), mut times) in all.iter_mut().zip(times) {
        let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
        let memory = worker.ask("memory")?;
        println!("{:21} {step:16} {median:10.4} {mean:10.4} {memory:12.0}", worker.name);
        rows.push((worker.name.clone(), *step, median, mean, memory));
    }
    let row = |name: &str, step: &str| rows.iter().find(|row| row.0 == name && row.1 == step);
    let ratio = |what: &str, a: Option<f64>, b: Option<f64>| {
        if let (Some(a), Some(b)) = (a, b) {
            println!("{what}: {:.3}", a / b);
        }
    };
    let (_, rivals) = rivals(&arguments.backend)?;
    for backend in &arguments.backend {
        // Steps differ by their gates, so that their mean is what a search pays.
        let mean = |step: &str| row(backend, step).map(|row| row.3);
        ratio(&format!("{backend} search / dense step, means"), mean("search"), mean("dense"));
        let memory = |step: &str| row(backend, step).map(|row| row.4);
        ratio(&format!("{backend} search / dense peak memory"), memory("search"), memory("dense"));
        let median = |step: &str| row(backend, step).map(|row| row.2);
        let (compact, dense) = (median("compact_forward"), median("dense_forward"));
        ratio(&format!("{backend} compact / dense forward, medians"), compact, dense);
        let precision = parted(backend)?.1;
        for Rival { name, .. } in rivals.iter().filter(|rival| rival.precision == precision) {
            for step in ["dense", "search", "dense_forward"] {
                let theirs = row(name, step).map(|row| row.3);
                ratio(&format!("{backend} / {name} {step}, means"), mean(step), theirs);
            }
        }
    }
    if let Some((worker, _)) = all.first_mut() {
        println!("compact / dense FLOPs (macs): {:.3}", worker.ask("share")?);
    }
    Ok(())
}

/// Prints time and additional memory of the layers of DeiT-Ti over maps of 14² to 56² patches.
fn scaling(backend: &str) -> Result<(), Failure> {
    const BATCH: &str = "8";
    println!("\n{backend}, a layer of deit_tiny, batch {BATCH}: median time and added peak memory");
    println!(
        "{:7} {:9} {:>12} {:>12} {:>14} {:>12}",
        "tokens", "layer", "forward ms", "MiB", "with backward", "MiB"
    );
    for side in ["14", "28", "42", "56"] {
        for layer in ["msa", "bconv1x1", "bconv3x3"] {
            let mut row = format!("{side:>4}²   {layer:9}");
            for step in ["forward", "train"] {
                let mut command = worker(backend)?;
                let own = ["--shape", "deit_tiny", "--batch", BATCH];
                command.args(own).args(["--layer", layer, "--side", side]);
                let mut worker = Worker::start(backend, &mut command)?;
                let before = worker.ask("memory")?;
                let mut times: Vec<f64> =
                    (0..7).map(|_| worker.ask(step)).collect::<Result<_, _>>()?;
                // The first two warm up.
                times.drain(..2);
                times.sort_by(f64::total_cmp);
                let added = worker.ask("memory")? - before;
                row += &format!(" {:12.1} {added:12.0}", 1e3 * times[times.len() / 2]);
            }
            println!("{row}");
        }
    }
    Ok(())
}
