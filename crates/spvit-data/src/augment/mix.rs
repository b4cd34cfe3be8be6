//! Mixing a batch with its reverse, and the soft targets that follow.

use std::ops::Range;

use crate::augment::AugmentConfig;
use crate::augment::image::Rectangle;
use crate::rng::Stream;

/// How a batch is mixed: image i with image n − 1 − i.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mix {
    None,
    /// Weighted average; the field is λ, the image's own weight.
    Mixup(f64),
    /// The rectangle comes from the partner.
    Cutmix(Rectangle),
}

impl Mix {
    /// Draws a mix for a batch of images of `[height, width]`, as timm's `Mixup` in mode `batch`.
    pub(crate) fn draw(config: &AugmentConfig, size: [usize; 2], stream: &mut Stream) -> Self {
        let (mixup, cutmix) = (config.mixup > 0.0, config.cutmix > 0.0);
        if !(mixup || cutmix) || !stream.chance(config.mix_prob) {
            return Self::None;
        }
        if cutmix && (!mixup || stream.chance(config.switch_prob)) {
            let lambda = stream.symmetric_beta(config.cutmix);
            Self::Cutmix(draw_rectangle(1.0 - lambda, size, stream))
        } else {
            Self::Mixup(stream.symmetric_beta(config.mixup))
        }
    }

    /// λ: the share of an image, and so of its target, that is its own.
    pub(crate) fn lambda(&self, [height, width]: [usize; 2]) -> f64 {
        match self {
            Self::None => 1.0,
            Self::Mixup(lambda) => *lambda,
            // The rectangle may have been cut off at the edge, so that its area is what counts.
            Self::Cutmix(rectangle) => 1.0 - rectangle.area() as f64 / (height * width) as f64,
        }
    }

    /// Mixes `images`, `[batch, channels, height, width]`, in place; `image` is the number of values of one.
    pub(crate) fn apply(&self, images: &mut [f32], image: usize, [height, width]: [usize; 2]) {
        let count = images.len() / image;
        // Partners are each other's, so each pair is mixed at once. The middle image of an odd batch is its own
        // partner and stays as it is.
        let (front, back) = images.split_at_mut(count / 2 * image);
        for (a, b) in front.chunks_exact_mut(image).zip(back.chunks_exact_mut(image).rev()) {
            match *self {
                Self::None => {}
                Self::Mixup(lambda) => {
                    let (own, other) = (lambda as f32, (1.0 - lambda) as f32);
                    for (a, b) in a.iter_mut().zip(b) {
                        (*a, *b) = (own * *a + other * *b, own * *b + other * *a);
                    }
                }
                Self::Cutmix(Rectangle { top, bottom, left, right }) => {
                    let planes =
                        a.chunks_exact_mut(height * width).zip(b.chunks_exact_mut(height * width));
                    for (a, b) in planes {
                        let rows = a.chunks_exact_mut(width).zip(b.chunks_exact_mut(width));
                        for (a, b) in rows.take(bottom).skip(top) {
                            a[left..right].swap_with_slice(&mut b[left..right]);
                        }
                    }
                }
            }
        }
    }
}

/// Places in a batch of `images` images that lie in `range` in the order 0, n − 1, 1, n − 2 and so on, in which an image
/// is beside the one that it is mixed with; ascending. Ranges without common numbers give places without common ones, and
/// only the pairs at a range's ends may be taken apart.
pub fn paired_places(images: usize, range: Range<usize>) -> Vec<usize> {
    let Range { start, end } = range;
    let (start, end) = (start.min(images), end.min(images));
    let front = start.div_ceil(2)..end.div_ceil(2);
    let back = images - end / 2..images - start / 2;
    front.chain(back).collect()
}

/// A rectangle of about `share` of the area with its centre anywhere, cut off at the edge.
fn draw_rectangle(share: f64, [height, width]: [usize; 2], stream: &mut Stream) -> Rectangle {
    let mut span = |side: usize| {
        let half = (side as f64 * share.sqrt()) as usize / 2;
        let centre = stream.below(side);
        (centre.saturating_sub(half), (centre + half).min(side))
    };
    let ((top, bottom), (left, right)) = (span(height), span(width));
    Rectangle { top, bottom, left, right }
}

/// Targets `[batch, classes]`, each row summing to 1: the image's class with weight λ and its partner's with 1 − λ,
/// both smoothed.
pub(crate) fn targets(labels: &[u16], classes: usize, smoothing: f64, lambda: f64) -> Vec<f32> {
    let off = smoothing / classes as f64;
    let on = 1.0 - smoothing;
    let mut targets = vec![off as f32; labels.len() * classes];
    for ((row, &own), &other) in
        targets.chunks_exact_mut(classes).zip(labels).zip(labels.iter().rev())
    {
        if own == other {
            row[usize::from(own)] = (on + off) as f32;
        } else {
            row[usize::from(own)] = (lambda * on + off) as f32;
            row[usize::from(other)] = ((1.0 - lambda) * on + off) as f32;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    const SIZE: [usize; 2] = [8, 6];
    const IMAGE: usize = 2 * 8 * 6;

    /// Image i is filled with i + 1.
    fn batch(count: usize) -> Vec<f32> {
        (0..count * IMAGE).map(|value| (value / IMAGE + 1) as f32).collect()
    }

    fn draws(config: &AugmentConfig) -> Vec<Mix> {
        (0..1000)
            .map(|index| Mix::draw(config, SIZE, &mut Stream::new(1, Purpose::Mix, 0, index)))
            .collect()
    }

    #[test]
    fn mixup_averages_an_image_with_its_mirror_in_the_batch() {
        let mut images = batch(5);
        Mix::Mixup(0.75).apply(&mut images, IMAGE, SIZE);
        let firsts: Vec<f32> = images.chunks(IMAGE).map(|image| image[0]).collect();
        assert_eq!(firsts, [2.0, 2.5, 3.0, 3.5, 4.0]);
        assert!(images.chunks(IMAGE).all(|image| image.iter().all(|&value| value == image[0])));
    }

    #[test]
    fn ranges_of_pairs_cut_a_batch() {
        assert_eq!(paired_places(7, 0..7), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(paired_places(7, 0..4), [0, 1, 5, 6]);
        assert_eq!(paired_places(7, 4..9), [2, 3, 4]);
        for images in 0..20 {
            let order: Vec<usize> = (0..images)
                .map(|at| if at % 2 == 0 { at / 2 } else { images - 1 - at / 2 })
                .collect();
            for start in 0..=images {
                for end in start..=images {
                    let mut expected = order[start..end].to_vec();
                    expected.sort_unstable();
                    assert_eq!(paired_places(images, start..end), expected);
                }
            }
        }
    }

    #[test]
    fn cutmix_takes_the_share_that_its_lambda_says() {
        let config = AugmentConfig { cutmix: 1.0, ..Default::default() };
        for mix in draws(&config) {
            let mut images = batch(4);
            mix.apply(&mut images, IMAGE, SIZE);
            let own =
                images[..IMAGE].iter().filter(|&&value| value == 1.0).count() as f64 / IMAGE as f64;
            let partner =
                images[..IMAGE].iter().filter(|&&value| value == 4.0).count() as f64 / IMAGE as f64;
            assert!((own - mix.lambda(SIZE)).abs() < 1e-9, "{mix:?}: {own}");
            assert!((own + partner - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn mix_prob_and_switch_prob_choose() {
        let both = AugmentConfig {
            mixup: 0.8,
            cutmix: 1.0,
            mix_prob: 0.5,
            switch_prob: 0.25,
            ..Default::default()
        };
        let draws_of_both = draws(&both);
        let count =
            |wanted: fn(&Mix) -> bool| draws_of_both.iter().filter(|mix| wanted(mix)).count();
        let (none, cutmix) =
            (count(|mix| *mix == Mix::None), count(|mix| matches!(mix, Mix::Cutmix(_))));
        assert!((440..560).contains(&none), "{none} of 1000 not mixed");
        assert!((85..165).contains(&cutmix), "{cutmix} of 1000 by CutMix");
        assert!(draws(&AugmentConfig::default()).iter().all(|mix| *mix == Mix::None));
        let mixup = AugmentConfig { mixup: 0.8, switch_prob: 1.0, ..Default::default() };
        assert!(draws(&mixup).iter().all(|mix| matches!(mix, Mix::Mixup(_))));
    }

    #[test]
    fn targets_are_one_hot_where_nothing_softens_them() {
        assert_eq!(targets(&[2, 0], 3, 0.0, 1.0), [0., 0., 1., 1., 0., 0.]);
    }

    #[test]
    fn smoothed_and_mixed_targets_follow_timm() {
        // By the formula of timm.data.mixup.mixup_target([1, 3], 4, lam=0.7, smoothing=0.1).
        let expected = [0.025, 0.655, 0.025, 0.295, 0.025, 0.295, 0.025, 0.655];
        let found = targets(&[1, 3], 4, 0.1, 0.7);
        assert!(
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6),
            "{found:?}"
        );
    }

    #[test]
    fn targets_sum_to_one() {
        for (smoothing, lambda) in [(0.0, 1.0), (0.1, 1.0), (0.1, 0.37), (0.0, 0.5), (1.0, 0.2)] {
            let targets = targets(&[0, 4, 4, 2, 9, 4, 1], 10, smoothing, lambda);
            for row in targets.chunks(10) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
            }
        }
    }

    #[derive(serde::Deserialize)]
    struct Case {
        /// CutMix's top, bottom, left and right.
        cutmix: Option<[usize; 4]>,
        lambda: f64,
        smoothing: f64,
        labels: Vec<u16>,
        from: Vec<f32>,
        to: Vec<f32>,
        targets: Vec<f32>,
    }

    #[test]
    fn mixed_batches_and_their_targets_are_those_of_timm() {
        for case in crate::augment::cases::cases::<Case>("mixing") {
            let (size, image) = ([6, 7], 2 * 6 * 7);
            let mix = match case.cutmix {
                Some([top, bottom, left, right]) => {
                    Mix::Cutmix(Rectangle { top, bottom, left, right })
                }
                None => Mix::Mixup(case.lambda),
            };
            let mut found = case.from;
            mix.apply(&mut found, image, size);
            let close = |found: &[f32], expected: &[f32]| {
                found.len() == expected.len()
                    && found.iter().zip(expected).all(|(found, expected)| {
                        (found - expected).abs() <= 1e-6 * expected.abs().max(1.0)
                    })
            };
            assert!(close(&found, &case.to), "{mix:?}");
            let found = targets(&case.labels, 4, case.smoothing, mix.lambda(size));
            assert!(close(&found, &case.targets), "{mix:?}: {found:?}");
        }
    }
}
