//! What models make of the test images, class by class: `evaluation.json`.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use burn::tensor::{Tensor, TensorData, activation::softmax};
use serde::{Deserialize, Serialize};
use spvit_core::FusedOps;
use spvit_data::{Batch, DataError, Loader, Pixels};
use spvit_layers::{Mode, Vit};

use crate::loss;

/// The release that `burn` is pinned to, which does not tell it itself.
const BURN: &str = "0.21.0";
/// At most this many images that two models judge differently are kept.
const KEPT: usize = 12;
/// Longest side of such an image in pixels.
const SIDE: usize = 80;

/// What models make of the test images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Names of the classes.
    pub class_names: Vec<String>,
    /// Images that were looked at.
    pub images: usize,
    /// The models, in the order of the summary.
    pub models: Vec<ModelByClass>,
    /// Of the last model: true class, guessed class and number of images, for every pair that
    /// occurs, in the order of the classes.
    pub confusion: Vec<[usize; 3]>,
    /// Images of which the first and the last model give different classes.
    pub differing: usize,
    /// Some of them: those of which both are surest.
    pub differences: Vec<Difference>,
    /// What computed it.
    pub software: Software,
}

/// How often a model is right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelByClass {
    /// As in the summary.
    pub name: String,
    /// Of every class, the images that the model is right about and all of them.
    pub by_class: Vec<[usize; 2]>,
}

/// An image of which two models give different classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Its class.
    pub class: usize,
    /// The classes that the first and the last model give.
    pub guesses: [usize; 2],
    /// Their probabilities, from 0 to 1.
    pub probabilities: [f32; 2],
    /// The image as evaluation sees it, at most 80 pixels wide and high: a PNG in base64. Empty for
    /// images that are neither grey nor of three colours.
    pub png: String,
}

/// Versions, and the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Software {
    /// The version of spvit.
    pub spvit: String,
    /// The version of Burn.
    pub burn: String,
    /// Operating system, processor and threads.
    pub system: String,
}

impl Software {
    /// This program on this machine.
    pub fn own() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
        Self {
            spvit: env!("CARGO_PKG_VERSION").into(),
            burn: BURN.into(),
            system: format!("{system}, {processor}, {threads} threads"),
        }
    }
}

impl Evaluation {
    /// Share of the images that each model is right about, from 0 to 1.
    pub fn accuracies(&self) -> Vec<f64> {
        let right = |model: &ModelByClass| model.by_class.iter().map(|own| own[0]).sum::<usize>();
        self.models.iter().map(|model| right(model) as f64 / self.images.max(1) as f64).collect()
    }
}

/// Looks at every image once with every model.
///
/// # Errors
/// Whatever keeps the images from being read.
pub(crate) fn examine<B: FusedOps>(
    models: &[(&str, &Vit<B>)],
    images: &Loader,
    (mean, std): (&[f32], &[f32]),
    device: &B::Device,
) -> Result<Evaluation, DataError> {
    let mut tally = Tally::new(models.len(), images.set().classes());
    for batch in images.epoch(0, 0) {
        let batch = batch?;
        let data = TensorData::new(batch.images.clone(), batch.shape);
        let x = Tensor::from_data(data, device);
        let judge = |model: &Vit<B>| {
            let logits = model.forward(x.clone(), &Mode::Evaluate);
            let probabilities: Vec<f32> =
                softmax(logits.clone(), 1).into_data().iter::<f32>().collect();
            Judgement { classes: loss::classes(logits.into_data()), probabilities }
        };
        let judgements: Vec<_> = models.iter().map(|(_, model)| judge(model)).collect();
        tally.add(&batch, &judgements, (mean, std))?;
    }
    let names = models.iter().map(|(name, _)| name.to_string());
    let by_class = names.zip(tally.by_class);
    Ok(Evaluation {
        class_names: Vec::new(),
        images: tally.images,
        models: by_class.map(|(name, by_class)| ModelByClass { name, by_class }).collect(),
        confusion: tally.confusion.into_iter().map(|([a, b], count)| [a, b, count]).collect(),
        differing: tally.differing,
        differences: tally.kept.into_iter().map(|(_, difference)| difference).collect(),
        software: Software::own(),
    })
}

/// What a model makes of a batch.
struct Judgement {
    /// The likeliest class of every image.
    classes: Vec<usize>,
    /// Probabilities of all classes, image by image.
    probabilities: Vec<f32>,
}

impl Judgement {
    /// Class and probability of an image.
    fn of(&self, row: usize) -> (usize, f32) {
        let (class, width) = (self.classes[row], self.probabilities.len() / self.classes.len());
        (class, self.probabilities[row * width + class])
    }
}

/// What is counted.
struct Tally {
    images: usize,
    by_class: Vec<Vec<[usize; 2]>>,
    confusion: BTreeMap<[usize; 2], usize>,
    differing: usize,
    /// How sure the less sure model is, falling.
    kept: Vec<(f32, Difference)>,
}

impl Tally {
    fn new(models: usize, classes: usize) -> Self {
        let by_class = vec![vec![[0; 2]; classes]; models];
        let (confusion, kept) = (BTreeMap::new(), Vec::new());
        Self { images: 0, by_class, confusion, differing: 0, kept }
    }

    fn add(
        &mut self,
        batch: &Batch,
        judgements: &[Judgement],
        normalisation: (&[f32], &[f32]),
    ) -> Result<(), DataError> {
        self.images += batch.labels.len();
        for (row, &label) in batch.labels.iter().enumerate() {
            let label = usize::from(label);
            for (own, judgement) in self.by_class.iter_mut().zip(judgements) {
                own[label][0] += usize::from(judgement.classes[row] == label);
                own[label][1] += 1;
            }
            let (Some(first), Some(last)) = (judgements.first(), judgements.last()) else {
                continue;
            };
            let ((before, sure), (after, surer)) = (first.of(row), last.of(row));
            *self.confusion.entry([label, after]).or_default() += 1;
            if before != after {
                self.differing += 1;
                let difference = Difference {
                    class: label,
                    guesses: [before, after],
                    probabilities: [sure, surer],
                    png: String::new(),
                };
                self.keep(difference, (batch, row), normalisation)?;
            }
        }
        Ok(())
    }

    /// Keeps an image if it is among those of which both models are surest.
    fn keep(
        &mut self,
        difference: Difference,
        (batch, row): (&Batch, usize),
        (mean, std): (&[f32], &[f32]),
    ) -> Result<(), DataError> {
        let sure = difference.probabilities[0].min(difference.probabilities[1]);
        // Of equal ones the first stays.
        let place = self.kept.partition_point(|(other, _)| *other >= sure);
        if place >= KEPT {
            return Ok(());
        }
        let [_, channels, height, width] = batch.shape;
        let png = match channels {
            1 | 3 => {
                let length = channels * height * width;
                let values = &batch.images[row * length..(row + 1) * length];
                let image = Pixels::denormalised(values, [height, width], mean, std)?;
                STANDARD.encode(image.thumbnail(SIDE)?.to_png()?)
            }
            _ => String::new(),
        };
        self.kept.insert(place, (sure, Difference { png, ..difference }));
        self.kept.truncate(KEPT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_is_the_release_that_the_workspace_pins() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN}\"")));
    }

    /// A batch of grey 1 x 1 images, and judgements of two models with these classes and probabilities.
    fn add(tally: &mut Tally, labels: &[u16], pairs: [&[(usize, f32)]; 2]) {
        let count = labels.len();
        let batch = Batch {
            index: 0,
            images: vec![0.5; count],
            part: (0..count).collect(),
            shape: [count, 1, 1, 1],
            labels: labels.to_vec(),
            targets: Vec::new(),
            classes: 3,
        };
        let judgement = |own: &[(usize, f32)]| Judgement {
            classes: own.iter().map(|(class, _)| *class).collect(),
            probabilities: own
                .iter()
                .flat_map(|(class, p)| (0..3).map(|c| if c == *class { *p } else { 0.0 }))
                .collect(),
        };
        tally.add(&batch, &pairs.map(judgement), (&[0.0], &[1.0])).unwrap();
    }

    #[test]
    fn images_are_counted_by_class_and_by_pair() {
        let mut tally = Tally::new(2, 3);
        let dense = [(0, 0.9), (1, 0.8), (2, 0.7), (2, 0.6)];
        let compact = [(0, 0.9), (2, 0.5), (2, 0.7), (1, 0.7)];
        add(&mut tally, &[0, 1, 1, 2], [&dense, &compact]);
        assert_eq!(tally.by_class, [[[1, 1], [1, 2], [1, 1]], [[1, 1], [0, 2], [0, 1]]]);
        let expected = [([0, 0], 1), ([1, 2], 2), ([2, 1], 1)];
        assert_eq!(tally.confusion.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!((tally.images, tally.differing), (4, 2));
        let guesses: Vec<_> = tally.kept.iter().map(|(_, own)| (own.class, own.guesses)).collect();
        assert_eq!(guesses, [(2, [2, 1]), (1, [1, 2])], "the surest come first");
        assert!(STANDARD.decode(&tally.kept[0].1.png).unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn few_differences_are_kept() {
        let mut tally = Tally::new(2, 3);
        let sure: Vec<f32> = (0..40).map(|i| 0.5 + (i * 7 % 40) as f32 / 100.0).collect();
        let dense: Vec<_> = sure.iter().map(|&p| (0, p)).collect();
        let compact: Vec<_> = sure.iter().map(|_| (1, 0.99)).collect();
        add(&mut tally, &[0; 40], [&dense, &compact]);
        let kept: Vec<f32> = tally.kept.iter().map(|(sure, _)| *sure).collect();
        let mut expected = sure;
        expected.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(kept, expected[..KEPT]);
        assert_eq!(tally.differing, 40);
    }
}
