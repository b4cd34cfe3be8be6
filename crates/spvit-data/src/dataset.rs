//! A data set split three ways.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::broken::BrokenImages;
use crate::set::{ImageSet, hex};
use crate::source::ImageSource;

/// A data set split three ways, with what is needed to normalise and to recognise it.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The data folder's name.
    pub name: String,
    /// What the weights are trained on.
    pub train: Arc<dyn ImageSource>,
    /// What decisions are made on, never trained on. May be empty.
    pub validation: Arc<dyn ImageSource>,
    /// What is reported on.
    pub test: Arc<dyn ImageSource>,
    /// One name for each class: the data set's own where it comes with them, `class 0`, `class 1`, ... otherwise.
    pub class_names: Vec<String>,
    /// Each channel's mean over the training split, or a sample of it, pixels scaled to 0..1.
    pub mean: Vec<f32>,
    /// Each channel's standard deviation likewise; 1 for a constant channel.
    pub std: Vec<f32>,
    /// SHA-256 over what the three splits are told by ([`ImageSource::fingerprint`]), in lower-case hexadecimal. For
    /// sets in memory these are shapes, labels and pixels: it is equal for two data sets if and only if their splits
    /// are.
    pub fingerprint: String,
    /// How the folder was read and split, where that is not plain, in sentences for whoever started the run.
    pub notes: Vec<String>,
    /// The broken images met, for the loaders of all three splits.
    pub broken: BrokenImages,
}

impl Dataset {
    /// Computes normalisation and fingerprint of three splits that agree in shape and classes.
    pub(crate) fn from_splits(
        name: String,
        class_names: Vec<String>,
        splits: [ImageSet; 3],
    ) -> Self {
        let [train, validation, test] = splits;
        let fingerprint = fingerprint([&train, &validation, &test]);
        let (mean, std) = train.mean_and_std();
        Self {
            name,
            train: Arc::new(train),
            validation: Arc::new(validation),
            test: Arc::new(test),
            class_names,
            mean,
            std,
            fingerprint,
            notes: Vec::new(),
            broken: BrokenImages::default(),
        }
    }

    /// [`Dataset::fingerprint`] of what weights and decisions depend on: the test split is left out.
    pub fn training_fingerprint(&self) -> String {
        let (train, validation) = (&*self.train, &*self.validation);
        match self.test.in_memory() {
            Some(test) => fingerprint([train, validation, &test.select(&[])]),
            None => fingerprint([train, validation]),
        }
    }
}

/// SHA-256 over some splits, in lower-case hexadecimal.
pub(crate) fn fingerprint<const N: usize>(splits: [&dyn ImageSource; N]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"spvit-data 1\n");
    for source in splits {
        source.fingerprint(&mut |bytes| hash.update(bytes));
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pixels: Vec<u8>, labels: Vec<u16>) -> ImageSet {
        ImageSet::new([1, 1, 2], 3, pixels, labels).unwrap()
    }

    #[test]
    fn the_fingerprint_sees_pixels_labels_and_the_split() {
        let of = |train: ImageSet, test: ImageSet| {
            let splits = [train, set(vec![], vec![]), test];
            Dataset::from_splits("x".into(), vec![], splits).fingerprint
        };
        let reference = of(set(vec![1, 2, 3, 4], vec![0, 1]), set(vec![5, 6], vec![2]));
        assert_eq!(reference, of(set(vec![1, 2, 3, 4], vec![0, 1]), set(vec![5, 6], vec![2])));
        assert_ne!(reference, of(set(vec![1, 2, 3, 5], vec![0, 1]), set(vec![5, 6], vec![2])));
        assert_ne!(reference, of(set(vec![1, 2, 3, 4], vec![0, 2]), set(vec![5, 6], vec![2])));
        assert_ne!(reference, of(set(vec![1, 2], vec![0]), set(vec![3, 4, 5, 6], vec![1, 2])));
    }
}
