//! A run's compact model in eight bits, by onnxruntime's static quantisation.

use std::{fs, path::Path, process::Command};

use crate::{
    interop,
    shell::{Failure, cargo, compact, release, run, spvit},
};

/// Writes `RUN/hub` anew, quantises the model in it, and prints accuracy and size by precision.
pub fn quantise(root: &Path) -> Result<(), Failure> {
    let compact = compact(root)?;
    let python = interop::python()?;
    run(cargo().args(["build", "--release", "--workspace", "--examples", "--bins"]))?;
    let hub = root.join("hub");
    if hub.exists() {
        fs::remove_dir_all(&hub)
            .map_err(|error| Failure::new(format!("{}: {error}", hub.display())))?;
    }
    run(spvit().arg("convert").arg(&compact).arg(&hub).args(["--form", "hub"]))?;
    let images = release().join("int8-images.safetensors");
    run(Command::new(release().join("examples").join("images")).arg(root).arg(&images))?;
    let mut script = Command::new(python);
    run(script.args(["-W", "ignore", "tests/interop/quantise.py"]).arg(&hub).arg(&images))
}
