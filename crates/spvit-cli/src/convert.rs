//! `spvit convert`: models and architectures between programs.

use std::path::Path;

use spvit_core::TrainBackend;
use spvit_interchange::{
    Input, ReadOptions, Target, read, read_search_result, search_result_shape, write, write_folder,
    write_onnx,
};
use spvit_layers::Family;
use spvit_report::numbers::{flops_text, percent, thousands};
use spvit_search::Architecture;
use spvit_train::{RunFolder, Summary, write_atomically};

use crate::{
    args::{ConvertArguments, Form},
    device::{DeviceName, Work, dispatch},
    failure::Failure,
    model_arguments::ModelArguments,
    output::{say, tell},
};

/// Reads one file and writes the other.
pub fn convert(arguments: &ConvertArguments) -> Result<(), Failure> {
    let ConvertArguments { input, output, .. } = arguments;
    let form = match arguments.form {
        Some(form) => form,
        None => form_of(output)?,
    };
    let onnx = [
        ("--batch", arguments.batch.is_some()),
        ("--half", arguments.half),
        ("--fuse-preprocess", arguments.fuse_preprocess),
    ];
    if let Some((option, _)) = onnx.iter().find(|(_, given)| *given && form != Form::Onnx) {
        return Err(Failure::usage(format!("{option} goes with an OUTPUT of ONNX")));
    }
    if let Some(operations) = &arguments.model.operations {
        if form != Form::Architecture {
            let problem = "a search result with --operations becomes an architecture: name a \
                           .json file to write";
            return Err(Failure::usage(problem));
        }
        let architecture = search_result(input, operations, &arguments.model)?;
        let json = architecture.to_json().map_err(|error| Failure::run(error.to_string()))?;
        write_atomically(output, json.as_bytes())?;
    } else {
        let options = arguments.model.options();
        // Files are converted on a CPU where this program has one.
        let device = arguments.device.unwrap_or(DeviceName::FIRST);
        let notes = dispatch(device, Convert { arguments, form, options })?;
        for note in notes {
            tell(format!("{}: {note}", input.display()));
        }
    }
    say(format!("wrote {}", output.display()))
}

/// The architecture that a search result of the published code describes.
pub fn search_result(
    path: &Path,
    operations: &Path,
    model: &ModelArguments,
) -> Result<Architecture, Failure> {
    let mut shape = search_result_shape(path)?;
    if let (Some(heads), Family::Vit(vit)) = (model.heads, &mut shape.family) {
        vit.heads = heads;
    }
    if let Some(size) = model.image_size {
        shape.set_image_size(size.0);
    }
    if let Some(classes) = model.classes {
        shape.set_classes(classes);
    }
    shape.validate().map_err(|error| Failure::usage(error.to_string()))?;
    Ok(read_search_result(path, operations, &shape)?)
}

fn form_of(output: &Path) -> Result<Form, Failure> {
    match output.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => Ok(Form::Safetensors),
        Some("onnx") => Ok(Form::Onnx),
        Some("json") => Ok(Form::Architecture),
        _ => Err(Failure::usage(format!(
            "{}: expected a name that ends in .safetensors, .onnx or .json, or --form",
            output.display()
        ))),
    }
}

struct Convert<'a> {
    arguments: &'a ConvertArguments,
    form: Form,
    options: ReadOptions,
}

impl Work for Convert<'_> {
    type Output = Vec<String>;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Vec<String>, Failure> {
        let ConvertArguments { input, output, .. } = self.arguments;
        let read = read::<B::InnerBackend>(input, &self.options, 0, &device)?;
        let (model, architecture) = (&read.model, &read.architecture);
        let target = match self.form {
            Form::Safetensors => Target::Safetensors,
            Form::Published => Target::Published,
            Form::Architecture => Target::Architecture,
            Form::Onnx => {
                let form = self.onnx(&read.input)?;
                write_onnx(output, model, architecture, &form)?;
                return Ok(read.notes);
            }
            Form::Hub => {
                write_folder(output, model, architecture, &read.input, &accuracies(input))?;
                return Ok(read.notes);
            }
        };
        write(output, target, model, architecture, &read.input)?;
        Ok(read.notes)
    }
}

impl Convert<'_> {
    fn onnx(&self, input: &Input) -> Result<spvit_interchange::Form, Failure> {
        let ConvertArguments { batch, half, fuse_preprocess, .. } = *self.arguments;
        let bytes = fuse_preprocess.then(|| {
            input.normal().ok_or_else(|| {
                Failure::usage(format!(
                    "--fuse-preprocess: {} does not say how images are normalised (mean, std); convert \
                     a model of a run, or one with its config.json or preprocessor_config.json beside it",
                    self.arguments.input.display()
                ))
            })
        });
        let (bytes, metadata) = (bytes.transpose()?, input.metadata());
        Ok(spvit_interchange::Form { batch, half, bytes, metadata, input: None })
    }
}

/// What the evaluation of a run says of the model, as a table in Markdown; nothing of other files.
fn accuracies(model: &Path) -> String {
    let run = model.parent().and_then(|folder| RunFolder::open(folder).ok());
    let Some(summary) = run.and_then(|run| Summary::read(&run).ok()) else {
        return String::new();
    };
    let rows: String = summary
        .models
        .iter()
        .map(|own| {
            let (accuracy, cost) = (percent(own.accuracy), flops_text(own.flops));
            format!("| {} | {accuracy} | {cost} | {} |\n", own.name, thousands(own.parameters))
        })
        .collect();
    format!(
        "On {} test images of {}:\n\n| model | accuracy | FLOPs | parameters |\n\
         | --- | ---: | ---: | ---: |\n{rows}",
        summary.test_images, summary.data
    )
}
