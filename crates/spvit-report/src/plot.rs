//! Plots with axes, drawn by plotters.

use std::ops::Range;

use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    ReportError,
    colours::{self, Colour},
};

/// Pixels of a drawing's letters. plotters writes fonts smaller than asked for, by this.
const LETTERS: f64 = 12.0 * 1.24;

/// One axis.
pub(crate) struct Axis<'a> {
    /// What it shows.
    pub range: Range<f64>,
    /// Its name; empty for none.
    pub title: &'a str,
    /// At most so many numbers on it.
    pub ticks: usize,
    /// A number as text; empty for none.
    pub label: &'a dyn Fn(f64) -> String,
}

/// Something in a plot, at values of its axes.
pub(crate) enum Mark {
    /// Straight lines from point to point.
    Line(Vec<(f64, f64)>, &'static Colour, u32),
    /// What lies between an upper and a lower line: an area.
    Area(Vec<(f64, f64)>, &'static Colour, f64),
    /// A circle, filled or not.
    Dot((f64, f64), &'static Colour, bool),
    /// A box between two corners, filled or not.
    Bar([(f64, f64); 2], &'static Colour, bool),
    /// A text that ends (`true`) or begins at a point.
    Text((f64, f64), String, &'static Colour, bool),
}

/// A plot of this width and height in pixels, as the content of an `svg` element.
///
/// # Errors
/// [`ReportError::Plot`] naming the title.
pub(crate) fn draw(
    title: &str,
    size: [u32; 2],
    (x, y): (&Axis<'_>, &Axis<'_>),
    marks: &[Mark],
) -> Result<String, ReportError> {
    let mut svg = String::new();
    let drawn = onto(&mut svg, size, (x, y), marks);
    drawn.map_err(|error| ReportError::Plot { title: title.into(), problem: error.to_string() })?;
    // The element itself is the page's, with a title and what is read aloud.
    let begin = svg.find('>').map_or(0, |at| at + 1);
    Ok(svg[begin..].trim_end().trim_end_matches("</svg>").replace("\n", ""))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn onto(
    svg: &mut String,
    [width, height]: [u32; 2],
    (x, y): (&Axis<'_>, &Axis<'_>),
    marks: &[Mark],
) -> Drawn {
    let small = width < 240;
    let area = SVGBackend::with_string(svg, (width, height)).into_drawing_area();
    let labels = |axis: &Axis<'_>, plain: u32, titled: u32| {
        if axis.title.is_empty() { plain } else { titled }
    };
    let mut chart = ChartBuilder::on(&area)
        .margin_top(8)
        .margin_right(if small { 6 } else { 12 })
        .x_label_area_size(labels(x, 20, 40))
        .y_label_area_size(labels(y, if small { 26 } else { 54 }, 60))
        .build_cartesian_2d(x.range.clone(), y.range.clone())?;
    let letters = |colour: &Colour| {
        let letters = if small { LETTERS * 0.93 } else { LETTERS };
        let mut style = TextStyle::from(("sans-serif", letters).into_font());
        style.color = colour.plotted().to_backend_color();
        style
    };
    let grid = colours::GRID.plotted();
    let (along, up) = (|value: &f64| (x.label)(*value), |value: &f64| (y.label)(*value));
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(grid)
        .axis_style(colours::OUTLINE.plotted())
        .label_style(letters(&colours::MUTED))
        .axis_desc_style(letters(&colours::MUTED))
        .set_all_tick_mark_size(3)
        .disable_x_mesh()
        .x_labels(x.ticks)
        .y_labels(y.ticks)
        .x_label_formatter(&along)
        .y_label_formatter(&up);
    if !x.title.is_empty() {
        mesh.x_desc(x.title);
    }
    if !y.title.is_empty() {
        mesh.y_desc(y.title);
    }
    mesh.draw()?;
    for mark in marks {
        match mark {
            Mark::Line(points, colour, width) => {
                let style = colour.plotted().stroke_width(*width);
                chart.draw_series([PathElement::new(points.clone(), style)])?;
            }
            Mark::Area(points, colour, opacity) => {
                let style = colour.plotted().mix(*opacity).filled();
                chart.draw_series([Polygon::new(points.clone(), style)])?;
            }
            Mark::Dot(point, colour, filled) => {
                let radius = if small { 2 } else { 4 };
                // Whatever lies behind does not shine through.
                let back = colours::PAPER.plotted().filled();
                chart.draw_series([Circle::new(*point, radius, back)])?;
                let style = colour.plotted();
                let style = if *filled { style.filled() } else { style.stroke_width(2) };
                chart.draw_series([Circle::new(*point, radius, style)])?;
            }
            Mark::Bar(corners, colour, filled) => {
                let style = colour.plotted();
                let style = if *filled { style.filled() } else { style.stroke_width(1) };
                chart.draw_series([Rectangle::new(*corners, style)])?;
            }
            Mark::Text(at, text, colour, ends) => {
                let side = if *ends { HPos::Right } else { HPos::Left };
                let style = letters(colour).pos(Pos::new(side, VPos::Bottom));
                chart.draw_series([plotters::element::Text::new(text.clone(), *at, style)])?;
            }
        }
    }
    area.present()?;
    Ok(())
}

/// A range that holds all values, and more by a share of it on either side; around a single one, too.
pub(crate) fn around(values: impl Iterator<Item = f64> + Clone, share: f64) -> Range<f64> {
    let finite = || values.clone().filter(|value| value.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return 0.0..1.0;
    }
    let width = match high - low {
        0.0 if low == 0.0 => 1.0,
        0.0 => low.abs() * 0.1,
        width => width,
    };
    low - share * width..high + share * width
}

/// A whole number as text; of others none.
pub(crate) fn whole(value: f64) -> String {
    match (value - value.round()).abs() < 1e-6 {
        true => format!("{value:.0}"),
        false => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_values() {
        assert_eq!(around([1.0, 3.0, f64::NAN].into_iter(), 0.5), 0.0..4.0);
        assert_eq!(around([].into_iter(), 0.1), 0.0..1.0);
        let one = around([2.0].into_iter(), 0.1);
        assert!(one.start < 2.0 && one.end > 2.0);
        let none = around([0.0].into_iter(), 0.1);
        assert!(none.start < 0.0 && none.end > 0.0);
    }

    #[test]
    fn texts_are_escaped() {
        let axis = || Axis { range: 0.0..1.0, title: "a<b", ticks: 3, label: &whole };
        let text = Mark::Text((0.5, 0.5), "<script>".into(), &colours::INK, false);
        let svg = draw("t", [200, 100], (&axis(), &axis()), &[text]).unwrap();
        assert!(!svg.contains("<script>") && svg.contains("&lt;script&gt;"), "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("svg"), "{svg}");
    }
}
