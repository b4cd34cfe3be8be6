//! Budgets as a person types them.

use std::str::FromStr;

const EXPECTED: &str = "expected a share (60%), FLOPs (1.3G) or parameters (12M params)";

/// A budget as typed: `60%`, `0.6`, `1.3G`, `450M FLOPs`, `12M params`, `60% params`.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Up to 1 a share of the dense model, above 1 an amount.
    pub target: f64,
    /// Whether it counts parameters, not FLOPs.
    pub parameters: bool,
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_lowercase();
        let amount = lower.trim_end_matches(|c: char| c.is_alphabetic() || c == ' ' || c == '%');
        let unit = lower[amount.len()..].replace(' ', "");
        let amount: f64 = amount.parse().map_err(|_| EXPECTED)?;
        // What is counted comes last.
        let (scale, parameters) = match unit.as_str() {
            "ms" | "s" => return Err(format!("budgets in time are not searched for; {EXPECTED}")),
            unit => {
                let words =
                    [("parameters", true), ("params", true), ("flops", false), ("macs", false)];
                let counted = words
                    .iter()
                    .find_map(|(word, parameters)| Some((unit.strip_suffix(word)?, *parameters)));
                counted.unwrap_or((unit, false))
            }
        };
        let (scale, share) = match scale {
            "" => (1.0, amount <= 1.0),
            "%" => (1e-2, true),
            "k" => (1e3, false),
            "m" => (1e6, false),
            "g" => (1e9, false),
            _ => return Err(EXPECTED.into()),
        };
        let target = amount * scale;
        // The configuration tells a share from an amount by its size.
        match target > 0.0 && target.is_finite() && share == (target <= 1.0) {
            true => Ok(Self { target, parameters }),
            false => Err(EXPECTED.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_its_scale_and_what_it_counts() {
        for (text, target, parameters) in [
            ("60%", 0.6, false),
            ("0.6", 0.6, false),
            ("1", 1.0, false),
            ("1.3G", 1.3e9, false),
            ("450 M FLOPs", 450e6, false),
            ("1e9", 1e9, false),
            ("12M params", 12e6, true),
            ("200k parameters", 200e3, true),
            ("60% params", 0.6, true),
        ] {
            assert_eq!(text.parse(), Ok(Budget { target, parameters }), "{text}");
        }
        for text in
            ["", "many", "0%", "120%", "-1", "60%%", "0.0001k", "nan", "inf", "1.8 ms", "5 s"]
        {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
        assert!("1.8 ms".parse::<Budget>().unwrap_err().contains("time"));
    }
}
