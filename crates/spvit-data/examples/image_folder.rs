//! Writes a data set that spvit reads as a folder of images, to try spvit on image files:
//!
//!     cargo run --release --example image_folder -- data/fashion-mnist-mini /tmp/pictures
//!
//! gives `train/LABEL/*.png`, `val/` and `test/` alike, and `class_names.txt`. Every tenth image is WebP, and one
//! of the training images is broken: it ends in the middle.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use image::{ExtendedColorType, ImageFormat, save_buffer_with_format};
use spvit_data::{DatasetOptions, ImageSource, load};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(source), Some(target)) = (arguments.next(), arguments.next()) else {
        return Err("expected the data set's folder and the folder to write".into());
    };
    let data = load(&source, &DatasetOptions::new(1000))?;
    let splits = [("train", &data.train), ("val", &data.validation), ("test", &data.test)];
    for (name, set) in splits {
        write(&**set, &target.join(name))?;
        println!("{name}: {} images", set.len());
    }
    let whole = fs::read(first_file(&target.join("train"))?)?;
    let names = data.class_names.iter().enumerate();
    let names: Vec<String> =
        names.map(|(label, name)| format!("{} {name}\n", folder(label))).collect();
    fs::write(target.join("class_names.txt"), names.concat())?;
    let broken = target.join("train").join(folder(0)).join("broken.png");
    fs::write(&broken, &whole[..whole.len() / 2])?;
    println!("broken: {}", broken.display());
    Ok(())
}

/// A class's folder, whose name sorts as its label does.
fn folder(label: usize) -> String {
    format!("{label:05}")
}

fn first_file(split: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let files = fs::read_dir(split)?.flatten().flat_map(|class| fs::read_dir(class.path()));
    let mut files: Vec<PathBuf> = files.flatten().flatten().map(|file| file.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "png"));
    files.sort();
    files.into_iter().next().ok_or_else(|| "no image was written".into())
}

fn write(set: &dyn ImageSource, split: &Path) -> Result<(), Box<dyn Error>> {
    for label in 0..set.classes() {
        fs::create_dir_all(split.join(folder(label)))?;
    }
    for index in 0..set.len() {
        let pixels = set.decode(index)?;
        let [height, width] = pixels.size().map(|side| side as u32);
        let label = usize::from(set.label(index).unwrap_or_default());
        let (ending, format) = match index % 10 {
            9 => ("webp", ImageFormat::WebP),
            _ => ("png", ImageFormat::Png),
        };
        // WebP knows no grey.
        let (bytes, color) = match (pixels.channels(), format) {
            (1, ImageFormat::WebP) => {
                let bytes = pixels.bytes().iter().flat_map(|&value| [value; 3]).collect();
                (bytes, ExtendedColorType::Rgb8)
            }
            (1, _) => (pixels.into_bytes(), ExtendedColorType::L8),
            _ => (pixels.into_bytes(), ExtendedColorType::Rgb8),
        };
        let path = split.join(folder(label)).join(format!("{index:05}.{ending}"));
        save_buffer_with_format(path, &bytes, width, height, color, format)?;
    }
    Ok(())
}
