//! Crop, flip and erasing of one normalised image.

use crate::augment::AugmentConfig;
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
    pub(crate) erase: Option<Rectangle>,
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
        let erasing = config.random_erasing > 0.0 && stream.chance(config.random_erasing);
        Self { shift, flip, erase: if erasing { draw_erasing(size, stream) } else { None } }
    }

    /// Writes the changed `source` to `target`, both `[channels, height, width]`; `target` comes zeroed.
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
            if let Some(Rectangle { top, bottom, left, right }) = self.erase {
                for row in target.chunks_exact_mut(width).take(bottom).skip(top) {
                    row[left..right].fill(0.0);
                }
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

/// timm's `RandomErasing`: up to ten attempts at a rectangle that fits.
fn draw_erasing([height, width]: [usize; 2], stream: &mut Stream) -> Option<Rectangle> {
    const AREA: [f64; 2] = [0.02, 1.0 / 3.0];
    const LARGEST_RATIO: f64 = 1.0 / 0.3;
    for _ in 0..10 {
        let area = stream.between(AREA[0], AREA[1]) * (height * width) as f64;
        let ratio = stream.between(-LARGEST_RATIO.ln(), LARGEST_RATIO.ln()).exp();
        let rows = (area * ratio).sqrt().round() as usize;
        let columns = (area / ratio).sqrt().round() as usize;
        if rows < height && columns < width {
            let top = stream.below(height - rows + 1);
            let left = stream.below(width - columns + 1);
            return Some(Rectangle { top, bottom: top + rows, left, right: left + columns });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    const SIZE: [usize; 2] = [3, 4];
    const PLAIN: ImageChange = ImageChange { shift: [0, 0], flip: false, erase: None };

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
    fn erasing_blanks_one_rectangle() {
        let erase = Some(Rectangle { top: 1, bottom: 3, left: 2, right: 3 });
        let erased = changed(&ImageChange { erase, ..PLAIN });
        assert_eq!(erased, [1., 2., 3., 4., 5., 6., 0., 8., 9., 10., 0., 12.]);
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
        let erasings: Vec<Rectangle> = draws.iter().filter_map(|draw| draw.erase).collect();
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
