//! Processes, here threads, that share batches.

#[path = "common/peers.rs"]
mod peers;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use spvit_data::{
    AugmentConfig, Batch, BrokenImages, DataError, ImageSource, Loader, LoaderOptions, Peers,
    Pixels, Share, paired_places,
};

const IMAGES: usize = 40;
const SIDE: usize = 8;
const VALUES: usize = SIDE * SIDE;

/// Grey images of which some cannot be decoded, and the numbers of those that were asked for.
#[derive(Debug)]
struct Source {
    broken: Vec<usize>,
    decoded: Mutex<Vec<usize>>,
}

impl ImageSource for Source {
    fn len(&self) -> usize {
        IMAGES
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
        (index < IMAGES).then_some((index % 3) as u16)
    }

    fn name(&self, index: usize) -> String {
        format!("image-{index}.png")
    }

    fn decode(&self, index: usize) -> Result<Pixels, DataError> {
        self.decoded.lock().unwrap().push(index);
        if self.broken.contains(&index) {
            let problem = "cut short".into();
            return Err(DataError::Image { name: self.name(index), problem });
        }
        let pixels = (0..VALUES).map(|place| (5 * index + place) as u8);
        Pixels::new([SIDE, SIDE], 1, pixels.collect())
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) {
        feed(b"40");
    }
}

/// What a process drew: its batches up to an error, what is said of broken images, and all it decoded.
struct Drawn {
    batches: Vec<Batch>,
    error: Option<String>,
    notes: Vec<String>,
    decoded: Vec<usize>,
}

fn draw(loader: impl Fn(Arc<Source>) -> Loader, broken: &[usize]) -> Drawn {
    let source = Arc::new(Source { broken: broken.to_vec(), decoded: Mutex::default() });
    let loader = loader(source.clone());
    let (mut batches, mut error) = (Vec::new(), None);
    // The second begins in its middle, and knows what the first has met.
    for batch in [(3, 0), (4, 2)].into_iter().flat_map(|(epoch, start)| loader.epoch(epoch, start))
    {
        match batch {
            Ok(batch) => batches.push(batch),
            Err(problem) => {
                error = Some(problem.to_string());
                break;
            }
        }
    }
    let decoded = source.decoded.lock().unwrap().clone();
    Drawn { batches, error, notes: loader.broken().take_notes(), decoded }
}

/// What each of so many processes draws, one of which may find more images broken.
fn in_each(
    count: usize,
    share: impl Fn(usize) -> Share + Sync,
    loader: impl Fn(Arc<Source>) -> Loader + Sync,
    broken: impl Fn(usize) -> Vec<usize> + Sync,
) -> Vec<Drawn> {
    peers::in_each(count, |peer| {
        let (share, broken) = (share(peer.rank()), broken(peer.rank()));
        let peer = Arc::new(peer);
        draw(|source| loader(source).among(peer.clone(), share.clone()), &broken)
    })
}

/// Places of a process's images, of so many processes, in a batch of so many images.
type Part = fn([usize; 2], usize) -> Vec<usize>;

fn pairs([rank, count]: [usize; 2], images: usize) -> Vec<usize> {
    paired_places(images, rank * images / count..(rank + 1) * images / count)
}

fn in_a_row([rank, count]: [usize; 2], images: usize) -> Vec<usize> {
    (rank * images / count..(rank + 1) * images / count).collect()
}

fn parts(count: usize, part: Part) -> impl Fn(usize) -> Share + Sync {
    move |rank| Share::Part(Arc::new(move |images| part([rank, count], images)))
}

fn with(options: LoaderOptions, limit: f64) -> impl Fn(Arc<Source>) -> Loader + Sync {
    move |source| {
        let loader = Loader::new(source, &[0.3], &[0.2], options.clone()).unwrap();
        loader.sharing(&BrokenImages::new(limit).unwrap())
    }
}

fn training(threads: usize, augment: AugmentConfig) -> LoaderOptions {
    LoaderOptions { threads, ..LoaderOptions::training([SIDE, SIDE], 11, 3, augment) }
}

fn mixed() -> AugmentConfig {
    let (mixup, cutmix, mix_prob) = (0.8, 1.0, 0.7);
    AugmentConfig { horizontal_flip: true, mixup, cutmix, mix_prob, ..Default::default() }
}

/// Holds what processes drew to what one drew.
fn hold(all: &[Drawn], part: Part, one: &Drawn) {
    for (rank, own) in all.iter().enumerate() {
        assert_eq!(own.batches.len(), one.batches.len());
        for (own, whole) in own.batches.iter().zip(&one.batches) {
            let places = part([rank, all.len()], whole.labels.len());
            let image = |&place: &usize| &whole.images[place * VALUES..(place + 1) * VALUES];
            let images = places.iter().flat_map(image).copied().collect();
            assert_eq!(*own, Batch { part: places, images, ..whole.clone() });
        }
        assert_eq!((&own.notes, &own.error), (&one.notes, &one.error), "process {rank}");
    }
}

#[test]
fn parts_are_those_of_the_batches_of_one_process() {
    let broken = [0, 1, 2, 17, 30];
    let repeated = AugmentConfig { repeated: 3, ..mixed() };
    for augment in [AugmentConfig::default(), mixed(), repeated] {
        let one = draw(with(training(0, augment.clone()), 1.0), &broken);
        assert!(one.batches.iter().any(|batch| batch.labels.len() < 11));
        for (count, threads) in [(2, 0), (2, 3), (3, 1), (16, 2)] {
            for part in [pairs, in_a_row as Part] {
                let loader = with(training(threads, augment.clone()), 1.0);
                hold(&in_each(count, parts(count, part), loader, |_| broken.to_vec()), part, &one);
            }
        }
    }
}

#[test]
fn what_one_process_cannot_read_is_left_out_by_all() {
    // Of an even batch that is always mixed two processes decode all.
    let options =
        LoaderOptions { batch_size: 10, ..training(1, AugmentConfig { mix_prob: 1.0, ..mixed() }) };
    let one = draw(with(options.clone(), 1.0), &[4, 5, 20]);
    assert_eq!(one.notes.len(), 3);
    let broken = |rank| if rank == 1 { vec![4, 20] } else { vec![5] };
    hold(&in_each(2, parts(2, in_a_row), with(options, 1.0), broken), in_a_row, &one);
}

#[test]
fn too_many_broken_images_end_the_epoch_of_all() {
    let broken = [3, 11, 12];
    let one = draw(with(training(1, mixed()), 0.05), &broken);
    assert!(one.error.as_ref().is_some_and(|error| error.contains("3 of 40 images are broken")));
    let loader = with(training(1, mixed()), 0.05);
    hold(&in_each(3, parts(3, pairs), loader, |_| broken.to_vec()), pairs, &one);
    let evaluation = LoaderOptions::evaluation([SIDE, SIDE], 3);
    for own in in_each(3, |_| Share::Batches, with(evaluation, 0.05), |_| broken.to_vec()) {
        assert!(own.error.is_some_and(|error| error.contains("3 of 40 images are broken")));
    }
}

#[test]
fn a_process_decodes_its_own_images_and_what_they_are_mixed_with() {
    let (plain, mixed) = (AugmentConfig::default(), AugmentConfig { mix_prob: 1.0, ..mixed() });
    let cases = [
        (plain.clone(), pairs as Part, [3, 11]),
        (plain, in_a_row, [3, 11]),
        // Three pairs are taken apart.
        (mixed.clone(), pairs, [5, 11 + 3]),
        (mixed, in_a_row, [6, 11 * 2]),
    ];
    for (augment, part, [most, together]) in cases {
        let all = in_each(4, parts(4, part), with(training(1, augment), 0.0), |_| vec![]);
        let batches = all[0].batches.len();
        assert!(all.iter().all(|own| own.decoded.len() <= most * batches));
        let decoded: usize = all.iter().map(|own| own.decoded.len()).sum();
        assert!(decoded <= together * batches, "{decoded} of {batches} batches");
        let seen: HashSet<usize> = all.iter().flat_map(|own| own.decoded.clone()).collect();
        assert!(seen.len() > 30);
    }
}

#[test]
fn a_part_that_panics_does_not_leave_who_takes_it_waiting() {
    for threads in [0, 1, 3] {
        let calls = AtomicUsize::new(0);
        // Not where the epoch begins, but where its batches are made.
        let share =
            Share::Part(Arc::new(move |images| match calls.fetch_add(1, Ordering::SeqCst) {
                0..3 => (0..images).collect(),
                _ => panic!("out of order"),
            }));
        let loader = with(training(threads, mixed()), 0.0);
        let drawn = peers::in_each(1, |peer| {
            let source = Arc::new(Source { broken: vec![], decoded: Mutex::default() });
            let loader = loader(source).among(Arc::new(peer), share.clone());
            catch_unwind(AssertUnwindSafe(|| loader.epoch(0, 0).count())).is_err()
        });
        assert_eq!(drawn, [true], "{threads} threads");
    }
}

#[test]
fn every_batch_is_one_processs() {
    let evaluation = |threads| LoaderOptions { threads, ..LoaderOptions::evaluation([SIDE; 2], 3) };
    let broken = [5, 6, 7, 8, 39];
    let one = draw(with(evaluation(1), 1.0), &broken);
    for (count, threads) in [(2, 1), (3, 0), (5, 2), (20, 1)] {
        let loader = with(evaluation(threads), 1.0);
        let all = in_each(count, |_| Share::Batches, loader, |_| broken.to_vec());
        let mut found: Vec<Vec<f32>> =
            all.iter().flat_map(|own| &own.batches).map(|batch| batch.images.clone()).collect();
        let mut expected: Vec<Vec<f32>> =
            one.batches.iter().map(|batch| batch.images.clone()).collect();
        found.sort_by(|a, b| a.partial_cmp(b).unwrap());
        expected.sort_by(|a, b| a.partial_cmp(b).unwrap());
        assert!(found == expected, "{count} processes");
        for own in &all {
            assert_eq!(own.notes, one.notes);
        }
        let decoded: usize = all.iter().map(|own| own.decoded.len()).sum();
        assert_eq!(decoded, one.decoded.len());
    }
}
