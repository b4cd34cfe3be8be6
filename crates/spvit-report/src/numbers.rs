//! Numbers as a person reads them.

/// A share as a percentage: `91.83 %`.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// FLOPs or another amount in millions or billions: `16.56 M`, `1.251 G`.
pub fn flops_text(flops: u64) -> String {
    match flops as f64 {
        f if f < 1e9 => format!("{:.2} M", f / 1e6),
        f => format!("{:.3} G", f / 1e9),
    }
}

/// Seconds as milliseconds: `0.41 ms`.
pub fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", 1e3 * seconds)
}

/// A count with its digits in groups of three: `305 034`.
pub fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole in percent with one decimal; a dash where there is no whole.
pub(crate) fn part(own: f64, whole: f64) -> String {
    match whole > 0.0 {
        true => format!("{:.1} %", 100.0 * own / whole),
        false => "–".into(),
    }
}

/// A number on an axis: no zeros that say nothing.
pub(crate) fn brief(text: String) -> String {
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = match number.contains('.') {
        true => number.trim_end_matches('0').trim_end_matches('.'),
        false => number,
    };
    format!("{number} {unit}").trim_end().to_string()
}

/// A count with its noun, `1 image`, `2 images`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{} {noun}s", thousands(count)),
    }
}

/// A text of at most so many characters, the last one an ellipsis where some are gone.
pub(crate) fn shortened(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(percent(0.91834), "91.83 %");
        assert_eq!([16_560_000, 1_251_000_000].map(flops_text), ["16.56 M", "1.251 G"]);
        assert_eq!([7, 1234, 305034].map(thousands), ["7", "1 234", "305 034"]);
        assert_eq!(milliseconds(0.00041), "0.41 ms");
        assert_eq!((part(1.0, 3.0), part(1.0, 0.0)), ("33.3 %".into(), "–".into()));
        let axis = ["10.00 M", "80.0 %", "0.25", "100 %", "3"].map(|text| brief(text.into()));
        assert_eq!(axis, ["10 M", "80 %", "0.25", "100 %", "3"]);
        assert_eq!([1, 2000].map(|n| counted(n, "image")), ["1 image", "2 000 images"]);
        assert_eq!([shortened("ankle", 5), shortened("ankles", 5)], ["ankle", "ankl…"]);
    }
}
