//! Several budgets, and another one from a finished search.

use std::fs;

use crate::{Place, small};

/// A small dense model, and options of runs from it.
fn dense(place: &Place) -> String {
    let small = small();
    place.succeed(&format!("pretrain --out dense{small}"));
    format!("{small} --set dense.weights=dense/dense.safetensors")
}

#[test]
fn several_budgets_have_a_folder_each() {
    let place = Place::new();
    let options = dense(&place);
    let text = place.succeed(&format!("run --out front{options} --budgets 80%,50%"));
    for part in ["dense", "80%", "50%"] {
        assert!(text.contains(part), "'{part}' is not in:\n{text}");
    }
    for name in ["80", "50"] {
        assert!(place.path(&format!("front/budgets/{name}/compact.safetensors")).exists());
    }
    place.succeed("evaluate --out front/budgets/50");
    // A folder with results at some budget is no new one.
    let error = place.fail(&format!("run --out front{options} --budget 60%"), 2);
    assert!(error.contains("already holds a run"), "{error}");
    // A part is done anew at every budget.
    place.succeed("prune --out front --redo prune");
    assert!(!place.path("front/budgets/80/compact.safetensors").exists());
    let text = place.succeed("finetune --out front");
    assert!(text.contains("front/budgets"), "{text}");
    assert!(place.path("front/budgets/80/compact.safetensors").exists());
    let text = place.succeed("run --resume front");
    assert!(text.contains("80%"), "{text}");

    let error = place.fail(&format!("run --out other{options} --budgets 60%,0.1%"), 2);
    assert!(error.contains("cannot be met"), "{error}");
    assert!(!place.path("other/budgets/60/searched.safetensors").exists());
    let error = place.fail("run --budgets 60%,50% --budget 40%", 2);
    assert!(error.contains("--budget"), "{error}");
    let error = place.fail("run --budget 60% --budget 50%", 2);
    assert!(error.contains("the smaller is enough"), "{error}");
}

#[test]
fn another_budget_is_cut_from_a_finished_search() {
    let place = Place::new();
    let options = dense(&place);
    place.succeed(&format!("search --out run{options} --budget 60%"));
    let text = place.succeed("derive run --budget 45%");
    assert!(text.contains("before any training") && text.contains("run/budgets/45"), "{text}");
    // Once more, as nothing is trained yet.
    place.succeed("derive run --budget 45%");
    let text = place.succeed("profile run/budgets/45/architecture.json");
    assert!(text.contains("44.") || text.contains("45.0"), "{text}");
    let text = place.succeed("run --resume run/budgets/45");
    assert!(text.contains("compact"), "{text}");

    let error = place.fail("derive run --budget 45%", 2);
    assert!(error.contains("--budget 45%") && error.contains("run/budgets/45"), "{error}");
    let error = place.fail("derive run --budget 0.1%", 2);
    assert!(error.contains("cannot be met"), "{error}");
    assert!(!place.path("run/budgets/0.1").exists(), "nothing half done stays");
    let error = place.fail("derive nowhere --budget 45%", 2);
    assert!(error.contains("nowhere"), "{error}");
    let error = place.fail("derive dense --budget 45%", 1);
    assert!(error.contains("no finished search"), "{error}");
    fs::write(place.path("run/searched.safetensors"), "cut off").unwrap();
    let error = place.fail("derive run --budget 90%", 1);
    assert!(error.contains("searched.safetensors"), "{error}");
}
