use serde::Deserialize;

use super::*;
use crate::augment::cases::{cases, difference, image};
use crate::rng::Purpose;

const SIZE: [usize; 2] = [20, 26];

fn transform(config: &AugmentConfig) -> BytesTransform {
    BytesTransform::new(SIZE, &[0.485, 0.456, 0.406], None, Some(config)).unwrap()
}

fn stream(index: u64) -> Stream {
    Stream::new(8, Purpose::Image, 1, index)
}

/// Values that tell rows, columns and channels apart.
fn numbered([height, width]: [usize; 2], channels: usize) -> Pixels {
    let bytes = (0..height * width * channels).map(|at| at as u8).collect();
    Pixels::new([height, width], channels, bytes).unwrap()
}

const PLAIN: Draw =
    Draw { part: None, shift: [0, 0], mirrored: false, upside_down: false, operations: Vec::new() };

fn changed(draw: &Draw, channels: usize) -> Vec<u8> {
    let mean = &[0.1, 0.2, 0.31][..channels];
    let transform = BytesTransform::new([2, 3], mean, None, None).unwrap();
    let image = numbered([2, 3], channels);
    transform.apply(&image, Some(draw), &mut Resampler::default()).unwrap().into_bytes()
}

#[test]
fn flips_move_whole_pixels() {
    let mirrored = Draw { mirrored: true, ..PLAIN };
    assert_eq!(changed(&mirrored, 1), [2, 1, 0, 5, 4, 3]);
    assert_eq!(changed(&mirrored, 3)[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
    let upside_down = Draw { upside_down: true, ..PLAIN };
    assert_eq!(changed(&upside_down, 1), [3, 4, 5, 0, 1, 2]);
}

#[test]
fn a_shift_brings_in_the_mean_colour() {
    let shift = |shift| changed(&Draw { shift, ..PLAIN }, 1);
    assert_eq!(shift([1, 1]), [4, 5, 26, 26, 26, 26]);
    assert_eq!(shift([-1, -2]), [26, 26, 26, 26, 26, 0]);
    let colour = changed(&Draw { shift: [0, 2], ..PLAIN }, 3);
    assert_eq!(colour[..9], [6, 7, 8, 26, 51, 79, 26, 51, 79]);
}

#[derive(Deserialize)]
struct Jitter {
    from: usize,
    to: usize,
    order: [usize; 3],
    factors: [f64; 3],
}

#[test]
fn jitter_is_that_of_torchvision() {
    for Jitter { from, to, order, factors } in cases("jitter") {
        let mut found = image(from);
        let [brightness, contrast, color] = factors;
        let all = [
            Operation::Brightness(brightness),
            Operation::Contrast(contrast),
            Operation::Color(color),
        ];
        order.into_iter().for_each(|which| all[which].apply(&mut found, &[]));
        assert_eq!(difference(&found, &image(to)), (0, 0), "{order:?} by {factors:?}");
    }
}

#[test]
fn jitter_is_drawn_in_its_range_and_in_any_order() {
    let jitter = transform(&AugmentConfig { color_jitter: 0.4, ..Default::default() });
    let mut firsts = [0; 3];
    for index in 0..600 {
        let Draw { operations, .. } = jitter.draw(SIZE, &mut stream(index));
        assert_eq!(operations.len(), 3);
        for (place, operation) in operations.into_iter().enumerate() {
            let (which, factor) = match operation {
                Operation::Brightness(factor) => (0, factor),
                Operation::Contrast(factor) => (1, factor),
                Operation::Color(factor) => (2, factor),
                other => panic!("{other:?} is no jitter"),
            };
            assert!((0.6..1.4).contains(&factor));
            firsts[which] += usize::from(place == 0);
        }
    }
    assert!(firsts.iter().all(|&count| (150..250).contains(&count)), "{firsts:?}");
}

#[test]
fn rand_augment_takes_the_place_of_jitter() {
    let operations = |rand_augment: &str| {
        let rand_augment = rand_augment.to_owned();
        let config = AugmentConfig { color_jitter: 0.4, rand_augment, ..Default::default() };
        transform(&config).draw(SIZE, &mut stream(0)).operations.len()
    };
    assert_eq!(operations("rand-p1-n2"), 2);
    assert_eq!(operations("rand-p1-n1-t3a"), 1 + 3);
}

#[test]
fn chances_are_kept() {
    let config = AugmentConfig {
        horizontal_flip: true,
        vertical_flip: 0.2,
        pad_crop: 3,
        ..AugmentConfig::default()
    };
    let transform = transform(&config);
    let draws: Vec<Draw> =
        (0..2000).map(|index| transform.draw(SIZE, &mut stream(index))).collect();
    let mirrored = draws.iter().filter(|draw| draw.mirrored).count();
    let upside_down = draws.iter().filter(|draw| draw.upside_down).count();
    assert!((900..1100).contains(&mirrored) && (330..470).contains(&upside_down));
    assert!(draws.iter().flat_map(|draw| draw.shift).all(|shift| (-3..=3).contains(&shift)));
    assert!(
        draws.iter().any(|draw| draw.shift[0] == 3) && draws.iter().all(|draw| draw.part.is_none())
    );
}

#[test]
fn the_whole_recipe_gives_the_size_asked_for() {
    let config = AugmentConfig {
        random_resized_crop: Some(RandomResizedCrop::default()),
        horizontal_flip: true,
        rand_augment: "rand-m9-mstd0.5-inc1-p1".to_owned(),
        ..AugmentConfig::default()
    };
    for channels in [1, 3] {
        let mean = &[0.485, 0.456, 0.406][..channels];
        let transform = BytesTransform::new(SIZE, mean, None, Some(&config)).unwrap();
        let mut resampler = Resampler::default();
        let mut images = Vec::new();
        for (index, size) in [[60, 90], [1, 1], [500, 3], [20, 26]].into_iter().enumerate() {
            let source = numbered(size, channels);
            let draw = transform.draw(size, &mut stream(index as u64));
            let found = transform.apply(&source, Some(&draw), &mut resampler).unwrap();
            assert_eq!((found.size(), found.channels()), (SIZE, channels));
            // Nothing is left over from the images before.
            let again = transform.apply(&source, Some(&draw), &mut Resampler::default()).unwrap();
            assert_eq!(found, again);
            images.push(found);
        }
        assert_ne!(images[0], images[3]);
    }
}
