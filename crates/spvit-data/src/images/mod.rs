//! Images in files: folders, lists and archives of them.
//!
//! A place is read into a [`Catalogue`](catalogue::Catalogue) (by `tree`, `list` or `shards`, or from an `index`),
//! which `split` divides. Files are opened and decoded when a loader asks for them.

pub(crate) mod decode;
pub(crate) mod open;
pub(crate) mod options;

mod bytes;
mod catalogue;
mod convert;
mod files;
mod index;
mod jpeg;
mod list;
pub(crate) mod loose;
mod names;
mod shards;
mod split;
mod statistics;
mod tree;
mod walk;
