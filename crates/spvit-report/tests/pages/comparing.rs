//! Pages of several runs.

use spvit_report::{LIMIT, Record, comparison};

use crate::Made;

fn compared(runs: &[(&str, Made)]) -> String {
    let place = tempfile::tempdir().unwrap();
    let records: Vec<Record> = runs
        .iter()
        .map(|(name, made)| {
            made.write(&place.path().join(name));
            Record::read(&place.path().join(name)).unwrap()
        })
        .collect();
    comparison(&records).unwrap()
}

#[test]
fn runs_stand_side_by_side_and_the_dominated_are_marked() {
    let made = |kept, accuracy| Made { kept, accuracy, ..Made::default() };
    let html = compared(&[
        ("wide", made(0.9, 0.91)),
        ("narrow", made(0.5, 0.90)),
        ("worse", made(0.7, 0.89)),
    ]);
    for words in ["1. wide", "2. narrow", "3. worse", "dense model"] {
        assert!(html.contains(words), "{words}");
    }
    assert_eq!(html.matches("in FLOPs by 2, in latency by 2").count(), 1, "only one is dominated");
    assert!(html.contains("Accuracy against FLOPs") && html.contains("Accuracy against latency"));
    assert!(html.contains("1. wide</h3>"), "architectures have their runs' names");
    assert_eq!(html.matches(">dense model<").count(), 1, "one dense model, one row");
    assert!(html.len() < LIMIT);
}

#[test]
fn what_was_set_otherwise_is_told() {
    let place = tempfile::tempdir().unwrap();
    let mut records = Vec::new();
    for (name, seed) in [("a", 0), ("b", 5)] {
        let root = place.path().join(name);
        Made::default().write(&root);
        let config = std::fs::read_to_string(root.join("config.toml")).unwrap();
        let config = config.replacen("seed = 0", &format!("seed = {seed}"), 1);
        std::fs::write(root.join("config.toml"), config).unwrap();
        records.push(Record::read(&root).unwrap());
    }
    let html = comparison(&records).unwrap();
    let settings = &html[html.find("<section id=\"settings\">").unwrap()..];
    assert!(settings.contains(">seed</th><td>0</td><td>5</td>"), "{settings}");
    assert!(!settings.contains("finetune.epochs"));
}

#[test]
fn runs_that_are_not_evaluated_are_named() {
    let place = tempfile::tempdir().unwrap();
    Made::default().write(&place.path().join("done"));
    Made::default().write(&place.path().join("begun"));
    for name in ["summary.json", "architecture.json", "evaluation.json"] {
        std::fs::remove_file(place.path().join("begun").join(name)).unwrap();
    }
    let read = |name: &str| Record::read(&place.path().join(name)).unwrap();
    let html = comparison(&[read("begun"), read("done")]).unwrap();
    assert!(html.contains("1. begun") && html.contains("not evaluated"));
    let none = comparison(&[read("begun")]).unwrap();
    assert!(none.contains("None of these runs has an evaluated compact model yet."));
}

#[test]
fn many_large_runs_stay_below_the_limit() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("run");
    Made { preset: "swin_base", ..Made::default() }.write(&root);
    let record = Record::read(&root).unwrap();
    let html = comparison(&vec![record; 60]).unwrap();
    assert!(html.len() < LIMIT, "{} bytes", html.len());
    assert!(html.contains("60 runs side by side") && html.contains("page would be too large"));
}
