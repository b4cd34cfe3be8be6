//! Processes that mpirun starts together, which talk over the loopback interface.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    thread::{self, sleep},
    time::Duration,
};

use crate::{Place, small};

/// What the program does in so many processes.
fn together(place: &Place, count: usize, line: &str) -> Command {
    let mut command = Command::new("mpirun");
    command.args([
        "--oversubscribe",
        "--mca",
        "btl",
        "tcp,self",
        "--mca",
        "btl_tcp_if_include",
        "lo",
    ]);
    command.args(["-n", &count.to_string(), env!("CARGO_BIN_EXE_spvit")]);
    command.args(line.split_whitespace()).current_dir(place.path("")).env_remove("RUST_BACKTRACE");
    // Open MPI refuses root otherwise.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A place with a dense model, and the options of runs from it.
fn begin() -> (Place, String) {
    let place = Place::new();
    place.succeed(&format!("pretrain --out dense{}", small()));
    let more = " --set dense.weights=dense/dense.safetensors --set search.trial_steps=0 --set \
                run.checkpoint_seconds=0";
    (place, small() + more)
}

fn losses(place: &Place, run: &str) -> Vec<f64> {
    let lines = fs::read_to_string(place.path(run).join("metrics.jsonl")).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|line| line["loss"].as_f64().unwrap()).collect()
}

/// Two runs have the same losses but for rounding.
fn near(place: &Place, one: &str, other: &str) {
    let [one, other] = [one, other].map(|run| losses(place, run));
    assert_eq!(one.len(), other.len());
    for (one, other) in one.into_iter().zip(other) {
        assert!((one - other).abs() < 1e-4, "losses {one} and {other}");
    }
}

#[test]
fn two_processes_give_what_two_micro_batches_give() {
    let (place, options) = begin();
    let expected = place.succeed(&format!("run --out one{options} --set run.micro_batches=2"));
    let found = succeed(together(&place, 2, &format!("run --out two{options}")));
    let table = |text: &str| text.lines().filter(|line| line.contains("compact")).count();
    // One of them speaks.
    assert_eq!(table(&found), table(&expected), "{found}");
    for name in ["metrics.jsonl", "architecture.json"] {
        let [one, two] = ["one", "two"].map(|run| fs::read(place.path(run).join(name)).unwrap());
        assert!(one == two, "{name} differs");
    }
    // Four replicas, summed in another order.
    succeed(together(&place, 2, &format!("run --out four{options} --devices flex,flex")));
    place.succeed(&format!("run --out parts{options} --set run.micro_batches=4"));
    near(&place, "four", "parts");
}

/// Runs in two processes until a line that begins so shows, and gives their numbers by rank.
fn until(place: &Place, line: &str, after: &str) -> (Child, [String; 2], Vec<String>) {
    let mut child = together(place, 2, line).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    while !said.last().is_some_and(|line: &String| line.starts_with(after)) {
        said.push(lines.next().unwrap_or_else(|| panic!("no '{after}' in {said:?}")));
    }
    let output = Command::new("pgrep").args(["-P", &child.id().to_string()]).output().unwrap();
    let mut pids: Vec<String> =
        String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect();
    pids.sort_by_key(|pid| {
        let values = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut values = values.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let rank =
            values.find_map(|value| value.strip_prefix("OMPI_COMM_WORLD_RANK=")?.parse().ok());
        rank.unwrap_or(usize::MAX)
    });
    thread::spawn(move || lines.for_each(drop));
    (child, [pids[0].clone(), pids[1].clone()], said)
}

fn signal(pid: &str, which: &str) {
    assert!(Command::new("kill").args([which, pid]).status().unwrap().success());
}

/// Ten epochs of five steps, without convolutions, whose batch norms see a process's part.
fn longer(options: &str) -> String {
    format!("{options} --set finetune.epochs=10 --set search.operations=[\"shortcut|msa\"]")
}

/// One that is killed ends all; the run goes on in one process to the losses of one.
#[test]
fn a_process_that_dies_ends_the_run_which_goes_on_in_one() {
    let (place, options) = begin();
    let line = longer(&options);
    place.succeed(&format!("run --out one{line}"));
    let (mut child, [first, second], _) =
        until(&place, &format!("run --out two{line}"), "finetune epoch 2");
    signal(&second, "-KILL");
    assert!(!child.wait().unwrap().success());
    // mpirun does not wait for the others, whose folder it still is.
    while fs::read_link(format!("/proc/{first}/exe")).is_ok() {
        sleep(Duration::from_millis(50));
    }
    assert!(!place.path("two/compact.safetensors").exists());
    place.succeed("run --resume two");
    near(&place, "one", "two");
}

/// Any of them can be asked to stop; three go on, with what was there and no more.
#[test]
fn a_process_that_is_interrupted_stops_all_with_a_checkpoint() {
    let (place, options) = begin();
    let line = longer(&options);
    place.succeed(&format!("run --out one{line}"));
    let (mut child, [_, second], _) =
        until(&place, &format!("run --out two{line}"), "finetune epoch 2");
    signal(&second, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    succeed(together(&place, 3, "run --resume two"));
    near(&place, "one", "two");
}

#[test]
fn what_is_wrong_is_said_once() {
    let place = Place::new();
    let wrong = [
        ("run --config no.toml --out run", 2),
        ("finetune --resume nothing", 2),
        ("run --dry-run", 2),
    ];
    for (line, code) in wrong {
        let output = together(&place, 2, line).output().unwrap();
        let said = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        let own = said.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(own, 1, "{line}: {said}");
    }
}
