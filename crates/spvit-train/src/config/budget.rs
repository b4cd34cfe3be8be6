//! Budgets as a person types them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::BudgetUnit;

const EXPECTED: &str = "expected a share (60%), FLOPs (1.3G), parameters (12M params) or a time (1.8 ms, \
                        or 60% ms of the dense model's)";

/// A budget as typed: `60%`, `0.6`, `1.3G`, `450M FLOPs`, `12M params`, `60% params`, `1.8 ms`, `60% ms`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GivenBudget {
    /// Up to 1 a share of the dense model, above 1 an amount; milliseconds are always an amount.
    pub target: f64,
    /// What it counts.
    pub unit: BudgetUnit,
}

impl FromStr for GivenBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.trim().to_lowercase();
        let number = |c: char| !c.is_alphabetic() && c != ' ' && c != '%';
        // `1e9` has a letter in it.
        let digits = lower.trim_end_matches(|c: char| !number(c));
        let words = lower[digits.len()..].replace(' ', "");
        let amount: f64 = digits.parse().map_err(|_| EXPECTED)?;
        // What is counted comes last.
        let (flops, parameters) = (BudgetUnit::Flops, BudgetUnit::Parameters);
        let counted = [
            ("parameters", parameters),
            ("params", parameters),
            ("flops", flops),
            ("macs", flops),
            ("ms", BudgetUnit::Milliseconds),
        ];
        let known =
            counted.iter().find_map(|&(word, unit)| Some((words.strip_suffix(word)?, unit)));
        let (scale, unit) = known.unwrap_or((words.as_str(), flops));
        if unit == BudgetUnit::Milliseconds {
            let (target, unit, most) = match scale {
                "" => (amount, unit, f64::MAX),
                "%" => (amount / 100.0, BudgetUnit::Latency, 1.0),
                _ => return Err(EXPECTED.into()),
            };
            return match target > 0.0 && target <= most {
                true => Ok(Self { target, unit }),
                false => Err(EXPECTED.into()),
            };
        }
        let (target, share) = match scale {
            "" => (amount, amount <= 1.0),
            "%" => (amount / 100.0, true),
            "k" => (amount * 1e3, false),
            "m" => (amount * 1e6, false),
            "g" => (amount * 1e9, false),
            _ => return Err(EXPECTED.into()),
        };
        // The configuration tells a share from an amount by its size.
        match target > 0.0 && target.is_finite() && share == (target <= 1.0) {
            true => Ok(Self { target, unit }),
            false => Err(EXPECTED.into()),
        }
    }
}

impl GivenBudget {
    /// Its text without the characters that are strange in a file's name: `60`, `1.3G`, `60-params`,
    /// `1.8-ms`, `60-latency`.
    pub fn name(&self) -> String {
        let text = match self.unit {
            BudgetUnit::Latency => format!("{} latency", self.amount()),
            _ => self.to_string(),
        };
        text.replace('%', "").replace(' ', "-")
    }

    /// Whether it is a share of what the dense model has.
    pub fn is_share(&self) -> bool {
        match self.unit {
            BudgetUnit::Flops | BudgetUnit::Parameters => self.target <= 1.0,
            BudgetUnit::Milliseconds => false,
            BudgetUnit::Latency => true,
        }
    }

    /// The shortest text that reads back as the same number.
    fn amount(&self) -> String {
        if self.unit == BudgetUnit::Milliseconds {
            return self.target.to_string();
        }
        let exact = |text: &String| text.parse::<Self>().is_ok_and(|own| own.target == self.target);
        let scaled =
            |scale: f64, end: &str| format!("{}{end}", (self.target / scale * 1e9).round() / 1e9);
        let short = match self.target {
            ..=1.0 => scaled(1e-2, "%"),
            1e9.. => scaled(1e9, "G"),
            1e6.. => scaled(1e6, "M"),
            1e3.. => scaled(1e3, "k"),
            _ => scaled(1.0, ""),
        };
        Some(short).filter(exact).unwrap_or_else(|| format!("{:?}", self.target))
    }
}

impl fmt::Display for GivenBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            BudgetUnit::Flops => "",
            BudgetUnit::Parameters => " params",
            BudgetUnit::Milliseconds | BudgetUnit::Latency => " ms",
        };
        write!(f, "{}{unit}", self.amount())
    }
}

impl TryFrom<String> for GivenBudget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|problem| format!("\"{text}\": {problem}"))
    }
}

impl From<GivenBudget> for String {
    fn from(budget: GivenBudget) -> Self {
        budget.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_its_scale_and_what_it_counts() {
        let (flops, parameters) = (BudgetUnit::Flops, BudgetUnit::Parameters);
        for (text, target, unit) in [
            ("60%", 0.6, flops),
            ("55%", 0.55, flops),
            ("0.6", 0.6, flops),
            ("1", 1.0, flops),
            ("1.3G", 1.3e9, flops),
            ("450 M FLOPs", 450e6, flops),
            ("1e9", 1e9, flops),
            ("12M params", 12e6, parameters),
            ("200k parameters", 200e3, parameters),
            ("60% params", 0.6, parameters),
            ("1.8 ms", 1.8, BudgetUnit::Milliseconds),
            ("0.25ms", 0.25, BudgetUnit::Milliseconds),
            ("60% ms", 0.6, BudgetUnit::Latency),
        ] {
            let budget = GivenBudget { target, unit };
            assert_eq!(text.parse(), Ok(budget), "{text}");
            assert_eq!(budget.to_string().parse(), Ok(budget), "{budget}");
        }
        for text in [
            "", "many", "0%", "120%", "-1", "60%%", "0.0001k", "nan", "inf", "120% ms", "5 s",
            "2k ms",
        ] {
            assert!(text.parse::<GivenBudget>().is_err(), "{text}");
        }
        assert!("5 s".parse::<GivenBudget>().unwrap_err().contains("1.8 ms"));
    }

    #[test]
    fn texts_are_short_and_names_have_no_strange_characters() {
        for (text, shown, name) in [
            ("0.6", "60%", "60"),
            ("57.5%", "57.5%", "57.5"),
            ("1300000000", "1.3G", "1.3G"),
            ("12e6 params", "12M params", "12M-params"),
            ("1.80ms", "1.8 ms", "1.8-ms"),
            ("60%ms", "60% ms", "60-latency"),
            ("60 ms", "60 ms", "60-ms"),
            ("0.123456789012345", "0.123456789012345", "0.123456789012345"),
        ] {
            let budget: GivenBudget = text.parse().unwrap();
            assert_eq!((budget.to_string().as_str(), budget.name().as_str()), (shown, name));
        }
    }
}
