//! What RandAugment and colour jitter do to an image: Pillow's operations, with given arguments.

mod affine;
mod blur;
mod neighbours;
mod table;

#[cfg(test)]
mod tests;

use crate::pixels::Pixels;

/// How a moved image is read between its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampling {
    Bilinear,
    Bicubic,
}

/// One operation with its argument.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operation {
    /// Stretches each channel to 0..255.
    AutoContrast,
    /// Flattens each channel's histogram.
    Equalize,
    Invert,
    /// Degrees, counter-clockwise.
    Rotate(f64, Sampling),
    /// Bits to keep, 0 to 8.
    Posterize(u32),
    /// The lowest value that is inverted, 0 to 256.
    Solarize(usize),
    /// What is added to values below 128.
    SolarizeAdd(usize),
    /// 0 for grey, 1 for no change, above 1 for more.
    Color(f64),
    /// 0 for one grey, 1 for no change.
    Contrast(f64),
    /// 0 for black, 1 for no change.
    Brightness(f64),
    /// 0 for smoothed, 1 for no change.
    Sharpness(f64),
    /// Columns to the left per row downwards.
    ShearX(f64, Sampling),
    /// Rows upwards per column to the right.
    ShearY(f64, Sampling),
    /// Share of the width, to the left.
    TranslateX(f64, Sampling),
    /// Share of the height, upwards.
    TranslateY(f64, Sampling),
    /// Standard deviation in pixels.
    GaussianBlur(f64),
}

impl Operation {
    /// Changes an image of 1 or 3 channels. `fill` is the colour, of as many channels, that comes in from outside.
    pub(crate) fn apply(&self, image: &mut Pixels, fill: &[u8]) {
        let (channels, [height, width]) = (image.channels(), image.size());
        let tables = match *self {
            Self::AutoContrast => table::auto_contrast(image.bytes(), channels),
            Self::Equalize => table::equalize(image.bytes(), channels),
            Self::Invert => vec![table::invert()],
            Self::Posterize(bits) => vec![table::posterize(bits)],
            Self::Solarize(threshold) => vec![table::solarize(threshold)],
            Self::SolarizeAdd(amount) => vec![table::solarize_add(amount)],
            Self::Contrast(factor) => {
                vec![table::contrast(image.bytes(), channels, factor as f32)]
            }
            Self::Brightness(factor) => vec![table::brightness(factor as f32)],
            Self::Color(factor) => return neighbours::color(image, factor as f32),
            Self::Sharpness(factor) => return neighbours::sharpness(image, factor as f32),
            Self::GaussianBlur(sigma) => return blur::gaussian(image, sigma),
            Self::Rotate(degrees, sampling) => {
                return move_by(image, affine::rotation(degrees, [height, width]), sampling, fill);
            }
            Self::ShearX(factor, sampling) => {
                return move_by(image, [1.0, factor, 0.0, 0.0, 1.0, 0.0], sampling, fill);
            }
            Self::ShearY(factor, sampling) => {
                return move_by(image, [1.0, 0.0, 0.0, factor, 1.0, 0.0], sampling, fill);
            }
            Self::TranslateX(share, sampling) => {
                let by = share * width as f64;
                return move_by(image, [1.0, 0.0, by, 0.0, 1.0, 0.0], sampling, fill);
            }
            Self::TranslateY(share, sampling) => {
                let by = share * height as f64;
                return move_by(image, [1.0, 0.0, 0.0, 0.0, 1.0, by], sampling, fill);
            }
        };
        table::replace(image.bytes_mut(), &tables);
    }
}

fn move_by(image: &mut Pixels, matrix: affine::Matrix, sampling: Sampling, fill: &[u8]) {
    let moved = affine::transform(image, matrix, sampling, fill);
    image.bytes_mut().copy_from_slice(&moved);
}

/// Pillow's grey of a red, green, blue pixel (ITU-R 601-2 in 16 bits).
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19595 * u32::from(red) + 38470 * u32::from(green) + 7471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

/// `from` for a factor of 0, `to` for 1, beyond it above 1: cut towards zero, kept to 0..255, as Pillow's `blend`.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor * (to - from)) as u8
}
