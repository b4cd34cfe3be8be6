//! Images in files, decoded when they are asked for.

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::images::bytes;
use crate::images::catalogue::Catalogue;
use crate::images::decode::decode;
use crate::pixels::Pixels;
use crate::source::ImageSource;

/// Images of which a fingerprint holds every byte.
const SAMPLE: usize = 256;

/// One split of a catalogue's images.
#[derive(Debug)]
pub(crate) struct FileSource {
    catalogue: Arc<Catalogue>,
    members: Vec<u32>,
    channels: usize,
    digest: OnceLock<[u8; 32]>,
}

impl FileSource {
    /// The images with these numbers in the catalogue, decoded to `channels` channels.
    pub(crate) fn new(catalogue: Arc<Catalogue>, members: Vec<u32>, channels: usize) -> Self {
        Self { catalogue, members, channels, digest: OnceLock::new() }
    }

    fn entry(&self, index: usize) -> Option<&crate::images::catalogue::Entry> {
        self.catalogue.entries.get(*self.members.get(index)? as usize)
    }

    /// Every image's path, label and size, and every byte of some: reading all of them would take hours where the
    /// images are many, and an image that is exchanged for one of the same length is rare.
    fn digest(&self) -> [u8; 32] {
        let catalogue = &self.catalogue;
        let mut hash = Sha256::new();
        hash.update(b"files 1\n");
        for size in [self.members.len(), self.channels, catalogue.classes.len()] {
            hash.update((size as u64).to_le_bytes());
        }
        for name in &catalogue.classes {
            hash.update(name.as_bytes());
            hash.update(b"\n");
        }
        let folders: Vec<Vec<u8>> =
            catalogue.containers.iter().map(|found| bytes::of_path(&found.path)).collect();
        for entry in (0..self.members.len()).filter_map(|index| self.entry(index)) {
            hash.update(folders.get(entry.container as usize).map_or(&[][..], |path| path));
            hash.update(b"/");
            hash.update(catalogue.name(entry));
            hash.update([0]);
            hash.update(entry.label.to_le_bytes());
            hash.update(entry.size.to_le_bytes());
        }
        for place in spread(self.members.len(), SAMPLE) {
            match self.entry(place).map(|entry| catalogue.read(entry)) {
                Some(Ok(content)) => hash.update(Sha256::digest(content)),
                // Broken images are the loader's to report.
                _ => hash.update([0; 32]),
            }
        }
        hash.finalize().into()
    }
}

/// At most `count` of `0..length`, evenly spread.
pub(crate) fn spread(length: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(length);
    (0..count).map(move |place| (place as u128 * length as u128 / count.max(1) as u128) as usize)
}

impl ImageSource for FileSource {
    fn len(&self) -> usize {
        self.members.len()
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn classes(&self) -> usize {
        self.catalogue.classes.len()
    }

    fn size(&self) -> Option<[usize; 2]> {
        None
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.entry(index).map(|entry| entry.label)
    }

    fn name(&self, index: usize) -> String {
        match self.entry(index) {
            Some(entry) => self.catalogue.title(entry),
            None => format!("image {index}"),
        }
    }

    fn decode(&self, index: usize) -> Result<Pixels, DataError> {
        let Some(entry) = self.entry(index) else {
            let expected = format!("less than {}", self.members.len());
            return Err(DataError::option("image", expected, index));
        };
        let content = self.catalogue.read(entry)?;
        decode(&content, self.channels)
            .map_err(|problem| DataError::Image { name: self.catalogue.title(entry), problem })
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) {
        feed(self.digest.get_or_init(|| self.digest()));
    }
}
