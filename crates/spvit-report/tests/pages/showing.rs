//! The page of one run.

use std::fs;

use spvit_report::{LIMIT, Liveness, Record, ReportError, page, write};

use crate::Made;

fn shown(made: &Made) -> String {
    let place = tempfile::tempdir().unwrap();
    made.write(&place.path().join("run"));
    page(&Record::read(&place.path().join("run")).unwrap(), Liveness::Still).unwrap()
}

/// The parts of a page between its sections' beginnings, by id.
fn section<'a>(html: &'a str, id: &str) -> &'a str {
    let from = html.find(&format!("<section id=\"{id}\">")).unwrap_or_else(|| panic!("no {id}"));
    let rest = &html[from..];
    &rest[..rest.find("</section>").unwrap()]
}

#[test]
fn a_whole_run_shows_everything() {
    let html = shown(&Made { epochs: 3, ..Made::default() });
    assert!(html.len() < LIMIT, "{} bytes", html.len());
    for (id, words) in [
        ("models", "searched"),
        ("models", "168 681"),
        ("architecture", "bconv3x3"),
        ("architecture", "128/256"),
        ("training", "Training loss"),
        ("training", "budget, 10.00 M"),
        ("training", "epoch of the search"),
        ("gates", "Block 6"),
        ("classes", "Confusion of the compact model"),
        ("classes", "kind 9"),
        ("differences", "data:image/png;base64,iVBOR"),
        ("again", "0123abcd"),
        ("again", "[finetune]"),
        ("again", "config.toml --out"),
    ] {
        assert!(section(&html, id).contains(words), "{words} is not in {id}");
    }
    // Every drawing is named and told.
    let drawings = html.matches("<svg ").count();
    assert!(drawings >= 12, "{drawings} drawings");
    assert_eq!(html.matches("role=\"img\" aria-label=\"").count(), drawings);
    assert!(!html.contains("aria-label=\"\""));
    // Nothing comes from elsewhere, and nothing runs.
    let outside = ["src=\"http", "href=\"http", "url(", "@import", "<script"];
    assert!(outside.iter().all(|words| !html.contains(words)));
}

#[test]
fn a_live_page_asks_for_itself_alone() {
    let place = tempfile::tempdir().unwrap();
    Made::default().write(place.path());
    let html = page(&Record::read(place.path()).unwrap(), Liveness::Live).unwrap();
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("fetch(location.pathname") && html.contains("connect-src 'self'"));
}

#[test]
fn names_are_text_wherever_they_stand() {
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;";
    let classes = (0..10).map(|class| format!("{evil}{class}")).collect();
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("<b>run</b>");
    Made { classes, ..Made::default() }.write(&root);
    let config = fs::read_to_string(root.join("config.toml")).unwrap();
    let remarked = format!("# </pre><script>alert(3)</script>\n{config}");
    fs::write(root.join("config.toml"), remarked).unwrap();
    let html = page(&Record::read(&root).unwrap(), Liveness::Still).unwrap();
    for words in ["<script", "<img src=x", "<b>run", "onerror=alert(2)>"] {
        assert!(!html.contains(words), "{words}");
    }
    assert!(html.contains("script&#62;alert(1)") || html.contains("script&gt;alert(1)"));
    // Only pictures are images, and only in base64.
    let mut evaluation = Made::default().evaluation();
    evaluation.differences[0].png = "AA\" onload=\"alert(4)".into();
    let json = serde_json::to_string(&evaluation).unwrap();
    fs::write(root.join("evaluation.json"), json).unwrap();
    let html = page(&Record::read(&root).unwrap(), Liveness::Still).unwrap();
    assert!(!html.contains("onload"));
}

#[test]
fn a_thousand_classes_and_the_largest_pictures_stay_below_the_limit() {
    let classes: Vec<String> =
        (0..1000).map(|class| format!("species number {class}, a name of some length")).collect();
    let large = |preset: &'static str, picture: usize| Made {
        preset,
        classes: classes.clone(),
        epochs: 300,
        picture,
        ..Made::default()
    };
    let html = shown(&large("swin_base", 26_000));
    assert!(html.len() < LIMIT, "{} bytes", html.len());
    let classes = section(&html, "classes");
    assert!(classes.contains("24 worst classes") && classes.contains("most frequent confusions"));
    assert!(classes.contains("species number 39"), "the worst are shown");
    assert!(section(&html, "differences").contains("data:image/png"));
    // What is too large is left out, and said to be.
    let html = shown(&large("deit_base", 150_000));
    assert!(html.len() < LIMIT, "{} bytes", html.len());
    let differences = section(&html, "differences");
    assert!(differences.contains("left out") && !differences.contains("data:image/png"));
}

#[test]
fn one_time_of_the_gates_is_told_as_what_it_is() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    Made::default().write(root);
    let gates = || {
        let html = page(&Record::read(root).unwrap(), Liveness::Still).unwrap();
        section(&html, "gates").to_string()
    };
    assert!(gates().contains("no step moved a threshold"));
    let lines = fs::read_to_string(root.join("gates.jsonl")).unwrap();
    Made { epochs: 3, ..Made::default() }.write(root);
    fs::write(root.join("gates.jsonl"), lines).unwrap();
    assert!(gates().contains("No epoch of the search has ended yet"));
}

#[test]
fn a_swin_shows_its_stages() {
    let html = shown(&Made { preset: "swin_tiny", ..Made::default() });
    let architecture = section(&html, "architecture");
    for words in ["stage 1: 56×56 tokens", "stage 4: 7×7 tokens", "192/384", "1536/3072"] {
        assert!(architecture.contains(words), "{words}");
    }
}

#[test]
fn what_is_missing_leaves_a_sentence() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let show = || page(&Record::read(root).unwrap(), Liveness::Still).unwrap();
    for (name, id, words) in [
        ("evaluation.json", "classes", "spvit evaluate"),
        ("evaluation.json", "differences", "evaluation.json"),
        ("gates.jsonl", "gates", "gates.jsonl"),
        ("metrics.jsonl", "training", "metrics.jsonl"),
        ("summary.json", "models", "summary.json"),
        ("architecture.json", "architecture", "No architecture is derived yet"),
        ("config.toml", "again", "no configuration"),
    ] {
        Made::default().write(root);
        fs::remove_file(root.join(name)).unwrap();
        assert!(section(&show(), id).contains(words), "{words} without {name}");
    }
    // One after another, until nothing is left.
    Made::default().write(root);
    for name in
        ["evaluation.json", "gates.jsonl", "summary.json", "architecture.json", "config.toml"]
    {
        fs::remove_file(root.join(name)).unwrap();
        show();
    }
    fs::remove_file(root.join("metrics.jsonl")).unwrap();
    let error = Record::read(root).unwrap_err();
    assert!(matches!(error, ReportError::NoRun { .. }), "{error}");
    assert!(Record::read(&root.join("none")).is_err());
}

#[test]
fn broken_files_are_named_and_the_rest_is_shown() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    Made::default().write(root);
    fs::write(root.join("summary.json"), "{\"backend\": 1").unwrap();
    let metrics = fs::read_to_string(root.join("metrics.jsonl")).unwrap();
    fs::write(root.join("metrics.jsonl"), format!("nonsense\n{metrics}{{\"phase\": \"fi")).unwrap();
    let mut evaluation = Made::default().evaluation();
    evaluation.confusion.push([3, 99, 1]);
    fs::write(root.join("evaluation.json"), serde_json::to_string(&evaluation).unwrap()).unwrap();
    let record = Record::read(root).unwrap();
    assert_eq!(record.epochs.len(), 6, "a line that is being written is not there yet");
    assert!(record.evaluation.is_none(), "a class that there is not");
    let html = page(&record, Liveness::Still).unwrap();
    let problems = section(&html, "problems");
    assert!(problems.contains("summary.json") && problems.contains("metrics.jsonl, line 1"));
    assert!(section(&html, "architecture").contains("bconv3x3"));
}

#[test]
fn a_run_of_other_budgets_begins_with_their_comparison() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("run");
    Made { kept: 0.8, ..Made::default() }.write(&root);
    for (name, kept, accuracy) in [("80%", 0.8, 0.91), ("40%", 0.4, 0.88)] {
        Made { kept, accuracy, ..Made::default() }.write(&root.join("budgets").join(name));
    }
    assert_eq!(write(&root).unwrap(), root.join("report.html"));
    let html = fs::read_to_string(root.join("report.html")).unwrap();
    let comparison = html.find("<section id=\"comparison\">").unwrap();
    assert!(comparison < html.find("<section id=\"models\">").unwrap());
    let table = section(&html, "comparison");
    assert!(table.contains("1. 80%") && table.contains("2. 40%") && !table.contains("3. "));
    assert!(root.join("budgets/40%/report.html").exists());
}
