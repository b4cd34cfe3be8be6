//! Crop and flip of one normalised image, as it was before there were changes to bytes.

use crate::augment::{AugmentConfig, erase};
use crate::rng::Stream;

/// A rectangle of pixels, ends excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rectangle {
    pub(crate) top: usize,
    pub(crate) bottom: usize,
    pub(crate) left: usize,
    pub(crate) right: usize,
}

impl Rectangle {
    pub(crate) fn area(&self) -> usize {
        (self.bottom - self.top) * (self.right - self.left)
    }
}

/// What is done to one image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImageChange {
    /// Rows and columns by which the crop's corner lies below and right of the image's; negative: above and left.
    pub(crate) shift: [isize; 2],
    pub(crate) flip: bool,
    pub(crate) erase: Vec<Rectangle>,
}

impl ImageChange {
    /// Draws a change for an image of `[height, width]`.
    pub(crate) fn draw(config: &AugmentConfig, size: [usize; 2], stream: &mut Stream) -> Self {
        let pad = config.pad_crop;
        let shift = match pad {
            0 => [0, 0],
            _ => [0, 0].map(|_: isize| stream.below(2 * pad + 1) as isize - pad as isize),
        };
        let flip = config.horizontal_flip && stream.chance(0.5);
        Self { shift, flip, erase: erase::draw(config, size, stream) }
    }

    /// Writes the shifted and flipped `source` to `target`, both `[channels, height, width]`; `target` comes zeroed.
    pub(crate) fn apply(&self, source: &[f32], target: &mut [f32], [height, width]: [usize; 2]) {
        let planes =
            source.chunks_exact(height * width).zip(target.chunks_exact_mut(height * width));
        for (source, target) in planes {
            if self.shift == [0, 0] {
                target.copy_from_slice(source);
            } else {
                shift_plane(source, target, width, self.shift);
            }
            if self.flip {
                target.chunks_exact_mut(width).for_each(<[f32]>::reverse);
            }
        }
    }
}

/// Moves a plane up and left by `shift`; what comes in from outside stays as `target` has it.
fn shift_plane(source: &[f32], target: &mut [f32], width: usize, [down, right]: [isize; 2]) {
    let columns = right.unsigned_abs().min(width);
    let kept = width - columns;
    let (from, to) = if right >= 0 { (columns, 0) } else { (0, columns) };
    let source = source.chunks_exact(width).skip(down.max(0) as usize);
    let target = target.chunks_exact_mut(width).skip((-down).max(0) as usize);
    for (source, target) in source.zip(target) {
        target[to..to + kept].copy_from_slice(&source[from..from + kept]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    const SIZE: [usize; 2] = [3, 4];
    const PLAIN: ImageChange = ImageChange { shift: [0, 0], flip: false, erase: Vec::new() };

    fn changed(change: &ImageChange) -> Vec<f32> {
        let source: Vec<f32> = (1..=12).map(|value| value as f32).collect();
        let mut target = vec![0.0; 12];
        change.apply(&source, &mut target, SIZE);
        target
    }

    #[test]
    fn flipping_twice_is_the_identity() {
        let flip = ImageChange { flip: true, ..PLAIN };
        let once = changed(&flip);
        assert_eq!(once[..4], [4.0, 3.0, 2.0, 1.0]);
        let mut twice = vec![0.0; 12];
        flip.apply(&once, &mut twice, SIZE);
        assert_eq!(twice, changed(&PLAIN));
    }

    #[test]
    fn a_crop_shows_what_is_inside_and_zero_outside() {
        let right_and_down = changed(&ImageChange { shift: [1, 2], ..PLAIN });
        assert_eq!(right_and_down, [7., 8., 0., 0., 11., 12., 0., 0., 0., 0., 0., 0.]);
        let left_and_up = changed(&ImageChange { shift: [-2, -1], ..PLAIN });
        assert_eq!(left_and_up, [0., 0., 0., 0., 0., 0., 0., 0., 0., 1., 2., 3.]);
    }

    #[test]
    fn the_crop_comes_before_the_flip() {
        let both = changed(&ImageChange { shift: [0, 1], flip: true, ..PLAIN });
        assert_eq!(both[..4], [0.0, 4.0, 3.0, 2.0]);
    }

    #[test]
    fn draws_stay_in_their_ranges_and_reach_their_ends() {
        let all = AugmentConfig {
            pad_crop: 2,
            horizontal_flip: true,
            random_erasing: 0.5,
            ..Default::default()
        };
        let draws: Vec<ImageChange> = (0..2000)
            .map(|index| {
                ImageChange::draw(&all, [32, 24], &mut Stream::new(3, Purpose::Image, 0, index))
            })
            .collect();
        for axis in 0..2 {
            let mut shifts: Vec<isize> = draws.iter().map(|draw| draw.shift[axis]).collect();
            shifts.sort_unstable();
            shifts.dedup();
            assert_eq!(shifts, [-2, -1, 0, 1, 2]);
        }
        let flips = draws.iter().filter(|draw| draw.flip).count();
        assert!((900..1100).contains(&flips), "{flips} flips");
        let erasings: Vec<Rectangle> = draws.iter().flat_map(|draw| draw.erase.clone()).collect();
        assert!((900..1100).contains(&erasings.len()), "{} erasings", erasings.len());
        for erasing in erasings {
            assert!(erasing.bottom <= 32 && erasing.right <= 24);
            let share = erasing.area() as f64 / (32.0 * 24.0);
            // Rounding to whole pixels widens the range.
            assert!((0.01..0.37).contains(&share), "{erasing:?} is {share} of the area");
        }
    }

    #[test]
    fn nothing_is_drawn_where_everything_is_off() {
        let draw = ImageChange::draw(
            &AugmentConfig::default(),
            SIZE,
            &mut Stream::new(0, Purpose::Image, 0, 0),
        );
        assert_eq!(draw, PLAIN);
    }
}
