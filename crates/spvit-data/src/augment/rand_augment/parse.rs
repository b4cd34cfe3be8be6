//! timm's way to write RandAugment down.

use super::kind::{FULL, INCREASING, PLAIN, THREE, THREE_WEIGHTED, WEIGHTED};
use super::{Choices, RandAugment, Spread};
use crate::error::DataError;

const OPTION: &str = "rand_augment";
/// An image is not changed more often than this.
const MAX_LAYERS: usize = 16;

impl RandAugment {
    /// Reads a string as `rand-m9-mstd0.5-inc1`. `None` for an empty one.
    ///
    /// # Errors
    ///
    /// [`DataError::Option`] for what timm does not know, and for what it passes over without a word.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, DataError> {
        let mut parts = text.split('-');
        match parts.next() {
            Some("") if text.is_empty() => return Ok(None),
            Some("rand") => {}
            _ => {
                let expected = "\"\" for off, or timm's notation as in \"rand-m9-mstd0.5-inc1\"";
                return Err(DataError::option(OPTION, expected, format!("{text:?}")));
            }
        }
        let mut made = Self {
            magnitude: FULL,
            spread: Spread::Normal(0.0),
            largest: FULL,
            layers: 2,
            probability: 0.5,
            choices: Choices::Equal(&PLAIN),
        };
        let (mut set, mut increasing) = (None, false);
        for part in parts {
            if let Some(name) = part.strip_prefix('t') {
                set = Some(choices(name).ok_or_else(|| {
                    let expected = "t3a, t3aw or tweights for the set of operations";
                    DataError::option(OPTION, expected, format!("{part:?} in {text:?}"))
                })?);
                continue;
            }
            let digits = part.find(|letter: char| letter.is_ascii_digit()).unwrap_or(part.len());
            let (key, value) = part.split_at(digits);
            let number = |expected: &str, low: f64, high: f64, whole: bool| {
                let number = value.parse::<f64>().ok().filter(|number| {
                    (low..=high).contains(number) && (!whole || number.fract() == 0.0)
                });
                number.ok_or_else(|| {
                    DataError::option(OPTION, expected, format!("{part:?} in {text:?}"))
                })
            };
            match key {
                "m" => made.magnitude = number("m and a whole number, 0 to 30", 0.0, 30.0, true)?,
                "mstd" => {
                    let std = number("mstd and a number of at least 0", 0.0, f64::MAX, false)?;
                    made.spread = if std > 100.0 { Spread::Uniform } else { Spread::Normal(std) };
                }
                "mmax" => {
                    let largest = number("mmax and a whole number, 0 to 30", 0.0, 30.0, true)?;
                    // timm takes 0 for its default.
                    made.largest = if largest == 0.0 { FULL } else { largest };
                }
                "inc" => increasing = number("inc0 or inc1", 0.0, 1.0, true)? == 1.0,
                "n" => {
                    let expected = "n and a whole number, 0 to 16";
                    made.layers = number(expected, 0.0, MAX_LAYERS as f64, true)? as usize;
                }
                "p" => made.probability = number("p and a number from 0 to 1", 0.0, 1.0, false)?,
                _ => {
                    let expected = "m, mstd, mmax, n, p or inc with a number, or t with a set's name, between dashes";
                    return Err(DataError::option(
                        OPTION,
                        expected,
                        format!("{part:?} in {text:?}"),
                    ));
                }
            }
        }
        made.choices = match (set, increasing) {
            (Some(set), _) => set,
            (None, true) => Choices::Equal(&INCREASING),
            (None, false) => Choices::Equal(&PLAIN),
        };
        if let Choices::Weighted(kinds) = &made.choices
            && made.layers > kinds.len()
        {
            let expected = format!("at most {} layers, since none is drawn twice", kinds.len());
            return Err(DataError::option(OPTION, expected, format!("{text:?}")));
        }
        Ok(Some(made))
    }
}

fn choices(name: &str) -> Option<Choices> {
    Some(match name {
        "3a" => Choices::Equal(&THREE),
        "3aw" => Choices::Weighted(&THREE_WEIGHTED),
        "weights" => Choices::Weighted(&WEIGHTED),
        _ => return None,
    })
}
