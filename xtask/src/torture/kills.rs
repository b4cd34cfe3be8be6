//! Runs that are ended, refused or limited at some moment, and must give what an undisturbed run gives.

use std::time::Duration;

use super::{
    Verdict,
    place::{Dice, Place},
};

/// What does not depend on when a run was stopped.
pub const RESULTS: [&str; 5] = [
    "architecture.json",
    "searched.safetensors",
    "compact.safetensors",
    "metrics.jsonl",
    "gates.jsonl",
];

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

/// The disk fills up, a quota is reached, syncing fails, a name cannot be given, no file can be opened,
/// no memory and no thread is left: from some call on, or at one.
pub fn refused_calls(place: &Place, dice: &mut Dice, _: usize) -> Verdict {
    if let Some(verdict) = no_strace(place) {
        return verdict;
    }
    place.remove("refused");
    // The first call at which it happens, after those that start the program; and whether it stays so.
    let (calls, error, [first, count], stays) = *dice.choose(&[
        ("fsync,fdatasync", "EIO", [1, 40], true),
        ("fsync,fdatasync", "ENOSPC", [1, 40], true),
        ("fsync,fdatasync", "EINVAL", [1, 40], true),
        ("rename,renameat,renameat2", "EACCES", [1, 40], true),
        ("rename,renameat,renameat2", "ESTALE", [1, 40], true),
        ("mkdir,mkdirat", "EROFS", [1, 4], true),
        ("ftruncate", "EIO", [1, 40], true),
        // Later ones could not be told either.
        ("write", "ENOSPC", [1, 60], false),
        ("write", "EDQUOT", [1, 60], false),
        ("read", "EIO", [10, 60], false),
        ("openat", "ESTALE", [10, 60], false),
        ("openat", "EMFILE", [10, 60], true),
        ("unlink,unlinkat", "EBUSY", [1, 20], true),
        ("flock", "ENOLCK", [1, 2], true),
        ("clone,clone3", "EAGAIN", [1, 6], true),
        ("mmap", "ENOMEM", [80, 60], true),
    ]);
    let (when, on) = (first + dice.below(count), if stays { "+" } else { "" });
    let action = format!("error={error}:when={when}{on}");
    let end = place.run(&traced(&begin(place, "refused"), calls, &action));
    let what = format!("{calls} {error} at {when}{on}");
    // How many calls the system's loader makes before the program begins differs from machine to machine.
    let before_main = end.code() == Some(127) && end.errors.contains("loading shared libraries");
    let ended = if before_main { Ok(()) } else { end.graceful() };
    ended
        .and_then(|()| finish(place, "refused"))
        .map_err(|problem| format!("{what}: {problem}"))
        .into()
}

/// Ways in which the system grants less than usual, as shell before the program, and after it.
const LIMITS: [(&str, &str); 11] = [
    ("", "2>&-"),
    ("", "2>/dev/full"),
    ("", "2>&1 >/dev/null | head -1"),
    ("umask 077;", ">&-"),
    ("", "<&-"),
    ("env -i", ""),
    ("TMPDIR=/nonexistent HOME=/nonexistent", ""),
    ("LC_ALL=C TERM=dumb COLUMNS=0", ""),
    ("RAYON_NUM_THREADS=1", ""),
    ("taskset -c 0", ""),
    ("ulimit -s 256;", ""),
];

/// Small files, few open files, little memory, outputs that are closed or full.
pub fn limits(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    place.remove("limited");
    let begin = begin(place, "limited");
    let other = number % (LIMITS.len() + 4);
    let (before, after) = match other.checked_sub(LIMITS.len()) {
        None => (LIMITS[other].0.to_string(), LIMITS[other].1),
        Some(0) => (format!("ulimit -f {};", 1 + dice.below(120)), ""),
        Some(1) => (format!("ulimit -n {};", 6 + dice.below(20)), ""),
        Some(2) => (format!("ulimit -v {};", 100_000 + dice.below(1_500_000)), ""),
        Some(_) => ("ulimit -t 1;".into(), ""),
    };
    let end = place.run(&format!("{before} \"$spvit\" {begin} {after}"));
    let ended = match end.code() {
        // With an output that is gone, no line can be looked for.
        Some(0) | Some(1) if after.contains('>') => Ok(()),
        // Out of time: a signal, as the shell has it.
        Some(128..) | None if before.contains("-t") => Ok(()),
        _ => end.graceful(),
    };
    ended
        .and_then(|()| finish(place, "limited"))
        .map_err(|problem| format!("{before} spvit {after}: {problem}"))
        .into()
}

/// Another program goes on with a run that is being computed, or it is suspended now and then.
pub fn crowded(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    place.remove("crowded");
    let mut moments: Vec<u128> = (0..4).map(|_| dice.below(900) as u128).collect();
    moments.sort_unstable();
    let (mut met, mut other) = (0, Ok(()));
    let end =
        place.run_with(&format!("exec $spvit {}", begin(place, "crowded")), |process, elapsed| {
            if moments.get(met).is_none_or(|&moment| elapsed.as_millis() < moment) {
                return;
            }
            met += 1;
            if number.is_multiple_of(2) {
                place.signal(process, "STOP");
                std::thread::sleep(Duration::from_millis(30));
                place.signal(process, "CONT");
            } else if other.is_ok() {
                other = place.run_beside("$spvit run --resume crowded").graceful();
            }
        });
    other.and_then(|()| end.graceful()).and_then(|()| finish(place, "crowded")).into()
}
