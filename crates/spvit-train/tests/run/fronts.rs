//! Several budgets from one search, and several budgets at once.

use std::path::Path;

use burn::backend::{Flex, NdArray};
use spvit_core::FusedOps;
use spvit_train::{RunConfig, RunFolder, config::GivenBudget};

use crate::{Stopper, finish, results, run, starting, support::short};

/// A run without steps of a search that begins by importance, its students following the dense model.
fn measured(more: &[&str]) -> RunConfig {
    let own = ["search.epochs=0", "finetune.distillation=0.5"];
    short(&[&starting::MEASURED[..], &own, more].concat())
}

fn same(left: &Path, right: &Path) {
    for ((name, a), (_, b)) in results(left).into_iter().zip(results(right)) {
        assert!(a == b, "{name} of {} and of {} differ", left.display(), right.display());
    }
}

/// What a front shares changes no bit: every budget has what a run of its own gives.
#[test]
fn a_front_gives_what_single_runs_give() {
    let place = tempfile::tempdir().unwrap();
    let front = place.path().join("front");
    let several = r#"search.budgets=["40%", "80%"]"#;
    let summary = finish::<Flex>(&measured(&[several]), &front);
    let names: Vec<&str> = summary.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["dense", "80%", "40%"]);
    assert!(summary.models.windows(2).all(|pair| pair[0].flops > pair[1].flops));
    for (budget, name) in [("search.budget=0.8", "80"), ("search.budget=0.4", "40")] {
        let single = place.path().join(name);
        let alone = finish::<Flex>(&measured(&[budget]), &single);
        same(&front.join("budgets").join(name), &single);
        let own = summary.models.iter().find(|model| model.name.starts_with(name)).unwrap();
        assert_eq!(own.accuracy, alone.models[2].accuracy);
        assert_eq!(summary.models[0].accuracy, alone.models[0].accuracy);
    }
}

fn in_pieces<B: FusedOps>(config: &RunConfig, root: &Path, steps: usize) {
    for _ in 0..40 {
        let mut observer = Stopper { after: steps, ..Stopper::default() };
        if run::<B>(config, root, &mut observer).unwrap().is_some() {
            return;
        }
    }
    panic!("it does not end");
}

/// A search with steps goes on to the next budget from where the last one ended.
#[test]
fn a_front_with_steps_goes_on_from_budget_to_budget_and_resumes_with_the_same_bits() {
    let place = tempfile::tempdir().unwrap();
    let [whole, pieces] = ["whole", "pieces"].map(|name| place.path().join(name));
    let several = r#"search.budgets=["80%", "60%", "40%"]"#;
    let config = short(&["finetune.epochs=1", "finetune.distillation=0.5", several]);
    finish::<NdArray>(&config, &whole);
    in_pieces::<NdArray>(&config, &pieces, 4);
    for name in ["80", "60", "40"] {
        let [a, b] = [&whole, &pieces].map(|root| root.join("budgets").join(name));
        // Where each began differs by the folder's name alone.
        same(&a, &b);
        let config = RunConfig::read(&a.join("config.toml"), &[]).unwrap();
        let (epochs, from) = match name {
            "80" => (2, Path::new("").to_path_buf()),
            "60" => (1, whole.join("budgets/80/searched.safetensors")),
            _ => (1, whole.join("budgets/60/searched.safetensors")),
        };
        assert_eq!((config.search.epochs, config.search.from), (epochs, from));
    }
}

#[test]
fn two_budgets_are_both_met() {
    let place = tempfile::tempdir().unwrap();
    let both = r#"search.further_budgets=["120k params"]"#;
    let config = measured(&["search.budget=0.6", "search.projected=true", both]);
    let summary = finish::<Flex>(&config, place.path());
    let compact = &summary.models[2];
    assert!(compact.flops <= summary.target_flops.unwrap());
    let parameters = summary.target_parameters.unwrap();
    assert_eq!(parameters, 120_000);
    let reached = compact.parameters as u64;
    assert!(reached <= parameters && reached as f64 > 0.99 * parameters as f64, "{reached}");
}

/// The paper's term, of the budget that is exceeded most.
#[test]
fn two_budgets_are_searched_for_with_steps() {
    let place = tempfile::tempdir().unwrap();
    let settings = ["search.budget=0.9", r#"search.further_budgets=["40% params"]"#];
    let summary = finish::<Flex>(&short(&settings), place.path());
    let compact = &summary.models[2];
    assert!(compact.flops <= summary.target_flops.unwrap());
    assert!(compact.parameters as u64 <= summary.target_parameters.unwrap());
}

#[test]
fn the_nearest_search_is_cut_from() {
    let place = tempfile::tempdir().unwrap();
    let several = r#"search.budgets=["80%", "40%"]"#;
    let config = measured(&[several, "finetune.epochs=1"]);
    finish::<Flex>(&config, place.path());
    let folder = RunFolder::open(place.path()).unwrap();
    let nearest = |budget: &str| {
        let budget: GivenBudget = budget.parse().unwrap();
        folder.nearest_search(budget).unwrap().0.root().to_path_buf()
    };
    let part = |name: &str| place.path().join("budgets").join(name);
    // By ratio: 0.57 lies between 0.8 and 0.4.
    assert_eq!(nearest("60%"), part("80"));
    assert_eq!(nearest("55%"), part("40"));
    assert_eq!(nearest("10% params"), part("40"));
}

#[test]
fn budgets_that_do_not_go_together_are_told() {
    let said = |settings: &[&str]| {
        let settings: Vec<String> = settings.iter().map(|s| s.to_string()).collect();
        let path = crate::checkout().join("configs").join("demo.toml");
        RunConfig::read(&path, &settings).unwrap_err().to_string()
    };
    let twice = said(&[r#"search.further_budgets=["1.3G"]"#]);
    assert!(twice.contains("1.3G") && twice.contains("the smaller"), "{twice}");
    let twice = said(&[r#"search.budgets=["60%", "0.6"]"#]);
    assert!(twice.contains("60 twice"), "{twice}");
    let wrong = said(&[r#"search.budgets=["60%", "much"]"#]);
    assert!(wrong.contains("much") && wrong.contains("a share (60%)"), "{wrong}");
}
