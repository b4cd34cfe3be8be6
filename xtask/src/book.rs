//! The book: docs/ by mdBook, its links checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::shell::{Failure, cargo, run};

/// Where its pages come, as docs/book.toml says.
const PAGES: &str = "target/book";

/// The chapter that explains messages.
const TROUBLES: &str = "docs/troubleshooting.md";

/// Checks that what texts point to is there, and builds the book.
pub fn build() -> Result<(), Failure> {
    let unsaid = unsaid()?;
    if !unsaid.is_empty() {
        return Err(Failure::new(format!(
            "no program says, as {TROUBLES} has it: {}",
            unsaid.join(", ")
        )));
    }
    let broken = broken_links()?;
    if !broken.is_empty() {
        return Err(Failure::new(format!(
            "nothing is where these links point: {}",
            broken.join(", ")
        )));
    }
    let build = [
        "run",
        "--quiet",
        "--profile",
        "quick",
        "--package",
        "xtask",
        "--features",
        "book",
        "--bin",
        "book",
    ];
    run(cargo().args(build))?;
    println!("wrote {PAGES}/index.html");
    Ok(())
}

/// Messages of the chapter on troubles that no source has.
fn unsaid() -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("crates: {error}"));
    let mut sources = String::new();
    read_sources(Path::new("crates"), &mut sources).map_err(failed)?;
    // Texts go on in the next line.
    let parts = sources.split("\\\n").map(str::trim_start);
    let sources: String = parts.collect();
    let text = fs::read_to_string(TROUBLES).map_err(failed)?;
    let cells = text.lines().filter(|line| line.starts_with("| `"));
    let cells = cells.filter_map(|line| line.split('|').nth(1));
    let messages = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    Ok(messages.filter(|message| !sources.contains(message)).map(str::to_string).collect())
}

fn read_sources(folder: &Path, out: &mut String) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, out)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            out.push_str(&fs::read_to_string(path)?);
        }
    }
    Ok(())
}

/// Links of the README and of docs/ to files that are not there.
fn broken_links() -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("docs: {error}"));
    let mut texts = vec![PathBuf::from("README.md")];
    for entry in fs::read_dir("docs").map_err(failed)? {
        texts.push(entry.map_err(failed)?.path());
    }
    texts.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    let mut broken = Vec::new();
    for path in texts {
        let text = fs::read_to_string(&path).map_err(failed)?;
        let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        let files = links.map(|(link, _)| link.split('#').next().unwrap_or_default());
        for file in files.filter(|file| !file.is_empty() && !file.contains("://")) {
            let place = path.parent().unwrap_or(Path::new("")).join(file);
            if !place.exists() {
                broken.push(format!("{} in {}", file, path.display()));
            }
        }
    }
    Ok(broken)
}
