//! `spvit predict`, and `spvit evaluate --weights`: one model on images.

use std::{path::Path, sync::Arc};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;
use spvit_core::TrainBackend;
use spvit_data::{ImageSource, Loader, LoaderOptions, LooseImages};
use spvit_interchange::{Imported, Input, read};
use spvit_report::numbers::percent;
use spvit_train::{
    Given, RunConfig,
    config::{SET, other_order, taken_in_order},
    judge::{Guess, Score, predict as judge, score},
};

use crate::{
    args::{EvaluateArguments, PredictArguments, Split},
    device::{Work, dispatch, dispatch_all},
    failure::Failure,
    folders, interrupt,
    output::{plain, say, tell},
    patience::reading_images,
};

/// Images between two lines of progress.
const SHOWN: usize = 2_000;

/// Classifies images that nobody has labelled.
pub fn predict(arguments: &PredictArguments) -> Result<(), Failure> {
    let settings = arguments.settings.iter().map(|s| (SET.to_string(), s.clone())).collect();
    let given = Given { settings, ..Given::default() };
    interrupt::listen(false)?;
    dispatch(arguments.device, Predict { arguments, given })
}

/// Measures how often any model is right on any images.
pub fn evaluate(arguments: &EvaluateArguments, weights: &Path) -> Result<(), Failure> {
    let run = &arguments.run;
    for (option, given) in [
        ("--budget", !run.values.budget.is_empty()),
        ("--budgets", !run.values.budgets.is_empty()),
        ("--redo", run.redo.is_some()),
        ("--dry-run", run.dry_run),
    ] {
        if given {
            let problem = "belongs to a run; with --weights a model is measured by itself";
            return Err(Failure::usage(format!("{option} {problem}")));
        }
    }
    let given = folders::given(&run.values, None)?;
    interrupt::listen(false)?;
    let (names, score) = dispatch_all(&run.devices(), Evaluate { weights, given, arguments })?;
    match arguments.json {
        true => say(as_json(&names, &score)),
        false => say(as_table(&names, &score).trim_end()),
    }
}

/// What is assumed of how images come to a model whose file does not say it.
fn tell_assumptions(name: &str, input: &Input, given: &Given, config: &RunConfig) {
    let mut assumed = Vec::new();
    let open = |key: &str| !given.says(&format!("data.{key}"));
    if input.mean.is_none() && config.data.images.mean.is_some() && open("images.mean") {
        assumed.push("ImageNet's mean and standard deviation".to_string());
    }
    if let (None, Some(transform)) = (input.crop_pct, &config.data.transform)
        && open("transform.crop_pct")
    {
        assumed.push(format!("the middle {:.1} % of a side", 100.0 * transform.crop_pct));
    }
    if let (Some(asked), Some(transform)) = (&input.interpolation, &config.data.transform) {
        let used = format!("{:?}", transform.interpolation).to_lowercase();
        if *asked != used {
            assumed.push(format!("{used} for {asked}, which spvit does not resize by"));
        }
    }
    if !assumed.is_empty() {
        tell(format!(
            "{name}: how images come to this model is not all said; assumed: {} (say otherwise with a \
             config.json beside it, or --set data.images.mean=[..], data.images.std=[..], \
             data.transform.crop_pct=..)",
            assumed.join(", ")
        ));
    }
}

fn loader(
    images: Arc<dyn ImageSource>,
    config: &RunConfig,
    [mean, std]: [&[f32]; 2],
) -> Result<Loader, Failure> {
    let options = LoaderOptions {
        threads: config.data.threads,
        transform: config.data.transform.clone(),
        ..LoaderOptions::evaluation(config.model.image_size(), config.run.evaluation_batch)
    };
    Loader::new(images, mean, std, options).map_err(|error| Failure::usage(error.to_string()))
}

struct Predict<'a> {
    arguments: &'a PredictArguments,
    given: Given,
}

impl Work for Predict<'_> {
    type Output = ();

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<(), Failure> {
        let Self { arguments, given } = self;
        let name = arguments.file.display().to_string();
        let Imported { model, architecture, input, notes } =
            read::<B::InnerBackend>(&arguments.file, &arguments.model.options(), 0, &device)?;
        notes.iter().for_each(|note| tell(format!("{name}: {note}")));
        let config = given.for_model(&architecture.model, &input, true)?;
        tell_assumptions(&name, &input, &given, &config);
        let stored = (&config.data.images.mean, &config.data.images.std);
        let (Some(mean), Some(std)) = stored else {
            return Err(Failure::usage(format!(
                "{name}: nothing says how its {} channels are normalised; give --set \
                 data.images.mean=[..] and --set data.images.std=[..]",
                config.model.channels()
            )));
        };
        let sources = LooseImages::find(&arguments.images, config.model.channels())
            .map_err(|error| Failure::run(error.to_string()))?;
        let mut broken = 0;
        for source in sources {
            let source = Arc::new(source);
            let everything = spvit_data::BrokenImages::new(1.0)
                .map_err(|error| Failure::run(error.to_string()))?;
            let images = loader(source.clone(), &config, [mean, std])?.sharing(&everything);
            let mut said = Ok(());
            judge(&model, &images, arguments.top, &device, |label, guesses| {
                let path = source.path(usize::from(label)).unwrap_or(Path::new(""));
                let line = match arguments.json {
                    true => guesses_json(path, &guesses, &input.class_names),
                    false => guesses_text(path, &guesses, &input.class_names),
                };
                said = say(line);
                said.is_ok() && !interrupt::requested()
            })
            .map_err(|error| Failure::run(error.to_string()))?;
            said?;
            for note in everything.take_notes() {
                tell(note);
            }
            broken += everything.count();
            if interrupt::requested() {
                return Err(Failure::interrupted());
            }
        }
        match broken {
            0 => Ok(()),
            1 => Err(Failure::run("1 image could not be read")),
            count => Err(Failure::run(format!("{count} images could not be read"))),
        }
    }
}

/// What a class is called.
fn class_name(names: &[String], class: usize) -> String {
    names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
}

fn guesses_text(path: &Path, guesses: &[Guess], names: &[String]) -> String {
    let guess = |guess: &Guess| {
        format!(
            "{} {}",
            plain(class_name(names, guess.class)),
            percent(f64::from(guess.probability))
        )
    };
    let guesses: Vec<String> = guesses.iter().map(guess).collect();
    format!("{}: {}", plain(path.display()), guesses.join(", "))
}

fn guesses_json(path: &Path, guesses: &[Guess], names: &[String]) -> String {
    let guess = |guess: &Guess| {
        json!({
            "class": guess.class,
            "name": class_name(names, guess.class),
            "probability": guess.probability,
        })
    };
    let guesses: Vec<_> = guesses.iter().map(guess).collect();
    json!({ "image": path.display().to_string(), "classes": guesses }).to_string()
}

struct Evaluate<'a> {
    weights: &'a Path,
    given: Given,
    arguments: &'a EvaluateArguments,
}

impl Work for Evaluate<'_> {
    type Output = (Vec<String>, Score);

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Self::Output, Failure> {
        let Self { weights, given, arguments } = self;
        let name = weights.display().to_string();
        let Imported { model, architecture, input, notes } =
            read::<B::InnerBackend>(weights, &given.read, 0, &device)?;
        notes.iter().for_each(|note| tell(format!("{name}: {note}")));
        let shape = &architecture.model;
        let config = given.for_model(shape, &input, false)?;
        tell_assumptions(&name, &input, &given, &config);
        let folder = &config.data.folder;
        let load = |classes: &[String]| {
            let mut options = config.data.options(shape.channels(), None);
            if options.images.classes.is_empty() {
                options.images.classes = classes.to_vec();
            }
            spvit_data::load(folder, &options).map_err(|error| Failure::run(error.to_string()))
        };
        let patience = reading_images();
        let mut data = load(&[])?;
        drop(patience);
        if let Some(order) = other_order(&input.class_names, &data.class_names) {
            data = load(order)?;
        } else if input.class_names != data.class_names {
            tell(taken_in_order(&name, &input.class_names, &data.class_names));
        }
        data.notes.iter().for_each(tell);
        let set = match arguments.split {
            Split::Train => &data.train,
            Split::Validation => &data.validation,
            Split::Test => &data.test,
        };
        for (what, own, images) in [
            ("classes", shape.classes(), set.classes()),
            ("channels", shape.channels(), set.channels()),
        ] {
            if own != images {
                return Err(Failure::usage(format!(
                    "{name} has {own} {what}, and the images in {} have {images}",
                    folder.display()
                )));
            }
        }
        let given = &config.data.images;
        let [mean, std] = [(&given.mean, &data.mean), (&given.std, &data.std)]
            .map(|(given, own)| given.as_ref().unwrap_or(own));
        let images = loader(set.clone(), &config, [mean, std])?.sharing(&data.broken);
        let total = set.len();
        let score = score(&model, &images, &device, |seen| {
            if seen % SHOWN == 0 {
                tell(format!("{seen} of {total} images"));
            }
            !interrupt::requested()
        })
        .map_err(|error| Failure::run(error.to_string()))?;
        data.broken.take_notes().iter().for_each(tell);
        if interrupt::requested() {
            return Err(Failure::interrupted());
        }
        let names = if data.class_names.is_empty() { input.class_names } else { data.class_names };
        Ok((names, score))
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn as_table(names: &[String], score: &Score) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["class", "images", "right"]);
    for (class, &[images, right]) in score.by_class.iter().enumerate() {
        let rate = if images == 0 { "-".into() } else { percent(share(right, images)) };
        table.add_row([plain(class_name(names, class)), images.to_string(), rate]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{table}\ntop-1 {}, top-5 {}, of {} images\n",
        percent(share(score.top1, score.images)),
        percent(share(score.top5, score.images)),
        score.images
    )
}

fn as_json(names: &[String], score: &Score) -> String {
    let class = |(class, &[images, right]): (usize, &[usize; 2])| json!({ "name": class_name(names, class), "images": images, "right": right });
    let by_class: Vec<_> = score.by_class.iter().enumerate().map(class).collect();
    json!({
        "images": score.images,
        "top1": share(score.top1, score.images),
        "top5": share(score.top5, score.images),
        "by_class": by_class,
    })
    .to_string()
}
