//! Damaged files: each gives an error or a checkpoint, never a panic, and never takes more memory
//! than four times the undamaged file's length. The allocator of this program counts.

#![allow(missing_docs)]

#[path = "support/memory.rs"]
mod memory;
mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Mutex;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use spvit_formats::{HostTensor, StateDict, read, write_safetensors};
use support::{data, file, tensor_pickle, zip};

/// One reader at a time, also where all tests share a process.
static ALONE: Mutex<()> = Mutex::new(());

/// Reads a file; whether it succeeded, and the most memory held meanwhile.
fn measure(path: &Path) -> (bool, usize) {
    memory::peak(|| read(path).is_ok())
}

const MUTATIONS: u64 = 900;

/// Words that, exchanged for one another, give a file other number formats or other classes.
const WORDS: [&[u8]; 12] = [
    b"F32",
    b"F64",
    b"F16",
    b"I64",
    b"BF16",
    b"BOOL",
    b"FloatStorage",
    b"HalfStorage",
    b"DoubleStorage",
    b"LongStorage",
    b"_rebuild_tensor_v2",
    b"OrderedDict",
];

/// One change, chosen by the seed. `structure` is where headers and pickles lie: damage to the
/// numbers alone goes unnoticed, so most of it is done there.
fn mutate(bytes: &mut Vec<u8>, structure: &[Range<usize>], seed: u64) -> &'static str {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    let part = &structure[rng.random_range(0..structure.len())];
    let at = rng.random_range(part.clone());
    match seed % 9 {
        0 => {
            bytes.truncate(rng.random_range(0..bytes.len()));
            "truncated"
        }
        1 => {
            bytes.truncate(at);
            "truncated in its structure"
        }
        2 | 3 => {
            (0..rng.random_range(1..4)).for_each(|_| {
                let at = rng.random_range(part.clone());
                bytes[at] ^= 1 << rng.random_range(0..8);
            });
            "bits flipped"
        }
        4 => {
            let huge =
                [u64::MAX, u64::MAX >> 1, 1 << 40, u32::MAX.into(), 1 << 31, bytes.len() as u64];
            let huge = huge[rng.random_range(0..huge.len())].to_le_bytes();
            let width = [2, 4, 8][rng.random_range(0..3)];
            bytes.iter_mut().skip(at).zip(&huge[..width]).for_each(|(b, h)| *b = *h);
            "a huge length"
        }
        5 => {
            let end = (at + rng.random_range(1..64)).min(bytes.len());
            bytes.drain(at..end);
            "bytes removed"
        }
        6 => {
            let mut extra = vec![0; rng.random_range(1..64)];
            rng.fill_bytes(&mut extra);
            bytes.splice(at..at, extra);
            "bytes inserted"
        }
        7 => {
            let found: Vec<(usize, &[u8])> = WORDS
                .iter()
                .flat_map(|w| {
                    (0..bytes.len()).filter(|&i| bytes[i..].starts_with(w)).map(move |i| (i, *w))
                })
                .collect();
            let (at, word) = found[rng.random_range(0..found.len())];
            let other = WORDS[rng.random_range(0..WORDS.len())];
            bytes.splice(at..at + word.len(), other.iter().copied());
            "another word"
        }
        _ => {
            let n = rng.random_range(1..32).min(bytes.len() - at);
            rng.fill_bytes(&mut bytes[at..at + n]);
            "noise"
        }
    }
}

fn survives(original: &Path, structure: &[Range<usize>]) {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let sound = std::fs::read(original).expect("the original is there");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mutant");
    let (mut refused, mut worst) = (0, 0.0f64);
    for seed in 0..MUTATIONS {
        let mut bytes = sound.clone();
        let what = mutate(&mut bytes, structure, seed);
        std::fs::write(&path, &bytes).expect("written");
        let (accepted, peak) = catch_unwind(|| measure(&path))
            .unwrap_or_else(|_| panic!("panic with seed {seed} ({what}) of {original:?}"));
        // A file cut down to its first names holds less than the values they stand for take.
        let limit = 4 * bytes.len().max(sound.len());
        assert!(
            peak <= limit,
            "seed {seed} ({what}) of {original:?}: {peak} bytes for a file of {}",
            bytes.len()
        );
        refused += u64::from(!accepted);
        worst = worst.max(peak as f64 / bytes.len().max(sound.len()) as f64);
    }
    println!("{original:?}: {refused} of {MUTATIONS} refused, worst memory {worst:.2} x");
    // Most damage done to the structure must be noticed, or this test has tested nothing.
    assert!(refused > MUTATIONS / 3, "only {refused} of {MUTATIONS} mutants were refused");
}

fn find(bytes: &[u8], word: &[u8]) -> usize {
    bytes.windows(word.len()).position(|w| w == word).expect("the word is there")
}

#[test]
fn damaged_safetensors_files() {
    let bytes = std::fs::read(data("model.safetensors")).expect("there");
    let header = 8 + u64::from_le_bytes(*bytes.first_chunk().expect("long enough")) as usize;
    survives(&data("model.safetensors"), &[0..8, 8..header, 8..header, 0..bytes.len()]);
}

#[test]
fn damaged_zip_files() {
    for name in ["plain.zip.pth", "training.zip.pth"] {
        let bytes = std::fs::read(data(name)).expect("there");
        let (pickle, directory) = (find(&bytes, b"\x80\x02"), find(&bytes, b"PK\x01\x02"));
        let pickle = pickle..find(&bytes, b".format_version");
        let end = bytes.len() - 22..bytes.len();
        survives(
            &data(name),
            &[pickle.clone(), pickle, directory..bytes.len(), end, 0..bytes.len()],
        );
    }
}

#[test]
fn damaged_legacy_files() {
    for name in ["plain.legacy.pth", "training.legacy.pth"] {
        let bytes = std::fs::read(data(name)).expect("there");
        let pickles = 0..bytes.windows(2).rposition(|w| w == b"e.").expect("the list of keys") + 10;
        survives(&data(name), &[pickles.clone(), pickles, 0..bytes.len()]);
    }
}

/// Files that are sound to the last byte and ask for the moon.
#[test]
fn greedy_files_get_no_more_than_a_fixed_amount() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let repeated = [b"\x80\x02", &b"]".repeat(1 << 20)[..], b"."].concat();
    let remembered: Vec<u8> =
        (0..1u32 << 18).flat_map(|i| [b"r", &i.to_le_bytes()[..]].concat()).collect();
    let json = format!("{{\"a\":{}1{}", "[".repeat(1 << 16), "]".repeat(1 << 16));
    let shape = format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[{}1]", "1,".repeat(1 << 16));
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let files = [
        ("empty lists", zip(&repeated, &[])),
        ("memo", zip(&[b"\x80\x02]", &remembered[..], b"."].concat(), &[])),
        ("stride 0", zip(&tensor_pickle("w", 1, &[i32::MAX], &[0]), &[("0", &[0; 4])])),
        ("nested JSON", header(&json)),
        ("long shape", header(&shape)),
    ];
    for (what, bytes) in files {
        let (_folder, path) = file("greedy", &bytes);
        let (sound, peak) = measure(&path);
        println!("{what}: {peak} bytes for {}", bytes.len());
        assert!(!sound, "{what} was accepted");
        assert!(peak <= 4 * bytes.len() + (4 << 20), "{what}: {peak} bytes");
    }
}

/// A sound file of weights costs its own length in memory, or twice that where 16 bits become 32.
#[test]
fn loading_peaks_below_three_times_the_file() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let weights = HostTensor::new([1024, 1024], vec![0.5; 1 << 20]).expect("a million");
    let tensors: StateDict = (0..4).map(|i| (format!("w{i}"), weights.clone())).collect();
    let (folder, path) = file("large.safetensors", b"");
    write_safetensors(&path, &tensors, &BTreeMap::new()).expect("written");
    let transposed = folder.path().join("transposed.pth");
    let numbers = vec![0; 4 << 20];
    let pickle = tensor_pickle("w", 1 << 20, &[1024, 1024], &[1, 1024]);
    std::fs::write(&transposed, zip(&pickle, &[("0", &numbers)])).expect("written");
    for (path, limit) in [(path, 1.1), (transposed, 2.1)] {
        let (sound, peak) = measure(&path);
        let len = path.metadata().expect("there").len();
        assert!(sound, "{path:?}");
        assert!(peak as f64 <= limit * len as f64, "{path:?}: {peak} bytes for {len}");
    }
}
