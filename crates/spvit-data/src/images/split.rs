//! Which image belongs to which split.

use crate::error::DataError;
use crate::images::catalogue::{Catalogue, Split};
use crate::images::options::ImageOptions;
use crate::rng::{Purpose, Stream};

/// The share that becomes validation where nothing else is asked, and the most images it becomes.
const SHARE: f64 = 0.1;
const MOST: f64 = 50_000.0;

/// The images of training, validation and test by their numbers, and how that came about where it was not plain.
pub(crate) struct Splits {
    pub(crate) members: [Vec<u32>; 3],
    pub(crate) notes: Vec<String>,
}

/// Makes the three splits out of those that the place has.
pub(crate) fn make(catalogue: &Catalogue, options: &ImageOptions) -> Result<Splits, DataError> {
    let of = |split: Split| -> Vec<u32> {
        let entries = catalogue.entries.iter().enumerate();
        entries.filter(|entry| entry.1.split == split).map(|entry| entry.0 as u32).collect()
    };
    let [train, validation, test, whole] = Split::ALL.map(of);
    let mut notes = Vec::new();
    let folder = catalogue.root.display();
    let divide = |members: Vec<u32>, share: f64, salt: u64| {
        stratified(catalogue, members, share, (options.split_seed, salt))
    };
    let share = |images: usize| {
        options.validation_share.unwrap_or_else(|| SHARE.min(MOST / images.max(1) as f64))
    };
    let seed = options.split_seed;
    let members = match (train.is_empty(), validation.is_empty(), test.is_empty()) {
        (true, true, true) => {
            let (rest, test) = divide(whole, options.test_share, 0);
            let wanted = share(rest.len());
            let (train, validation) = divide(rest, wanted, 1);
            let counts = [train.len(), validation.len(), test.len()];
            notes.push(format!(
                "{folder} has no splits: drew {} images for training, {} for validation and {} for the test, \
                 class by class, with seed {seed}",
                counts[0], counts[1], counts[2]
            ));
            [train, validation, test]
        }
        (true, _, _) => {
            return Err(DataError::malformed(
                &catalogue.root,
                "training images",
                "validation or test images alone",
                "Add a folder `train`, or rows of that split",
            ));
        }
        (false, false, false) => [train, validation, test],
        (false, validation_missing, _) => {
            let wanted = share(train.len());
            let (rest, drawn) = divide(train, wanted, 1);
            let test = if validation_missing { test } else { validation };
            let what = match (validation_missing, test.is_empty()) {
                (false, _) => {
                    "has no test images: reports are on its validation images, and decisions"
                }
                (true, false) => "has no validation images: decisions are",
                (true, true) => {
                    "has training images alone: nothing can be reported on, and decisions are"
                }
            };
            notes.push(format!(
                "{folder} {what} on {} of its training images, drawn class by class with seed {seed}",
                drawn.len()
            ));
            [rest, drawn, test]
        }
    };
    if members[0].is_empty() {
        return Err(DataError::malformed(
            &catalogue.root,
            "images to train on",
            "none after splitting",
            "Add images, or lower `test_share` and `validation_share`",
        ));
    }
    Ok(Splits { members, notes })
}

/// Draws `share` of every class, rounded, but never all of it; gives the rest and the drawn, each in their order.
fn stratified(
    catalogue: &Catalogue,
    members: Vec<u32>,
    share: f64,
    (seed, salt): (u64, u64),
) -> (Vec<u32>, Vec<u32>) {
    let label = |member: u32| catalogue.entries.get(member as usize).map_or(0, |entry| entry.label);
    let mut classes: Vec<Vec<u32>> = vec![Vec::new(); catalogue.classes.len()];
    for &member in &members {
        if let Some(class) = classes.get_mut(usize::from(label(member))) {
            class.push(member);
        }
    }
    let mut drawn: Vec<u32> = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let count =
            ((class.len() as f64 * share).round() as usize).min(class.len().saturating_sub(1));
        let order = Stream::new(seed, Purpose::Split, salt, number as u64).permutation(class.len());
        drawn.extend(order.into_iter().take(count).filter_map(|place| class.get(place)));
    }
    drawn.sort_unstable();
    let rest = members.into_iter().filter(|member| drawn.binary_search(member).is_err()).collect();
    (rest, drawn)
}

/// At most `limit` of a split's images, drawn from all of its classes; all of them if not given.
pub(crate) fn limit(members: Vec<u32>, limit: Option<usize>, seed: u64) -> Vec<u32> {
    let Some(limit) = limit.filter(|&limit| limit < members.len()) else { return members };
    let order = Stream::new(seed, Purpose::Split, 2, 0).permutation(members.len());
    let mut kept: Vec<u32> =
        order.into_iter().take(limit).filter_map(|place| members.get(place).copied()).collect();
    kept.sort_unstable();
    kept
}
