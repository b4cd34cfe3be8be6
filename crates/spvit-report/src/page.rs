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
    pub fn html(&self) -> Result<String, ReportError> {
        Ok(self.render()?)
    }
}
