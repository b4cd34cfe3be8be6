//! Shells, terminals, containers and editors around the program.
#![cfg(unix)]

use std::fs;

use crate::{
    Place, checkout,
    hostile::{begun, same, shell, within_reach},
    shared::refused,
    small,
};

/// Begins a run in some way, waits until its search has a first epoch, does something and waits for
/// its end.
fn meanwhile(before: &str, run: &str, options: &str, then: &str) -> String {
    let options = options.replace("search.epochs=2", "search.epochs=40");
    // Emptied first: the run before may have left its own epochs in `said`.
    format!(
        ": >said; {before} $SPVIT run --out {run}{options} 2>said & pid=$!; while ! grep -q \
         'epoch 1/40 done' said; do kill -0 $pid || break; sleep 0.01; done; {then}; wait $pid; \
         code=$?; cat said >&2; exit $code"
    )
}

/// A run that was begun with `nohup` outlives its terminal; one that a script put into the background
/// is not stopped by the Ctrl-C meant for another program.
#[test]
fn signals_that_are_to_be_ignored_are() {
    let (place, options) = begun();
    for (number, (before, signal)) in
        [("nohup", "HUP"), ("env --ignore-signal=TERM", "TERM"), ("env --ignore-signal=INT", "INT")]
            .iter()
            .enumerate()
    {
        let run = format!("run{number}");
        let line = meanwhile(before, &run, &options, &format!("kill -{signal} $pid"));
        let output = shell(&place, &line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !errors.contains("stopped"), "{before}: {errors}");
        same(&place, "run0", &run);
    }
    // What is not to be ignored stops it.
    for signal in ["HUP", "INT", "TERM"] {
        let before = "env --default-signal=HUP,INT,TERM";
        let line = meanwhile(before, signal, &options, &format!("kill -{signal} $pid"));
        assert_eq!(shell(&place, &line).status.code(), Some(130), "{signal}");
        place.succeed(&format!("run --resume {signal}"));
        same(&place, "run0", signal);
    }
}

/// A laptop's lid, a batch system that suspends, a debugger; signals that nobody handles.
#[test]
fn a_run_may_be_suspended_or_ended_by_any_signal() {
    let (place, options) = begun();
    let line = meanwhile("", "whole", &options, "true");
    assert!(shell(&place, &line).status.success());
    let then = "for i in 1 2 3; do kill -STOP $pid; sleep 0.1; kill -CONT $pid; sleep 0.05; done";
    let output = shell(&place, &meanwhile("", "suspended", &options, then));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    same(&place, "whole", "suspended");
    for signal in ["QUIT", "USR1", "ABRT"] {
        // A shell lets what it starts in the background ignore SIGQUIT.
        let line =
            meanwhile("env --default-signal", signal, &options, &format!("kill -{signal} $pid"));
        assert!(!shell(&place, &line).status.success(), "{signal}");
        place.succeed(&format!("run --resume {signal}"));
        same(&place, "whole", signal);
    }
    for signal in ["PIPE", "XFSZ"] {
        let run = format!("{signal}-2");
        let line = meanwhile("", &run, &options, &format!("kill -{signal} $pid"));
        assert!(shell(&place, &line).status.success(), "{signal}");
        same(&place, "whole", &run);
    }
}

#[test]
fn variables_and_terminals_change_no_result() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    for (number, before) in [
        "env -i",
        "LC_ALL=C",
        "LC_ALL=tr_TR.UTF-8",
        "LC_NUMERIC=de_DE.UTF-8",
        "TERM= COLUMNS=0 LINES=0",
        "TERM=dumb NO_COLOR=1 COLUMNS=1",
        "HOME=/dev/null",
        "HOME=/nonexistent TMPDIR=/nonexistent XDG_CACHE_HOME=/nonexistent",
        "TMPDIR=",
        "PATH=",
        "RUST_BACKTRACE=full RUST_LOG=trace",
        "ODD=$'\\xff'",
        "TZ=nowhere",
        "MALLOC_ARENA_MAX=1 MIMALLOC_PURGE_DELAY=0",
    ]
    .iter()
    .enumerate()
    {
        let run = format!("run{number}");
        let line = format!("program=$SPVIT; {before} $program run --out {run}{options}");
        let output = shell(&place, &line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{before}: {errors}");
        same(&place, "whole", &run);
    }
}

/// Descriptors that are closed do not become files into which messages go.
#[test]
fn closed_descriptors_do_no_harm() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    for (number, end) in
        ["<&-", "<&- >&-", "<&- >&- 2>&-", "<&- 2>&-", "</dev/full", "<.", "<&- 2>/dev/full"]
            .iter()
            .enumerate()
    {
        let run = format!("run{number}");
        // Without an output to say it on, the table is an error and all files are there.
        shell(&place, &format!("$SPVIT run --out {run}{options} {end}"));
        same(&place, "whole", &run);
        let config = fs::read_to_string(place.path(&run).join("config.toml")).unwrap();
        assert!(!config.contains("epoch "), "{end}: {config}");
        place.succeed(&format!("evaluate --out {run}"));
    }
}

/// A container without `/proc`, `/sys` and `/tmp`.
#[test]
fn a_container_needs_no_mounts() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    for (number, mounts) in [
        "mount -t tmpfs none /proc",
        "mount -t tmpfs none /sys",
        "mount -t tmpfs none /dev/shm",
        "mount -t tmpfs -o ro none /var/tmp",
    ]
    .iter()
    .enumerate()
    {
        if !shell(&place, &format!("unshare -m bash -c '{mounts}'")).status.success() {
            println!("skipped: this user cannot do {mounts}");
            continue;
        }
        let run = format!("run{number}");
        let line = format!("unshare -m bash -c '{mounts} && $SPVIT run --out {run}{options}'");
        let output = shell(&place, &line);
        assert!(output.status.success(), "{mounts}: {}", String::from_utf8_lossy(&output.stderr));
        same(&place, "whole", &run);
    }
}

#[test]
fn masks_of_permissions_are_kept_or_told() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    // Root may do what its own mask forbids.
    let output = shell(&place, &format!("umask 777; $SPVIT run --out closed{options}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => same(&place, "whole", "closed"),
        false => assert!(errors.contains("Permission denied"), "{errors}"),
    }
    let own = "setpriv --reuid=65532 --clear-groups";
    shell(&place, "chmod -R a+rwX .");
    let Some(images) = within_reach(&place, own) else { return };
    let options = options + images;
    let line =
        |mask: &str, run: &str| format!("umask {mask}; {own} ./spvit run --out {run}{options}");
    refused(&place, &line("777", "mine"), &["Permission denied"]);
    for (mask, run) in [("077", "private"), ("000", "public"), ("002", "group")] {
        let output = shell(&place, &line(mask, run));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        same(&place, "whole", run);
    }
    // A file of the run that its owner made read-only is replaced like others: the folder's rights
    // count, as for every program that renames. A folder without rights is told.
    shell(&place, "chmod 444 private/*.*");
    let go_on = format!("{own} ./spvit run --resume");
    assert!(shell(&place, &format!("{go_on} private")).status.success());
    for (mode, part) in [("555", "public"), ("555", "group/checkpoints"), ("000", "group")] {
        let line = format!("rm -f {part}/compact.safetensors; chmod {mode} {part}; {go_on} ");
        let run = part.split('/').next().unwrap();
        let output = shell(&place, &format!("{line}{run} --redo finetune"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{part}: {errors}");
        assert!(errors.contains("denied"), "{part}: {errors}");
    }
}

/// Editors that put a mark first, end lines as Windows does, or leave out the last end.
#[test]
fn editors_may_save_as_they_like() {
    let (place, options) = begun();
    place.succeed(&format!("run --out whole{options}"));
    let config = fs::read_to_string(place.path("whole/config.toml")).unwrap();
    let json = fs::read_to_string(place.path("whole/architecture.json")).unwrap();
    for (begin, end) in [("\u{feff}", "\n"), ("", "\r\n"), ("\u{feff}", "\r\n")] {
        let edited = |text: &str| format!("{begin}{}", text.replace('\n', end).trim_end());
        place.write("edited.toml", edited(&config));
        place.write("edited.json", edited(&json));
        place.succeed("profile edited.toml");
        place.succeed("profile edited.json");
        let line = format!("run --out run --config edited.toml{options}");
        place.succeed(&line);
        same(&place, "whole", "run");
        fs::write(place.path("run/config.toml"), edited(&config)).unwrap();
        fs::remove_file(place.path("run/compact.safetensors")).unwrap();
        place.succeed("run --resume run");
        same(&place, "whole", "run");
        fs::remove_dir_all(place.path("run")).unwrap();
    }
    // Other encodings are told.
    let wide: Vec<u8> = config.encode_utf16().flat_map(u16::to_le_bytes).collect();
    place.write("wide.toml", [&[0xff, 0xfe][..], &wide].concat());
    refused(&place, "$SPVIT profile wide.toml", &["wide.toml", "UTF-8"]);
    place.write("wide.json", [&[0xff, 0xfe][..], &wide].concat());
    refused(&place, "$SPVIT profile wide.json", &["wide.json", "UTF-8"]);
}

/// What stands in a folder of images besides images of ours.
#[test]
fn downloads_that_broke_off_are_told() {
    let place = Place::new();
    let data = checkout("data/fashion-mnist-mini");
    let options = small().replace(&data, "images");
    for (change, words) in [
        ("rm images/train-labels*", "train-labels"),
        ("for f in images/*.gz; do head -c 1000 $f > t; cp t $f; done", "images/"),
        ("for f in images/*.gz; do : > $f; done", "images/"),
        ("for f in images/*.gz; do echo '<html>404</html>' > $f; done", "images/"),
        ("chmod 0 images/*; rm -r images; mkdir images", "images"),
        ("rm -r images; touch images", "images"),
        ("rm -r images; ln -s nowhere images", "images"),
        ("rm -r images", "images"),
    ] {
        shell(&place, &format!("rm -rf images; cp -r {data} images; {change}"));
        refused(&place, &format!("$SPVIT pretrain --out run{options}"), &[words]);
    }
    shell(&place, &format!("rm -rf images; cp -r {data} images"));
    place.succeed(&format!("pretrain --out run{options}"));
}
