//! onnxruntime's library, which is looked for while running.

use std::{
    env,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use ort::environment::Environment;

/// Names the library's file.
pub const LIBRARY: &str = "ORT_DYLIB_PATH";

/// onnxruntime has one environment for a whole process.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// An error's text in one line.
pub fn line(error: impl ToString) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// onnxruntime's environment, its library loaded.
///
/// # Errors
/// Why it cannot be loaded, and what to do.
pub fn environment() -> Result<Environment, String> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let named = env::var_os(LIBRARY).filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let path = named.clone().unwrap_or_else(|| usual().into());
    let builder = ort::init_from(&path).map_err(|error| {
        let place = match named {
            Some(path) => format!("{LIBRARY} = {}", path.display()),
            None => format!("{LIBRARY} is not set, and {} is not found", path.display()),
        };
        format!(
            "onnxruntime's library cannot be loaded ({place}: {}); set {LIBRARY} to the library's \
             file, of release 1.17 or newer",
            line(error)
        )
    })?;
    let made = builder.with_name("spvit").with_telemetry(false).build().map_err(line)?;
    *environment = Some(made.clone());
    Ok(made)
}
