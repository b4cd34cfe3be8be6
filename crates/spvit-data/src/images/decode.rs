//! From a file's bytes to pixels.

use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::error::DataError;
use crate::images::convert;
use crate::images::jpeg;
use crate::pixels::Pixels;

/// The longest side of an image: JPEG's own limit.
pub(crate) const MAX_SIDE: usize = 65_500;
/// The largest image. One of 11,000 x 11,000 pixels takes 400 MB as colours, and nothing larger is a photograph that
/// anyone would train on.
pub(crate) const MAX_PIXELS: usize = 1 << 27;

/// Reads and decodes one image file (JPEG, PNG, WebP, GIF or BMP, as its bytes tell) to `channels` values a pixel, 1 for
/// grey or 3 for red, green, blue, turned upright.
///
/// # Errors
///
/// [`DataError::Io`] where it cannot be read, [`DataError::Image`] where it cannot be decoded.
pub fn read_image(file: &Path, channels: usize) -> Result<Pixels, DataError> {
    let bytes = fs::read(file).map_err(|cause| DataError::io("read", file, cause))?;
    decode(&bytes, channels)
        .map_err(|problem| DataError::Image { name: file.display().to_string(), problem })
}

/// Whether a file that starts with these bytes (16 are enough) is an image of a kind that [`decode`] reads.
pub(crate) fn is_image(start: &[u8]) -> bool {
    format(start).is_some()
}

fn format(start: &[u8]) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    image::guess_format(start).ok().filter(|format| matches!(format, Bmp | Gif | Jpeg | Png | WebP))
}

/// Decodes a JPEG, PNG, WebP, GIF (its first frame) or BMP, as its bytes tell and not its name, to `channels` values a
/// pixel: 1 for grey, 3 for red, green, blue.
///
/// Transparency is dropped and 16 bits become the upper 8, as Pillow does. The image is turned as its EXIF orientation
/// says.
///
/// # Errors
///
/// A sentence's end that says what is wrong with the bytes.
pub(crate) fn decode(bytes: &[u8], channels: usize) -> Result<Pixels, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    let Some(format) = format(bytes) else {
        let start: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        return Err(format!(
            "expected a JPEG, PNG, WebP, GIF or BMP image, found bytes that start with {}",
            start.join(" ")
        ));
    };
    // A fault of a decoder on bytes that nobody foresaw must cost one image, not the run.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, channels),
        _ => other(bytes, format, channels),
    }));
    decoded.unwrap_or_else(|_| Err(format!("the {} decoder gave up", name(format))))
}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        _ => "BMP",
    }
}

fn other(bytes: &[u8], format: ImageFormat, channels: usize) -> Result<Pixels, String> {
    let damaged = |error: image::ImageError| format!("damaged {}: {error}", name(format));
    if format == ImageFormat::WebP && is_cut_short(bytes) {
        return Err("truncated WebP: shorter than it says".to_owned());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    // Eight bytes a pixel are 16 bits of four channels.
    limits.max_alloc = Some(8 * MAX_PIXELS as u64);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    convert::to_pixels(image, channels, orientation)
}

/// Whether a RIFF file lacks some of the bytes that its header counts: the decoder fills up what it can do without.
fn is_cut_short(bytes: &[u8]) -> bool {
    let length = bytes.get(4..8).and_then(|length| <[u8; 4]>::try_from(length).ok());
    length.is_none_or(|length| u64::from(u32::from_le_bytes(length)) + 8 > bytes.len() as u64)
}

/// Refuses what would be dear to allocate, before it is.
pub(crate) fn check_size(width: usize, height: usize) -> Result<(), String> {
    let fits =
        width <= MAX_SIDE && height <= MAX_SIDE && width.saturating_mul(height) <= MAX_PIXELS;
    if width == 0 || height == 0 || !fits {
        return Err(format!(
            "expected sides of 1 to {MAX_SIDE} pixels and at most {MAX_PIXELS} pixels, found {width} x {height}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
