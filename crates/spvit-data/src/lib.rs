//! Images for training and evaluating a classifier: reading folders, lists and tar shards of image files and sets in
//! MNIST's and CIFAR's formats, splitting them, augmenting them, and drawing them in batches.
//!
//! ```no_run
//! use spvit_data::{AugmentConfig, DatasetOptions, Loader, LoaderOptions, load};
//!
//! # fn main() -> Result<(), spvit_data::DataError> {
//! let data = load("data/fashion-mnist-mini".as_ref(), &DatasetOptions::new(1000))?;
//! let augment = AugmentConfig { pad_crop: 2, horizontal_flip: true, ..AugmentConfig::default() };
//! let options = LoaderOptions::training([28, 28], 128, 7, augment);
//! let loader = Loader::new(data.train.clone(), &data.mean, &data.std, options)?;
//! for batch in loader.epoch(0, 0) {
//!     let batch = batch?;
//!     assert_eq!(batch.images.len(), batch.shape.iter().product::<usize>());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a [`Loader`] yields depends on the images, its options, the epoch and the batch's position, and on nothing
//! else: not on the number of threads, and not on whether earlier batches of the epoch were drawn. A run resumed in
//! the middle of an epoch therefore sees the batches it would have seen.
//!
//! Images come from an [`ImageSource`]: an [`ImageSet`] in memory, or files that are decoded when a batch wants them,
//! by the loader's threads. An image that cannot be decoded is left out of its batch and named once
//! ([`BrokenImages::take_notes`]: nothing here prints); too many of them end the epoch with an error. `docs/DATA.md`
//! says which folders are read, and how splits are made.

pub mod bundle;

mod augment;
mod broken;
mod checksums;
mod cifar;
mod dataset;
mod epoch;
mod error;
mod idx;
mod images;
mod load;
mod loader;
mod pipeline;
mod pixels;
mod prepare;
mod preview;
mod resize;
mod rng;
mod set;
mod share;
mod source;
mod work;

pub use augment::AugmentConfig;
pub use augment::crop::{CropMode, EvalTransform, RandomResizedCrop};
pub use augment::erase::ErasingMode;
pub use augment::mix::paired_places;
pub use augment::resample::Interpolation;
pub use broken::{BROKEN_LIMIT, BrokenImages};
pub use dataset::Dataset;
pub use epoch::Epoch;
pub use error::DataError;
pub use images::decode::read_image;
pub use images::loose::LooseImages;
pub use images::options::ImageOptions;
pub use load::{DatasetOptions, Format, is_image_files, load};
pub use loader::{Loader, LoaderOptions};
pub use pipeline::Batch;
pub use pixels::Pixels;
pub use preview::ContactSheet;
pub use set::ImageSet;
pub use share::{PartOf, Peers, Share};
pub use source::ImageSource;

/// The README's example, so that it stays true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
