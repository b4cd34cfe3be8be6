//! JPEG.

use image::metadata::Orientation;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use crate::images::convert::{luma, upright};
use crate::images::decode::{MAX_SIDE, check_size};
use crate::pixels::Pixels;

/// Decodes a JPEG of any colour space to `channels` values a pixel. CMYK and YCCK are taken to be inverted, as
/// Photoshop writes them and Pillow reads them.
pub(crate) fn decode(bytes: &[u8], channels: usize) -> Result<Pixels, String> {
    let damaged = |error: DecodeErrors| format!("damaged JPEG: {error}");
    // Strictly, or what a truncated file lacks would come out grey and be trained on.
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(damaged)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    check_size(width, height)?;
    if !ends(bytes) {
        return Err("truncated JPEG: no end-of-image marker".to_owned());
    }
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    if grey {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    let decoded = decoder.decode().map_err(damaged)?;
    if decoded.len() != width * height * if grey { 1 } else { 3 } {
        let found = decoded.len() / (width * height);
        return Err(format!("expected a JPEG of 1, 3 or 4 components, found {found}"));
    }
    let orientation = decoder
        .exif()
        .and_then(|exif| Orientation::from_exif_chunk(exif))
        .unwrap_or(Orientation::NoTransforms);
    let values = match (channels, grey) {
        (1, true) | (3, false) => decoded,
        (1, false) => luma(&decoded),
        (3, true) => decoded.iter().flat_map(|&value| [value; 3]).collect(),
        _ => return Err(format!("expected a model of 1 or 3 channels, found {channels}")),
    };
    upright(values, [height, width], channels, orientation)
}

/// Whether an end-of-image marker follows the first scan's header. A thumbnail before it has one of its own.
fn ends(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        // Any number of fill bytes may come before a marker.
        if marker == 0xff {
            at += 1;
            continue;
        }
        if marker == START_OF_SCAN {
            return bytes[at..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]);
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    // Bytes between segments, which the decoder has the last word on.
    bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9])
}
