//! `spvit report` and `spvit watch`.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
};

use crate::{Place, small};

/// A small finished run, `run`.
fn finished() -> Place {
    let place = Place::new();
    let small = small();
    place.succeed(&format!("pretrain --out run{small}"));
    let text = place.succeed("run --resume run");
    assert!(text.contains("report run/report.html"), "{text}");
    place
}

#[test]
fn a_run_leaves_a_page_that_shows_it() {
    let place = finished();
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    for id in ["models", "architecture", "training", "gates", "classes", "differences", "again"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    for words in ["Confusion of the compact model", "Block 2", "spvit pretrain --config", "Sandal"]
    {
        assert!(page.contains(words), "{words}");
    }
    let lines = |name: &str| fs::read_to_string(place.path(name)).unwrap().lines().count();
    assert_eq!(lines("run/gates.jsonl"), 2, "where the gates begin, and after one epoch");
    let json = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(place.path(name)).unwrap()).unwrap()
    };
    // What is counted by class is what the summary has.
    let (summary, evaluation) = (json("run/summary.json"), json("run/evaluation.json"));
    for (model, own) in
        summary["models"].as_array().unwrap().iter().zip(evaluation["models"].as_array().unwrap())
    {
        let counts = own["by_class"].as_array().unwrap();
        let sum = |place: usize| counts.iter().map(|own| own[place].as_u64().unwrap()).sum::<u64>();
        assert_eq!(own["name"], model["name"]);
        assert_eq!(sum(1), 60);
        assert_eq!(model["accuracy"].as_f64().unwrap(), sum(0) as f64 / 60.0);
    }

    // A part that is done anew takes with it what was shown of it.
    place.succeed("finetune --resume run --redo finetune");
    for name in ["run/report.html", "run/evaluation.json", "run/summary.json"] {
        assert!(!place.path(name).exists(), "{name}");
    }
    assert_eq!(lines("run/gates.jsonl"), 2);
    let text = place.succeed("report run");
    assert!(text.contains("wrote run/report.html"), "{text}");
    let page = fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(page.contains("have not been evaluated") && page.contains("not finished"));
}

#[test]
fn runs_are_compared_on_one_page() {
    let place = finished();
    fs::create_dir(place.path("other")).unwrap();
    for name in ["config.toml", "summary.json", "architecture.json", "metrics.jsonl"] {
        fs::copy(place.path("run").join(name), place.path("other").join(name)).unwrap();
    }
    let text = place.succeed("report run other --out both.html");
    assert!(text.contains("wrote both.html"), "{text}");
    let page = fs::read_to_string(place.path("both.html")).unwrap();
    for words in ["1. run", "2. other", "Accuracy against FLOPs", "Architectures side by side"] {
        assert!(page.contains(words), "{words}");
    }
    // An older run, without what only newer ones leave.
    place.succeed("report other");
    let page = fs::read_to_string(place.path("other/report.html")).unwrap();
    assert!(page.contains("gates.jsonl") && page.contains("evaluation.json"));
}

#[test]
fn what_is_no_run_has_no_page() {
    let place = Place::new();
    let error = place.fail("report nowhere", 2);
    assert!(error.contains("nowhere") && error.contains("name the folder of a run"), "{error}");
    fs::create_dir(place.path("empty")).unwrap();
    for line in ["report empty", "watch empty", "report empty empty"] {
        let error = place.fail(line, 2);
        assert!(error.contains("empty: holds no run"), "{error}");
    }
    place.write("file", "text");
    assert!(place.fail("report file", 2).contains("is no folder"));
    place.write("empty/config.toml", "seed = 1");
    let error = place.fail("report empty --out page.toml", 2);
    assert!(error.contains("page.toml") && error.contains(".html"), "{error}");
    let error = place.fail("report empty --out none/page.html", 1);
    assert!(error.contains("none/page.html"), "{error}");
    place.succeed("report empty --out page.html");
    let page = fs::read_to_string(place.path("page.html")).unwrap();
    assert!(page.contains("no architecture yet"), "{page}");
}

struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What a request is answered with.
fn ask(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(port: u16, host: &str) -> String {
    ask(port, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

#[test]
fn a_run_can_be_watched_from_this_machine_alone() {
    let place = Place::new();
    place.write("run/config.toml", "seed = 11");
    let port = free_port();
    let mut command = place.command(&format!("watch run --port {port}"));
    let mut watching = Watching(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(watching.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains(&format!("http://127.0.0.1:{port}/")), "{line}");

    let local = format!("127.0.0.1:{port}");
    let page = get(port, &local);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("text/html"), "{page}");
    assert!(page.contains("has no architecture yet") && page.contains("frame-ancestors 'none'"));
    // It follows the files.
    place.write("run/config.toml", "seed = 12");
    assert!(get(port, "localhost").contains("<td>12</td>"));
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        let refused = get(port, host);
        assert!(refused.starts_with("HTTP/1.1 403") && !refused.contains("<html"), "{refused}");
    }
    let end = format!("Host: {local}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    assert!(ask(port, &format!("POST / HTTP/1.1\r\n{end}")).starts_with("HTTP/1.1 405"));
    assert!(
        ask(port, &format!("GET /../config.toml HTTP/1.1\r\n{end}")).starts_with("HTTP/1.1 404")
    );
    fs::remove_dir_all(place.path("run")).unwrap();
    assert!(get(port, &local).starts_with("HTTP/1.1 503"));

    place.write("run/config.toml", "seed = 11");
    let error = place.fail(&format!("watch run --port {port}"), 2);
    assert!(error.contains(&port.to_string()) && error.contains("another program"), "{error}");
    let error = place.fail("watch run --port 0", 2);
    assert!(error.contains("--port"), "{error}");
    assert!(watching.0.try_wait().unwrap().is_none(), "it goes on until it is ended");
}

#[cfg(unix)]
#[test]
fn watching_ends_on_an_interrupt() {
    let place = Place::new();
    place.write("run/config.toml", "seed = 11");
    let mut command = place.command(&format!("watch run --port {}", free_port()));
    let mut watching = Watching(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(watching.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let id = watching.0.id().to_string();
    // What started the tests may have SIGINT ignored.
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert_eq!(watching.0.wait().unwrap().code(), Some(130));
}
