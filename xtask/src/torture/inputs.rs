//! Inputs that are damaged, or that ask for what cannot be.

use std::fs;

use super::{
    Verdict,
    folders::damage,
    place::{Dice, Place},
};

/// A damaged model is converted or profiled: it is read, or refused in one line.
pub fn models(place: &Place, dice: &mut Dice, _: usize) -> Verdict {
    let from = *dice.choose(&[
        "dense/dense.safetensors",
        "whole/compact.safetensors",
        "whole/searched.safetensors",
        "model.onnx",
    ]);
    let Ok(mut content) = fs::read(place.path(from)) else {
        return Verdict::Failed(format!("{from} cannot be read"));
    };
    // Half of the damage is done to the header, where it matters most.
    let how = match dice.below(2) {
        0 => damage(&mut content, dice),
        _ => {
            let end = content.len().min(6000);
            for _ in 0..1 + dice.below(4) {
                let at = dice.below(end);
                content[at] = b"0123456789[]{}:,\"-ea\x00\xff"[dice.below(22)];
            }
            "its header changed"
        }
    };
    let ending = *dice.choose(&["safetensors", "pth", "bin"]);
    let input = format!("input.{ending}");
    if let Err(error) = fs::write(place.path(&input), content) {
        return Verdict::Failed(error.to_string());
    }
    let line = match dice.below(4) {
        0 => format!("profile {input}"),
        1 => format!("convert {input} output.onnx"),
        2 => format!("convert {input} output.safetensors --form published"),
        _ => format!("convert {input} output.json"),
    };
    let end = place.run(&format!("ulimit -v 8000000; $spvit {line}"));
    place.remove(&input);
    end.graceful().map_err(|problem| format!("{from} {how}, {line}: {problem}")).into()
}

/// A damaged configuration or architecture.
pub fn texts(place: &Place, dice: &mut Dice, _: usize) -> Verdict {
    let (from, name, line) = *dice.choose(&[
        ("whole/config.toml", "input.toml", "profile input.toml"),
        ("whole/architecture.json", "input.json", "profile input.json"),
        ("whole/architecture.json", "input.json", "profile input.json --svg picture.svg"),
        (
            "whole/architecture.json",
            "input.json",
            "convert whole/compact.safetensors output.onnx --architecture input.json",
        ),
    ]);
    let Ok(mut content) = fs::read(place.path(from)) else {
        return Verdict::Failed(format!("{from} cannot be read"));
    };
    let how = match dice.below(3) {
        0 => damage(&mut content, dice).to_string(),
        _ => {
            // Another number in place of one.
            let text = String::from_utf8_lossy(&content).into_owned();
            let starts: Vec<usize> = (1..text.len())
                .filter(|&i| {
                    let (before, here) = (text.as_bytes()[i - 1], text.as_bytes()[i]);
                    here.is_ascii_digit() && !before.is_ascii_alphanumeric() && before != b'.'
                })
                .collect();
            let start = *dice.choose(&starts);
            let length = text[start..].bytes().take_while(u8::is_ascii_digit).count();
            let number = *dice.choose(&[
                "0",
                "-1",
                "1",
                "3",
                "7",
                "1000001",
                "4294967296",
                "9223372036854775807",
                "1e300",
                "0.5",
                "\"x\"",
                "[]",
                "18446744073709551616",
            ]);
            content = format!("{}{number}{}", &text[..start], &text[start + length..]).into_bytes();
            format!("{number} at {start}")
        }
    };
    if let Err(error) = fs::write(place.path(name), content) {
        return Verdict::Failed(error.to_string());
    }
    let end = place.run(&format!("ulimit -v 8000000; $spvit {line}"));
    end.graceful().map_err(|problem| format!("{from} {how}, {line}: {problem}")).into()
}

/// Values at the ends of what their types hold, in a run that is stopped before it takes long.
pub fn settings(place: &Place, dice: &mut Dice, number: usize) -> Verdict {
    let keys = [
        "model.dim",
        "model.depth",
        "model.heads",
        "model.hidden",
        "model.patch_size",
        "model.channels",
        "model.classes",
        "model.image_size",
        "model.kernels",
        "model.alpha",
        "search.budget",
        "search.lambda",
        "search.batch_size",
        "search.epochs",
        "search.learning_rate",
        "search.warmup_epochs",
        "search.threshold_start",
        "finetune.batch_size",
        "finetune.accumulate",
        "finetune.distillation",
        "data.validation",
        "data.train_limit",
        "data.threads",
        "run.micro_batches",
        "run.evaluation_batch",
        "run.checkpoint_seconds",
        "run.timing_seconds",
        "augment.mixup",
        "seed",
    ];
    let values = [
        "0",
        "-1",
        "1000000",
        "9223372036854775807",
        "1e300",
        "1e-300",
        "nan",
        "inf",
        "[]",
        "[1,3,5]",
        "[1000000,1000000]",
        "true",
        "x",
        "1.5",
    ];
    let key = keys[number % keys.len()];
    let value = *dice.choose(&values);
    let options = fs::read_to_string(place.path("options")).unwrap_or_default();
    place.remove("odd");
    let line = format!(
        "search --out odd {options} --set dense.weights=dense/dense.safetensors --set '{key}={value}'"
    );
    let mut sent = false;
    let end =
        place.run_with(&format!("ulimit -v 8000000; exec $spvit {line}"), |process, elapsed| {
            if elapsed.as_secs() >= 4 && !sent {
                place.signal(process, "INT");
                sent = true;
            }
        });
    match end.code() {
        Some(130) if sent => Verdict::Passed,
        _ => end.graceful().map_err(|problem| format!("{key}={value}: {problem}")).into(),
    }
}
