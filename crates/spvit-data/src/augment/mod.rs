//! What is done to training images so that no two epochs are alike.

pub(crate) mod bytes;
#[cfg(test)]
pub(crate) mod cases;
pub(crate) mod crop;
pub(crate) mod erase;
pub(crate) mod image;
pub(crate) mod mix;
pub(crate) mod operation;
pub(crate) mod rand_augment;
pub(crate) mod repeat;
pub(crate) mod resample;

use serde::{Deserialize, Serialize};

use crate::augment::crop::RandomResizedCrop;
use crate::augment::erase::ErasingMode;
use crate::augment::rand_augment::RandAugment;
use crate::augment::resample::Interpolation;
use crate::error::DataError;

/// The most times that an image comes in an epoch.
const MAX_REPEATS: usize = 100;
const MAX_ERASINGS: usize = 100;

/// Augmentation of training images and softening of their targets. By default everything is off.
///
/// Per image, in this order: random crop, flips, RandAugment or colour jitter; normalisation; erasing. Then, per batch,
/// mixup or CutMix. Names and meanings follow timm's.
///
/// With nothing but `pad_crop`, `horizontal_flip` and `random_erasing` images are resized, cropped and flipped in
/// float32 after normalisation, as ever; with any other change to an image it is done to bytes, before, as timm and
/// Pillow do it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Pads each side by this many pixels (of the model's input) and crops at random back to the size. The padding is
    /// 0 after normalisation, the mean colour. 0: off. Must be smaller than the image.
    pub pad_crop: usize,
    /// Shows a random part of each image, resized to the model's size. Absent: off. Takes the place of `pad_crop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<RandomResizedCrop>,
    /// Mirrors half of the images left to right.
    pub horizontal_flip: bool,
    /// Probability of turning an image upside down.
    pub vertical_flip: f64,
    /// Changes brightness, contrast and colour, in a random order, by factors from 1 − this to 1 + this. 0: off.
    /// RandAugment, but for its sets `t3a` and `t3aw`, takes its place.
    pub color_jitter: f64,
    /// RandAugment in timm's notation, as `rand-m9-mstd0.5-inc1`. Empty: off.
    pub rand_augment: String,
    /// Probability of setting a random rectangle to 0 after normalisation: 2 % to 33 % of the area, the ratio of its
    /// sides 0.3 to 1/0.3 (Zhong et al., Random erasing data augmentation, 2017).
    pub random_erasing: f64,
    /// What the rectangle is set to: `const` for 0, `rand` for one random colour, `pixel` for noise.
    pub random_erasing_mode: ErasingMode,
    /// The most rectangles of an image: one up to as many, as likely each, of as much area together.
    pub random_erasing_count: usize,
    /// Times that an image comes in an epoch, changed otherwise each time, while others do not come (Hoffer et al.,
    /// Augment your batch, 2019). 1: each comes once.
    pub repeated: usize,
    /// Mixup's α: the batch and its reverse are averaged with weights λ and 1 − λ, λ from Beta(α, α), one for the
    /// batch (Zhang et al., mixup, 2017). 0: off.
    pub mixup: f64,
    /// CutMix's α: a rectangle of share 1 − λ comes from the reversed batch, λ from Beta(α, α), one for the batch, set
    /// to the share really kept (Yun et al., CutMix, 2019). 0: off.
    pub cutmix: f64,
    /// Probability of mixing a batch at all, where mixup or CutMix is on.
    pub mix_prob: f64,
    /// Probability of CutMix, not mixup, where both are on.
    pub switch_prob: f64,
    /// Share of the target spread evenly over all classes, the true one included.
    pub label_smoothing: f64,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            pad_crop: 0,
            random_resized_crop: None,
            horizontal_flip: false,
            vertical_flip: 0.0,
            color_jitter: 0.0,
            rand_augment: String::new(),
            random_erasing: 0.0,
            random_erasing_mode: ErasingMode::Const,
            random_erasing_count: 1,
            repeated: 1,
            mixup: 0.0,
            cutmix: 0.0,
            mix_prob: 1.0,
            switch_prob: 0.5,
            label_smoothing: 0.0,
        }
    }
}

impl AugmentConfig {
    /// Whether the values are in their ranges and fit images of `[height, width]` pixels.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] naming the first that is not.
    pub fn validate(&self, image_size: [usize; 2]) -> Result<(), DataError> {
        let side = image_size[0].min(image_size[1]);
        if self.pad_crop >= side && self.pad_crop > 0 {
            return Err(DataError::option(
                "pad_crop",
                format!("less than the image's side, {side}"),
                self.pad_crop,
            ));
        }
        if let Some(crop) = &self.random_resized_crop {
            if self.pad_crop > 0 {
                let expected = "0 beside random_resized_crop, which takes its place";
                return Err(DataError::option("pad_crop", expected, self.pad_crop));
            }
            crop.validate()?;
        }
        self.validate_rand_augment()?;
        if !(0.0..=10.0).contains(&self.color_jitter) {
            return Err(DataError::option("color_jitter", "0 to 10", self.color_jitter));
        }
        let counts = [
            ("random_erasing_count", self.random_erasing_count, MAX_ERASINGS),
            ("repeated", self.repeated, MAX_REPEATS),
        ];
        for (option, value, largest) in counts {
            if !(1..=largest).contains(&value) {
                return Err(DataError::option(option, format!("1 to {largest}"), value));
            }
        }
        let probabilities = [
            ("vertical_flip", self.vertical_flip),
            ("random_erasing", self.random_erasing),
            ("mix_prob", self.mix_prob),
            ("switch_prob", self.switch_prob),
            ("label_smoothing", self.label_smoothing),
        ];
        for (option, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(DataError::option(option, "0 to 1", value));
            }
        }
        for (option, value) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            // Below 0.001 λ is 0 or 1 and nothing else; above 1000 it is 0.5.
            if value != 0.0 && !(0.001..=1000.0).contains(&value) {
                return Err(DataError::option(
                    option,
                    "0 for off, or an α from 0.001 to 1000",
                    value,
                ));
            }
        }
        Ok(())
    }

    fn validate_rand_augment(&self) -> Result<(), DataError> {
        let interpolation = self.random_resized_crop.as_ref().map(|crop| crop.interpolation);
        let movable = [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Random];
        if RandAugment::parse(&self.rand_augment)?.is_some()
            && let Some(other) = interpolation.filter(|other| !movable.contains(other))
        {
            let expected =
                "bilinear, bicubic or random beside rand_augment, which moves images by it";
            let found = format!("{other:?}").to_lowercase();
            return Err(DataError::option("random_resized_crop.interpolation", expected, found));
        }
        Ok(())
    }

    /// Whether something is done to bytes, which goes before normalisation.
    pub(crate) fn changes_bytes(&self) -> bool {
        self.random_resized_crop.is_some()
            || self.vertical_flip > 0.0
            || self.color_jitter > 0.0
            || !self.rand_augment.is_empty()
    }

    /// Whether images of this many channels can be changed in this way.
    pub(crate) fn validate_channels(&self, channels: usize) -> Result<(), DataError> {
        if self.changes_bytes() && ![1, 3].contains(&channels) {
            let expected = "images of 1 or 3 channels for random_resized_crop, vertical_flip, \
                            color_jitter and rand_augment";
            return Err(DataError::option("channels", expected, channels));
        }
        Ok(())
    }
}
