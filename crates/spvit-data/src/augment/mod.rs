//! What is done to training images so that no two epochs are alike.

pub(crate) mod image;
pub(crate) mod mix;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// Augmentation of training images and softening of their targets. By default everything is off.
///
/// Per image, in this order: random crop, flip, erasing; then, per batch, mixup or CutMix. Names and meanings follow
/// timm's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Pads each side by this many pixels (of the model's input) and crops at random back to the size. The padding is
    /// 0 after normalisation, the mean colour. 0: off. Must be smaller than the image.
    pub pad_crop: usize,
    /// Mirrors half of the images left to right.
    pub horizontal_flip: bool,
    /// Probability of setting a random rectangle to 0 after normalisation: 2 % to 33 % of the area, the ratio of its
    /// sides 0.3 to 1/0.3 (Zhong et al., Random erasing data augmentation, 2017).
    pub random_erasing: f64,
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
            horizontal_flip: false,
            random_erasing: 0.0,
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
        let probabilities = [
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
}
