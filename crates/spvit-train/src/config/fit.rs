//! Defaults that fit the size of a model and its images.

use spvit_data::{EvalTransform, Interpolation, RandomResizedCrop};
use spvit_interchange::Input;
use spvit_layers::ModelConfig;
use spvit_search::{CostModel, CostTable};
use toml::Value;

use super::{RunConfig, ThresholdStart};

/// Side of an image from which on it is treated as a photograph: cropped at random and changed by the
/// published recipe.
const PHOTOGRAPH: usize = 96;

/// Why a default is not the published code's.
const BETTER: &str = "better than as published (docs/EVIDENCE.md)";

/// Mean and standard deviation of ImageNet's photographs, which most models were trained with.
const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];

/// A default: its dotted key, its value and where it comes from.
pub(super) type Default = (&'static str, Value, String);

/// What the images' preprocessing should be, where nobody says otherwise: what the weights' file says,
/// for photographs of which it says nothing that of ImageNet and timm.
pub(super) fn preprocessing(model: &ModelConfig, input: &Input, files: bool) -> Vec<Default> {
    let (told, usual) = ("as the weights' configuration says", "usual, as nothing says otherwise");
    let mut out = Vec::new();
    let floats = |values: &[f32]| {
        // The shortest decimal that gives the same float32.
        Value::Array(
            values.iter().map(|v| Value::Float(v.to_string().parse().unwrap_or(0.0))).collect(),
        )
    };
    match (&input.mean, &input.std) {
        (Some(mean), Some(std)) if mean.len() == model.channels() && std.len() == mean.len() => {
            out.push(("data.images.mean", floats(mean), told.into()));
            out.push(("data.images.std", floats(std), told.into()));
        }
        _ if files && model.channels() == 3 => {
            let why = format!("ImageNet's, {usual}");
            out.push(("data.images.mean", floats(&IMAGENET[0]), why.clone()));
            out.push(("data.images.std", floats(&IMAGENET[1]), why));
        }
        _ => {}
    }
    if files {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = i64::try_from(threads).unwrap_or(1);
        out.push(("data.threads", Value::Integer(threads), "this machine's".into()));
    }
    if model.image_size().iter().any(|&side| side >= PHOTOGRAPH) {
        let why = "for large images".to_string();
        out.push(("run.evaluation_batch", Value::Integer(32), why));
    }
    if !files && input.crop_pct.is_none() {
        return out;
    }
    let whole = model.image_size().iter().all(|&side| side < PHOTOGRAPH);
    let default = EvalTransform::default();
    let share = input.crop_pct.unwrap_or(if whole { 1.0 } else { default.crop_pct });
    let why = |there: bool| if there { told } else { usual }.to_string();
    let known = ["bilinear", "bicubic", "lanczos"];
    let filter = input.interpolation.as_deref().filter(|name| known.contains(name));
    let modes = ["center", "squash", "border"];
    let mode = input.crop_mode.as_deref().filter(|name| modes.contains(name));
    out.extend([
        ("data.transform.crop_pct", Value::Float(share), why(input.crop_pct.is_some())),
        (
            "data.transform.interpolation",
            Value::String(filter.unwrap_or("bicubic").into()),
            why(filter.is_some()),
        ),
        (
            "data.transform.crop_mode",
            Value::String(mode.unwrap_or("center").into()),
            why(mode.is_some()),
        ),
    ]);
    out
}

/// Whole numbers as TOML has them.
fn whole(value: usize) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// How thresholds begin: by importance, which needs no steps, unless steps are asked for.
pub(super) fn start(own: &toml::Table) -> Default {
    let given = |key: &str| own.get("search").and_then(|search| search.get(key));
    let steps = given("epochs").and_then(Value::as_integer).is_some_and(|epochs| epochs > 0);
    // Whoever names λ wants the term that it weighs.
    match steps || given("lambda").is_some() {
        true => ("search.start", Value::String("constant".into()), "as published".into()),
        false => ("search.start", Value::String("importance".into()), BETTER.into()),
    }
}

/// Batches for so many images.
pub(super) fn batches(images: usize) -> Vec<Default> {
    // A hundred steps an epoch where there are few images; 128 is what most devices hold.
    let batch = (images / 100).clamp(1, 128);
    let batch = if batch < 8 { images.clamp(1, 8) } else { 1 << batch.ilog2() };
    let keys = ["transfer.batch_size", "search.batch_size", "finetune.batch_size"];
    keys.map(|key| (key, whole(batch), format!("for {images} training images"))).to_vec()
}

/// Epochs for the batches that the configuration has.
pub(super) fn epochs(config: &RunConfig, images: usize) -> Vec<Default> {
    let epochs = |batch: usize, wanted: usize, [least, most]: [usize; 2]| {
        whole(wanted.div_ceil(steps(images, batch)).clamp(least, most))
    };
    let why = format!("for {images} training images");
    let RunConfig { transfer, search, finetune, .. } = config;
    vec![
        ("transfer.epochs", epochs(transfer.batch_size, 2_000, [2, 20]), why.clone()),
        (
            "search.epochs",
            match search.start {
                ThresholdStart::Constant => epochs(search.batch_size, 2_000, [2, 15]),
                _ => whole(0),
            },
            why.clone(),
        ),
        ("finetune.epochs", epochs(finetune.batch_size, 4_000, [3, 30]), why),
    ]
}

/// Steps of an epoch.
fn steps(images: usize, batch: usize) -> usize {
    (images / batch.max(1)).max(1)
}

/// Rates for the epochs and batches that the configuration has, and what else training wants.
pub(super) fn rates(config: &RunConfig, images: usize, files: bool) -> Vec<Default> {
    let model = &config.model;
    let side = model.image_size().into_iter().max().unwrap_or(0);
    let photographs = files && side >= PHOTOGRAPH;
    // AdamW's rate for a batch of 128, smaller for wider models.
    let dim = model.embed_dim();
    let rate = |batch: usize| 1e-4 * (384.0 / dim as f64).sqrt() * (batch as f64 / 128.0).sqrt();
    let search = config.search.epochs.max(1) * steps(images, config.search.batch_size);
    // Thresholds start at 1.5 and should cross 0 in the middle of the search.
    let threshold =
        round((2.0 * config.search.threshold_start.abs() / search as f64).clamp(1e-3, 1e-2));
    let taught_by = match config.finetune.teacher.as_os_str().is_empty() {
        true => "the dense model teaches",
        false => "as published",
    };
    let measured = whole(measured_images(config).min(images.max(1)));
    let ordered = Value::Boolean(config.search.start != ThresholdStart::Constant);
    let mut out = vec![
        ("search.start_images", measured.clone(), "for the model's FLOPs".into()),
        ("search.heads", ordered.clone(), BETTER.into()),
        ("search.projected", ordered, "as search.start".into()),
        ("finetune.refit", measured, "for the model's FLOPs".into()),
        (
            "search.threshold_learning_rate",
            Value::Float(threshold),
            format!("for {search} steps of the search"),
        ),
        ("finetune.init", Value::String("dense".into()), "as published".into()),
        ("finetune.distillation", Value::Float(0.5), taught_by.into()),
    ];
    for (peak, least, clip, batch, share) in [
        (
            "transfer.learning_rate",
            "transfer.min_learning_rate",
            "transfer.clip_norm",
            config.transfer.batch_size,
            2.0,
        ),
        (
            "search.learning_rate",
            "search.min_learning_rate",
            "search.clip_norm",
            config.search.batch_size,
            0.5,
        ),
        (
            "finetune.learning_rate",
            "finetune.min_learning_rate",
            "finetune.clip_norm",
            config.finetune.batch_size,
            1.0,
        ),
    ] {
        let sized = format!("for batches of {batch} and {dim} dimensions");
        out.push((peak, Value::Float(round(rate(batch) * share)), sized.clone()));
        out.push((least, Value::Float(round(rate(batch) / 10.0)), sized));
        out.push((clip, Value::Float(1.0), "usual".into()));
    }
    out.push(("augment.horizontal_flip", Value::Boolean(true), "usual".into()));
    out.push(("augment.label_smoothing", Value::Float(0.1), "as published".into()));
    if photographs {
        let crop = RandomResizedCrop::default();
        let scale = crop.scale.map(Value::Float).to_vec();
        let filter = match crop.interpolation {
            Interpolation::Bicubic => "bicubic",
            _ => "random",
        };
        let published = || "as published".to_string();
        // One of the two crops: whoever asks for the other does not want this one.
        if config.augment.pad_crop == 0 {
            out.extend([
                ("augment.random_resized_crop.scale", Value::Array(scale), published()),
                (
                    "augment.random_resized_crop.interpolation",
                    Value::String(filter.into()),
                    published(),
                ),
            ]);
        }
        out.extend([
            ("augment.rand_augment", Value::String("rand-m9-mstd0.5-inc1".into()), published()),
            ("augment.random_erasing", Value::Float(0.25), published()),
            ("augment.random_erasing_mode", Value::String("pixel".into()), published()),
            ("augment.mixup", Value::Float(0.8), published()),
            ("augment.cutmix", Value::Float(1.0), published()),
        ]);
    } else if config.augment.random_resized_crop.is_none() {
        let pad = (side / 14).max(1);
        out.push(("augment.pad_crop", whole(pad), format!("for images of {side} pixels")));
    }
    out
}

/// Images that a start by importance is measured on: as many as some 2e14 multiply-adds allow, an hour
/// of a laptop or a minute of a GPU, for one model cut and fitted for every pair of blocks.
fn measured_images(config: &RunConfig) -> usize {
    let depth = config.model.depth() as f64;
    let flops = CostTable::new(&config.model, CostModel::Macs).dense();
    (2e14 / (depth * (depth + 1.0) / 2.0 * 2.5 * flops)).clamp(64.0, 1024.0) as usize
}

/// Two significant digits.
fn round(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}
