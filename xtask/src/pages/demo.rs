//! The page of `cargo xtask demo` in a browser: its models say what the program says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{base64, browser::Browser, pause, picture, size, sound};
use crate::{
    demo,
    shell::{Failure, fail, spvit},
};

/// Largest difference between probabilities here and there: a canvas may round a pixel's value.
const OFF_BY: f64 = 2e-3;

/// Builds a run's page, takes every example, and holds what is shown against `spvit predict`.
pub fn check(browser: &mut Browser, root: &Path, folder: &Path) -> Result<(), Failure> {
    let page = root.with_file_name("demo.html");
    demo::build(root, &page)?;
    let page = fs::canonicalize(&page).map_err(|error| fail(&page, &error))?;
    size(browser, super::WIDTHS[0], 900)?;
    browser.open(&format!("file://{}", page.display()))?;
    wait(browser, "document.documentElement.dataset.ready === 'yes'")?;
    let sources = "[...document.querySelectorAll('#examples img')].map(one => one.src)";
    let sources = browser.value(sources)?;
    let sources: Vec<&str> =
        sources.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if sources.len() != 3 {
        return Err(Failure::new(format!("demo: {} examples", sources.len())));
    }
    for (index, source) in sources.iter().enumerate() {
        let file = page.with_file_name(format!("example-{index}.png"));
        let bytes = base64(source.rsplit(',').next().unwrap_or_default());
        let bytes = bytes.map_err(|error| fail(&file, &error))?;
        fs::write(&file, bytes).map_err(|error| fail(&file, &error))?;
        let before = "Number(document.getElementById('results').dataset.number ?? 0)";
        let before = browser.value(before)?;
        browser
            .value(&format!("document.querySelectorAll('#examples button')[{index}].click()"))?;
        wait(browser, &format!("document.getElementById('results').dataset.number > {before}"))?;
        let shown =
            "[...document.querySelectorAll('#results article')].map(one => ({...one.dataset}))";
        let shown = browser.value(shown)?;
        let compact = predict(&root.join("compact.safetensors"), &file)?;
        let dense = predict(Path::new("models/vit_micro-fashion-mnist.safetensors"), &file)?;
        for (name, (label, probability), shown) in
            [("dense", dense, &shown[0]), ("compact", compact, &shown[1])]
        {
            let found = shown["probability"].as_str().and_then(|text| text.parse::<f64>().ok());
            let off = found.map_or(f64::INFINITY, |found| (found - probability).abs());
            // The bundled dense model's file does not name the classes; the page takes the run's names.
            let named = name == "dense" || shown["label"] == label.as_str();
            if !named || off > OFF_BY {
                return Err(Failure::new(format!(
                    "demo, example {index}, {name}: {shown} where spvit says {label} ({probability})"
                )));
            }
        }
    }
    for width in super::WIDTHS {
        size(browser, width, 1400)?;
        sound(browser, &format!("demo, {width} pixels"), width)?;
        picture(browser, &folder.join(format!("demo-page-{width}.png")))?;
    }
    browser.call("Page.navigate", json!({"url": "about:blank"})).map(drop)
}

/// Waits for a condition, up to a minute.
fn wait(browser: &mut Browser, condition: &str) -> Result<(), Failure> {
    for _ in 0..60 {
        if browser.value(condition)? == true {
            return Ok(());
        }
        pause(browser)?;
    }
    let first = browser.complaints().into_iter().next().unwrap_or_default();
    Err(Failure::new(format!("demo: not after a minute: {condition}; {first}")))
}

/// The likeliest class and its probability.
fn predict(model: &Path, image: &PathBuf) -> Result<(String, f64), Failure> {
    let output =
        spvit().arg("predict").arg(model).arg(image).args(["--json", "--top", "1"]).output();
    let output = output.map_err(|error| Failure::new(format!("spvit predict: {error}")))?;
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let first = &json["classes"][0];
    match (first["name"].as_str(), first["probability"].as_f64()) {
        (Some(name), Some(probability)) => Ok((name.to_string(), probability)),
        _ => Err(Failure::new(format!(
            "spvit predict: {json} {}",
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}
