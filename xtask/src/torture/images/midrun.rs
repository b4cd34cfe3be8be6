//! Images that change while a run reads them.

use std::{fs, io, path::Path, time::Duration};

use super::{
    super::{
        Verdict,
        kills::RESULTS,
        place::{Dice, Place},
    },
    begin, clear, told,
};

/// Data of each form, and the folder that changes.
const FORMS: [[&str; 2]; 4] = [
    ["pictures", "pictures"],
    ["pictures", "pictures"],
    ["listed", "pictures"],
    ["shards", "shards"],
];

/// Makes a change that leaves nothing as it was, to some or to all files below a folder.
fn change(
    folder: &Path,
    files: &[std::path::PathBuf],
    how: usize,
    dice: &mut Dice,
) -> io::Result<()> {
    let away = folder.with_extension("away");
    match how {
        0 => fs::rename(folder, away),
        1 => fs::rename(folder, &away).and_then(|()| fs::write(folder, "a file")),
        2 => fs::rename(folder, &away).and_then(|()| fs::create_dir(folder)),
        // Every so many files, so that large shards and small images are met alike.
        _ => {
            let every = 1 + dice.below(3);
            let replacement = fs::read(&files[0])?;
            for file in files.iter().step_by(every) {
                match how {
                    3 => fs::remove_file(file)?,
                    4 => fs::File::options()
                        .write(true)
                        .open(file)?
                        .set_len(dice.below(400) as u64)?,
                    5 => fs::write(file, &replacement)?,
                    6 => fs::write(file, "")?,
                    7 => fs::remove_file(file).and_then(|()| fs::create_dir(file))?,
                    8 => {
                        fs::remove_file(file)?;
                        std::os::unix::fs::symlink("/dev/zero", file)?;
                    }
                    _ => {
                        fs::remove_file(file)?;
                        let made = std::process::Command::new("mkfifo").arg(file).status()?;
                        if !made.success() {
                            return Err(io::Error::other("no pipe could be made"));
                        }
                    }
                }
            }
            Ok(())
        }
    }
}

/// Images vanish or are replaced while a run goes on: it says so, or has read what it needs. Once they
/// are back, going on gives what an undisturbed run gives.
pub fn changing(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    let [data, changed] = FORMS[number % FORMS.len()];
    let whole = format!("whole-{data}");
    let back = |name: &str| {
        clear(place, name);
        clear(place, &format!("{name}.away"));
        place.run(&format!("cp -a {name}.kept {name}"));
    };
    if !place.path(&format!("{changed}.kept")).exists() {
        place.run(&format!("cp -a {changed} {changed}.kept"));
    }
    if !place.path(&whole).exists() {
        let line = begin(place, dice, &whole, data, "0.01");
        if let Err(failure) = place.must(&format!("$spvit {line}")) {
            return Verdict::Failed(failure.to_string());
        }
    }
    clear(place, "moving");
    // A hundred images, none of which may be broken: nothing is trained without one.
    let line = begin(place, dice, "moving", data, "0.001");
    let (errors, folder, files) = (place.path("stderr"), place.path(changed), place.files(changed));
    let moment = Duration::from_millis(dice.below(450) as u64);
    let how = number % 10;
    let (mut opened, mut done) = (None, None);
    let end = place.run_with(&format!("exec $spvit {line}"), |_, elapsed| {
        if opened.is_none() {
            let said = fs::read_to_string(&errors).unwrap_or_default();
            opened = said.contains("run folder").then_some(elapsed);
        }
        if done.is_none() && opened.is_some_and(|opened| elapsed >= opened + moment) {
            done = Some(change(&folder, &files, how, dice));
        }
    });
    let result = (|| {
        if let Some(Err(error)) = &done {
            return Err(format!("the change could not be made: {error}"));
        }
        told(place, &end, "moving")?;
        if end.succeeded() {
            return place.same(&whole, "moving", &RESULTS);
        }
        // What changed is told from what was, or not there.
        let without = place.run("$spvit run --resume moving");
        told(place, &without, "moving")?;
        back(changed);
        let resumed = place.run("$spvit run --resume moving");
        if !resumed.succeeded() {
            return Err(format!("going on: {:?}: {}", resumed.code(), resumed.last_lines()));
        }
        place.same(&whole, "moving", &RESULTS)
    })();
    back(changed);
    result
        .map_err(|problem: String| format!("{data}, change {how} after {moment:?}: {problem}"))
        .into()
}
