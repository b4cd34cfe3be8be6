//! How image files are read and split.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::broken::BROKEN_LIMIT;
use crate::error::DataError;

/// How folders, lists and archives of image files are read and split. Sets in memory (IDX, CIFAR) know none of this.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageOptions {
    /// Channels that every image is decoded to, those of the model: 1 for grey, 3 for red, green, blue.
    #[serde(skip)]
    pub channels: usize,
    /// The classes, as their folders or they themselves are called, in the order of their labels: that of a checkpoint
    /// that is to see them. Empty: sorted by their folders' names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Each channel's mean, pixels scaled to 0..1, such as a checkpoint's; computed from a sample of the training
    /// images unless given.
    pub mean: Option<Vec<f32>>,
    /// Each channel's standard deviation likewise.
    pub std: Option<Vec<f32>>,
    /// How many training images, spread evenly, the mean and the standard deviation are computed from.
    pub statistics_sample: usize,
    /// Share of every class that becomes the validation split where the folder has none of its own, 0 to below 1.
    /// Unless given, a tenth, and of a set of more than half a million images 50,000.
    pub validation_share: Option<f64>,
    /// Share of every class that becomes the test split where the folder has neither that nor a validation split.
    pub test_share: f64,
    /// What the images of the splits are drawn from.
    pub split_seed: u64,
    /// The share of a split's images that may be broken before a run stops, 0 to 1.
    pub broken_limit: f64,
    /// Folder for the index of what was found, so that a large folder is not searched again. None: no index.
    #[serde(skip)]
    pub index: Option<PathBuf>,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self {
            channels: 3,
            classes: Vec::new(),
            mean: None,
            std: None,
            statistics_sample: 512,
            validation_share: None,
            test_share: 0.1,
            split_seed: 0,
            broken_limit: BROKEN_LIMIT,
            index: None,
        }
    }
}

impl ImageOptions {
    pub(crate) fn validate(&self) -> Result<(), DataError> {
        if self.channels != 1 && self.channels != 3 {
            return Err(DataError::option("channels", "1 or 3", self.channels));
        }
        let shares = [
            ("validation_share", self.validation_share.unwrap_or_default()),
            ("test_share", self.test_share),
        ];
        for (option, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return Err(DataError::option(option, "a share from 0 to below 1", share));
            }
        }
        if self.statistics_sample == 0 {
            return Err(DataError::option("statistics_sample", "at least 1 image", 0));
        }
        for (option, values) in [("mean", &self.mean), ("std", &self.std)] {
            if let Some(values) = values
                && values.len() != self.channels
            {
                let expected = format!("{} values, one a channel", self.channels);
                return Err(DataError::option(option, expected, format!("{values:?}")));
            }
        }
        Ok(())
    }
}
