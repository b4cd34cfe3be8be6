//! Folders, lists and shards of images that are not what they should be, or do not stay it.

mod archives;
mod faults;
mod headers;
mod make;
mod midrun;

use std::{path::Path, process::Command, time::Duration};

use super::{
    Verdict,
    kills::RESULTS,
    place::{Dice, End, Place},
};

pub use archives::{broken_lists, broken_shards};
pub use faults::broken_folders;
pub use make::make;
pub use midrun::changing;

/// What a run is begun with on images at `data`.
fn begin(place: &Place, dice: &mut Dice, run: &str, data: &str, limit: &str) -> String {
    let options = std::fs::read_to_string(place.path("options")).unwrap_or_default();
    // However many threads there are, the results are the same.
    let threads = dice.below(4);
    format!(
        "run --out {run} {options} --set data.folder={data} --set dense.weights=dense/dense.safetensors \
         --set data.threads={threads} --set data.images.broken_limit={limit}"
    )
}

/// What stands before the program so that it may not read what its owner may not: an administrator may.
fn as_owner(place: &Place) -> &'static str {
    const LESS: &str = "setpriv --bounding-set=-dac_override,-dac_read_search";
    match place.run(&format!("[ $(id -u) = 0 ] && {LESS} true")).succeeded() {
        true => LESS,
        false => "",
    }
}

/// What holds of every call, however broken the images: it ended well or said why in one line, named
/// no broken image twice, and left no half of a file.
fn told(place: &Place, end: &End, run: &str) -> Result<(), String> {
    end.graceful()?;
    let errors = end.errors.lines().filter(|line| line.starts_with("error: ")).count();
    if errors != usize::from(!end.succeeded()) {
        return Err(format!("{errors} lines of error: {}", end.last_lines()));
    }
    if let Some(odd) = end.errors.chars().find(|&c| c.is_control() && c != '\n') {
        return Err(format!("a control character, {odd:?}, is said: {}", end.last_lines()));
    }
    let named: Vec<&str> = end.errors.lines().filter(|line| line.starts_with("left out")).collect();
    if let Some(twice) = named.iter().find(|line| named.iter().filter(|l| l == line).count() > 1) {
        return Err(format!("said twice: {twice}"));
    }
    let is_part = |path: &Path| path.extension().is_some_and(|ending| ending == "part");
    match place.files(run).into_iter().find(|path| is_part(path)) {
        Some(path) => Err(format!("{} is left behind", path.display())),
        None => Ok(()),
    }
}

/// Runs on images that stay as they are: it ends as it should, and where it ended well, one that is
/// stopped somewhere and gone on with gives the same.
fn run_and_stop(place: &Place, dice: &mut Dice, data: &str, stop: bool) -> Result<End, String> {
    place.remove("hostile");
    place.remove("hostile-stopped");
    let limit = *dice.choose(&["0.01", "0.3", "1.0"]);
    let owner = as_owner(place);
    let line = begin(place, dice, "hostile", data, limit);
    let end = place.run(&format!("ulimit -v 8000000; exec {owner} $spvit {line}"));
    told(place, &end, "hostile")?;
    if !end.succeeded() || !stop {
        return Ok(end);
    }
    let line = begin(place, dice, "hostile-stopped", data, limit);
    let errors = place.path("stderr");
    let moment = Duration::from_millis(dice.below(500) as u64);
    let (mut opened, mut sent) = (None, false);
    place.run_with(&format!("exec {owner} $spvit {line}"), |process, elapsed| {
        if opened.is_none() {
            let said = std::fs::read_to_string(&errors).unwrap_or_default();
            opened = said.contains("run folder").then_some(elapsed);
        }
        if !sent && opened.is_some_and(|opened| elapsed >= opened + moment) {
            place.signal(process, "INT");
            sent = true;
        }
    });
    let threads = dice.below(4);
    let again = format!("run --resume hostile-stopped --set data.threads={threads}");
    let resumed = place.run(&format!("exec {owner} $spvit {again}"));
    told(place, &resumed, "hostile-stopped")?;
    if !resumed.succeeded() {
        return Err(format!("going on: {:?}: {}", resumed.code(), resumed.last_lines()));
    }
    place.same("hostile", "hostile-stopped", &RESULTS)?;
    Ok(end)
}

/// A command that looks at images and trains nothing.
fn look(place: &Place, dice: &mut Dice, data: &str) -> Result<End, String> {
    let options = std::fs::read_to_string(place.path("options")).unwrap_or_default();
    let line = match dice.below(4) {
        0 => format!("predict dense/dense.safetensors {data}"),
        1 => format!("evaluate --weights dense/dense.safetensors --data {data} --split train"),
        2 => format!("preview looked/sheet.png {options} --set data.folder={data}"),
        _ => format!(
            "run --dry-run {options} --set data.folder={data} --set dense.weights=dense/dense.safetensors"
        ),
    };
    let owner = as_owner(place);
    let end = place.run(&format!("mkdir -p looked; ulimit -v 8000000; exec {owner} $spvit {line}"));
    told(place, &end, "looked").map_err(|problem| format!("{line}: {problem}"))?;
    Ok(end)
}

/// Takes a folder away, whatever may be done with what is in it.
fn clear(place: &Place, name: &str) {
    let _ = Command::new("chmod").args(["-R", "u+rwX"]).arg(place.path(name)).output();
    place.remove(name);
}

fn failed(error: std::io::Error) -> Verdict {
    Verdict::Failed(error.to_string())
}
