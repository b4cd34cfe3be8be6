//! What a run was made with, and the commands that make it again.

use spvit_train::Phase;

use crate::{
    Record,
    numbers::thousands,
    page::{Listing, Section, Table},
};

/// The section; `configuration` says whether the file is shown.
pub(crate) fn section(record: &Record, configuration: bool) -> Section {
    let mut section =
        Section { id: "again", title: "To make it again".into(), ..Section::default() };
    section.tables.push(Table { rows: facts(record), ..Table::default() });
    section.listings.push(Listing {
        title: "Commands".into(),
        text: commands(record),
        folded: false,
    });
    match &record.config_text {
        Some(text) if configuration => section.listings.push(Listing {
            title: "Configuration as resolved, with the sources of its values (config.toml)".into(),
            text: text.trim_end().to_string(),
            folded: true,
        }),
        Some(_) => section.notes.push(
            "The configuration is left out, since the page would be too large; it is in the run \
             folder (config.toml)."
                .into(),
        ),
        None => section.notes.push("The folder holds no configuration (config.toml).".into()),
    }
    section
}

fn facts(record: &Record) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_string(), value]);
    let summary = record.summary.as_ref();
    let seed = summary.map(|own| own.seed).or(record.config.as_ref().map(|own| own.seed));
    match seed {
        Some(seed) => row("seed", seed.to_string()),
        None => row("seed", "not known".into()),
    }
    let unknown = || "not known before the evaluation".to_string();
    row("device", summary.map_or_else(unknown, |own| own.backend.clone()));
    row(
        "images",
        match (summary, &record.config) {
            (Some(own), _) => format!("{}, {} for the test", own.data, thousands(own.test_images)),
            (None, Some(config)) => config.data.folder.display().to_string(),
            (None, None) => "not known".into(),
        },
    );
    row(
        "fingerprint of the images",
        summary.map_or_else(unknown, |own| own.data_fingerprint.clone()),
    );
    row("budget", record.budgets_text());
    let model = summary.map(|own| own.cost_model);
    if let Some(model) = model.or(record.config.as_ref().map(|own| own.search.cost_model)) {
        row("FLOPs", format!("multiply-adds counted once, cost model {model}"));
    }
    match &record.evaluation {
        Some(evaluation) => {
            let own = &evaluation.software;
            row("software", format!("spvit {}, Burn {}", own.spvit, own.burn));
            row("machine", own.system.clone());
        }
        None => row("software", "not recorded (evaluation.json)".into()),
    }
    rows
}

/// The commands of a shell.
fn commands(record: &Record) -> String {
    let root = record.root.display().to_string();
    let again = format!("{}-again", root.trim_end_matches('/'));
    let device = record.summary.as_ref().map(|own| own.backend.as_str());
    // The device that programs take by themselves needs no option.
    let device = match device {
        Some("flex") | None => String::new(),
        Some(name) => format!(" --device {}", quoted(name)),
    };
    let config = quoted(&format!("{}/config.toml", root.trim_end_matches('/')));
    let pretrains = record.epochs.iter().any(|epoch| epoch.phase == Phase::Pretrain);
    let again = quoted(&again);
    match pretrains {
        true => format!(
            "spvit pretrain --config {config} --out {again}{device}\nspvit run --resume {again}{device}"
        ),
        false => format!("spvit run --config {config} --out {again}{device}"),
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_whole_through_a_shell() {
        assert_eq!(quoted("runs/demo-2"), "runs/demo-2");
        assert_eq!(quoted("a b; rm $x"), "'a b; rm $x'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
