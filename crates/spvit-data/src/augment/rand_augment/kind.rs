//! The operations that RandAugment chooses from, and what a magnitude means to each.

use crate::augment::operation::{Operation, Sampling};
use crate::rng::Stream;

/// The magnitude at which timm's ranges end.
pub(super) const FULL: f64 = 10.0;

/// An operation without its argument. Where a name says `Increasing`, more magnitude is more change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    PosterizeIncreasing,
    Solarize,
    SolarizeIncreasing,
    SolarizeAdd,
    Color,
    ColorIncreasing,
    Contrast,
    ContrastIncreasing,
    Brightness,
    BrightnessIncreasing,
    Sharpness,
    SharpnessIncreasing,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
    Desaturate,
    GaussianBlur,
}

use Kind::*;

/// timm's set without `inc1`.
pub(super) const PLAIN: [Kind; 15] = [
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    Posterize,
    Solarize,
    SolarizeAdd,
    Color,
    Contrast,
    Brightness,
    Sharpness,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
];

/// timm's set with `inc1`.
pub(super) const INCREASING: [Kind; 15] = [
    AutoContrast,
    Equalize,
    Invert,
    Rotate,
    PosterizeIncreasing,
    SolarizeIncreasing,
    SolarizeAdd,
    ColorIncreasing,
    ContrastIncreasing,
    BrightnessIncreasing,
    SharpnessIncreasing,
    ShearX,
    ShearY,
    TranslateXRel,
    TranslateYRel,
];

/// `t3a`: DeiT III's three (Touvron et al., DeiT III, 2022).
pub(super) const THREE: [Kind; 3] = [SolarizeIncreasing, Desaturate, GaussianBlur];

/// `t3aw`: the same and others, by weight.
pub(super) const THREE_WEIGHTED: [(Kind, f64); 14] = [
    (SolarizeIncreasing, 6.0),
    (Desaturate, 6.0),
    (GaussianBlur, 6.0),
    (Rotate, 3.0),
    (ShearX, 2.0),
    (ShearY, 2.0),
    (PosterizeIncreasing, 1.0),
    (AutoContrast, 1.0),
    (ColorIncreasing, 1.0),
    (SharpnessIncreasing, 1.0),
    (ContrastIncreasing, 1.0),
    (BrightnessIncreasing, 1.0),
    (Equalize, 1.0),
    (Invert, 1.0),
];

/// `tweights`.
pub(super) const WEIGHTED: [(Kind, f64); 15] = [
    (Rotate, 3.0),
    (ShearX, 2.0),
    (ShearY, 2.0),
    (TranslateXRel, 1.0),
    (TranslateYRel, 1.0),
    (ColorIncreasing, 0.25),
    (SharpnessIncreasing, 0.25),
    (AutoContrast, 0.25),
    (SolarizeIncreasing, 0.05),
    (SolarizeAdd, 0.05),
    (ContrastIncreasing, 0.05),
    (BrightnessIncreasing, 0.05),
    (Equalize, 0.05),
    (PosterizeIncreasing, 0.05),
    (Invert, 0.05),
];

impl Kind {
    /// The operation at this magnitude, 0 or more. `sign` is asked for 1 or −1 where either way is as likely, and
    /// `sampling` where the image moves.
    pub(super) fn at(
        self,
        magnitude: f64,
        sign: impl FnOnce() -> f64,
        sampling: Sampling,
    ) -> Operation {
        let share = magnitude / FULL;
        let posterize = (share * 4.0) as u32;
        let solarize = ((share * 256.0) as usize).min(256);
        let factor = share * 1.8 + 0.1;
        let either = |sign: f64| (1.0 + sign * (share * 0.9)).max(0.1);
        match self {
            AutoContrast => Operation::AutoContrast,
            Equalize => Operation::Equalize,
            Invert => Operation::Invert,
            Rotate => Operation::Rotate(sign() * (share * 30.0), sampling),
            Posterize => Operation::Posterize(posterize.min(8)),
            PosterizeIncreasing => Operation::Posterize(4u32.saturating_sub(posterize)),
            Solarize => Operation::Solarize(solarize),
            SolarizeIncreasing => Operation::Solarize(256 - solarize),
            SolarizeAdd => Operation::SolarizeAdd(((share * 110.0) as usize).min(128)),
            Color => Operation::Color(factor),
            Contrast => Operation::Contrast(factor),
            Brightness => Operation::Brightness(factor),
            Sharpness => Operation::Sharpness(factor),
            ColorIncreasing => Operation::Color(either(sign())),
            ContrastIncreasing => Operation::Contrast(either(sign())),
            BrightnessIncreasing => Operation::Brightness(either(sign())),
            SharpnessIncreasing => Operation::Sharpness(either(sign())),
            ShearX => Operation::ShearX(sign() * (share * 0.3), sampling),
            ShearY => Operation::ShearY(sign() * (share * 0.3), sampling),
            TranslateXRel => Operation::TranslateX(sign() * (share * 0.45), sampling),
            TranslateYRel => Operation::TranslateY(sign() * (share * 0.45), sampling),
            // A factor of 0 is grey, 1 no change.
            Desaturate => Operation::Color(1.0 - (0.5 + 0.5 * share).clamp(0.5, 1.0)),
            GaussianBlur => Operation::GaussianBlur((0.1 + 1.9 * share).clamp(0.1, 2.0)),
        }
    }
}

/// 1 or −1.
pub(super) fn sign(stream: &mut Stream) -> f64 {
    if stream.chance(0.5) { -1.0 } else { 1.0 }
}
