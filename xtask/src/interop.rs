//! The checks of tests/interop, in a Python environment outside the checkout.

use std::{env, path::PathBuf, process::Command};

use crate::shell::{Failure, cargo, run};

/// `$SPVIT_PYTHON_ENV`, or `spvit-interop` in the folder of temporary files.
fn environment() -> PathBuf {
    env::var_os("SPVIT_PYTHON_ENV")
        .map_or_else(|| env::temp_dir().join("spvit-interop"), PathBuf::from)
}

/// The environment's Python, made with everything that the checks need if it is not there.
pub fn python() -> Result<PathBuf, Failure> {
    let root = environment();
    let python = root.join("bin").join("python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&root))?;
        let requirements = "tests/interop/requirements.txt";
        run(Command::new(&python).args(["-m", "pip", "install", "-r", requirements]))?;
    }
    Ok(python)
}

/// Makes files with PyTorch and timm, reads them here, and reads ours there.
pub fn check(shapes: &[String]) -> Result<(), Failure> {
    let python = python()?;
    let cases = environment().join("cases");
    let script = |name: &str| {
        let mut command = Command::new(&python);
        command.arg(format!("tests/interop/{name}.py")).arg(&cases);
        command
    };
    run(script("make_cases").args(shapes))?;
    let mut tests = cargo();
    tests.args(["test", "--release", "-p", "spvit-formats", "-p", "spvit-train", "interop"]);
    run(tests.env("SPVIT_INTEROP_DIR", &cases))?;
    run(&mut script("check_exports"))?;
    let mut tract = cargo();
    tract.args(["run", "--manifest-path", "tests/interop/tract/Cargo.toml", "--"]);
    run(tract.arg(&cases))
}
