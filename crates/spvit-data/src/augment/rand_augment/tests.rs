use serde::Deserialize;

use super::kind::{INCREASING, PLAIN, THREE};
use super::*;
use crate::augment::cases::cases;
use crate::rng::Purpose;

#[derive(Deserialize)]
struct Level {
    name: String,
    level: f64,
    plus: f64,
    minus: f64,
}

/// The one number of an operation.
fn argument(operation: Operation) -> f64 {
    match operation {
        Operation::Posterize(bits) => f64::from(bits),
        Operation::Solarize(value) | Operation::SolarizeAdd(value) => value as f64,
        // timm's desaturation is what is taken away from a factor of 1.
        Operation::Rotate(value, _)
        | Operation::Color(value)
        | Operation::Contrast(value)
        | Operation::Brightness(value)
        | Operation::Sharpness(value)
        | Operation::ShearX(value, _)
        | Operation::ShearY(value, _)
        | Operation::TranslateX(value, _)
        | Operation::TranslateY(value, _)
        | Operation::GaussianBlur(value) => value,
        Operation::AutoContrast | Operation::Equalize | Operation::Invert => f64::NAN,
    }
}

#[test]
fn magnitudes_mean_what_they_mean_in_timm() {
    let all: Vec<Kind> = [&PLAIN[..], &INCREASING, &THREE].concat();
    for Level { name, level, plus, minus } in cases("levels") {
        let kind = all.iter().find(|kind| format!("{kind:?}") == name).unwrap();
        for (sign, expected) in [(1.0, plus), (-1.0, minus)] {
            let found = argument(kind.at(level, || sign, Sampling::Bicubic));
            let expected = match name.as_str() {
                "Desaturate" => (1.0 - expected).clamp(0.0, 1.0),
                // timm asks Pillow for −1 bits beyond the magnitude of 10.
                "PosterizeIncreasing" => expected.max(0.0),
                _ => expected,
            };
            assert_eq!(found, expected, "{name} at {level}, sign {sign}");
        }
    }
}

#[derive(Deserialize)]
struct Text {
    text: String,
    m: f64,
    n: usize,
    p: f64,
    mstd: f64,
    mmax: f64,
    ops: Vec<String>,
    weights: Option<Vec<f64>>,
}

#[test]
fn strings_are_read_as_timm_reads_them() {
    for case in cases::<Text>("strings") {
        let found = RandAugment::parse(&case.text).unwrap().unwrap();
        let spread = match case.mstd {
            -1.0 => Spread::Uniform,
            deviation => Spread::Normal(deviation),
        };
        assert_eq!((found.magnitude, found.spread), (case.m, spread), "{}", case.text);
        assert_eq!((found.layers, found.largest), (case.n, case.mmax), "{}", case.text);
        assert_eq!(found.probability, case.p, "{}", case.text);
        let (kinds, weights): (Vec<Kind>, Option<Vec<f64>>) = match found.choices {
            Choices::Equal(kinds) => (kinds.to_vec(), None),
            Choices::Weighted(weights) => {
                let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
                let (kinds, weights): (_, Vec<f64>) = weights.iter().copied().unzip();
                (kinds, Some(weights.into_iter().map(|weight| weight / total).collect()))
            }
        };
        let names: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
        assert_eq!(names, case.ops, "{}", case.text);
        let close = match (&weights, &case.weights) {
            (Some(found), Some(expected)) => {
                found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12)
            }
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(close, "{}: {weights:?}", case.text);
    }
}

#[test]
fn what_timm_would_not_take_is_refused() {
    assert_eq!(RandAugment::parse("").unwrap(), None);
    for (text, expected) in [
        ("randaug", "\"\" for off"),
        ("augmix-m3", "\"\" for off"),
        ("rand-m", "m and a whole number"),
        ("rand-m9.5", "m and a whole number"),
        ("rand-x3", "m, mstd, mmax, n, p or inc"),
        ("rand--m9", "m, mstd, mmax, n, p or inc"),
        ("rand-p2", "p and a number from 0 to 1"),
        ("rand-inc2", "inc0 or inc1"),
        ("rand-n99999999", "n and a whole number"),
        ("rand-mstdnan", "mstd"),
        ("rand-t4a", "t3a, t3aw or tweights"),
        ("rand-tweights-n16", "at most 15 layers"),
    ] {
        let error = RandAugment::parse(text).unwrap_err().to_string();
        assert!(error.starts_with("rand_augment: expected"), "{error}");
        assert!(error.contains(expected) && error.contains(text), "{error}");
    }
}

fn draws(text: &str, count: u64) -> Vec<Vec<Operation>> {
    let augment = RandAugment::parse(text).unwrap().unwrap();
    let stream = |index| Stream::new(6, Purpose::Image, 0, index);
    (0..count).map(|index| augment.draw(Interpolation::Random, &mut stream(index))).collect()
}

#[test]
fn draws_follow_the_string() {
    let all = draws("rand-m9-mstd0.5-inc1", 4000);
    let counts = [0, 1, 2].map(|count| all.iter().filter(|draw| draw.len() == count).count());
    // Two layers, each applied to half of the images.
    assert!((900..1100).contains(&counts[0]) && (1850..2150).contains(&counts[1]), "{counts:?}");
    let degrees: Vec<f64> = all
        .iter()
        .flatten()
        .filter_map(|operation| match operation {
            Operation::Rotate(degrees, _) => Some(*degrees),
            _ => None,
        })
        .collect();
    // 27 degrees at a magnitude of 9, with a deviation of 1.5, one way or the other; 30 at most.
    let share = degrees.len() as f64 / all.iter().flatten().count() as f64;
    assert!((share - 1.0 / 15.0).abs() < 0.02, "{share} of all are rotations");
    assert!(degrees.iter().all(|degrees| (19.0..=30.0).contains(&degrees.abs())), "{degrees:?}");
    let left = degrees.iter().filter(|&&degrees| degrees > 0.0).count();
    assert!((degrees.len() / 3..degrees.len() * 2 / 3).contains(&left), "{left} to the left");
    let samplings = all.iter().flatten().filter_map(|operation| match operation {
        Operation::ShearX(_, sampling) => Some(*sampling == Sampling::Bicubic),
        _ => None,
    });
    let (bicubic, bilinear): (Vec<bool>, Vec<bool>) = samplings.partition(|&bicubic| bicubic);
    assert!(bicubic.len() > 80 && bilinear.len() > 80);
    assert!(draws("rand-p1-n3", 50).iter().all(|draw| draw.len() == 3));
}

#[test]
fn weighted_draws_take_no_operation_twice() {
    let mut solarized = 0;
    for draw in draws("rand-t3aw-n3-p1", 2000) {
        let names: Vec<String> = draw
            .iter()
            .map(|operation| format!("{operation:?}").split('(').next().unwrap().to_owned())
            .collect();
        solarized += names.iter().filter(|name| *name == "Solarize").count();
        // Color comes as itself and as desaturation.
        for name in names.iter().filter(|name| *name != "Color") {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{names:?}");
        }
    }
    // 6 of 31 for one draw, about half for three.
    assert!((800..1150).contains(&solarized), "{solarized}");
}
