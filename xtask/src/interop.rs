//! The checks of tests/interop, in a Python environment outside the checkout.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::shell::{Failure, cargo, release, run};

/// Presets that are checked at full size.
pub const SHAPES: [&str; 3] = ["deit_tiny", "deit_small", "deit_base"];

/// `$SPVIT_PYTHON_ENV`, or `spvit-interop` in the folder of temporary files.
pub fn environment() -> PathBuf {
    env::var_os("SPVIT_PYTHON_ENV")
        .map_or_else(|| env::temp_dir().join("spvit-interop"), PathBuf::from)
}

/// The environment's Python, with everything that the checks need.
pub fn python() -> Result<PathBuf, Failure> {
    let root = environment();
    let python = root.join("bin").join("python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&root))?;
    }
    // Where all of it is there, this asks no server and takes two seconds.
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    run(Command::new(&python).args(install).arg("tests/interop/requirements.txt"))?;
    Ok(python)
}

/// Makes files with PyTorch and timm, reads them here, and reads ours there. The files (12 GB) stay
/// only if a check fails.
pub fn check(shapes: &[String]) -> Result<(), Failure> {
    let python = python()?;
    let library = needed_library()?;
    let cases = environment().join("cases");
    // Those of a check that failed.
    let _ = std::fs::remove_dir_all(&cases);
    let script = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(format!("tests/interop/{name}.py")).arg(&cases);
        command
    };
    run(script("make_cases").args(shapes))?;
    let mut tests = cargo();
    // The whole workspace, as other tests build it: one set of features, one build of Burn.
    tests.args(["test", "--release", "--workspace"]);
    tests.args(["--test", "interop", "--test", "interchange", "--test", "memory"]);
    run(tests.env("SPVIT_INTEROP_DIR", &cases))?;
    run(&mut script("check_exports"))?;
    run(cargo().args(["build", "--release", "--workspace", "--bins", "--examples"]))?;
    teachers(&library)?;
    let mut hub = Command::new(&python);
    hub.args(["-W", "ignore", "tests/interop/check_hub.py"]).arg(release());
    run(hub.arg("models/vit_micro-fashion-mnist.safetensors").env("ORT_DYLIB_PATH", library))?;
    let mut tract = cargo();
    tract.args(["run", "--manifest-path", "tests/interop/tract/Cargo.toml", "--"]);
    run(tract.arg(&cases))?;
    std::fs::remove_dir_all(&cases)
        .map_err(|error| Failure::new(format!("{}: {error}", cases.display())))
}

/// Teachers in ONNX against the models that they were made of, by the environment's onnxruntime.
/// Leaves the example that computes with it.
fn teachers(library: &Path) -> Result<(), Failure> {
    let with = ["--release", "--workspace", "--features", "spvit-train/onnxruntime"];
    let mut tests = cargo();
    // What does without onnxruntime is held by the other tests.
    let those = ["--lib", "--test", "onnx", "--", "onnx"];
    tests.arg("test").args(with).args(those);
    run(tests.env("ORT_DYLIB_PATH", library))?;
    run(cargo().arg("build").args(with).args(["--example", "onnx"]))
}

/// onnxruntime's library: what ORT_DYLIB_PATH names, or that in Python's package.
pub fn library() -> Option<PathBuf> {
    if let Some(named) = env::var_os("ORT_DYLIB_PATH") {
        return Some(named.into());
    }
    let inside = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).ok()?;
        Some(entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>())
    };
    let mut packages = inside(environment().join("lib"))?.into_iter();
    packages.find_map(|python| {
        let capi = python.join("site-packages").join("onnxruntime").join("capi");
        inside(capi)?.into_iter().find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("libonnxruntime.")
        })
    })
}

/// [`library`], where nothing can be done without it.
pub fn needed_library() -> Result<PathBuf, Failure> {
    library().ok_or_else(|| {
        Failure::new(format!(
            "no library of onnxruntime in {}; `cargo xtask interop` makes it, or name one by ORT_DYLIB_PATH",
            environment().display()
        ))
    })
}

/// Which of timm's and transformers' models are read with equal logits, by tests/interop/coverage.py
/// with these further arguments; fails where logits are wrong, or are not equal any more.
pub fn coverage(arguments: &[String]) -> Result<(), Failure> {
    let python = python()?;
    // The whole workspace, as the tests build it: one set of features, one build of Burn.
    run(cargo().args(["build", "--release", "--workspace", "--examples"]))?;
    let worker = release().join("examples").join("logits");
    let mut script = Command::new(python);
    script.args(["-W", "ignore", "tests/interop/coverage.py"]);
    run(script.arg(environment().join("coverage")).arg(worker).args(arguments))
}
