//! onnxruntime-web as npm has it: the script and the WebAssembly inside its package.

use std::{
    fs,
    io::{Cursor, Read},
    process::Command,
};

use flate2::read::GzDecoder;
use sha2::{Digest, Sha256};

use crate::{
    interop,
    shell::{Failure, run},
};

const NAME: &str = "onnxruntime-web-1.23.2.tgz";
const PLACE: &str = "https://registry.npmjs.org/onnxruntime-web/-";
/// SHA-256 of the package.
const DIGEST: &str = "0b8707d7efab9a2bea63564d66cad79e897cfd0bd627e5ae000488ffc1c45c7d";

pub struct Runtime {
    /// The ES module.
    pub script: Vec<u8>,
    /// What calls the WebAssembly.
    pub glue: Vec<u8>,
    pub wasm: Vec<u8>,
}

/// The runtime, from the package that an earlier call left beside the Python environment, or from npm.
pub fn fetch() -> Result<Runtime, Failure> {
    let path = interop::environment().with_file_name(NAME);
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    let sound = |bytes: &[u8]| hex(&Sha256::digest(bytes)) == DIGEST;
    let kept = fs::read(&path).ok().filter(|bytes| sound(bytes));
    let package = match kept {
        Some(bytes) => bytes,
        None => {
            let mut curl = Command::new("curl");
            curl.args(["--fail", "--silent", "--show-error", "--location", "--output"]);
            run(curl.arg(&path).arg(format!("{PLACE}/{NAME}")))?;
            let bytes = fs::read(&path).map_err(|error| fail(&error))?;
            if !sound(&bytes) {
                return Err(fail(
                    &"it is not the package that was expected; remove it and try again",
                ));
            }
            bytes
        }
    };
    let mut archive = tar::Archive::new(GzDecoder::new(Cursor::new(package)));
    let mut runtime = Runtime { script: Vec::new(), glue: Vec::new(), wasm: Vec::new() };
    for entry in archive.entries().map_err(|error| fail(&error))? {
        let mut entry = entry.map_err(|error| fail(&error))?;
        let name = entry.path().map_err(|error| fail(&error))?.to_string_lossy().into_owned();
        let place = match name.as_str() {
            "package/dist/ort.wasm.min.mjs" => &mut runtime.script,
            "package/dist/ort-wasm-simd-threaded.mjs" => &mut runtime.glue,
            "package/dist/ort-wasm-simd-threaded.wasm" => &mut runtime.wasm,
            _ => continue,
        };
        entry.read_to_end(place).map_err(|error| fail(&error))?;
    }
    match [&runtime.script, &runtime.glue, &runtime.wasm].iter().any(|part| part.is_empty()) {
        true => Err(fail(&"the runtime is not in it")),
        false => Ok(runtime),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
