//! What a page is made of, and the page.

use askama::Template;

use crate::{
    ReportError,
    colours::{self, Colour},
};

/// Bytes that a page may have: small enough to be sent as a message.
pub const LIMIT: usize = 1_000_000;

/// Whether a page changes while it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// A page in a file.
    Still,
    /// A page that asks its server for a newer one every few seconds.
    Live,
}

/// A part of a page.
#[derive(Default)]
pub(crate) struct Section {
    /// Where links lead.
    pub id: &'static str,
    pub title: String,
    /// Paragraphs.
    pub notes: Vec<String>,
    pub tables: Vec<Table>,
    /// What colours mean in all figures.
    pub keys: Vec<Key>,
    pub figures: Vec<Figure>,
    /// How figures lie: `one`, `two` or `small`.
    pub layout: &'static str,
    pub photographs: Vec<Photograph>,
    pub listings: Vec<Listing>,
}

/// A drawing.
pub(crate) struct Figure {
    pub title: String,
    /// What is read aloud in its place.
    pub alternative: String,
    /// Below it; empty for none.
    pub caption: String,
    /// What its colours mean.
    pub keys: Vec<Key>,
    /// Width and height of its own pixels.
    pub size: [u32; 2],
    /// The content of an `svg` element.
    pub svg: String,
}

/// What a colour means.
pub(crate) struct Key {
    pub colour: &'static str,
    pub meaning: String,
}

impl Key {
    pub fn new(colour: &Colour, meaning: impl Into<String>) -> Self {
        Self { colour: colour.name, meaning: meaning.into() }
    }
}

/// A table. The first cell of a row is its name.
#[derive(Default)]
pub(crate) struct Table {
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Whether it is folded at first.
    pub folded: bool,
    /// Whether all but the first column are numbers.
    pub numbers: bool,
}

/// A small picture out of the images.
pub(crate) struct Photograph {
    /// A PNG in base64.
    pub png: String,
    pub alternative: String,
    /// Lines below it: what it is called, and the text.
    pub lines: Vec<(&'static str, String)>,
}

/// Text as it stands in a file or a terminal.
pub(crate) struct Listing {
    pub title: String,
    pub text: String,
    pub folded: bool,
}

/// One of the numbers at a page's head.
pub(crate) struct Tile {
    pub name: &'static str,
    pub value: String,
    pub aside: String,
}

/// A whole page.
#[derive(Template)]
#[template(path = "page.html")]
pub(crate) struct Page {
    pub title: String,
    /// What it comes to, in sentences.
    pub lead: Vec<String>,
    pub tiles: Vec<Tile>,
    pub sections: Vec<Section>,
    pub footer: String,
    pub live: bool,
}

impl Page {
    /// The page's own styles, colours first.
    fn style(&self) -> String {
        colours::style() + include_str!("../templates/style.css")
    }

    /// What keeps a live page up to date.
    fn script(&self) -> &'static str {
        include_str!("../templates/live.js")
    }

    /// The page as HTML.
    pub fn html(mut self) -> Result<String, ReportError> {
        let sentences = self.lead.iter_mut();
        let asides = self.tiles.iter_mut().map(|tile| &mut tile.aside);
        sentences.chain(asides).for_each(keep_together);
        for section in &mut self.sections {
            let captions = section.figures.iter_mut().map(|figure| &mut figure.caption);
            let lines = section.photographs.iter_mut().flat_map(|own| &mut own.lines);
            let lines = lines.map(|(_, line)| line);
            section.notes.iter_mut().chain(captions).chain(lines).for_each(keep_together);
        }
        Ok(self.render()?)
    }
}

/// No line ends between a number and what it counts in, or between its digits.
fn keep_together(text: &mut String) {
    let letters: Vec<char> = text.chars().collect();
    let joins = |at: usize| {
        let digit = |at: Option<&char>| at.is_some_and(char::is_ascii_digit);
        let (before, after) = (letters.get(at.wrapping_sub(1)), letters.get(at + 1));
        let unit = || {
            matches!(after, Some('%' | 'M' | 'G'))
                && !letters.get(at + 2).is_some_and(|c| c.is_alphanumeric())
        };
        digit(before) && (unit() || (digit(after) && digit(letters.get(at + 3))))
    };
    let kept = |(at, &c): (usize, &char)| if c == ' ' && joins(at) { '\u{a0}' } else { c };
    *text = letters.iter().enumerate().map(kept).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_with_their_units() {
        for (text, expected) in [
            ("loses 3.3 % of 2 000 images", "loses 3.3\u{a0}% of 2\u{a0}000 images"),
            ("6.62 M FLOPs, block 6 Models", "6.62\u{a0}M FLOPs, block 6 Models"),
            ("epoch 3 5", "epoch 3 5"),
        ] {
            let mut text = text.to_string();
            keep_together(&mut text);
            assert_eq!(text, expected);
        }
    }
}
