//! Reports and the live page in a browser: no complaint, nothing too wide, pictures to be looked at.

mod browser;
mod demo;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::shell::{Failure, cargo, fail, release, run, spvit};
use browser::Browser;

/// Widths of a phone and of a desk's screen.
const WIDTHS: [u64; 2] = [390, 1280];
/// What the browser is told that the reader prefers.
const SCHEMES: [&str; 2] = ["light", "dark"];
/// Bytes that a page may have.
const LIMIT: u64 = 1_000_000;
/// The colour behind the page.
const PAPER: &str = "getComputedStyle(document.documentElement).backgroundColor";
/// In the name of a class, where it must do nothing.
const HOSTILE: &str =
    "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>";

/// Makes small runs, looks at their pages, and leaves pictures of them in the folder.
pub fn check(folder: &Path) -> Result<(), Failure> {
    run(cargo().args(["build", "--release", "--workspace"]))?;
    let scratch = release().join("pages-check");
    let _ = fs::remove_dir_all(&scratch);
    for folder in [&scratch, &folder.to_path_buf()] {
        fs::create_dir_all(folder).map_err(|error| fail(folder, &error))?;
    }
    let pages = make(&scratch)?;
    let mut browser = Browser::start(&scratch)?;
    for (name, page) in &pages {
        let size = fs::metadata(page).map_err(|error| fail(page, &error))?.len();
        if size >= LIMIT {
            return Err(Failure::new(format!("{name}: {size} bytes")));
        }
        let page = fs::canonicalize(page).map_err(|error| fail(page, &error))?;
        look(&mut browser, name, &format!("file://{}", page.display()), folder)?;
    }
    live(&mut browser, &scratch.join("learned"), folder)?;
    demo::check(&mut browser, &scratch.join("demo"), folder)?;
    println!("pages: {}, the live one and the demo, pictures in {}", pages.len(), folder.display());
    Ok(())
}

/// Small runs: as the demo, with learned gates, and what becomes of hostile names. Their pages.
fn make(scratch: &Path) -> Result<Vec<(&'static str, PathBuf)>, Failure> {
    let few = [
        "data.train_limit=640",
        "search.trial_steps=5",
        "finetune.epochs=2",
        "search.batch_size=32",
        "finetune.batch_size=32",
        "run.timing_seconds=0",
    ];
    let learned = ["search.epochs=3", "search.start=magnitude", "search.budget=0.4"];
    for (name, more) in [("demo", &[][..]), ("learned", &learned[..])] {
        let mut program = spvit();
        program.args(["run", "--config", "configs/demo.toml", "--out"]).arg(scratch.join(name));
        for setting in few.iter().chain(more) {
            program.args(["--set", setting]);
        }
        run(&mut program)?;
    }
    let both = scratch.join("both.html");
    let mut program = spvit();
    program.arg("report").args(["demo", "learned"].map(|name| scratch.join(name)));
    run(program.arg("--out").arg(&both))?;
    let hostile = scratch.join("hostile");
    copy(&scratch.join("demo"), &hostile)?;
    let evaluation = hostile.join("evaluation.json");
    let text = fs::read_to_string(&evaluation).map_err(|error| fail(&evaluation, &error))?;
    let mut json: Value = serde_json::from_str(&text).map_err(|error| fail(&evaluation, &error))?;
    for name in json["class_names"].as_array_mut().into_iter().flatten() {
        *name = json!(format!("{HOSTILE}{}", name.as_str().unwrap_or_default()));
    }
    fs::write(&evaluation, json.to_string()).map_err(|error| fail(&evaluation, &error))?;
    run(spvit().arg("report").arg(&hostile))?;
    // Searched, not evaluated yet.
    let unfinished = scratch.join("unfinished");
    copy(&scratch.join("learned"), &unfinished)?;
    for name in ["summary.json", "evaluation.json", "architecture.json", "report.html"] {
        let path = unfinished.join(name);
        fs::remove_file(&path).map_err(|error| fail(&path, &error))?;
    }
    run(spvit().arg("report").arg(&unfinished))?;
    let page = |name: &'static str| (name, scratch.join(name).join("report.html"));
    Ok(vec![page("demo"), page("learned"), ("both", both), page("hostile"), page("unfinished")])
}

/// Copies the files of a run that pages are made of.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(|error| fail(to, &error))?;
    for entry in fs::read_dir(from).map_err(|error| fail(from, &error))?.flatten() {
        let path = entry.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension != "safetensors") {
            fs::copy(&path, to.join(entry.file_name())).map_err(|error| fail(&path, &error))?;
        }
    }
    Ok(())
}

/// Opens a page by light and by dark, narrow and wide; keeps a picture of each.
fn look(browser: &mut Browser, name: &str, address: &str, folder: &Path) -> Result<(), Failure> {
    for width in WIDTHS {
        for scheme in SCHEMES {
            let place = format!("{name}, {width} pixels, {scheme}");
            let feature = json!({"name": "prefers-color-scheme", "value": scheme});
            browser.call("Emulation.setEmulatedMedia", json!({"features": [&feature]}))?;
            size(browser, width, 900)?;
            browser.open(address)?;
            let dark = "matchMedia('(prefers-color-scheme: dark)').matches";
            let (dark, paper) = (browser.value(dark)?, browser.value(PAPER)?);
            if dark != (scheme == "dark") || (paper == "rgb(255, 255, 255)") != (scheme == "light")
            {
                return Err(Failure::new(format!("{place}: the page is {paper}")));
            }
            sound(browser, &place, width)?;
            let height = browser.value("document.documentElement.scrollHeight")?;
            size(browser, width, height.as_u64().unwrap_or(900).clamp(900, 16_000))?;
            let file = folder.join(format!("{name}-{width}-{scheme}.png"));
            picture(browser, &file)?;
            // Paper is white, whatever the reader prefers on a screen.
            let media = json!({"media": "print", "features": [feature]});
            browser.call("Emulation.setEmulatedMedia", media)?;
            let paper = browser.value(PAPER)?;
            browser.call("Emulation.setEmulatedMedia", json!({"media": "", "features": []}))?;
            if paper != "rgb(255, 255, 255)" {
                return Err(Failure::new(format!("{place}: printed, the page is {paper}")));
            }
        }
    }
    Ok(())
}

fn size(browser: &mut Browser, width: u64, height: u64) -> Result<(), Failure> {
    let metrics =
        json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
    browser.call("Emulation.setDeviceMetricsOverride", metrics).map(drop)
}

/// Nothing complains, nothing is wider than the page, no name has become a program, and every drawing is named.
fn sound(browser: &mut Browser, place: &str, width: u64) -> Result<(), Failure> {
    let wide = browser.value("document.documentElement.scrollWidth")?;
    let title = browser.value("document.title")?;
    let unnamed = "[...document.querySelectorAll('svg')].filter(one => \
                   one.getAttribute('role') !== 'img' || !one.getAttribute('aria-label') \
                   || !one.querySelector('title')?.textContent).length \
                   + [...document.images].filter(one => !one.alt || !one.naturalWidth).length";
    let unnamed = browser.value(unnamed)?;
    let complaints = browser.complaints();
    let problem = if let Some(first) = complaints.first() {
        first.clone()
    } else if wide.as_u64().is_none_or(|wide| wide > width) {
        format!("it is {wide} pixels wide")
    } else if title == "owned" {
        "a class's name is run as a program".into()
    } else if unnamed != 0 {
        format!("{unnamed} drawings or pictures are not named or not shown")
    } else {
        return Ok(());
    };
    Err(Failure::new(format!("{place}: {problem}")))
}

fn picture(browser: &mut Browser, file: &Path) -> Result<(), Failure> {
    let shot = browser.call("Page.captureScreenshot", json!({"format": "png"}))?;
    let bytes = base64(shot["data"].as_str().unwrap_or_default());
    let bytes = bytes.map_err(|error| fail(file, &error))?;
    fs::write(file, bytes).map_err(|error| fail(file, &error))
}

fn base64(text: &str) -> Result<Vec<u8>, impl std::fmt::Display> {
    use ::base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text)
}

/// `spvit watch`, ended when this is dropped.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The live page shows what comes to the run while it is looked at, without being loaded anew.
fn live(browser: &mut Browser, root: &Path, folder: &Path) -> Result<(), Failure> {
    let metrics = root.join("metrics.jsonl");
    let whole = fs::read_to_string(&metrics).map_err(|error| fail(&metrics, &error))?;
    let first: String = whole.split_inclusive('\n').take(2).collect();
    fs::write(&metrics, first).map_err(|error| fail(&metrics, &error))?;
    let summary = root.join("summary.json");
    fs::remove_file(&summary).map_err(|error| fail(&summary, &error))?;
    let (watching, address) = watch(root)?;
    look(browser, "live", &address, folder)?;
    browser.value("window.same = true; document.querySelector('details').open = true")?;
    // The first answer is what all later ones are compared with.
    pause(browser)?;
    fs::write(&metrics, whole).map_err(|error| fail(&metrics, &error))?;
    let lead = "document.querySelector('.lead').textContent";
    let mut shown = String::new();
    for _ in 0..20 {
        shown = browser.value(lead)?.as_str().unwrap_or_default().to_string();
        if shown.contains("finetune") {
            break;
        }
        pause(browser)?;
    }
    let kept = browser.value("window.same === true && document.querySelector('details').open")?;
    let complaints = browser.complaints();
    // A page that still asks would complain of a server that has ended.
    browser.open("about:blank")?;
    drop(watching);
    match (shown.contains("finetune"), kept == true, complaints.first()) {
        (_, _, Some(complaint)) => Err(Failure::new(format!("live page: {complaint}"))),
        (false, _, _) => Err(Failure::new(format!("live page: it still says: {shown}"))),
        (true, false, _) => Err(Failure::new("live page: it was loaded anew")),
        (true, true, None) => Ok(()),
    }
}

fn pause(browser: &mut Browser) -> Result<(), Failure> {
    browser.value("new Promise(done => setTimeout(done, 1000))").map(drop)
}

/// Starts `spvit watch`, and waits until it says its address.
fn watch(root: &Path) -> Result<(Watching, String), Failure> {
    use std::io::{BufRead, BufReader};
    // Another program may have a port.
    for port in 7911..7931 {
        let mut program: Command = spvit();
        program.arg("watch").arg(root).args(["--port", &port.to_string()]);
        let mut child = program
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(format!("spvit watch: {error}")))?;
        let mut line = String::new();
        let out = child.stdout.take().map(BufReader::new);
        let read = out.map_or(Ok(0), |mut out| out.read_line(&mut line));
        let watching = Watching(child);
        if read.is_ok() && line.contains("http://127.0.0.1") {
            return Ok((watching, format!("http://127.0.0.1:{port}/")));
        }
    }
    Err(Failure::new("spvit watch does not say its address"))
}
