//! One decoded image.

use crate::error::DataError;

/// An image as bytes, 0 to 255, laid out `[height, width, channels]`, with 1 channel for grey and 3 for red, green,
/// blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    height: usize,
    width: usize,
    channels: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    /// An image of `[height, width]` with `bytes` of `height · width · channels`.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] when a dimension is 0 or `bytes` has another length than they say.
    pub fn new(
        [height, width]: [usize; 2],
        channels: usize,
        bytes: Vec<u8>,
    ) -> Result<Self, DataError> {
        let length = height.checked_mul(width).and_then(|area| area.checked_mul(channels));
        if length.is_none_or(|length| length == 0 || length != bytes.len()) {
            let expected = format!("{height} x {width} x {channels} bytes, at least 1");
            return Err(DataError::option("image", expected, format!("{} bytes", bytes.len())));
        }
        Ok(Self { height, width, channels, bytes })
    }

    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        [self.height, self.width]
    }

    /// Values of each pixel.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// All values, `[height, width, channels]`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All values, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The values alone.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
