//! The study as people meet it: a dense model of some classes, transferred to others, and only then cut.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

use super::cells::setting;
use crate::shell::{Failure, fail, run, spvit};

/// Where all of it is made.
pub const SCRATCH: &str = "runs/study-transfer";
/// Classes below this one are those that the dense model is pretrained on.
const HALF: u8 = 5;
/// Training images of the other half.
pub const IMAGES: u64 = 30_000;
/// Epochs of the pretraining, on half as many images as the bundled model's.
const EPOCHS: i64 = 40;

/// The configuration of the cells: that of the whole data, on the second half's images, from the
/// transferred model.
pub fn configuration(whole: &str) -> Result<String, Failure> {
    let fail =
        |error: &dyn std::fmt::Display| Failure::new(format!("the study's configuration: {error}"));
    let mut table: toml::Table = whole.parse().map_err(|error| fail(&error))?;
    let own = |name: &str| format!("{SCRATCH}/{name}");
    for (section, name, value) in [
        ("model", "classes", toml::Value::Integer(HALF.into())),
        ("data", "folder", own("second").into()),
        ("dense", "weights", own("dense.safetensors").into()),
        ("pretrain", "epochs", toml::Value::Integer(EPOCHS)),
        ("pretrain", "warmup_epochs", toml::Value::Float(EPOCHS as f64 / 12.0)),
    ] {
        match table.get_mut(section).and_then(toml::Value::as_table_mut) {
            Some(section) => section.insert(name.into(), value),
            None => return Err(fail(&format!("[{section}] is not there"))),
        };
    }
    toml::to_string(&table).map_err(|error| fail(&error))
}

/// Makes the images of both halves, the model of the first, and from it that of the second.
pub fn prepare(whole: &str, config_file: &Path) -> Result<(), Failure> {
    let root = Path::new(SCRATCH);
    let dense = root.join("dense.safetensors");
    if dense.exists() {
        return Ok(());
    }
    let from = setting(whole, "data.folder")?;
    for (name, keeps) in [("first", |label| label < HALF), ("second", |label| label >= HALF)]
        as [(&str, fn(u8) -> bool); 2]
    {
        split(Path::new(&from), &root.join(name), keeps)?;
    }
    let pretrained = root.join("pretrained");
    let to_begin =
        |program: &mut std::process::Command, folder: &Path, settings: &[String]| match folder
            .join("config.toml")
            .exists()
        {
            true => {
                program.arg("--resume").arg(folder);
            }
            false => {
                program.arg("--config").arg(config_file).arg("--out").arg(folder);
                settings.iter().for_each(|setting| {
                    program.args(["--set", setting]);
                });
            }
        };
    let first = pretrained.join("dense.safetensors");
    if !first.exists() {
        let settings = [format!("data.folder={SCRATCH}/first"), "dense.weights=".into()];
        let mut program = spvit();
        to_begin(program.arg("pretrain"), &pretrained, &settings);
        run(&mut program)?;
    }
    // The whole model, trained for an epoch besides, in a run that begins with the transfer.
    let transferred = root.join("transferred");
    let mut settings = vec![format!("dense.weights={}", first.display())];
    let more =
        ["dense.transfer=true", "search.budget=1", "search.start=uniform", "search.heads=false"];
    settings.extend(more.map(String::from));
    settings.extend(["finetune.refit=0", "finetune.epochs=1"].map(String::from));
    let mut program = spvit();
    to_begin(program.arg("run"), &transferred, &settings);
    run(&mut program)?;
    let from = transferred.join("transferred.safetensors");
    fs::copy(&from, &dense).map(|_| ()).map_err(|error| fail(&from, &error))
}

/// Copies IDX files without the images whose label is not kept, the first label kept becoming 0.
fn split(from: &Path, to: &Path, keeps: fn(u8) -> bool) -> Result<(), Failure> {
    fs::create_dir_all(to).map_err(|error| fail(to, &error))?;
    for part in ["train", "t10k"] {
        let [images, labels] =
            ["images-idx3", "labels-idx1"].map(|kind| format!("{part}-{kind}-ubyte.gz"));
        let (pixels, classes) = (read(&from.join(&images))?, read(&from.join(&labels))?);
        let (Some((head, pixels)), Some((_, classes))) =
            (pixels.split_at_checked(16), classes.split_at_checked(8))
        else {
            return Err(fail(from, &format!("{images} and {labels} are no IDX files")));
        };
        let size = pixels.len() / classes.len().max(1);
        let kept: Vec<usize> = (0..classes.len()).filter(|&i| keeps(classes[i])).collect();
        let first = kept.iter().map(|&i| classes[i]).min().unwrap_or_default();
        let count = (kept.len() as u32).to_be_bytes();
        let chosen = kept.iter().flat_map(|&i| &pixels[i * size..(i + 1) * size]).copied();
        let pixels = [&head[..4], &count, &head[8..]].concat().into_iter().chain(chosen).collect();
        let classes = kept.iter().map(|&i| classes[i] - first);
        let classes = [0, 0, 8, 1].into_iter().chain(count).chain(classes).collect();
        write(&to.join(images), pixels)?;
        write(&to.join(labels), classes)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| fail(path, &error))?;
    GzDecoder::new(file).read_to_end(&mut bytes).map_err(|error| fail(path, &error))?;
    Ok(bytes)
}

fn write(path: &Path, bytes: Vec<u8>) -> Result<(), Failure> {
    let file = fs::File::create(path).map_err(|error| fail(path, &error))?;
    let mut packed = GzEncoder::new(file, Compression::fast());
    packed
        .write_all(&bytes)
        .and_then(|()| packed.finish().map(|_| ()))
        .map_err(|error| fail(path, &error))
}
