//! What the system grants a program: threads, memory, open files, sizes of files, time.
#![cfg(unix)]

use std::{fs, path::Path, process::Output};

use crate::{
    Place, checkout,
    hostile::{begun, same, shell, within_reach},
    shared::{refused, traced},
    small,
};

/// Whether a program's error is one line, or there is none.
#[track_caller]
fn graceful(line: &str, output: &Output) {
    let errors = String::from_utf8_lossy(&output.stderr);
    let count = errors.lines().filter(|line| line.starts_with("error: ")).count();
    let ended = match output.status.code() {
        Some(0) => count == 0,
        Some(1 | 2) => count == 1,
        _ => false,
    };
    let bug = ["panicked", "internal error"].iter().any(|word| errors.contains(word));
    assert!(ended && !bug, "{line}: {}: {errors}", output.status);
}

fn no_strace(place: &Place) -> bool {
    let none = !shell(place, "strace -qq -o /dev/null true").status.success();
    if none {
        println!("skipped: no strace");
    }
    none
}

/// From the n-th on, the system makes no more threads, as with a limit of processes: that does not
/// bind root, so that strace stands in for it.
#[test]
fn threads_that_cannot_be_made_are_told() {
    let (place, options) = begun();
    if no_strace(&place) {
        return;
    }
    place.succeed(&format!("run --out whole{options}"));
    for first in [1, 2, 3, 4, 5, 6, 8] {
        let run = format!("run{first}");
        let line = format!("run --out {run}{options}");
        let action = format!("error=EAGAIN:when={first}+");
        let line = traced("clone,clone3", &action, &line);
        let output = shell(&place, &line);
        graceful(&line, &output);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("ulimit -u"), "{first}: {errors}");
        }
        let go_on = match place.path(&run).join("config.toml").exists() {
            true => format!("run --resume {run}"),
            false => format!("run --out {run}{options}"),
        };
        place.succeed(&go_on);
        same(&place, "whole", &run);
    }
}

/// The limit itself, as a user whom it binds.
#[test]
fn a_limit_of_processes_is_told() {
    let place = Place::new();
    let own = "setpriv --reuid=65533 --clear-groups";
    shell(&place, "chmod 777 .");
    let Some(images) = within_reach(&place, own) else { return };
    let options = small() + images;
    for processes in [1, 2, 3, 4] {
        // A hard limit first, so that the program starts with it and this user's other processes
        // are what is counted.
        let line = format!(
            "{own} prlimit --nproc={processes} ./spvit pretrain --out run{processes}{options}"
        );
        let output = shell(&place, &line);
        graceful(&line, &output);
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(errors.contains("ulimit -u"), "{processes}: {errors}");
        }
    }
    let output = shell(&place, &format!("{own} ./spvit pretrain --out many{options}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The same of a container (a control group's `pids.max`).
#[test]
fn a_containers_limits_are_told() {
    let place = Place::new();
    let name = format!("spvit-test-{}", std::process::id());
    let wide = " --set model.dim=4096 --set model.hidden=16384";
    for (controller, limit, value, more, words) in [
        ("pids", "pids.max", "2", "", "pids limit"),
        ("memory", "memory.limit_in_bytes", "300000000", wide, "weights fit"),
    ] {
        let group = Path::new("/sys/fs/cgroup").join(controller).join(&name);
        let made = fs::create_dir(&group).and_then(|()| fs::write(group.join(limit), value));
        if let Err(error) = made {
            println!("skipped: no control group {controller} of this test's own ({error})");
            let _ = fs::remove_dir(&group);
            continue;
        }
        let enter = format!("echo $BASHPID > {}/cgroup.procs && exec", group.display());
        let line = format!("({enter} $SPVIT pretrain --out {controller}{}{more})", small());
        let output = shell(&place, &line);
        let _ = fs::remove_dir(&group);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(words), "{controller}: {}: {errors}", output.status);
        graceful(&line, &output);
    }
}

#[test]
fn few_open_files_are_told() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    for files in [3, 4, 5, 6, 7, 8, 10, 14] {
        let run = format!("run{files}");
        let line = format!("ulimit -n {files}; $SPVIT run --out {run}{options}");
        let output = shell(&place, &line);
        let errors = String::from_utf8_lossy(&output.stderr);
        // Below that the system itself cannot start a program.
        if !errors.contains("shared libraries") {
            graceful(&line, &output);
        }
        let go_on = match place.path(&run).join("config.toml").exists() {
            true => format!("run --resume {run}"),
            false => format!("run --out {run}{options}"),
        };
        place.succeed(&go_on);
        same(&place, "whole", &run);
    }
}

/// Whatever the limit is, memory that runs out is one line.
#[test]
fn memory_that_runs_out_anywhere_is_told() {
    let place = Place::new();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    // Below that there is no room for the program itself.
    for kilobytes in [40_000, 60_000, 100_000, 150_000, 250_000, 400_000, 700_000] {
        for line in [
            format!("pretrain --out run{kilobytes}{}", small()),
            format!("convert {model} a.onnx"),
            format!("profile {model} --measure"),
        ] {
            let line = format!("ulimit -v {kilobytes}; $SPVIT {line}");
            let output = shell(&place, &line);
            let errors = String::from_utf8_lossy(&output.stderr);
            let no_program = ["shared libraries", "cannot allocate memory", "Cannot allocate"];
            if no_program.iter().any(|words| errors.contains(words)) && !errors.contains("error:") {
                continue;
            }
            graceful(&line, &output);
        }
    }
}

#[test]
fn file_sizes_are_told_at_every_file() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    for blocks in [0, 1, 4, 16, 40, 80] {
        let run = format!("run{blocks}");
        let line = format!("ulimit -f {blocks}; $SPVIT run --out {run}{options}");
        let output = shell(&place, &line);
        graceful(&line, &output);
        let go_on = match place.path(&run).join("config.toml").exists() {
            true => format!("run --resume {run}"),
            false => format!("run --out {run}{options}"),
        };
        place.succeed(&go_on);
        same(&place, "whole", &run);
    }
}

/// A batch system's limit of time ends the program by a signal; nothing of it is lost.
#[test]
fn a_limit_of_time_ends_a_run_that_goes_on() {
    let (place, options) = begun();
    let options = options.replace("search.epochs=2", "search.epochs=12");
    place.succeed(&format!("run --out whole{options}"));
    let output = shell(&place, &format!("ulimit -t 1; $SPVIT run --out run{options}"));
    if !output.status.success() && place.path("run/config.toml").exists() {
        place.succeed("run --resume run");
        same(&place, "whole", "run");
    }
}

/// Small and large stacks, one processor, odd numbers of threads: all give the same.
#[test]
fn neither_stacks_nor_processors_change_a_result() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    for (number, before) in [
        "ulimit -s 256;",
        "ulimit -s unlimited;",
        "taskset -c 0",
        "RAYON_NUM_THREADS=1",
        "RAYON_NUM_THREADS=7",
        "RAYON_NUM_THREADS=none",
        "nice -n 19",
    ]
    .iter()
    .enumerate()
    {
        let run = format!("run{number}");
        let output = shell(&place, &format!("{before} $SPVIT run --out {run}{options}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("not found") {
            println!("skipped: {before}: {errors}");
            continue;
        }
        assert!(output.status.success(), "{before}: {errors}");
        same(&place, "whole", &run);
    }
    refused(&place, &format!("$SPVIT run --out x{options} --set data.threads=-1"), &["threads"]);
}
