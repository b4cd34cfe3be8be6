//! A model as a folder that transformers.js and optimum read: what becomes of an image, what the classes
//! are called, and the network in float32 and in float16.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::backend::Backend;
use serde_json::{Map, Value, json};
use spvit_formats::onnx::Form;
use spvit_layers::{Family, ModelConfig, Operation, Vit};
use spvit_search::{Architecture, CostTable};

use crate::{Input, InterchangeError, write_onnx};

/// Pillow's numbers of its filters.
const FILTERS: [&str; 6] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"];

/// Writes `config.json`, `preprocessor_config.json`, `onnx/model.onnx`, `onnx/model_fp16.onnx` and
/// `README.md`, whole or not at all. `facts` are lines of Markdown for the latter, such as a table of
/// accuracies.
///
/// # Errors
/// [`InterchangeError`] naming the folder: it is there already, images cannot be described as these
/// programs do it, or the system refuses.
pub fn write_folder<B: Backend>(
    folder: &Path,
    model: &Vit<B>,
    architecture: &Architecture,
    input: &Input,
    facts: &str,
) -> Result<(), InterchangeError> {
    if folder.exists() {
        let problem = "it is there already; name a folder that is not, or remove it";
        return Err(InterchangeError::refused(folder, problem));
    }
    let preprocessor = preprocessor(&architecture.model, input)
        .map_err(|problem| InterchangeError::refused(folder, problem))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let partial = folder.with_file_name(format!(".{name}.spvit-part"));
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |error| InterchangeError::io(&path, error)
    };
    let write = |partial: &PathBuf| {
        let onnx = partial.join("onnx");
        fs::create_dir_all(&onnx).map_err(io(&onnx))?;
        let form = |half| Form {
            half,
            input: Some("pixel_values".into()),
            metadata: input.metadata(),
            ..Form::default()
        };
        write_onnx(&onnx.join("model.onnx"), model, architecture, &form(false))?;
        write_onnx(&onnx.join("model_fp16.onnx"), model, architecture, &form(true))?;
        let texts = [
            ("config.json", pretty(&config(&architecture.model, input))),
            ("preprocessor_config.json", pretty(&preprocessor)),
            ("README.md", card(&name, architecture, input, facts)),
        ];
        texts.iter().try_for_each(|(file, text)| {
            let path = partial.join(file);
            fs::write(&path, text).map_err(io(&path))
        })
    };
    let written = write(&partial).and_then(|()| fs::rename(&partial, folder).map_err(io(folder)));
    if written.is_err() {
        // What is left of it, if the system lets it go.
        let _ = fs::remove_dir_all(&partial);
    }
    written
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn labels(classes: usize, input: &Input) -> Vec<String> {
    match input.class_names.len() == classes {
        true => input.class_names.clone(),
        false => (0..classes).map(|class| format!("LABEL_{class}")).collect(),
    }
}

/// transformers' configuration of the dense model's family: its libraries choose by it how a model is run,
/// and take the classes' names from it. What the network computes is in the ONNX file alone.
fn config(model: &ModelConfig, input: &Input) -> Value {
    let [height, width] = model.image_size();
    let labels = labels(model.classes(), input);
    let by_number: Map<String, Value> =
        labels.iter().enumerate().map(|(i, name)| (i.to_string(), json!(name))).collect();
    let by_name: Map<String, Value> =
        labels.iter().enumerate().map(|(i, name)| (name.clone(), json!(i))).collect();
    let mut config = match &model.family {
        Family::Vit(vit) => json!({
            "model_type": "vit",
            "architectures": ["ViTForImageClassification"],
            "hidden_size": vit.dim,
            "num_hidden_layers": vit.depth,
            "num_attention_heads": vit.heads,
            "intermediate_size": vit.hidden,
            "patch_size": vit.patch_size,
        }),
        Family::Swin(swin) => json!({
            "model_type": "swin",
            "architectures": ["SwinForImageClassification"],
            "embed_dim": swin.dim,
            "depths": swin.depths,
            "num_heads": swin.heads,
            "window_size": swin.window,
            "patch_size": swin.patch_size,
        }),
    };
    config["image_size"] = match height == width {
        true => json!(height),
        false => json!([height, width]),
    };
    config["num_channels"] = json!(model.channels());
    config["id2label"] = Value::Object(by_number);
    config["label2id"] = Value::Object(by_name);
    config
}

/// What becomes of an image, as transformers' configurations say it.
fn preprocessor(model: &ModelConfig, input: &Input) -> Result<Value, String> {
    let [height, width] = model.image_size();
    let size = json!({"height": height, "width": width});
    let (Some(mean), Some(std)) = (&input.mean, &input.std) else {
        return Err("the model's file does not say how images are normalised (mean, std); convert a \
                    model of a run, or one with its config.json or preprocessor_config.json beside it"
            .into());
    };
    let share = input.crop_pct.unwrap_or(1.0);
    let scaled = |side: usize| (side as f64 / share).floor() as usize;
    // What a file does not say is taken as `spvit predict` takes it.
    let (resized, cut) = match input.crop_mode.as_deref().unwrap_or("center") {
        "squash" => (json!({"height": scaled(height), "width": scaled(width)}), share < 1.0),
        "center" if height == width => (json!({"shortest_edge": scaled(height)}), true),
        other => {
            return Err(format!(
                "images of {height}×{width} pixels with crop_mode \"{other}\" cannot be described to \
                 transformers.js and optimum; write .onnx and prepare the images yourself"
            ));
        }
    };
    let filter = input.interpolation.as_deref().unwrap_or("bicubic");
    let filter = FILTERS.iter().position(|name| *name == filter);
    // Pillow's bicubic, where a runtime knows no other.
    let filter = filter.unwrap_or(3);
    let grey = model.channels() == 1;
    Ok(json!({
        // The one of transformers' that resizes by either side, cuts and normalises.
        "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor",
        "do_convert_rgb": !grey,
        "do_convert_grayscale": grey,
        "do_resize": true,
        "size": resized,
        "resample": filter,
        "do_center_crop": cut,
        "crop_size": size,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": mean,
        "image_std": std,
    }))
}

/// A model card.
fn card(name: &str, architecture: &Architecture, input: &Input, facts: &str) -> String {
    let model = &architecture.model;
    let [height, width] = model.image_size();
    let parameters = architecture.cost(&CostTable::parameters(model)).unwrap_or_default();
    let dense = CostTable::parameters(model).dense();
    let million = |count: f64| format!("{:.2} M", count / 1e6);
    let flops = [architecture.flops, architecture.dense_flops].map(|count| million(count as f64));
    let share = 100.0 * architecture.flops as f64 / architecture.dense_flops.max(1) as f64;
    let blocks: String = architecture
        .block_configs()
        .iter()
        .zip(model.blocks())
        .enumerate()
        .map(|(index, (block, shape))| {
            let heads = match block.operation {
                Operation::Msa => block.heads.unwrap_or(shape.heads).to_string(),
                _ => String::new(),
            };
            format!("| {} | {} | {heads} | {} |\n", index + 1, block.operation, block.hidden)
        })
        .collect();
    let facts = match facts.is_empty() {
        true => String::new(),
        false => format!("{facts}\n"),
    };
    let classes = match input.class_names.is_empty() {
        true => format!("{} classes without names", model.classes()),
        false => format!("{} classes: {}", model.classes(), input.class_names.join(", ")),
    };
    format!(
        "---\npipeline_tag: image-classification\nlibrary_name: transformers.js\n\
         tags: [image-classification, vision-transformer, pruned, onnx, spvit]\n---\n\n\
         # {name}\n\n\
         A vision transformer that spvit made smaller: {} FLOPs (multiply-adds counted once; {share:.1} % of \
         the dense model's {}), {} parameters (dense: {}). It takes images of {height}×{width} pixels with \
         {} channels; {classes}.\n\n\
         {facts}\
         | block | operation | heads | FFN width |\n| ---: | --- | ---: | ---: |\n{blocks}\n\
         ## Use\n\n\
         ```js\n\
         import {{ pipeline }} from '@huggingface/transformers';\n\
         const classify = await pipeline('image-classification', 'PATH/OF/THIS/FOLDER');\n\
         console.log(await classify('image.png'));\n\
         ```\n\n\
         `onnx/model.onnx` is in float32, `onnx/model_fp16.onnx` (`dtype: 'fp16'`) has weights and products in \
         float16, norms and softmax in float32. Input `pixel_values` [batch, {}, {height}, {width}], \
         normalised as `preprocessor_config.json` says; output `logits` [batch, {}].\n",
        flops[0],
        flops[1],
        million(parameters),
        million(dense),
        model.channels(),
        model.channels(),
        model.classes(),
    )
}
