//! Resizing of bytes, as Pillow does it.

use fast_image_resize::images::{CroppedImage, Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use serde::{Deserialize, Serialize};

use crate::augment::image::Rectangle;
use crate::error::DataError;
use crate::pixels::Pixels;
use crate::rng::Stream;

/// The filter by which bytes are resized. Where an image is shrunk it widens with the ratio, so that no pixel is skipped (Pillow's own behaviour, torchvision's `antialias`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// A triangle over two pixels.
    Bilinear,
    /// Catmull and Rom's cubic over four pixels (a = −0.5).
    #[default]
    Bicubic,
    /// Lanczos's window over six pixels.
    Lanczos,
    /// For training only: bilinear or bicubic, drawn for each image.
    Random,
}

impl Interpolation {
    /// The filter for one image.
    pub(crate) fn drawn(self, stream: &mut Stream) -> Self {
        match self {
            Self::Random if stream.chance(0.5) => Self::Bilinear,
            Self::Random => Self::Bicubic,
            fixed => fixed,
        }
    }

    fn algorithm(self) -> ResizeAlg {
        ResizeAlg::Convolution(match self {
            Self::Bilinear | Self::Random => FilterType::Bilinear,
            Self::Bicubic => FilterType::CatmullRom,
            Self::Lanczos => FilterType::Lanczos3,
        })
    }
}

/// Resizes images, one after the other, with the same buffers.
#[derive(Default)]
pub(crate) struct Resampler {
    resizer: Resizer,
    narrowed: Vec<u8>,
}

impl Resampler {
    /// The part `from` of `source` at `[height, width]` pixels: equal to cutting it out first and resizing then, but
    /// without the copy.
    pub(crate) fn resize(
        &mut self,
        source: &Pixels,
        from: Rectangle,
        [height, width]: [usize; 2],
        interpolation: Interpolation,
    ) -> Result<Pixels, DataError> {
        let refused = |problem: String| {
            DataError::option("image", "a part of 1 to 4 channels that can be resized", problem)
        };
        let kind = match source.channels() {
            1 => PixelType::U8,
            2 => PixelType::U8x2,
            3 => PixelType::U8x3,
            4 => PixelType::U8x4,
            channels => return Err(refused(format!("{channels} channels"))),
        };
        let side = |side: usize| u32::try_from(side).map_err(|error| refused(error.to_string()));
        let size = source.size();
        let image = ImageRef::new(side(size[1])?, side(size[0])?, source.bytes(), kind)
            .map_err(|error| refused(error.to_string()))?;
        // The library's own crop box would let the filter see what lies beyond it; a view of the part does not.
        let part = CroppedImage::new(
            &image,
            side(from.left)?,
            side(from.top)?,
            side(from.right - from.left)?,
            side(from.bottom - from.top)?,
        )
        .map_err(|error| refused(error.to_string()))?;
        let (wide, rows) = (side(width)?, side(from.bottom - from.top)?);
        let mut target = Image::new(wide, side(height)?, kind);
        let options = ResizeOptions::new().resize_alg(interpolation.algorithm()).use_alpha(false);
        // Rows first, then columns, as Pillow goes about it, but for some narrow images: a fifth of all bytes differ by
        // one otherwise, since what lies between is rounded. It takes no longer.
        self.narrowed.resize(width * (from.bottom - from.top) * source.channels(), 0);
        let mut narrowed = Image::from_slice_u8(wide, rows, &mut self.narrowed, kind)
            .map_err(|error| refused(error.to_string()))?;
        self.resizer
            .resize(&part, &mut narrowed, &options)
            .and_then(|()| self.resizer.resize(&narrowed, &mut target, &options))
            .map_err(|error| refused(error.to_string()))?;
        Pixels::new([height, width], source.channels(), target.into_vec())
    }

    /// All of `source` at `[height, width]` pixels.
    pub(crate) fn resize_whole(
        &mut self,
        source: &Pixels,
        size: [usize; 2],
        interpolation: Interpolation,
    ) -> Result<Pixels, DataError> {
        let [bottom, right] = source.size();
        self.resize(source, Rectangle { top: 0, bottom, left: 0, right }, size, interpolation)
    }
}
