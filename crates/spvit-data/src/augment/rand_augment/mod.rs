//! RandAugment as timm has it (Cubuk et al., RandAugment, 2019), from timm's strings.

mod kind;
mod parse;

#[cfg(test)]
mod tests;

use kind::Kind;

use crate::augment::operation::{Operation, Sampling};
use crate::augment::resample::Interpolation;
use crate::rng::Stream;

/// How operations are drawn: some at random, each applied with a probability, at a random magnitude.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RandAugment {
    magnitude: f64,
    spread: Spread,
    /// Magnitudes are kept to at most this.
    largest: f64,
    layers: usize,
    probability: f64,
    choices: Choices,
}

/// How an image's magnitudes differ from the one asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spread {
    /// Normally, with this standard deviation.
    Normal(f64),
    /// Uniform from 0.
    Uniform,
}

#[derive(Clone, Debug, PartialEq)]
enum Choices {
    /// Each as likely, and more than once.
    Equal(&'static [Kind]),
    /// By weight, each at most once.
    Weighted(&'static [(Kind, f64)]),
}

impl RandAugment {
    /// The operations for one image, in their order. Where an image is moved it is read by `interpolation`, bilinearly
    /// or bicubically.
    pub(crate) fn draw(&self, interpolation: Interpolation, stream: &mut Stream) -> Vec<Operation> {
        let kinds = self.choices.draw(self.layers, stream);
        kinds.into_iter().filter_map(|kind| self.operation(kind, interpolation, stream)).collect()
    }

    fn operation(
        &self,
        kind: Kind,
        interpolation: Interpolation,
        stream: &mut Stream,
    ) -> Option<Operation> {
        if !stream.chance(self.probability) {
            return None;
        }
        let magnitude = match self.spread {
            Spread::Normal(0.0) => self.magnitude,
            Spread::Normal(deviation) => self.magnitude + deviation * stream.normal(),
            Spread::Uniform => stream.between(0.0, self.magnitude),
        };
        let magnitude = magnitude.min(self.largest).max(0.0);
        let sampling = match interpolation.drawn(stream) {
            Interpolation::Bilinear => Sampling::Bilinear,
            _ => Sampling::Bicubic,
        };
        Some(kind.at(magnitude, || kind::sign(stream), sampling))
    }
}

impl Choices {
    fn draw(&self, count: usize, stream: &mut Stream) -> Vec<Kind> {
        match self {
            Self::Equal(kinds) => (0..count).map(|_| kinds[stream.below(kinds.len())]).collect(),
            Self::Weighted(weights) => {
                let mut left = weights.to_vec();
                let mut drawn = Vec::with_capacity(count);
                while drawn.len() < count && !left.is_empty() {
                    let mut rest =
                        stream.unit() * left.iter().map(|(_, weight)| weight).sum::<f64>();
                    let found = left.iter().position(|(_, weight)| {
                        rest -= weight;
                        rest < 0.0
                    });
                    // Rounding may leave a little after the last.
                    drawn.push(left.remove(found.unwrap_or(left.len() - 1)).0);
                }
                drawn
            }
        }
    }
}
