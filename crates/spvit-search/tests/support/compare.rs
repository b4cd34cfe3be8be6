//! Comparisons.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use spvit_layers::state::StateDict;

use super::values;

/// What an error is measured against.
#[derive(Clone, Copy)]
pub enum Scale {
    /// Nothing: the error is absolute.
    One,
    /// The largest expected value, if that is above 1.
    AtLeastOne,
    /// The given value; zero demands equality.
    Given(f32),
}

/// The largest magnitude.
pub fn magnitude(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// Compares, and prints the largest error of each kind of check when it ends (`--nocapture`).
pub struct Errors {
    test: String,
    worst: BTreeMap<&'static str, (f32, String)>,
}

impl Errors {
    /// For one test, on one backend.
    pub fn new<B: Backend>(test: &str) -> Self {
        let backend = B::name(&super::device::<B>());
        Self { test: format!("{test}, {backend}"), worst: BTreeMap::new() }
    }

    /// Fails if any value is further from the expected one than `tolerance`, relative to `scale`.
    #[track_caller]
    pub fn check(
        &mut self,
        kind: &'static str,
        name: &str,
        found: &[f32],
        expected: &[f32],
        (tolerance, scale): (f32, Scale),
    ) {
        assert_eq!(found.len(), expected.len(), "{kind}: {name}: number of values");
        let scale = match scale {
            Scale::One => 1.0,
            Scale::AtLeastOne => magnitude(expected).max(1.0),
            Scale::Given(scale) => scale,
        };
        // A NaN compares as unequal and fails here.
        let difference = found.iter().zip(expected).fold(0.0f32, |most, (a, b)| {
            let difference = (a - b).abs();
            if difference.is_nan() { f32::INFINITY } else { most.max(difference) }
        });
        let error = if difference == 0.0 { 0.0 } else { difference / scale };
        let worst = self.worst.entry(kind).or_insert((0.0, String::new()));
        if error >= worst.0 {
            *worst = (error, name.to_string());
        }
        assert!(
            error <= tolerance,
            "{}: {kind}: {name} is off by {error:e} of {scale:e}",
            self.test
        );
    }

    /// Compares gradients by name, each within 1e-4 of its tensor's scale. What is not expected
    /// must be zero.
    #[track_caller]
    pub fn check_gradients(&mut self, kind: &'static str, found: &StateDict, expected: &StateDict) {
        for (name, found) in found {
            let found = values(found);
            let expected_values = expected.get(name).map_or(vec![0.0; found.len()], values);
            let scale = gradient_scale(name, expected);
            self.check(kind, name, &found, &expected_values, (1e-4, Scale::Given(scale)));
        }
        let missing: Vec<_> = expected.keys().filter(|name| !found.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{kind}: no gradients of {missing:?}");
    }
}

/// The largest gradient of a tensor. The bias before a batch normalisation has a gradient of zero,
/// and what is stored of it is rounding: there the scale is that of the layer's weight.
pub fn gradient_scale(name: &str, gradients: &StateDict) -> f32 {
    let scale = |name: &str| gradients.get(name).map_or(0.0, |data| magnitude(&values(data)));
    let weight = match name.strip_suffix("bias") {
        Some(layer) => scale(&format!("{layer}weight")),
        None => 0.0,
    };
    match scale(name) {
        own if own < 1e-5 * weight => weight,
        own => own,
    }
}

impl Drop for Errors {
    fn drop(&mut self) {
        for (kind, (error, name)) in &self.worst {
            println!("{}: {kind}: {error:.1e} ({name})", self.test);
        }
    }
}
