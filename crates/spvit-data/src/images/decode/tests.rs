//! Every kind of picture against what Pillow makes of it (tests/interop/pictures.py).

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures")
}

fn picture(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

fn expected() -> serde_json::Map<String, Value> {
    let text = fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_array().unwrap().iter().map(|value| value.as_u64().unwrap() as u8).collect()
}

/// The greatest and the mean difference, in grey levels, that a format's rounding allows: libjpeg and libwebp round
/// their transforms otherwise, and stretch subsampled colours otherwise at slopes. Lossless formats have none.
fn tolerance(name: &str) -> (u8, f64) {
    match name {
        "progressive.jpg" | "restarts.jpg" | "subsampled.jpg" => (5, 0.7),
        name if name.ends_with(".jpg") || name == "lossy.webp" => (4, 0.7),
        _ => (0, 0.0),
    }
}

#[test]
fn every_kind_of_picture_is_decoded_as_pillow_does() {
    let mut wrong = Vec::new();
    for (name, expected) in expected() {
        for (channels, key) in [(3, "colour"), (1, "grey")] {
            let pixels = match decode(&picture(&name), channels) {
                Ok(pixels) => pixels,
                Err(problem) => {
                    wrong.push(format!("{name}: {problem}"));
                    continue;
                }
            };
            let size = [&expected["size"][0], &expected["size"][1]]
                .map(|side| side.as_u64().unwrap() as usize);
            assert_eq!(pixels.size(), size, "{name}");
            let expected = bytes(&expected[key]);
            assert_eq!(pixels.bytes().len(), expected.len(), "{name}");
            let pairs = pixels.bytes().iter().zip(&expected);
            let differences: Vec<u8> = pairs.map(|(one, other)| one.abs_diff(*other)).collect();
            let most = differences.iter().copied().max().unwrap();
            let sum: f64 = differences.iter().map(|&found| f64::from(found)).sum();
            let mean = sum / differences.len() as f64;
            let allowed = tolerance(&name);
            if most > allowed.0 || mean > allowed.1 {
                wrong.push(format!("{name} as {key}: differs by {most}, on average by {mean:.2}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_truncated_picture_is_never_taken_for_a_whole_one() {
    for name in [
        "baseline.jpg",
        "subsampled.jpg",
        "progressive.jpg",
        "restarts.jpg",
        "cmyk.jpg",
        "turned_6.jpg",
    ]
    .into_iter()
    .chain([
        "colour.png",
        "palette.png",
        "grey_16.png",
        "lossy.webp",
        "lossless.webp",
        "colour.bmp",
    ]) {
        let whole = picture(name);
        let shortest_tail = match name.rsplit_once('.') {
            // What a PNG or a WebP has after its last pixel says nothing about pixels.
            Some((_, "png")) => 16,
            _ => 1,
        };
        for length in 0..=whole.len() - shortest_tail {
            let outcome = decode(&whole[..length], 3);
            assert!(
                outcome.is_err(),
                "{name} cut to {length} of {} bytes was decoded",
                whole.len()
            );
        }
    }
}

#[test]
fn damage_is_an_error_or_a_picture_and_never_a_panic() {
    for (name, _) in expected() {
        let whole = picture(&name);
        for place in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x55;
            if let Ok(pixels) = decode(&damaged, 3) {
                let [height, width] = pixels.size();
                assert_eq!(pixels.bytes().len(), height * width * 3);
            }
        }
    }
}

#[test]
fn what_is_no_image_is_told_by_its_bytes() {
    assert_eq!(decode(b"", 3).unwrap_err(), "the file is empty");
    let text = decode(b"just some text", 3).unwrap_err();
    assert!(text.contains("found bytes that start with 6a 75 73 74"), "{text}");
    assert!(!is_image(b"<svg xmlns") && is_image(&picture("colour.png")[..16]));
    assert!(decode(&picture("colour.png"), 4).unwrap_err().contains("1 or 3 channels"));
}

#[test]
fn a_bomb_is_refused_before_it_is_allocated() {
    // The width and height of these headers, not of any pixels.
    let mut png = picture("colour.png");
    png[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let checksum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    assert!(decode(&png, 3).is_err());
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xdc, 0, 0, 0xff, 0xdc]);
    let checksum = crc(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    let message = decode(&png, 3).unwrap_err();
    assert!(message.contains("found 65500 x 65500"), "{message}");

    let mut jpeg = picture("baseline.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    let message = decode(&jpeg, 3).unwrap_err();
    assert!(message.contains("found 65500 x 65500"), "{message}");
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0, 1]);
    assert!(decode(&jpeg, 3).is_err());
}

/// PNG's checksum.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
