//! Run folders in which a file was damaged while the run was stopped.

use std::{fs, path::Path};

use super::{
    Verdict,
    kills::RESULTS,
    place::{Dice, Place},
};

/// Changes some bytes of a content: flips, cuts, swaps, repeats.
pub fn damage(content: &mut Vec<u8>, dice: &mut Dice) -> &'static str {
    let length = content.len();
    match dice.below(7) {
        0 => {
            content.truncate(dice.below(length + 1));
            "cut"
        }
        1 => {
            content.clear();
            "emptied"
        }
        2 => {
            let noise: Vec<u8> = (0..64).map(|_| dice.below(256) as u8).collect();
            content.extend(noise);
            "longer"
        }
        3 if length > 8 => {
            // Lengths and offsets are at the beginning of most formats.
            let at = dice.below(length.min(16));
            content[at] = dice.below(256) as u8;
            "its head changed"
        }
        4 if length > 64 => {
            let (from, to) = (dice.below(length - 32), dice.below(length - 32));
            content.copy_within(from..from + 32, to);
            "a part copied over another"
        }
        5 => {
            content.iter_mut().for_each(|byte| *byte = 0);
            "zeros"
        }
        _ if length > 0 => {
            for _ in 0..1 + dice.below(3) {
                let at = dice.below(length);
                content[at] ^= 1 << dice.below(8);
            }
            "bits flipped"
        }
        _ => "left",
    }
}

fn damage_file(path: &Path, dice: &mut Dice) -> Result<&'static str, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if dice.below(8) == 0 {
        fs::remove_file(path).map_err(failed)?;
        return Ok("removed");
    }
    let mut content = fs::read(path).map_err(failed)?;
    let how = damage(&mut content, dice);
    fs::write(path, content).map_err(failed)?;
    Ok(how)
}

/// A file of a stopped or finished run is damaged; going on must give the same, or say what is wrong.
pub fn broken(place: &Place, dice: &mut Dice, _: usize) -> Verdict {
    let from = *dice.choose(&["in-search", "in-finetune", "whole"]);
    if let Err(problem) = place.copy(from, "broken") {
        return Verdict::Failed(problem);
    }
    let files = place.files("broken");
    let file = dice.choose(&files).clone();
    let how = match damage_file(&file, dice) {
        Ok(how) => how,
        Err(problem) => return Verdict::Failed(problem),
    };
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let end = place.run("$spvit run --resume broken");
    let mut result = end.graceful();
    // Values of later phases and an architecture before it is pruned to are a person's to change;
    // lines of metrics that are gone stay gone.
    let free = ["config.toml", "architecture.json"].contains(&name.as_str());
    if result.is_ok() && end.succeeded() && !free {
        let names = &RESULTS[..if name == "metrics.jsonl" { 3 } else { 4 }];
        // A search's result is not asked for again once it is pruned.
        let unused = from != "in-search" && name == "searched.safetensors";
        let names: Vec<&str> = names
            .iter()
            .copied()
            .filter(|result| !(unused && *result == "searched.safetensors"))
            .collect();
        result = place.same("whole", "broken", &names);
    }
    result.map_err(|problem| format!("{from}/{name} {how}: {problem}")).into()
}
