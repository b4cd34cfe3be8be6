//! From what decoders give to a model's channels.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};

use crate::pixels::Pixels;

/// A decoded image as `channels` bytes a pixel, turned upright.
pub(crate) fn to_pixels(
    image: DynamicImage,
    channels: usize,
    orientation: Orientation,
) -> Result<Pixels, String> {
    let (width, height) = (image.width(), image.height());
    let size = [height as usize, width as usize];
    let bytes = match (channels, is_grey(&image)) {
        (1, true) => grey(image)?,
        (1, false) => luma(&colours(image)?),
        (3, true) => grey(image)?.iter().flat_map(|&value| [value; 3]).collect(),
        (3, false) => colours(image)?,
        _ => return Err(format!("expected a model of 1 or 3 channels, found {channels}")),
    };
    upright(bytes, size, channels, orientation)
}

/// Turns an image as its EXIF orientation says.
pub(crate) fn upright(
    bytes: Vec<u8>,
    [height, width]: [usize; 2],
    channels: usize,
    orientation: Orientation,
) -> Result<Pixels, String> {
    let (size, bytes) = if orientation == Orientation::NoTransforms {
        ([height, width], bytes)
    } else {
        let wrong = || "the decoder gave another number of pixels than it said".to_owned();
        let (w, h) = (width as u32, height as u32);
        let mut image = match channels {
            1 => DynamicImage::ImageLuma8(GrayImage::from_raw(w, h, bytes).ok_or_else(wrong)?),
            _ => DynamicImage::ImageRgb8(RgbImage::from_raw(w, h, bytes).ok_or_else(wrong)?),
        };
        image.apply_orientation(orientation);
        ([image.height() as usize, image.width() as usize], image.into_bytes())
    };
    Pixels::new(size, channels, bytes).map_err(|error| error.to_string())
}

/// Red, green and blue as Pillow's `convert("L")` weighs them.
pub(crate) fn luma(colours: &[u8]) -> Vec<u8> {
    let luma = |rgb: &[u8; 3]| {
        let [red, green, blue] = rgb.map(u32::from);
        ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
    };
    let (pixels, _) = colours.as_chunks::<3>();
    pixels.iter().map(luma).collect()
}

fn is_grey(image: &DynamicImage) -> bool {
    use DynamicImage::{ImageLuma8, ImageLuma16, ImageLumaA8, ImageLumaA16};
    matches!(image, ImageLuma8(_) | ImageLuma16(_) | ImageLumaA8(_) | ImageLumaA16(_))
}

fn grey(image: DynamicImage) -> Result<Vec<u8>, String> {
    Ok(match image {
        DynamicImage::ImageLuma8(image) => image.into_raw(),
        DynamicImage::ImageLumaA8(image) => first_of::<2, 1>(&image),
        DynamicImage::ImageLuma16(image) => upper(&image),
        DynamicImage::ImageLumaA16(image) => first_of::<2, 1>(&upper(&image)),
        other => return Err(unforeseen(&other)),
    })
}

fn colours(image: DynamicImage) -> Result<Vec<u8>, String> {
    Ok(match image {
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageRgba8(image) => first_of::<4, 3>(&image),
        DynamicImage::ImageRgb16(image) => upper(&image),
        DynamicImage::ImageRgba16(image) => first_of::<4, 3>(&upper(&image)),
        other => return Err(unforeseen(&other)),
    })
}

fn unforeseen(image: &DynamicImage) -> String {
    format!("expected values of 8 or 16 bits, found {:?}", image.color())
}

/// The upper 8 of 16 bits.
fn upper(values: &[u16]) -> Vec<u8> {
    values.iter().map(|value| (value >> 8) as u8).collect()
}

/// The first `KEPT` of every `ALL` values.
fn first_of<const ALL: usize, const KEPT: usize>(values: &[u8]) -> Vec<u8> {
    let (pixels, _) = values.as_chunks::<ALL>();
    pixels.iter().flat_map(|pixel| pixel.iter().copied().take(KEPT)).collect()
}
