//! From a folder of image files to a data set.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::broken::BrokenImages;
use crate::dataset::{Dataset, fingerprint};
use crate::error::DataError;
use crate::images::catalogue::{Catalogue, Split};
use crate::images::files::FileSource;
use crate::images::{index, list, names, shards, split, statistics, tree};
use crate::load::DatasetOptions;
use crate::source::ImageSource;

/// How image files lie in a place.
pub(crate) enum Layout {
    /// A CSV list.
    List(PathBuf),
    /// Tar archives.
    Shards(Vec<(Split, PathBuf)>),
    /// Folders of splits with folders of classes.
    Splits(Vec<(Split, PathBuf)>),
    /// Folders of classes.
    Whole,
}

impl Layout {
    /// What `place`, a folder or a list, holds; `None` if no image files.
    pub(crate) fn find(place: &Path) -> Result<Option<Self>, DataError> {
        if place.is_file() {
            let is_list =
                place.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
            return Ok(is_list.then(|| Self::List(place.to_path_buf())));
        }
        if let Some(list) = list::find(place)? {
            return Ok(Some(Self::List(list)));
        }
        let splits = tree::splits(place)?;
        let shards = shards::find(place, &splits)?;
        if !shards.is_empty() {
            return Ok(Some(Self::Shards(shards)));
        }
        if !splits.is_empty() {
            return Ok(Some(Self::Splits(splits)));
        }
        Ok(tree::has_image(place)?.then_some(Self::Whole))
    }

    fn root<'a>(&'a self, place: &'a Path) -> &'a Path {
        match self {
            Self::List(file) => file.as_path(),
            _ => place,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Shards(_) => "shards",
            Self::Splits(_) => "splits",
            Self::Whole => "whole",
        }
    }

    fn read(&self, place: &Path) -> Result<Catalogue, DataError> {
        match self {
            Self::List(file) => list::read(file),
            Self::Shards(found) => shards::read(place, found),
            Self::Splits(found) => tree::read_splits(place, found),
            Self::Whole => tree::read_whole(place),
        }
    }
}

/// Reads the image files in `place` as `layout` says.
pub(crate) fn open(
    place: &Path,
    name: String,
    layout: &Layout,
    options: &DatasetOptions,
) -> Result<Dataset, DataError> {
    let images = &options.images;
    images.validate()?;
    let broken = BrokenImages::new(images.broken_limit)?;
    let (mut catalogue, mut notes) = catalogue(place, layout, images.index.as_deref())?;
    let mut class_names = names::readable(&catalogue.root, &catalogue.classes)?;
    if !images.classes.is_empty() {
        let order = names::order(&images.classes, [&catalogue.classes, &class_names])?;
        class_names = order.iter().filter_map(|&class| class_names.get(class).cloned()).collect();
        catalogue.reorder(&order);
    }
    let catalogue = Arc::new(catalogue);
    let made = split::make(&catalogue, images)?;
    notes.extend(catalogue.notes.iter().cloned());
    notes.extend(made.notes);
    let [train, validation, test] = made.members;
    let train = split::limit(train, options.train_limit, images.split_seed);
    let test = split::limit(test, options.test_limit, images.split_seed);
    let source = |members| Arc::new(FileSource::new(catalogue.clone(), members, images.channels));
    let [train, validation, test] = [train, validation, test].map(source);
    let (mean, std) = match (&images.mean, &images.std) {
        (Some(mean), Some(std)) => (mean.clone(), std.clone()),
        (mean, std) => {
            let found = statistics::mean_and_std(&*train, images.statistics_sample)?;
            (mean.clone().unwrap_or(found.0), std.clone().unwrap_or(found.1))
        }
    };
    let splits: [&dyn ImageSource; 3] = [&*train, &*validation, &*test];
    let fingerprint = fingerprint(splits);
    Ok(Dataset {
        name,
        train,
        validation,
        test,
        class_names,
        mean,
        std,
        fingerprint,
        notes,
        broken,
    })
}

fn catalogue(
    place: &Path,
    layout: &Layout,
    indices: Option<&Path>,
) -> Result<(Catalogue, Vec<String>), DataError> {
    let Some(folder) = indices else { return Ok((layout.read(place)?, Vec::new())) };
    let file = index::path(folder, layout.root(place), layout.name());
    let root = match layout {
        Layout::List(list) => list.parent().unwrap_or(Path::new("")),
        _ => place,
    };
    let mut notes = Vec::new();
    match index::load(&file, root) {
        Ok(Some(catalogue)) => return Ok((catalogue, notes)),
        Ok(None) => {}
        Err(problem) => notes.push(format!("{problem}: read the folder anew")),
    }
    let catalogue = layout.read(place)?;
    // Without an index the next start is slow, which is no reason not to start.
    if let Err(error) = index::save(&file, &catalogue) {
        notes.push(error.to_string());
    }
    Ok((catalogue, notes))
}
