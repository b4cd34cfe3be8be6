//! Images that a source cannot decode.

use std::sync::Arc;

use spvit_data::{
    AugmentConfig, Batch, BrokenImages, DataError, ImageSource, Loader, LoaderOptions, Pixels,
};

/// 40 grey images of 4 x 4 in 3 classes, some of which cannot be decoded.
#[derive(Debug)]
struct Source(Vec<usize>);

impl ImageSource for Source {
    fn len(&self) -> usize {
        40
    }

    fn channels(&self) -> usize {
        1
    }

    fn classes(&self) -> usize {
        3
    }

    fn size(&self) -> Option<[usize; 2]> {
        None
    }

    fn label(&self, index: usize) -> Option<u16> {
        (index < 40).then_some((index % 3) as u16)
    }

    fn name(&self, index: usize) -> String {
        format!("image-{index}.png")
    }

    fn decode(&self, index: usize) -> Result<Pixels, DataError> {
        if self.0.contains(&index) {
            let found = self.name(index);
            return Err(DataError::Option {
                option: "image",
                expected: "a whole one".into(),
                found,
            });
        }
        Pixels::new([4, 4], 1, vec![index as u8; 16])
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) {
        feed(b"40");
    }
}

fn loader(broken: &[usize], options: LoaderOptions, limit: f64) -> Loader {
    let source = Arc::new(Source(broken.to_vec()));
    let loader = Loader::new(source, &[0.0], &[1.0 / 255.0], options).unwrap();
    loader.sharing(&BrokenImages::new(limit).unwrap())
}

fn evaluation(threads: usize) -> LoaderOptions {
    LoaderOptions { threads, ..LoaderOptions::evaluation([4, 4], 5) }
}

/// The number of every image in a batch, as its pixels tell it.
fn numbers(batch: &Batch) -> Vec<usize> {
    batch.images.chunks(16).map(|image| image[0].round() as usize).collect()
}

#[test]
fn a_broken_image_is_left_out_and_named_once() {
    let loader = loader(&[3, 6], evaluation(0), 0.1);
    for _ in 0..2 {
        let batches: Vec<Batch> = loader.epoch(0, 0).map(Result::unwrap).collect();
        assert_eq!(batches.len(), 8);
        assert_eq!(numbers(&batches[0]), [0, 1, 2, 4]);
        assert_eq!(batches[0].labels, [0, 1, 2, 1]);
        assert_eq!((batches[0].shape, batches[0].targets.len()), ([4, 1, 4, 4], 12));
        assert_eq!(numbers(&batches[1]), [5, 7, 8, 9]);
    }
    let notes = loader.broken().take_notes();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("image-3.png") && notes[1].contains("image-6.png"), "{notes:?}");
}

#[test]
fn a_batch_of_broken_images_is_passed_over() {
    let batches: Vec<Batch> =
        loader(&[5, 6, 7, 8, 9], evaluation(2), 0.5).epoch(0, 0).map(Result::unwrap).collect();
    let indices: Vec<usize> = batches.iter().map(|batch| batch.index).collect();
    assert_eq!(indices, [0, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn too_many_broken_images_end_the_epoch_with_the_first_of_them() {
    for threads in [0, 1, 4] {
        let mut epoch = loader(&[3, 11, 12], evaluation(threads), 0.05).epoch(0, 0);
        assert_eq!(epoch.by_ref().take(2).filter(Result::is_ok).count(), 2);
        let message = epoch.next().unwrap().unwrap_err().to_string();
        assert!(message.contains("3 of 40 images are broken"), "{message}");
        assert!(message.contains("broken_limit` = 0.05"), "{message}");
        assert!(message.contains("image-3.png"), "{message}");
        assert!(epoch.next().is_none());
    }
}

#[test]
fn threads_change_nothing_where_images_are_broken() {
    let augment =
        AugmentConfig { horizontal_flip: true, mixup: 0.8, cutmix: 1.0, ..Default::default() };
    let draw = |threads| {
        let options =
            LoaderOptions { threads, ..LoaderOptions::training([32, 32], 7, 3, augment.clone()) };
        let loader = loader(&[0, 1, 2, 17, 30], options, 1.0);
        let batches: Vec<Batch> = loader.epoch(4, 0).map(Result::unwrap).collect();
        (batches, loader.broken().take_notes())
    };
    let inline = draw(0);
    assert!(inline.0.iter().any(|batch| batch.shape[0] < 7));
    for threads in [1, 2, 9] {
        assert_eq!(draw(threads), inline, "{threads} threads");
    }
}

#[test]
fn a_source_that_panics_does_not_leave_its_user_waiting() {
    #[derive(Debug)]
    struct Panicking(Source);
    impl ImageSource for Panicking {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn channels(&self) -> usize {
            1
        }
        fn classes(&self) -> usize {
            3
        }
        fn size(&self) -> Option<[usize; 2]> {
            None
        }
        fn label(&self, index: usize) -> Option<u16> {
            self.0.label(index)
        }
        fn name(&self, index: usize) -> String {
            self.0.name(index)
        }
        fn decode(&self, index: usize) -> Result<Pixels, DataError> {
            assert_ne!(index, 7, "a fault of the source");
            self.0.decode(index)
        }
        fn fingerprint(&self, _: &mut dyn FnMut(&[u8])) {}
    }
    let source = Arc::new(Panicking(Source(vec![])));
    let loader = Loader::new(source, &[0.0], &[1.0], evaluation(2)).unwrap();
    let mut epoch = loader.epoch(0, 0);
    assert!(epoch.next().unwrap().is_ok());
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| epoch.next()));
    assert!(panic.is_err());
}
