//! A page on which the dense and the compact model of a run classify images side by side, in a browser.

mod runtime;

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{ExtendedColorType, ImageFormat, write_buffer_with_format};
use serde_json::{Value, json};
use spvit_data::DatasetOptions;

use crate::shell::{Failure, cargo, compact, fail, release, run, spvit};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// Test images of the run's data that the page shows to choose from.
const EXAMPLES: usize = 3;

/// Builds the page of a run, one file that needs no server and no network.
pub fn build(root: &Path, out: &Path) -> Result<(), Failure> {
    let compact = compact(root)?;
    let config = config(root)?;
    run(cargo().args(["build", "--release", "--workspace"]))?;
    let scratch = release().join("demo");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch).map_err(|error| fail(&scratch, &error))?;
    let convert = |model: &Path, name: &str| {
        let folder = scratch.join(name);
        run(spvit().arg("convert").arg(model).arg(&folder).args(["--form", "hub"]))?;
        Ok::<_, Failure>(folder)
    };
    let folders = [convert(&dense(root, &config)?, "dense")?, convert(&compact, "compact")?];
    let picture = scratch.join("compact.svg");
    run(spvit().arg("profile").arg(&compact).arg("--svg").arg(&picture))?;
    let read = |path: PathBuf| fs::read(&path).map_err(|error| fail(&path, &error));
    let models = folders.each_ref().map(|folder| read(folder.join("onnx/model.onnx")));
    let [dense, compact] = models;
    let [dense, compact] = [dense?, compact?].map(|bytes| STANDARD.encode(bytes));
    let json = |name: &str| -> Result<Value, Failure> {
        let path = folders[1].join(name);
        serde_json::from_slice(&read(path.clone())?).map_err(|error| fail(&path, &error))
    };
    let runtime = runtime::fetch()?;
    let about = json!({
        "config": json("config.json")?,
        "images": json("preprocessor_config.json")?,
        "examples": examples(&config)?,
    });
    let parts = [
        ("{style}", STYLE.to_string()),
        ("{script}", SCRIPT.to_string()),
        // Nothing in a class's name ends the element that holds it.
        ("{about}", about.to_string().replace('<', "\\u003c")),
        ("{picture}", STANDARD.encode(read(picture)?)),
        ("{dense}", dense),
        ("{compact}", compact),
        ("{ort}", STANDARD.encode(runtime.script)),
        ("{glue}", STANDARD.encode(runtime.glue)),
        ("{wasm}", STANDARD.encode(runtime.wasm)),
    ];
    fs::write(out, fill(PAGE, &parts)).map_err(|error| fail(out, &error))?;
    println!("wrote {}; open it in a browser", out.display());
    Ok(())
}

/// The template with its places filled, each once; what fills them is not looked at again.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut rest = template;
    loop {
        let places =
            parts.iter().filter_map(|(place, text)| Some((rest.find(place)?, place, text)));
        let Some((at, place, text)) = places.min_by_key(|(at, _, _)| *at) else {
            return out + rest;
        };
        out.push_str(&rest[..at]);
        out.push_str(text);
        rest = &rest[at + place.len()..];
    }
}

fn config(root: &Path) -> Result<toml::Table, Failure> {
    let path = root.join("config.toml");
    let text = fs::read_to_string(&path).map_err(|error| fail(&path, &error))?;
    text.parse().map_err(|error| fail(&path, &error))
}

fn text<'a>(config: &'a toml::Table, table: &str, key: &str) -> &'a str {
    config.get(table).and_then(|table| table.get(key)).and_then(toml::Value::as_str).unwrap_or("")
}

/// The run's dense model: its own, or the one that it began with.
fn dense(root: &Path, config: &toml::Table) -> Result<PathBuf, Failure> {
    let own = ["transferred.safetensors", "dense.safetensors"].map(|name| root.join(name));
    let given = PathBuf::from(text(config, "dense", "weights"));
    let mut all = own.into_iter().chain([given]);
    all.find(|path| path.is_file())
        .ok_or_else(|| Failure::new(format!("{}: its dense model is gone", root.display())))
}

/// Some test images as addresses with all of their bytes.
fn examples(config: &toml::Table) -> Result<Vec<String>, Failure> {
    let folder = PathBuf::from(text(config, "data", "folder"));
    let data = spvit_data::load(&folder, &DatasetOptions::new(0))
        .map_err(|error| Failure::new(error.to_string()))?;
    let image = |index: usize| {
        let problem = |error: &dyn std::fmt::Display| fail(&folder, error);
        let pixels = data.test.decode(index).map_err(|error| problem(&error))?;
        let [height, width] = pixels.size().map(|side| side as u32);
        let kind = match pixels.channels() {
            1 => ExtendedColorType::L8,
            _ => ExtendedColorType::Rgb8,
        };
        let mut png = std::io::Cursor::new(Vec::new());
        write_buffer_with_format(&mut png, pixels.bytes(), width, height, kind, ImageFormat::Png)
            .map_err(|error| problem(&error))?;
        Ok(format!("data:image/png;base64,{}", STANDARD.encode(png.into_inner())))
    };
    (0..data.test.len().min(EXAMPLES)).map(image).collect()
}
