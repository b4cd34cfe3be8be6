//! What the models make of the classes, and of single images.

use spvit_train::Evaluation;
use svg::node::element::{Circle, Group, Line, Rectangle, Text};

use crate::{
    Record,
    colours::{self, Colour},
    numbers::{counted, part, percent, shortened},
    page::{Figure, Key, Photograph, Section, Table},
};

/// Classes that are shown one by one.
const MOST_CLASSES: usize = 24;
/// Classes of a whole confusion matrix.
const MOST_PAIRS: usize = 12;
/// Rows of a table of confusions.
const ROWS: usize = 15;
/// Letters of a class's name.
const LONGEST_NAME: usize = 120;
const WIDTH: usize = 420;
/// Where a class's name ends, in both figures.
const NAMES: usize = 104;

/// The section on classes, or why there is none.
pub(crate) fn section(record: &Record) -> Section {
    let mut section =
        Section { id: "classes", title: "Classes".into(), layout: "two", ..Section::default() };
    let Some(evaluation) = &record.evaluation else {
        section.notes.push(
            "Nothing is known of single classes (evaluation.json); `spvit evaluate` writes it."
                .into(),
        );
        return section;
    };
    let (classes, images) = (evaluation.class_names.len(), evaluation.images);
    let (classes, images) =
        (counted(classes, "class").replace("classs", "classes"), counted(images, "test image"));
    section.notes.push(format!("The {images} of {classes}. {}", spread(evaluation)));
    section.figures.extend(by_class(evaluation));
    match evaluation.class_names.len() <= MOST_PAIRS {
        true => section.figures.extend(matrix(evaluation)),
        false => section.tables.extend(confusions(evaluation)),
    }
    section
}

/// Of a model: every class's share of images that it is right about; `None` for a class without images.
fn shares(by_class: &[[usize; 2]]) -> Vec<Option<f64>> {
    let share = |[right, all]: &[usize; 2]| (*all > 0).then(|| *right as f64 / *all as f64);
    by_class.iter().map(share).collect()
}

/// How classes differ in what the last model makes of them.
fn spread(evaluation: &Evaluation) -> String {
    let Some(model) = evaluation.models.last() else { return String::new() };
    let mut shares: Vec<f64> = shares(&model.by_class).into_iter().flatten().collect();
    shares.sort_by(f64::total_cmp);
    let at = |share: f64| shares[(share * (shares.len() - 1) as f64).round() as usize];
    match shares.is_empty() {
        true => String::new(),
        false => format!(
            "The {} model is right about {} of the images of the median class, {} of the worst.",
            model.name,
            percent(at(0.5)),
            percent(at(0.0))
        ),
    }
}

fn name(evaluation: &Evaluation, class: usize) -> String {
    let name = evaluation.class_names.get(class).map(|name| name.trim());
    let name = name.filter(|name| !name.is_empty());
    name.map_or_else(|| format!("class {class}"), |name| shortened(name, LONGEST_NAME))
}

/// The classes to be shown: all, or the worst of many.
fn shown(evaluation: &Evaluation) -> Vec<usize> {
    let Some(model) = evaluation.models.last() else { return Vec::new() };
    let shares = shares(&model.by_class);
    let mut classes: Vec<usize> =
        (0..shares.len()).filter(|&class| shares[class].is_some()).collect();
    let share = |class: usize| shares[class].unwrap_or_default();
    classes.sort_by(|&a, &b| share(a).total_cmp(&share(b)).then(a.cmp(&b)));
    classes.truncate(MOST_CLASSES);
    classes
}

/// Accuracy by class of the first and the last model, a row for each class.
fn by_class(evaluation: &Evaluation) -> Option<Figure> {
    let classes = shown(evaluation);
    let (first, last) = (evaluation.models.first()?, evaluation.models.last()?);
    let (before, after) = (shares(&first.by_class), shares(&last.by_class));
    let all = || classes.iter().flat_map(|&class| [before[class], after[class]]).flatten();
    let low = (all().fold(1.0, f64::min) * 10.0).floor().max(0.0) / 10.0;
    let low = if low >= 1.0 { 0.9 } else { low };
    let (left, right) = (NAMES + 12, WIDTH - 62);
    let place = |share: f64| left as f64 + (right - left) as f64 * (share - low) / (1.0 - low);
    let row = 22;
    let height = 26 + row * classes.len();
    let mut group = Group::new();
    for tick in [low, (low + 1.0) / 2.0, 1.0] {
        let at = place(tick);
        let label = format!("{:.0} %", 100.0 * tick);
        let upright = stroke([at, 16.0], [at, height as f64], &colours::GRID, 1.0);
        let label = text([at, 11.0], &label, &colours::MUTED).set("text-anchor", "middle");
        group = group.add(upright).add(label);
    }
    for (index, &class) in classes.iter().enumerate() {
        let middle = (26 + row * index + row / 2) as f64;
        let label = shortened(&name(evaluation, class), 15);
        let label = text([NAMES as f64, middle + 4.0], &label, &colours::INK);
        group = group.add(label.set("text-anchor", "end"));
        let (Some(own), Some(dense)) = (after[class], before[class]) else { continue };
        let [from, to] = [dense, own].map(place);
        group = group.add(stroke([from, middle], [to, middle], &colours::OUTLINE, 2.0));
        if evaluation.models.len() > 1 {
            group = group.add(dot([from, middle], &colours::DENSE));
        }
        let value = text([WIDTH as f64, middle + 4.0], &percent(own), &colours::MUTED);
        group =
            group.add(dot([to, middle], &colours::COMPACT)).add(value.set("text-anchor", "end"));
    }
    let told: Vec<String> = classes
        .iter()
        .filter_map(|&class| {
            Some(format!("{} {}", name(evaluation, class), percent(after[class]?)))
        })
        .collect();
    let whole = evaluation.class_names.len() <= MOST_CLASSES;
    let mut keys = vec![Key::new(&colours::COMPACT, last.name.clone())];
    if evaluation.models.len() > 1 {
        keys.push(Key::new(&colours::DENSE, first.name.clone()));
    }
    let title = match whole {
        true => "Accuracy by class".to_string(),
        false => format!("The {} worst classes", classes.len()),
    };
    Some(Figure {
        alternative: format!(
            "Accuracy of the {} model by class, the worst first: {}.",
            last.name,
            told.join(", ")
        ),
        title,
        caption: "The worst come first.".into(),
        keys,
        size: [WIDTH as u32, height as u32],
        svg: group.to_string().replace('\n', " "),
    })
}

/// The confusion matrix of the last model.
fn matrix(evaluation: &Evaluation) -> Option<Figure> {
    let last = evaluation.models.last()?;
    let classes = evaluation.class_names.len();
    if classes == 0 {
        return None;
    }
    let cell = ((WIDTH - NAMES - 52) / classes).min(34) as f64;
    let (left, top) = ((NAMES + 8) as f64, 92.0);
    let mut counts = vec![vec![0; classes]; classes];
    for &[class, guess, count] in &evaluation.confusion {
        counts[class][guess] += count;
    }
    let wrong = |class: usize| (0..classes).filter(move |&guess| guess != class);
    let most = (0..classes).flat_map(|class| wrong(class).map(move |guess| (class, guess)));
    let most = most.map(|(class, guess)| counts[class][guess]).max().unwrap_or(0).max(1);
    let mut group = Group::new();
    for (class, row) in counts.iter().enumerate() {
        let y = top + cell * class as f64;
        let label = shortened(&name(evaluation, class), 15);
        let own = text([NAMES as f64, y + cell / 2.0 + 4.0], &label, &colours::INK);
        let x = left + cell * (class as f64 + 0.5) + 4.0;
        let above = text([x, top - 6.0], &label, &colours::INK);
        let turned = above.set("transform", format!("rotate(-55 {x:.1} {})", top - 6.0));
        group = group.add(own.set("text-anchor", "end")).add(turned);
        let all: usize = row.iter().sum();
        for (guess, &count) in row.iter().enumerate() {
            let x = left + cell * guess as f64;
            let (colour, strength) = match guess == class {
                true => (&colours::COMPACT, count as f64 / all.max(1) as f64 * 0.35),
                false => (&colours::BUDGET, count as f64 / most as f64 * 0.6),
            };
            let square = Rectangle::new()
                .set("x", format!("{x:.1}"))
                .set("y", format!("{y:.1}"))
                .set("width", format!("{:.1}", cell - 1.0))
                .set("height", format!("{:.1}", cell - 1.0))
                .set("fill", colour.hex())
                .set("fill-opacity", format!("{strength:.2}"))
                .set("stroke", colours::GRID.hex());
            group = group.add(square);
            if count > 0 {
                let at = [x + (cell - 1.0) / 2.0, y + cell / 2.0 + 3.5];
                let number = text(at, &count.to_string(), &colours::INK).set("font-size", 9.5);
                group = group.add(number.set("text-anchor", "middle"));
            }
        }
    }
    let height = top + cell * classes as f64 + 2.0;
    let worst: Vec<String> = ranked(evaluation)
        .into_iter()
        .take(3)
        .map(|[class, guess, count]| {
            format!("{count} of {} as {}", name(evaluation, class), name(evaluation, guess))
        })
        .collect();
    let alternative = match worst.is_empty() {
        true => "No image is confused.".into(),
        false => format!("Confusions; the most frequent are {}.", worst.join(", ")),
    };
    Some(Figure {
        title: format!("Confusion of the {} model", last.name),
        alternative,
        caption: "Rows are true classes, columns what the model says, cells numbers of images."
            .into(),
        keys: vec![Key::new(&colours::COMPACT, "right"), Key::new(&colours::BUDGET, "wrong")],
        size: [WIDTH as u32, height.ceil() as u32],
        svg: group.to_string().replace('\n', " "),
    })
}

/// Confusions, the most frequent first.
fn ranked(evaluation: &Evaluation) -> Vec<[usize; 3]> {
    let mut pairs: Vec<[usize; 3]> =
        evaluation.confusion.iter().filter(|pair| pair[0] != pair[1]).copied().collect();
    pairs.sort_by_key(|&[class, guess, count]| (std::cmp::Reverse(count), class, guess));
    pairs
}

/// The most frequent confusions of many classes.
fn confusions(evaluation: &Evaluation) -> Option<Table> {
    let last = evaluation.models.last()?;
    let rows: Vec<Vec<String>> = ranked(evaluation)
        .into_iter()
        .take(ROWS)
        .map(|[class, guess, count]| {
            let all = last.by_class.get(class).map_or(0, |own| own[1]);
            let share = part(count as f64, all as f64);
            vec![name(evaluation, class), name(evaluation, guess), count.to_string(), share]
        })
        .collect();
    (!rows.is_empty()).then(|| Table {
        caption: format!("The most frequent confusions of the {} model", last.name),
        head: ["class", "taken for", "images", "of the class"].map(String::from).to_vec(),
        rows,
        folded: false,
        numbers: false,
    })
}

/// The images that two models judge differently, or why there are none. Without `pictures` they are left out.
pub(crate) fn differences(record: &Record, pictures: bool) -> Section {
    let mut section =
        Section { id: "differences", title: "Judged differently".into(), ..Section::default() };
    let Some(evaluation) = &record.evaluation else {
        section.notes.push("Nothing is known of single images (evaluation.json).".into());
        return section;
    };
    let (Some(first), Some(last)) = (evaluation.models.first(), evaluation.models.last()) else {
        return section;
    };
    if evaluation.models.len() < 2 {
        section.notes.push("There is only one model to judge the images.".into());
        return section;
    }
    let (first, last) = (first.name.clone(), last.name.clone());
    let (count, all) = (evaluation.differing, evaluation.images);
    section.notes.push(format!(
        "The {first} and the {last} model give different classes to {} of {} ({}){}",
        count,
        counted(all, "image"),
        part(count as f64, all as f64),
        match (count, pictures) {
            (0, _) => ".",
            (_, true) => "; here are those of which both are surest.",
            (_, false) => "; the pictures are left out, since the page would be too large.",
        }
    ));
    if pictures {
        section.photographs = evaluation
            .differences
            .iter()
            .map(|own| {
                let guess = |place: usize| {
                    let class = name(evaluation, own.guesses[place]);
                    let sure = format!("{:.0} %", 100.0 * own.probabilities[place]);
                    let right = if own.guesses[place] == own.class { " ✓" } else { "" };
                    format!("{class}{right} {sure}")
                };
                Photograph {
                    png: own.png.clone(),
                    alternative: format!("An image of the class {}", name(evaluation, own.class)),
                    lines: vec![
                        ("true", name(evaluation, own.class)),
                        ("dense", guess(0)),
                        ("compact", guess(1)),
                    ],
                }
            })
            .collect();
    }
    section
}

fn text([left, base]: [f64; 2], content: &str, colour: &Colour) -> Text {
    Text::new(content)
        .set("x", format!("{left:.1}"))
        .set("y", format!("{base:.1}"))
        .set("font-size", 12)
        .set("fill", colour.hex())
}

fn stroke(from: [f64; 2], to: [f64; 2], colour: &Colour, width: f64) -> Line {
    Line::new()
        .set("x1", format!("{:.1}", from[0]))
        .set("y1", format!("{:.1}", from[1]))
        .set("x2", format!("{:.1}", to[0]))
        .set("y2", format!("{:.1}", to[1]))
        .set("stroke", colour.hex())
        .set("stroke-width", width)
}

fn dot([x, y]: [f64; 2], colour: &Colour) -> Circle {
    Circle::new()
        .set("cx", format!("{x:.1}"))
        .set("cy", format!("{y:.1}"))
        .set("r", 4.5)
        .set("fill", colour.hex())
}
