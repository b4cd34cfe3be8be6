//! Options are checked when a loader is made, and read strictly.

use std::sync::Arc;

use spvit_data::{
    AugmentConfig, ErasingMode, ImageSet, Interpolation, Loader, LoaderOptions, RandomResizedCrop,
};

/// 50 images of 2 x 6 x 5.
fn set() -> Arc<ImageSet> {
    let pixels = (0..50 * 60).map(|at| at as u8).collect();
    Arc::new(ImageSet::new([2, 6, 5], 4, pixels, vec![0; 50]).unwrap())
}

fn training() -> LoaderOptions {
    LoaderOptions { threads: 0, ..LoaderOptions::training([6, 5], 7, 11, AugmentConfig::default()) }
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let refusal = |options| match Loader::new(set(), &[0.4, 0.5], &[0.2, 0.3], options) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    };
    let augmented = |augment| refusal(LoaderOptions { augment: Some(augment), ..training() });
    let off = AugmentConfig::default;
    assert!(
        refusal(LoaderOptions { batch_size: 0, ..training() })
            .starts_with("batch_size: expected 1 to")
    );
    assert!(
        refusal(LoaderOptions { batch_size: usize::MAX, ..training() }).starts_with("batch_size")
    );
    assert!(
        refusal(LoaderOptions { batch_size: 51, ..training() }).contains("at most the 50 images")
    );
    assert!(refusal(LoaderOptions { image_size: [0, 5], ..training() }).starts_with("image_size"));
    assert!(
        refusal(LoaderOptions { image_size: [6, usize::MAX], ..training() })
            .starts_with("image_size")
    );
    assert!(
        refusal(LoaderOptions { threads: 257, ..training() })
            .starts_with("threads: expected 0 to 256, found 257")
    );
    assert!(
        augmented(AugmentConfig { pad_crop: 5, ..off() })
            .starts_with("pad_crop: expected less than")
    );
    assert!(
        augmented(AugmentConfig { random_erasing: 1.5, ..off() })
            .starts_with("random_erasing: expected 0 to 1")
    );
    assert!(
        augmented(AugmentConfig { label_smoothing: f64::NAN, ..off() })
            .starts_with("label_smoothing")
    );
    assert!(
        augmented(AugmentConfig { mixup: -0.2, ..off() }).starts_with("mixup: expected 0 for off")
    );
    assert!(augmented(AugmentConfig { cutmix: f64::INFINITY, ..off() }).starts_with("cutmix"));
    assert!(
        augmented(AugmentConfig { rand_augment: "rand-m99".to_owned(), ..off() })
            .starts_with("rand_augment: expected m and a whole number, 0 to 30, found \"m99\"")
    );
    assert!(augmented(AugmentConfig { repeated: 0, ..off() }).starts_with("repeated: expected 1"));
    assert!(
        augmented(AugmentConfig { random_erasing_count: 0, ..off() })
            .starts_with("random_erasing_count: expected 1 to 100")
    );
    assert!(augmented(AugmentConfig { vertical_flip: -0.1, ..off() }).starts_with("vertical_flip"));
    assert!(augmented(AugmentConfig { color_jitter: 11.0, ..off() }).starts_with("color_jitter"));
    let crop = RandomResizedCrop::default();
    let both = AugmentConfig { pad_crop: 1, random_resized_crop: Some(crop.clone()), ..off() };
    assert!(augmented(both).starts_with("pad_crop: expected 0 beside random_resized_crop"));
    let crop = RandomResizedCrop { interpolation: Interpolation::Lanczos, ..crop };
    let both =
        AugmentConfig { rand_augment: "rand".to_owned(), random_resized_crop: Some(crop), ..off() };
    let refused = augmented(both);
    assert!(
        refused.starts_with("random_resized_crop.interpolation: expected bilinear, bicubic or")
            && refused.ends_with("found lanczos"),
        "{refused}"
    );
    let normalised = |mean: &[f32], std: &[f32]| match Loader::new(set(), mean, std, training()) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(normalised(&[0.0], &[1.0, 1.0]).starts_with("mean: expected 2 finite values"));
    assert!(normalised(&[0.0, 0.0], &[1.0, 0.0]).starts_with("std: expected 2 values above 0"));
    let empty = Arc::new(set().select(&[]));
    let error =
        Loader::new(empty, &[0.0; 2], &[1.0; 2], LoaderOptions::evaluation([6, 5], 1)).err();
    assert!(error.is_some_and(|error| error.to_string().contains("an empty set")));
}

#[test]
fn augmentation_is_read_strictly() {
    let read = |text: &str| serde_json::from_str::<AugmentConfig>(text);
    assert_eq!(read("{}").unwrap(), AugmentConfig::default());
    let some = AugmentConfig {
        pad_crop: 2,
        horizontal_flip: true,
        mixup: 0.8,
        ..AugmentConfig::default()
    };
    assert_eq!(read(&serde_json::to_string(&some).unwrap()).unwrap(), some);
    let recipe = r#"{"random_resized_crop": {"scale": [0.2, 1.0]}, "rand_augment": "rand-m9-mstd0.5-inc1",
        "random_erasing_mode": "pixel", "repeated": 3, "vertical_flip": 0.1, "color_jitter": 0.4}"#;
    let recipe = read(recipe).unwrap();
    let crop = recipe.random_resized_crop.clone().unwrap();
    assert_eq!((crop.ratio, crop.interpolation), ([0.75, 4.0 / 3.0], Interpolation::Bicubic));
    assert_eq!(recipe.random_erasing_mode, ErasingMode::Pixel);
    assert_eq!(read(&serde_json::to_string(&recipe).unwrap()).unwrap(), recipe);
    for wrong in [r#"{"random_erasing_mode": "noise"}"#, r#"{"random_resized_crop": {"size": 3}}"#]
    {
        assert!(read(wrong).unwrap_err().to_string().contains("unknown"), "{wrong}");
    }
    let unknown = read(r#"{"mixupp": 0.8}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown field `mixupp`"), "{unknown}");
}
