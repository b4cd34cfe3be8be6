use super::*;
use crate::augment::cases::{cases, difference, image};
use crate::rng::Purpose;

#[derive(Deserialize)]
struct Resized {
    from: usize,
    to: usize,
    part: [usize; 4],
    size: [usize; 2],
    filter: Interpolation,
}

/// Within one grey level, two for Lanczos's six taps, and nearly everywhere the same.
fn assert_close(
    (found, filter): (&Pixels, Interpolation),
    expected: &Pixels,
    source: [usize; 2],
    what: &str,
) {
    let (count, largest) = difference(found, expected);
    let allowed = if filter == Interpolation::Lanczos { 2 } else { 1 };
    assert!(largest <= allowed, "{what}: {count} values differ by up to {largest}");
    // A filter that is off by a grain everywhere would pass the first check alone. Pillow resizes the columns of narrow
    // images first, which rounds otherwise.
    let narrow = source[0] * 2 > source[1] * 3;
    assert!(narrow || count * 25 <= found.bytes().len(), "{what}: {count} values differ");
}

#[test]
fn parts_are_resized_as_pillow_resizes_them() {
    for case in cases::<Resized>("resizing") {
        let [top, left, rows, columns] = case.part;
        let part = Rectangle { top, left, bottom: top + rows, right: left + columns };
        let found =
            Resampler::default().resize(&image(case.from), part, case.size, case.filter).unwrap();
        let what = format!("{:?} of {part:?} to {:?}", case.filter, case.size);
        assert_close((&found, case.filter), &image(case.to), [rows, columns], &what);
    }
}

#[derive(Deserialize)]
struct Evaluated {
    from: usize,
    to: usize,
    mode: CropMode,
    crop_pct: f64,
    size: [usize; 2],
    filter: Interpolation,
}

#[test]
fn evaluation_shows_what_timm_shows() {
    for case in cases::<Evaluated>("evaluation") {
        let transform = EvalTransform {
            crop_pct: case.crop_pct,
            interpolation: case.filter,
            crop_mode: case.mode,
        };
        transform.validate().unwrap();
        let fill = [124, 116, 104];
        let source = image(case.from);
        let fill = &fill[..source.channels()];
        let found = transform.apply(&source, case.size, fill, &mut Resampler::default()).unwrap();
        let what = format!("{transform:?} of {:?} to {:?}", source.size(), case.size);
        assert_close((&found, case.filter), &image(case.to), source.size(), &what);
    }
}

#[derive(Deserialize)]
struct Part {
    size: [usize; 2],
    draw: [f64; 2],
    part: [usize; 4],
}

#[test]
fn a_draw_gives_the_part_that_timm_gives() {
    let crop = RandomResizedCrop::default();
    let mut fits = 0;
    for Part { size, draw, part: [top, left, rows, columns] } in cases("crops") {
        if let Some(found) = crop.part(size, draw) {
            fits += 1;
            assert_eq!((found, top, left), ([rows, columns], 0, 0), "{draw:?} of {size:?}");
        } else {
            let found = crop.middle(size);
            let expected = Rectangle { top, left, bottom: top + rows, right: left + columns };
            assert_eq!(found, expected, "the middle of {size:?}");
        }
    }
    assert!((5..20).contains(&fits), "{fits} cases fit");
}

#[test]
fn parts_lie_inside_and_have_the_shares_asked_for() {
    let crop = RandomResizedCrop { scale: [0.2, 0.5], ratio: [0.5, 2.0], ..Default::default() };
    for index in 0..1000 {
        let found = crop.draw([120, 90], &mut Stream::new(4, Purpose::Image, 0, index));
        assert!(found.bottom <= 120 && found.right <= 90);
        let share = found.area() as f64 / (120.0 * 90.0);
        assert!((0.19..0.52).contains(&share), "{found:?} is {share} of the area");
        let ratio = (found.right - found.left) as f64 / (found.bottom - found.top) as f64;
        assert!((0.48..2.1).contains(&ratio), "{found:?} has the ratio {ratio}");
    }
}

#[test]
fn images_of_one_line_have_parts_too() {
    for size in [[1, 1], [1, 500], [500, 1]] {
        let crop = RandomResizedCrop::default();
        for index in 0..50 {
            let found = crop.draw(size, &mut Stream::new(4, Purpose::Image, 0, index));
            assert!(found.area() > 0 && found.bottom <= size[0] && found.right <= size[1]);
        }
        let pixels = Pixels::new(size, 3, vec![9; 3 * size[0] * size[1]]).unwrap();
        for crop_mode in [CropMode::Center, CropMode::Squash, CropMode::Border] {
            let transform = EvalTransform { crop_mode, ..Default::default() };
            let found =
                transform.apply(&pixels, [14, 21], &[7, 7, 7], &mut Resampler::default()).unwrap();
            assert_eq!(found.size(), [14, 21]);
            assert!(found.bytes().iter().all(|&byte| byte == 9 || byte == 7));
        }
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let refused = |crop: RandomResizedCrop| crop.validate().unwrap_err().to_string();
    let crop = RandomResizedCrop::default;
    for scale in [[0.0, 1.0], [0.5, 0.4], [0.1, 1.1], [f64::NAN, 1.0]] {
        let error = refused(RandomResizedCrop { scale, ..crop() });
        assert!(error.starts_with("random_resized_crop.scale: expected two ascending"), "{error}");
    }
    let error = refused(RandomResizedCrop { ratio: [0.0, 1.0], ..crop() });
    assert!(error.starts_with("random_resized_crop.ratio"), "{error}");
    let refused = |transform: EvalTransform| transform.validate().unwrap_err().to_string();
    let error = refused(EvalTransform { crop_pct: 0.0, ..Default::default() });
    assert!(error.starts_with("crop_pct: expected 0.1 to 1"), "{error}");
    let interpolation = Interpolation::Random;
    let error = refused(EvalTransform { interpolation, ..Default::default() });
    assert!(error.starts_with("interpolation"), "{error}");
}
