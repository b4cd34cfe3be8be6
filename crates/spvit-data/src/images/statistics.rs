//! Mean and deviation of photographs.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::DataError;
use crate::images::files::spread;
use crate::set::channel_mean_and_std;
use crate::source::ImageSource;

/// How often each byte occurs, per channel.
type Counts = Vec<[u64; 256]>;

/// Each channel's mean and standard deviation over at most `sample` evenly spread images, pixels scaled to 0..1. Every
/// image counts alike, however large. Images that cannot be decoded are left out: a loader reports them.
///
/// # Errors
///
/// What is wrong with the first image of the sample if none can be decoded.
pub(crate) fn mean_and_std(
    source: &dyn ImageSource,
    sample: usize,
) -> Result<(Vec<f32>, Vec<f32>), DataError> {
    let places: Vec<usize> = spread(source.len(), sample).collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from).min(places.len().max(1));
    let work = || {
        let mut counts: Counts = vec![[0; 256]; source.channels()];
        while let Some(&place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Ok(pixels) = source.decode(place) {
                add(&mut counts, pixels.bytes());
            }
        }
        counts
    };
    let parts: Vec<Counts> = thread::scope(|scope| {
        let threads: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(joined).collect()
    });
    // Whole numbers: the sum does not depend on who counted what.
    let mut counts: Counts = vec![[0; 256]; source.channels()];
    for part in parts {
        for (sum, part) in counts.iter_mut().zip(part) {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
    }
    if counts.iter().flatten().all(|&count| count == 0) {
        source.decode(places.first().copied().unwrap_or_default())?;
    }
    Ok(counts.iter().map(channel_mean_and_std).unzip())
}

/// What every image adds up to in each channel.
const WEIGHT: u64 = 1 << 32;

fn add(sums: &mut Counts, bytes: &[u8]) {
    let channels = sums.len();
    let mut counts: Counts = vec![[0; 256]; channels];
    for pixel in bytes.chunks_exact(channels) {
        for (count, &value) in counts.iter_mut().zip(pixel) {
            count[usize::from(value)] += 1;
        }
    }
    let pixels = (bytes.len() / channels) as u64;
    for (sum, count) in sums.iter_mut().flatten().zip(counts.iter().flatten()) {
        *sum += count * WEIGHT / pixels.max(1);
    }
}
