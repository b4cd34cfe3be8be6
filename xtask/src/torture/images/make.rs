//! A small set of images in three forms, made of the bundled ones.

use std::{fs, path::Path};

use image::{ExtendedColorType, ImageFormat, write_buffer_with_format};
use spvit_data::{DatasetOptions, ImageSource, load};

use super::{super::place::Place, archives::Tar};
use crate::shell::Failure;

/// Splits, and how many images each class has there.
const SPLITS: [(&str, usize); 3] = [("train", 10), ("val", 2), ("test", 2)];
/// Pictures of the tests, which are no bundled images: other kinds of files.
const OTHERS: &str = "crates/spvit-data/tests/pictures";

/// Writes `pictures/SPLIT/CLASS/`, `listed/list.csv` and `shards/SPLIT-0.tar` with the same images.
pub fn make(place: &Place) -> Result<(), Failure> {
    write(place).map_err(|error| Failure::new(format!("images for the broken ones: {error}")))
}

fn write(place: &Place) -> Result<(), Box<dyn std::error::Error>> {
    let data = load(Path::new("data/fashion-mnist-mini"), &DatasetOptions::new(200))?;
    fs::create_dir_all(place.path("listed"))?;
    fs::create_dir_all(place.path("shards"))?;
    let mut list = String::from("path,label,split\n");
    for ((split, count), set) in SPLITS.into_iter().zip([&data.train, &data.validation, &data.test])
    {
        let mut tar = Tar::default();
        for (class, number, name, content) in first_of_each(&**set, count)? {
            let folder = place.path("pictures").join(split).join(format!("{class:02}"));
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(&name), &content)?;
            list += &format!("../pictures/{split}/{class:02}/{name},{class},{split}\n");
            let ending = name.rsplit('.').next().unwrap_or_default();
            tar.file(&format!("{class:02}-{number}.{ending}"), &content);
            tar.file(&format!("{class:02}-{number}.cls"), class.to_string().as_bytes());
        }
        fs::write(place.path("shards").join(format!("{split}-0.tar")), tar.end())?;
    }
    fs::write(place.path("listed/list.csv"), list)?;
    Ok(())
}

type File = (usize, usize, String, Vec<u8>);

/// The first images of every class as files, class by class.
fn first_of_each(
    set: &dyn ImageSource,
    count: usize,
) -> Result<Vec<File>, Box<dyn std::error::Error>> {
    let mut files: Vec<File> = Vec::new();
    for index in 0..set.len() {
        let class = usize::from(set.label(index).unwrap_or_default());
        let number = files.iter().filter(|file| file.0 == class).count();
        if number == count {
            continue;
        }
        let (ending, content) = match number {
            3 => ("jpg", fs::read(Path::new(OTHERS).join("baseline.jpg"))?),
            5 => ("jpeg", fs::read(Path::new(OTHERS).join("progressive.jpg"))?),
            4 => ("webp", encoded(set, index, ImageFormat::WebP)?),
            6 => ("gif", encoded(set, index, ImageFormat::Gif)?),
            7 => ("bmp", encoded(set, index, ImageFormat::Bmp)?),
            _ => ("png", encoded(set, index, ImageFormat::Png)?),
        };
        files.push((class, number, format!("{number:02}.{ending}"), content));
    }
    files.sort();
    Ok(files)
}

/// An image in colours, which all of these kinds know.
fn encoded(
    set: &dyn ImageSource,
    index: usize,
    format: ImageFormat,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let pixels = set.decode(index)?;
    let [height, width] = pixels.size().map(|side| side as u32);
    let colours: Vec<u8> = pixels.bytes().iter().flat_map(|&value| [value; 3]).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    write_buffer_with_format(&mut file, &colours, width, height, ExtendedColorType::Rgb8, format)?;
    Ok(file.into_inner())
}
