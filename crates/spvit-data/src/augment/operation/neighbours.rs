//! Operations on a pixel as a whole, or on a pixel and those around it.

use super::{blend, luma};
use crate::pixels::Pixels;

/// Moves colours away from grey, or towards it for a factor below 1. A grey image stays as it is.
pub(super) fn color(image: &mut Pixels, factor: f32) {
    if image.channels() == 3 {
        for pixel in image.bytes_mut().as_chunks_mut::<3>().0 {
            let grey = luma(*pixel);
            *pixel = pixel.map(|byte| blend(grey, byte, factor));
        }
    }
}

/// Moves an image away from its smoothed form, or towards it for a factor below 1. The outermost pixels, which have
/// not all their neighbours, stay as they are.
pub(super) fn sharpness(image: &mut Pixels, factor: f32) {
    let ([height, width], channels) = (image.size(), image.channels());
    let row = width * channels;
    if height < 3 || width < 3 {
        return;
    }
    // The rows above, and this one, before they were changed.
    let (mut above, mut here) = (image.bytes()[..row].to_vec(), vec![0; row]);
    for y in 1..height - 1 {
        let (target, below) = image.bytes_mut()[y * row..(y + 2) * row].split_at_mut(row);
        here.copy_from_slice(target);
        let sums = above.iter().zip(&here).zip(&*below).map(|((&above, &here), &below)| {
            (u16::from(above) + u16::from(here) + u16::from(below), here)
        });
        smooth_row(&sums.collect::<Vec<_>>(), channels, factor, target);
        std::mem::swap(&mut above, &mut here);
    }
}

/// `columns` has the sum of three bytes above each other and the middle one of them.
fn smooth_row(columns: &[(u16, u8)], channels: usize, factor: f32, target: &mut [u8]) {
    let (left, middle, right) = (columns, &columns[channels..], &columns[2 * channels..]);
    let inner = &mut target[channels..];
    for (((left, middle), right), target) in left.iter().zip(middle).zip(right).zip(inner) {
        // Weight 5 in the middle, 1 around it, 13 in all, rounded to the nearest.
        let sum = u32::from(left.0 + middle.0 + right.0) + 4 * u32::from(middle.1);
        let smooth = ((2 * sum + 13) / 26) as u8;
        *target = blend(smooth, middle.1, factor);
    }
}
