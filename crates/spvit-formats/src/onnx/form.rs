//! In which form a network is written.

use super::check;
use super::network::NetworkDescription;
use super::proto;
use crate::error::Fault;

/// In which form a network is written; the default is float32 of any number of images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Form {
    /// Images of a pass; `None` leaves their number open.
    pub batch: Option<usize>,
    /// Weights and products in float16. Norms, softmaxes and means over tokens are computed in float32;
    /// images come and logits go as float32 all the same.
    pub half: bool,
    /// The input is bytes, [batch, height, width, channels], which the network itself normalises.
    pub bytes: Option<Normal>,
    /// Name of the input, by default `input`.
    pub input: Option<String>,
    /// What else the file says, by key.
    pub metadata: Vec<(String, String)>,
}

/// How the values of images, from 0 to 1, are normalised: (x - mean) / std, by channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Normal {
    /// Mean of every channel.
    pub mean: Vec<f32>,
    /// Standard deviation of every channel.
    pub std: Vec<f32>,
}

impl Normal {
    /// Factor and summand of every channel for bytes.
    pub(super) fn of_bytes(&self) -> [Vec<f32>; 2] {
        let pairs = || self.mean.iter().zip(&self.std).map(|(m, s)| (f64::from(*m), f64::from(*s)));
        [
            pairs().map(|(_, std)| (1.0 / (255.0 * std)) as f32).collect(),
            pairs().map(|(mean, std)| (-mean / std) as f32).collect(),
        ]
    }
}

impl Form {
    pub(super) fn input(&self) -> &str {
        self.input.as_deref().unwrap_or(super::INPUT)
    }

    /// The type and the shape of the input, but for the number of images.
    pub(super) fn images(&self, net: &NetworkDescription) -> (i32, [usize; 3]) {
        let [height, width] = net.image_size;
        match self.bytes {
            Some(_) => (proto::UINT8, [height, width, net.channels]),
            None => (proto::FLOAT, [net.channels, height, width]),
        }
    }

    pub(super) fn check(&self, net: &NetworkDescription) -> Result<(), Fault> {
        check::sizes([("batch", self.batch.unwrap_or(1))])?;
        let Some(Normal { mean, std }) = &self.bytes else { return Ok(()) };
        let known = [mean, std].iter().all(|own| own.len() == net.channels);
        let usable =
            mean.iter().all(|x| x.is_finite()) && std.iter().all(|x| *x > 0.0 && x.is_finite());
        match known && usable {
            true => Ok(()),
            false => Err(Fault::invalid(
                format!("a mean and a std above 0 for each of {} channels", net.channels),
                format!("{mean:?} and {std:?}"),
                "Correct what images are normalised with.",
            )),
        }
    }
}
