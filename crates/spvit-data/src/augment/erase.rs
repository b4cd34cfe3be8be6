//! Random erasing of a normalised image, as timm has it (Zhong et al., Random erasing data augmentation, 2017).

use serde::{Deserialize, Serialize};

use crate::augment::AugmentConfig;
use crate::augment::image::Rectangle;
use crate::rng::Stream;

/// Least and largest share of the area that is erased, over all rectangles of an image.
const AREA: [f64; 2] = [0.02, 1.0 / 3.0];
const LARGEST_RATIO: f64 = 1.0 / 0.3;

/// What erased pixels are set to, after normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErasingMode {
    /// 0, the mean colour.
    #[default]
    Const,
    /// One colour for each rectangle: a standard normal value for each channel.
    Rand,
    /// A standard normal value for each value.
    Pixel,
}

/// The rectangles to erase from an image of `[height, width]`, often none.
pub(crate) fn draw(
    config: &AugmentConfig,
    size: [usize; 2],
    stream: &mut Stream,
) -> Vec<Rectangle> {
    if config.random_erasing == 0.0 || !stream.chance(config.random_erasing) {
        return Vec::new();
    }
    let count = match config.random_erasing_count {
        0 | 1 => 1,
        most => 1 + stream.below(most),
    };
    (0..count).filter_map(|_| draw_rectangle(count, size, stream)).collect()
}

/// Up to ten attempts at a rectangle that fits, one of `count`.
fn draw_rectangle(count: usize, size: [usize; 2], stream: &mut Stream) -> Option<Rectangle> {
    let [height, width] = size;
    for _ in 0..10 {
        let (area, ratio) = (stream.unit(), stream.unit());
        let [rows, columns] = sides(count, size, [area, ratio]);
        if rows < height && columns < width {
            let top = stream.below(height - rows + 1);
            let left = stream.below(width - columns + 1);
            return Some(Rectangle { top, bottom: top + rows, left, right: left + columns });
        }
    }
    None
}

/// Rows and columns for an area and a ratio so far (0 to 1) between least and largest.
fn sides(count: usize, [height, width]: [usize; 2], draw: [f64; 2]) -> [usize; 2] {
    let share = AREA[0] + (AREA[1] - AREA[0]) * draw[0];
    let area = share * (height * width) as f64 / count as f64;
    let limit = LARGEST_RATIO.ln();
    let ratio = (-limit + (limit - -limit) * draw[1]).exp();
    [(area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize]
}

/// Erases `rectangles` from `image`, `[channels, height, width]`.
pub(crate) fn apply(
    rectangles: &[Rectangle],
    mode: ErasingMode,
    image: &mut [f32],
    [height, width]: [usize; 2],
    stream: &mut Stream,
) {
    for &Rectangle { top, bottom, left, right } in rectangles {
        for plane in image.chunks_exact_mut(height * width) {
            let colour = if mode == ErasingMode::Rand { stream.normal() as f32 } else { 0.0 };
            for row in plane.chunks_exact_mut(width).take(bottom).skip(top) {
                match mode {
                    ErasingMode::Const | ErasingMode::Rand => row[left..right].fill(colour),
                    ErasingMode::Pixel => stream.fill_normal(&mut row[left..right]),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::cases::cases;
    use crate::rng::Purpose;

    #[derive(Deserialize)]
    struct Case {
        size: [usize; 2],
        count: usize,
        draw: [f64; 2],
        rows: usize,
        columns: usize,
    }

    fn stream() -> Stream {
        Stream::new(2, Purpose::Image, 0, 0)
    }

    #[test]
    fn a_draw_gives_the_rectangle_that_timm_erases() {
        for Case { size, count, draw, rows, columns } in cases("erasing") {
            let found = sides(count, size, draw);
            let fits = found[0] < size[0] && found[1] < size[1];
            let found = if fits { found } else { [0, 0] };
            assert_eq!(found, [rows, columns], "{count} of {draw:?} in {size:?}");
        }
    }

    /// 1 everywhere, but for one rectangle in each of two channels of 20 x 30.
    fn erased(mode: ErasingMode) -> Vec<Vec<f32>> {
        let rectangle = Rectangle { top: 2, bottom: 20, left: 1, right: 29 };
        let mut image = vec![1.0; 2 * 600];
        apply(&[rectangle], mode, &mut image, [20, 30], &mut stream());
        let inside = |plane: &[f32]| {
            let rows = plane.chunks(30).enumerate().filter(|(y, _)| (2..20).contains(y));
            let inside: Vec<f32> = rows.flat_map(|(_, row)| row[1..29].to_vec()).collect();
            let changed = plane.iter().filter(|&&value| value != 1.0).count();
            assert!(changed <= inside.len(), "{changed} values changed");
            inside
        };
        image.chunks(600).map(inside).collect()
    }

    #[test]
    fn const_is_the_mean_colour() {
        assert!(erased(ErasingMode::Const).iter().flatten().all(|&value| value == 0.0));
    }

    #[test]
    fn rand_is_one_colour_for_a_rectangle() {
        let planes = erased(ErasingMode::Rand);
        assert!(planes.iter().all(|plane| plane.iter().all(|&value| value == plane[0])));
        assert!(planes[0][0] != planes[1][0] && planes[0][0] != 0.0);
    }

    #[test]
    fn pixel_is_noise_of_deviation_one() {
        let values: Vec<f32> = erased(ErasingMode::Pixel).concat();
        let count = values.len() as f32;
        let mean = values.iter().sum::<f32>() / count;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / count;
        assert!(mean.abs() < 0.1 && (variance - 1.0).abs() < 0.15, "mean {mean}, {variance}");
    }

    #[test]
    fn several_rectangles_are_smaller_and_as_many_as_drawn() {
        let config = AugmentConfig {
            random_erasing: 1.0,
            random_erasing_count: 3,
            ..AugmentConfig::default()
        };
        let mut counts = [0; 4];
        for index in 0..600 {
            let mut stream = Stream::new(2, Purpose::Image, 0, index);
            let rectangles = draw(&config, [64, 64], &mut stream);
            counts[rectangles.len()] += 1;
            let area: usize = rectangles.iter().map(Rectangle::area).sum();
            assert!(area < 64 * 64 * 36 / 100, "{rectangles:?}");
        }
        assert!(counts[1..].iter().all(|&count| (150..250).contains(&count)), "{counts:?}");
    }
}
