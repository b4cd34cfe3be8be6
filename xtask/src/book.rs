//! The book: docs/ by mdBook, its links checked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::shell::{Failure, cargo, run};

/// Where its pages come, as docs/book.toml says.
const PAGES: &str = "target/book";

/// Checks that what texts point to is there, and builds the book.
pub fn build() -> Result<(), Failure> {
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
