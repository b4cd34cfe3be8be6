use serde::Deserialize;

use super::*;
use crate::augment::cases::{cases, difference, image};

#[derive(Deserialize)]
struct Case {
    op: String,
    args: Vec<f64>,
    #[serde(default)]
    sampling: String,
    #[serde(default)]
    fill: Vec<u8>,
    from: usize,
    to: usize,
}

impl Case {
    fn operation(&self) -> Operation {
        let sampling =
            if self.sampling == "bilinear" { Sampling::Bilinear } else { Sampling::Bicubic };
        let value = self.args.first().copied().unwrap_or_default();
        match self.op.as_str() {
            "AutoContrast" => Operation::AutoContrast,
            "Equalize" => Operation::Equalize,
            "Invert" => Operation::Invert,
            "Rotate" => Operation::Rotate(value, sampling),
            "Posterize" => Operation::Posterize(value as u32),
            "Solarize" => Operation::Solarize(value as usize),
            "SolarizeAdd" => Operation::SolarizeAdd(value as usize),
            "Color" => Operation::Color(value),
            "Contrast" => Operation::Contrast(value),
            "Brightness" => Operation::Brightness(value),
            "Sharpness" => Operation::Sharpness(value),
            "ShearX" => Operation::ShearX(value, sampling),
            "ShearY" => Operation::ShearY(value, sampling),
            "TranslateXRel" => Operation::TranslateX(value, sampling),
            "TranslateYRel" => Operation::TranslateY(value, sampling),
            "GaussianBlur" => Operation::GaussianBlur(value),
            other => panic!("a case of an unknown operation, {other}"),
        }
    }
}

#[test]
fn operations_give_every_bit_that_pillow_gives() {
    let mut problems = Vec::new();
    for case in cases::<Case>("operations") {
        let (operation, mut found) = (case.operation(), image(case.from));
        operation.apply(&mut found, &case.fill);
        let (count, largest) = difference(&found, &image(case.to));
        if count > 0 {
            let (size, channels) = (found.size(), found.channels());
            problems.push(format!(
                "{operation:?} of {size:?} x {channels}: {count} values by up to {largest}"
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_bits_are_black() {
    // Pillow now refuses 0 bits, which timm's strongest PosterizeIncreasing asks for. It used to give black.
    let mut found = Pixels::new([1, 3], 1, vec![0, 77, 255]).unwrap();
    Operation::Posterize(0).apply(&mut found, &[0]);
    assert_eq!(found.bytes(), [0, 0, 0]);
}

#[test]
fn the_smallest_images_are_changed_without_a_panic() {
    let sampling = Sampling::Bicubic;
    let all = [
        Operation::AutoContrast,
        Operation::Equalize,
        Operation::Rotate(29.0, sampling),
        Operation::Color(1.9),
        Operation::Contrast(1.9),
        Operation::Sharpness(1.9),
        Operation::ShearX(0.3, sampling),
        Operation::TranslateY(0.45, Sampling::Bilinear),
        Operation::GaussianBlur(2.0),
    ];
    for size in [[1, 1], [1, 5], [5, 2], [3, 3]] {
        for channels in [1, 3] {
            for operation in all {
                let bytes = (0..size[0] * size[1] * channels).map(|at| at as u8 * 5).collect();
                let mut found = Pixels::new(size, channels, bytes).unwrap();
                operation.apply(&mut found, &[1, 2, 3][..channels]);
                assert_eq!(found.size(), size);
            }
        }
    }
}
