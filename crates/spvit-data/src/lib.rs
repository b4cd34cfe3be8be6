//! Images for training and evaluating a classifier: reading MNIST-family and CIFAR files, splitting them,
//! augmenting them, and drawing them in batches.
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
//!     assert_eq!(batch.images.len(), batch.shape.iter().product::<usize>());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a [`Loader`] yields depends on the images, its options, the epoch and the batch's position, and on nothing
//! else: not on the number of threads, and not on whether earlier batches of the epoch were drawn. A run resumed in
//! the middle of an epoch therefore sees the batches it would have seen.

pub mod bundle;

mod augment;
mod checksums;
mod cifar;
mod error;
mod idx;
mod load;
mod loader;
mod pipeline;
mod resize;
mod rng;
mod set;

pub use augment::AugmentConfig;
pub use error::DataError;
pub use load::{DatasetOptions, Format, load};
pub use loader::{Epoch, Loader, LoaderOptions};
pub use pipeline::Batch;
pub use set::{Dataset, ImageSet};
