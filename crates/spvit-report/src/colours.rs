//! Colours, by light and by dark.
//!
//! A drawing holds the light ones as attributes, so that it can stand alone; the style sheet puts the
//! page's own in their place, which follow what the reader's system prefers.

use plotters::style::RGBColor;
use spvit_layers::Operation;

/// A colour by light and by dark.
#[derive(Debug, PartialEq)]
pub(crate) struct Colour {
    /// Its name in the style sheet.
    pub name: &'static str,
    light: [u8; 3],
    dark: [u8; 3],
}

/// Declares the colours and the list of them.
macro_rules! colours {
    ($($constant:ident $name:literal $light:literal $dark:literal)*) => {
        $(pub(crate) const $constant: Colour =
            Colour { name: $name, light: rgb($light), dark: rgb($dark) };)*
        /// All of them.
        pub(crate) const ALL: &[Colour] = &[$($constant),*];
    };
}

colours! {
    INK "ink" 0x1c2126 0xe6e9ec
    MUTED "muted" 0x5c6772 0x9ba7b2
    GRID "grid" 0xe2e6ea 0x2e353c
    OUTLINE "outline" 0xb4bec8 0x55606b
    PAPER "paper" 0xffffff 0x14171b
    PANEL "panel" 0xf5f7f9 0x1b2026
    DENSE "dense" 0x84919e 0x8d9aa7
    SEARCHED "searched" 0x9062bd 0xb48ddb
    COMPACT "compact" 0x1c6cae 0x64aae6
    BUDGET "budget" 0xc4342b 0xf17c71
    FFN "ffn" 0x6ba6d5 0x4583b4
    ATTENTION "attention" 0xdb7a33 0xe8975c
    ATTENTION_TINT "attention-tint" 0xf7cdae 0x75411f
    WIDE "wide" 0x1d7f46 0x58c084
    WIDE_TINT "wide-tint" 0x93d1a5 0x2e7148
    MIDDLE "middle" 0x3d9f5b 0x69c488
    MIDDLE_TINT "middle-tint" 0xbbe3c4 0x285a38
    NARROW "narrow" 0x86c193 0x8ed3a0
    NARROW_TINT "narrow-tint" 0xdcf0e0 0x22402c
    NOTHING "nothing" 0xa5b0ba 0x65707b
    NOTHING_TINT "nothing-tint" 0xeceff2 0x262c33
    HEAD "head" 0xb7599a 0xdc8cc3
}

const fn rgb(hex: u32) -> [u8; 3] {
    let [_, red, green, blue] = hex.to_be_bytes();
    [red, green, blue]
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

impl Colour {
    /// The light one as an attribute's value.
    pub fn hex(&self) -> String {
        hex(self.light)
    }

    /// The light one as plotters has it.
    pub fn plotted(&self) -> RGBColor {
        let [red, green, blue] = self.light;
        RGBColor(red, green, blue)
    }
}

/// The colour of an operation's lines and bars, the dearer the warmer.
pub(crate) fn of(operation: Operation) -> &'static Colour {
    match operation {
        Operation::Shortcut => &NOTHING,
        Operation::BConv(1) => &NARROW,
        Operation::BConv(3) => &MIDDLE,
        Operation::BConv(_) => &WIDE,
        Operation::Msa => &ATTENTION,
    }
}

/// The colour of an operation's box, which has text on it.
pub(crate) fn tint(operation: Operation) -> &'static Colour {
    match operation {
        Operation::Shortcut => &NOTHING_TINT,
        Operation::BConv(1) => &NARROW_TINT,
        Operation::BConv(3) => &MIDDLE_TINT,
        Operation::BConv(_) => &WIDE_TINT,
        Operation::Msa => &ATTENTION_TINT,
    }
}

/// The part of a style sheet that gives every colour its value by light and by dark.
pub(crate) fn style() -> String {
    let values = |of: fn(&Colour) -> [u8; 3]| -> String {
        ALL.iter().map(|colour| format!("--{}:{};", colour.name, hex(of(colour)))).collect()
    };
    let (light, dark) = (values(|colour| colour.light), values(|colour| colour.dark));
    let drawn: String = ALL
        .iter()
        .map(|colour| {
            let (name, hex) = (colour.name, colour.hex());
            format!(
                "svg [fill=\"{hex}\"]{{fill:var(--{name})}}\
                 svg [stroke=\"{hex}\"]{{stroke:var(--{name})}}\
                 .key .{name}{{background:var(--{name})}}\n"
            )
        })
        .collect();
    // Paper is white.
    format!(
        ":root{{color-scheme:light dark;{light}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{drawn}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_colours_are_told_by_one_value() {
        for (i, colour) in ALL.iter().enumerate() {
            for other in &ALL[..i] {
                assert_ne!(colour.light, other.light, "{} and {}", colour.name, other.name);
                assert_ne!(colour.name, other.name);
            }
            assert!(style().contains(&format!("svg [fill=\"{}\"]", colour.hex())));
        }
    }

    /// Relative luminance by WCAG 2.
    fn luminance(colour: [u8; 3]) -> f64 {
        let [red, green, blue] = colour.map(|value| {
            let value = f64::from(value) / 255.0;
            match value <= 0.04045 {
                true => value / 12.92,
                false => ((value + 0.055) / 1.055).powf(2.4),
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn text_can_be_read_on_what_is_behind_it() {
        let behind =
            [PAPER, PANEL, ATTENTION_TINT, WIDE_TINT, MIDDLE_TINT, NARROW_TINT, NOTHING_TINT];
        let contrast = |a: [u8; 3], b: [u8; 3]| {
            let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
            (a / b).max(b / a)
        };
        for (text, back) in
            behind.iter().map(|back| (&INK, back)).chain([(&MUTED, &PAPER), (&MUTED, &PANEL)])
        {
            for (a, b) in [(text.light, back.light), (text.dark, back.dark)] {
                assert!(contrast(a, b) >= 4.5, "{} on {}", text.name, back.name);
            }
        }
    }
}
