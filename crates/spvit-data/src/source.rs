//! Where images come from.

use std::fmt;

use crate::error::DataError;
use crate::pixels::Pixels;
use crate::set::ImageSet;

/// Labelled images that are found by number and decoded one by one, from memory, files or archives.
///
/// What a source gives for a number never changes while it lives: loaders rest on that.
pub trait ImageSource: fmt::Debug + Send + Sync {
    /// The number of images.
    fn len(&self) -> usize;

    /// Whether there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels of every decoded image: 1 for grey, 3 for red, green, blue.
    fn channels(&self) -> usize;

    /// The number of classes, whether or not each of them occurs here.
    fn classes(&self) -> usize;

    /// Height and width in pixels, where all images are known to have the same.
    fn size(&self) -> Option<[usize; 2]>;

    /// The label of image `index`, below [`classes`](Self::classes); `None` past the end.
    fn label(&self, index: usize) -> Option<u16>;

    /// What a message calls image `index`: its path, or its number.
    fn name(&self, index: usize) -> String;

    /// Image `index`, of [`channels`](Self::channels) channels.
    ///
    /// # Errors
    ///
    /// A [`DataError`] that names the image and what is wrong with it. The loader leaves such an image out.
    fn decode(&self, index: usize) -> Result<Pixels, DataError>;

    /// Gives `feed` the bytes from which these images are told from others: equal for equal images in equal order.
    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8]));

    /// The images themselves, where all of them are in memory at one size.
    fn in_memory(&self) -> Option<&ImageSet> {
        None
    }

    /// How many images each class has, `[classes]`.
    fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        for label in (0..self.len()).filter_map(|index| self.label(index)) {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }
}

impl ImageSource for ImageSet {
    fn len(&self) -> usize {
        self.len()
    }

    fn channels(&self) -> usize {
        self.channels()
    }

    fn classes(&self) -> usize {
        self.classes()
    }

    fn size(&self) -> Option<[usize; 2]> {
        Some([self.height(), self.width()])
    }

    fn label(&self, index: usize) -> Option<u16> {
        self.label(index)
    }

    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn decode(&self, index: usize) -> Result<Pixels, DataError> {
        let Some(image) = self.image(index) else {
            let expected = format!("less than {}", self.len());
            return Err(DataError::option("image", expected, index));
        };
        let (channels, plane) = (self.channels(), self.height() * self.width());
        let mut bytes = vec![0; image.len()];
        for (channel, values) in image.chunks_exact(plane).enumerate() {
            for (pixel, &value) in bytes.chunks_exact_mut(channels).zip(values) {
                pixel[channel] = value;
            }
        }
        Pixels::new([self.height(), self.width()], channels, bytes)
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) {
        // Sizes come first, so that no two different splits give the same bytes.
        let sizes = [self.len(), self.channels(), self.height(), self.width(), self.classes()];
        for size in sizes {
            feed(&(size as u64).to_le_bytes());
        }
        let labels: Vec<u8> = self.labels().iter().flat_map(|label| label.to_le_bytes()).collect();
        feed(&labels);
        feed(self.pixels());
    }

    fn in_memory(&self) -> Option<&ImageSet> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_in_memory_is_decoded_pixel_by_pixel() {
        let set = ImageSet::new([3, 1, 2], 2, (0..12).collect(), vec![1, 0]).unwrap();
        let source: &dyn ImageSource = &set;
        let pixels = source.decode(1).unwrap();
        assert_eq!((pixels.size(), pixels.channels()), ([1, 2], 3));
        assert_eq!(pixels.bytes(), [6, 8, 10, 7, 9, 11]);
        let past = source.decode(2).unwrap_err().to_string();
        assert!(past.contains("less than 2, found 2"), "{past}");
        assert_eq!(source.class_counts(), [1, 1]);
    }
}
