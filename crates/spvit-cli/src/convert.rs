//! `spvit convert`: models and architectures between programs.

use std::path::Path;

use spvit_core::TrainBackend;
use spvit_interchange::{
    ReadOptions, Target, read, read_search_result, search_result_shape, write,
};
use spvit_layers::Family;
use spvit_search::Architecture;
use spvit_train::write_atomically;

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
        let notes = dispatch(device, Convert { input, output, form, options })?;
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
    input: &'a Path,
    output: &'a Path,
    form: Form,
    options: ReadOptions,
}

impl Work for Convert<'_> {
    type Output = Vec<String>;

    fn on<B: TrainBackend>(self, device: B::Device) -> Result<Vec<String>, Failure> {
        let model = read::<B::InnerBackend>(self.input, &self.options, 0, &device)?;
        let target = match self.form {
            Form::Safetensors => Target::Safetensors,
            Form::Published => Target::Published,
            Form::Onnx => Target::Onnx,
            Form::Architecture => Target::Architecture,
        };
        write(self.output, target, &model.model, &model.architecture)?;
        Ok(model.notes)
    }
}
