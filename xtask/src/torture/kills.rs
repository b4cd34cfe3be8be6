//! Runs that are ended, refused or limited at some moment, and must give what an undisturbed run gives.

use std::time::Duration;

use super::{
    Verdict,
    place::{Dice, Place},
};

/// What does not depend on when a run was stopped.
pub const RESULTS: [&str; 4] =
    ["architecture.json", "searched.safetensors", "compact.safetensors", "metrics.jsonl"];

fn begin(place: &Place, run: &str) -> String {
    let options = std::fs::read_to_string(place.path("options")).unwrap_or_default();
    format!("run --out {run} {options} --set dense.weights=dense/dense.safetensors")
}

/// Goes on with a run, which must succeed, give the same files and leave nothing behind.
fn finish(place: &Place, run: &str) -> Result<(), String> {
    let line = match place.path(run).join("config.toml").exists() {
        true => format!("run --resume {run}"),
        false => begin(place, run),
    };
    let end = place.run(&format!("$spvit {line}"));
    if !end.succeeded() {
        return Err(format!("going on: {:?}: {}", end.code(), end.last_lines()));
    }
    place.same("whole", run, &RESULTS)?;
    let left = place.files(run).into_iter().find(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.ends_with(".part") || name.contains("-step"))
    });
    match left {
        Some(path) => Err(format!("{} is left behind", path.display())),
        None => {
            place.remove(run);
            Ok(())
        }
    }
}

/// Ends a run at a random moment with one of some signals; what its exit code was.
fn ended(place: &Place, dice: &mut Dice, run: &str, signals: &[&str]) -> Option<i32> {
    place.remove(run);
    // An undisturbed run takes about as long as the longest wait, on a free machine.
    let moment = Duration::from_millis(dice.below(2500) as u64);
    let signal = *dice.choose(signals);
    let mut sent = false;
    let end = place.run_with(&format!("exec $spvit {}", begin(place, run)), |process, elapsed| {
        if elapsed >= moment && !sent {
            place.signal(process, signal);
            sent = true;
        }
    });
    end.code()
}

/// Killed once or twice, then gone on with.
pub fn at_random(place: &Place, dice: &mut Dice, _: usize) -> Verdict {
    ended(place, dice, "killed", &["KILL"]);
    if dice.below(2) == 1 && place.path("killed/config.toml").exists() {
        let moment = Duration::from_millis(dice.below(1200) as u64);
        place.run_with("exec $spvit run --resume killed", |process, elapsed| {
            if elapsed >= moment {
                place.signal(process, "KILL");
            }
        });
    }
    finish(place, "killed").into()
}

/// Stopped by a signal that it may answer: exit code 130, or 0 if it was done.
pub fn signalled(place: &Place, dice: &mut Dice, _: usize) -> Verdict {
    let code = ended(place, dice, "stopped", &["INT", "TERM", "HUP"]);
    // Before it listens, a signal ends it as it ends any program.
    match code {
        Some(0 | 130) | None => finish(place, "stopped").into(),
        other => Verdict::Failed(format!("exit code {other:?}")),
    }
}

/// A line under strace that does something at the n-th call of a kind.
fn traced(line: &str, calls: &str, action: &str) -> String {
    format!(
        "strace -f -qq --seccomp-bpf -o /dev/null -e trace={calls} -e inject={calls}:{action} $spvit {line}"
    )
}

fn no_strace(place: &Place) -> Option<Verdict> {
    let works = place.run("strace -f -qq --seccomp-bpf -o /dev/null true").succeeded();
    (!works).then(|| Verdict::Skipped("no strace here".into()))
}

/// Killed just before a file gets its name.
pub fn before_rename(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    if let Some(verdict) = no_strace(place) {
        return verdict;
    }
    place.remove("renamed");
    // What makes best weights a result is another call than what gives a new file its name.
    let (calls, rename) = match number % 10 {
        0 => ("rename", 1 + number / 10 % 2),
        _ => ("renameat,renameat2", 1 + (number + 7 * dice.below(6)) % 40),
    };
    place.run(&traced(&begin(place, "renamed"), calls, &format!("signal=KILL:when={rename}")));
    finish(place, "renamed").map_err(|problem| format!("{calls} {rename}: {problem}")).into()
}

/// The disk fills up, syncing fails, a name cannot be given, no file can be opened.
pub fn refused_calls(place: &Place, dice: &mut Dice, _: usize) -> Verdict {
    if let Some(verdict) = no_strace(place) {
        return verdict;
    }
    place.remove("refused");
    let (calls, error, first) = *dice.choose(&[
        ("fsync,fdatasync", "EIO", 1),
        ("rename,renameat,renameat2", "EACCES", 1),
        ("rename,renameat,renameat2", "ESTALE", 1),
        ("fsync,fdatasync", "ENOSPC", 1),
        ("mkdir,mkdirat", "EROFS", 1),
        ("ftruncate", "EIO", 1),
    ]);
    let when = first + dice.below(40);
    let action = format!("error={error}:when={when}+");
    let end = place.run(&traced(&begin(place, "refused"), calls, &action));
    let what = format!("{calls} {error} from {when} on");
    end.graceful()
        .and_then(|()| finish(place, "refused"))
        .map_err(|problem| format!("{what}: {problem}"))
        .into()
}

/// Small files, few processes, few open files, little memory, outputs that are closed or full.
pub fn limits(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    place.remove("limited");
    let begin = begin(place, "limited");
    let end = match number % 8 {
        0 => place.run(&format!("ulimit -f {}; $spvit {begin}", 1 + dice.below(120))),
        1 => place.run(&format!("ulimit -n {}; $spvit {begin}", 6 + dice.below(20))),
        2 => place.run(&format!("$spvit {begin} 2>&-")),
        3 => place.run(&format!("$spvit {begin} 2>/dev/full")),
        4 => place.run(&format!("$spvit {begin} 2>&1 >/dev/null | head -1")),
        5 => place.run(&format!("env -i \"$spvit\" {begin}")),
        6 => place.run(&format!("TMPDIR=/nonexistent HOME=/nonexistent $spvit {begin}")),
        _ => place.run(&format!("umask 077; $spvit {begin} >&-")),
    };
    // With a standard error that is gone, no line can be looked for.
    let graceful = match number % 8 {
        2..=4 if end.succeeded() => Ok(()),
        7 if matches!(end.code(), Some(0 | 1)) => Ok(()),
        _ => end.graceful(),
    };
    graceful
        .and_then(|()| finish(place, "limited"))
        .map_err(|problem| format!("limit {}: {problem}", number % 8))
        .into()
}
