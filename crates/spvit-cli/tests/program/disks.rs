//! Disks that are full, of somebody else, far away, or taken away.
#![cfg(unix)]

use std::{
    fs,
    os::unix::fs::symlink,
    time::{Duration, SystemTime},
};

use crate::{
    Place, checkout,
    hostile::{begun, same, shell},
    shared::{refused, traced},
    small,
};

/// Options of a run that takes some seconds.
fn long(options: &str) -> String {
    options.replace("search.epochs=2", "search.epochs=40")
}

/// Begins a run, waits until its search has a first epoch, does something, and waits for its end.
fn meanwhile(options: &str, then: &str) -> String {
    format!(
        "rm -f said; $SPVIT run --out run{options} 2>said & pid=$!; while ! grep -q 'epoch 1/40 done' said; do \
         kill -0 $pid || break; sleep 0.01; done; {then}; wait $pid; code=$?; cat said >&2; exit $code"
    )
}

/// A line of shell in mounts of its own, in which `disk` is a small disk in memory.
fn on_small_disk(place: &Place, kilobytes: usize, line: &str) -> Option<std::process::Output> {
    let mount = format!("mkdir -p disk && mount -t tmpfs -o size={kilobytes}k none disk");
    if !shell(place, &format!("unshare -m bash -c '{mount}'")).status.success() {
        println!("skipped: this user cannot mount");
        return None;
    }
    Some(shell(place, &format!("unshare -m bash -c '{mount} && {line}'")))
}

#[test]
fn a_full_disk_is_told_and_a_run_goes_on_when_there_is_room() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    let mut failed = 0;
    for kilobytes in [4, 12, 24, 48, 80, 120, 160, 240] {
        let line = format!(
            "$SPVIT run --out disk/run{options} 2>said; code=$?; mount -o remount,size=50m disk; if [ \
             -e disk/run/config.toml ]; then $SPVIT run --resume disk/run; else $SPVIT run --out \
             disk/run{options}; fi || exit 9; rm -rf run; cp -r disk/run run; exit $code"
        );
        let Some(output) = on_small_disk(&place, kilobytes, &line) else { return };
        let errors = String::from_utf8_lossy(&output.stderr);
        let said = fs::read_to_string(place.path("said")).unwrap();
        match output.status.code() {
            Some(0) => {}
            Some(1) => {
                failed += 1;
                let lines: Vec<_> = said.lines().filter(|l| l.starts_with("error: ")).collect();
                assert_eq!(lines.len(), 1, "{kilobytes}: {said}");
                assert!(lines[0].contains("No space left"), "{kilobytes}: {said}");
            }
            code => panic!("{kilobytes}: {code:?}: {said} {errors}"),
        }
        same(&place, "whole", "run");
    }
    assert!(failed > 3, "the disk was never full");
}

#[test]
fn a_disk_that_cannot_be_written_is_told() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    if on_small_disk(&place, 8000, "true").is_none() {
        return;
    }
    for line in [
        "evaluate --out whole".to_string(),
        "run --resume whole".into(),
        format!("run --out new{options}"),
        format!("run{options}"),
        "convert whole/compact.safetensors a.onnx".into(),
    ] {
        let own = "mount --bind . . && mount -o remount,ro,bind . && cd \"$PWD\"";
        refused(
            &place,
            &format!("unshare -m bash -c '{own} && $SPVIT {line}'"),
            &["Read-only file system"],
        );
    }
    place.succeed("evaluate --out whole");
}

/// What a quota, a failing disk and a stale handle say, at the n-th call.
#[test]
fn errors_of_a_disk_name_the_file_and_lose_nothing() {
    let (place, options) = begun();
    if !shell(&place, "strace -qq -o /dev/null true").status.success() {
        println!("skipped: no strace");
        return;
    }
    place.succeed(&format!("run --out whole{options}"));
    for (calls, error, words) in [
        ("mkdir", "EDQUOT:when=1", "quota"),
        ("write", "EDQUOT:when=20", "quota"),
        ("write", "EIO:when=30", "Input/output"),
        ("write", "ENOSPC:when=40", "No space"),
        ("fsync", "EDQUOT:when=4", "quota"),
        ("rename,renameat,renameat2", "EXDEV:when=3", "cross-device"),
        ("unlink,unlinkat", "EBUSY", "busy"),
        ("openat", "EMFILE:when=20+", "Too many open files"),
        ("read", "EIO:when=30", "Input/output"),
    ] {
        let line = traced(calls, &format!("error={error}"), &format!("run --out run{options}"));
        let output = shell(&place, &line);
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            refused(&place, &format!("rm -rf run; {line}"), &[words]);
        }
        let go_on = match place.path("run/config.toml").exists() {
            true => "run --resume run".to_string(),
            false => format!("run --out run{options}"),
        };
        place.succeed(&go_on);
        same(&place, "whole", "run");
        println!("{calls} {error}: {errors}");
        fs::remove_dir_all(place.path("run")).unwrap();
    }
}

/// Calls that some file systems, kernels and sandboxes do not have, and that are cut short.
#[test]
fn what_a_system_lacks_is_done_without() {
    let (place, options) = begun();
    if !shell(&place, "strace -qq -o /dev/null true").status.success() {
        println!("skipped: no strace");
        return;
    }
    place.succeed(&format!("run --out whole{options}"));
    for (number, (calls, error)) in [
        ("fsync,fdatasync", "EINVAL"),
        ("fsync,fdatasync", "EOPNOTSUPP"),
        ("flock", "ENOSYS"),
        ("flock", "EOPNOTSUPP"),
        ("statx", "ENOSYS"),
        ("getrandom", "ENOSYS"),
        ("sched_getaffinity", "EPERM"),
        ("clone3", "ENOSYS"),
        ("renameat2", "EINVAL"),
        ("chmod,fchmod,fchmodat", "EPERM"),
        ("link,linkat", "EPERM"),
        ("copy_file_range,sendfile", "EXDEV"),
        ("membarrier,prctl,madvise", "EPERM"),
        ("read,write,openat,fsync,flock", "EINTR:when=5"),
        ("ioctl", "ENOTTY"),
    ]
    .iter()
    .enumerate()
    {
        let run = format!("run{number}");
        let line = traced(calls, &format!("error={error}"), &format!("run --out {run}{options}"));
        let output = shell(&place, &line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{calls} {error}: {errors}");
        same(&place, "whole", &run);
    }
}

/// Checkpoints on another disk, a run folder behind a link, links to nothing.
#[test]
fn folders_may_be_links() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    let there = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::create_dir(place.path("run")).unwrap();
    symlink(there.path(), place.path("run/checkpoints")).unwrap();
    place.succeed(&format!("run --out run{options}"));
    same(&place, "whole", "run");
    assert_eq!(fs::read_dir(there.path()).unwrap().count(), 0, "nothing is left");

    fs::create_dir(place.path("behind")).unwrap();
    symlink("behind", place.path("link")).unwrap();
    place.succeed(&format!("run --out link{options}"));
    same(&place, "whole", "behind");

    symlink("nowhere", place.path("dangling")).unwrap();
    let line = format!("$SPVIT run --out dangling{options}");
    refused(&place, &line, &["dangling", "nowhere", "not there"]);
    place.write("file", "");
    refused(&place, &format!("$SPVIT run --out file{options}"), &["file", "Not a directory"]);
    refused(&place, &format!("$SPVIT run --out file/run{options}"), &["Not a directory"]);
}

/// Times of files say nothing: a clock that was wrong, or an archive, may have set any.
#[test]
fn clocks_may_be_wrong() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    let year = Duration::from_secs(365 * 24 * 3600);
    for (run, time) in [
        ("future", SystemTime::now() + 70 * year),
        ("past", SystemTime::UNIX_EPOCH),
        ("before", SystemTime::UNIX_EPOCH - year),
    ] {
        place.succeed(&format!("search --out {run}{options}"));
        for folder in [run.to_string(), format!("{run}/checkpoints")] {
            for entry in fs::read_dir(place.path(&folder)).unwrap() {
                let file = fs::File::open(entry.unwrap().path()).unwrap();
                let _ = file.set_modified(time);
            }
        }
        place.succeed(&format!("run --resume {run}"));
        same(&place, "whole", run);
    }
}

/// A cleaner of old files, or a person, takes something away while the program works.
#[test]
fn what_is_taken_away_is_told_or_not_needed() {
    let (place, options) = begun();
    let options = long(&options);
    place.succeed(&format!("run --out whole{options}"));
    refused(&place, &meanwhile(&options, "mv run/checkpoints gone"), &["run/checkpoints"]);
    place.succeed("run --resume run");
    same(&place, "whole", "run");
    fs::remove_dir_all(place.path("run")).unwrap();

    // The images are in memory, and come from elsewhere next time.
    let data = checkout("data/fashion-mnist-mini");
    shell(&place, &format!("cp -r {data} images"));
    let own = options.replace(&data, "images");
    for then in ["rm -r images", "rm run/.lock", "rm run/metrics.jsonl", "chmod 0 run"] {
        let line = meanwhile(&own, then);
        let output = shell(&place, &line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{then}: {errors}");
        if then != "rm run/metrics.jsonl" {
            same(&place, "whole", "run");
        }
        shell(&place, &format!("chmod 755 run; rm -r run; cp -r {data} images"));
    }
}

/// Two go on with the same run; a third comes when one of them was killed.
#[test]
fn two_do_not_go_on_with_one_run() {
    let (place, options) = begun();
    let options = long(&options);
    place.succeed(&format!("run --out whole{options}"));
    let line = meanwhile(&options, "kill -KILL $pid");
    assert!(!shell(&place, &line).status.success());
    let both =
        "for i in 1 2 3 4; do ($SPVIT run --resume run 2>said$i; echo $? >code$i) & done; wait";
    shell(&place, both);
    let codes: Vec<String> =
        (1..=4).map(|i| fs::read_to_string(place.path(&format!("code{i}"))).unwrap()).collect();
    let count = |code: &str| codes.iter().filter(|own| own.trim() == code).count();
    assert!(count("0") >= 1 && count("0") + count("2") == 4, "{codes:?}");
    same(&place, "whole", "run");
}

#[test]
fn names_of_files_may_be_odd() {
    let place = Place::new();
    let data = checkout("data/fashion-mnist-mini");
    shell(&place, &format!("mkdir 'a b'; cp -r {data} 'a b/c\nd \"é\" #'"));
    let options = small().replace(&format!(" --set data.folder={data}"), "");
    let folder = "--set 'data.folder=a b/c\nd \"é\" #'";
    let line = format!("$SPVIT pretrain --out 'a b/run'{options} {folder}");
    let output = shell(&place, &line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let weights = "--set 'dense.weights=a b/run/dense.safetensors'";
    let line = format!("$SPVIT run --out 'a b/run 2'{options} {folder} {weights}");
    let output = shell(&place, &line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(shell(&place, "$SPVIT run --resume 'a b/run 2'").status.success());
    // No text, which a configuration cannot hold.
    refused(&place, "$SPVIT run --set data.folder=$'\\xff'", &["UTF-8"]);
}
