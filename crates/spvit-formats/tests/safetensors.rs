//! safetensors out and in, and against the format's own crate.

#![allow(missing_docs)]

mod support;

use std::collections::BTreeMap;

use spvit_formats::{HostTensor, StateDict, read, write_safetensors};
use support::file;

fn sample() -> (StateDict, BTreeMap<String, String>) {
    let matrix = HostTensor::new([2, 3], vec![1.0, -2.5, f32::MIN_POSITIVE, 0.0, -0.0, 3e38]);
    let tensors = [
        ("head.weight", matrix.expect("six values")),
        ("scalar", HostTensor::new([], vec![7.0]).expect("one value")),
        ("empty", HostTensor::new([0, 4], vec![]).expect("no value")),
    ];
    let metadata =
        [("format", "pt"), ("architecture", "{\"blocks\": [\"msa\", \"é\"]}"), ("a", "")];
    (
        tensors.map(|(k, v)| (k.to_owned(), v)).into(),
        metadata.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    )
}

#[test]
fn what_is_written_is_read_and_always_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (tensors, metadata) = sample();
    let (one, two) = (folder.path().join("one.safetensors"), folder.path().join("two.safetensors"));
    write_safetensors(&one, &tensors, &metadata).expect("written");
    write_safetensors(&two, &tensors, &metadata).expect("written");
    let bytes = std::fs::read(&one).expect("readable");
    assert_eq!(bytes, std::fs::read(&two).expect("readable"));
    let found = read(&one).expect("readable");
    assert_eq!((found.tensors, found.metadata), (tensors, metadata));
    // Nothing else is left in the folder.
    assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 2);
}

#[test]
fn the_formats_own_crate_agrees() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("x.safetensors");
    let (tensors, metadata) = sample();
    write_safetensors(&path, &tensors, &metadata).expect("written");
    let bytes = std::fs::read(&path).expect("readable");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("valid");
    let block = header.metadata().clone().expect("a metadata block");
    assert_eq!(block.into_iter().collect::<BTreeMap<_, _>>(), metadata);
    let view = safetensors::SafeTensors::deserialize(&bytes).expect("valid");
    assert_eq!(view.len(), tensors.len());
    for (name, tensor) in &tensors {
        let found = view.tensor(name).expect("present");
        assert_eq!(found.shape(), tensor.shape);
        let expected: Vec<u8> = tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(found.data(), expected);
        let start = found.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(start % 4, 0, "{name} is not aligned");
    }
}

#[cfg(unix)]
#[test]
fn an_existing_file_is_replaced_whole_and_readable_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, path) = file("model.safetensors", b"what was there before");
    let mut old = std::fs::File::open(&path).expect("readable");
    let (tensors, metadata) = sample();
    write_safetensors(&path, &tensors, &metadata).expect("written");
    // Whoever has the old file open still sees the old file: it was renamed over, not overwritten.
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut old, &mut seen).expect("readable");
    assert_eq!(seen, "what was there before");
    let ordinary = folder.path().join("ordinary");
    std::fs::write(&ordinary, b"").expect("written");
    let mode = |p: &std::path::Path| p.metadata().expect("there").permissions().mode();
    assert_eq!(mode(&path), mode(&ordinary));
}

#[test]
fn what_cannot_be_written_is_refused_and_nothing_changes() {
    let (folder, path) = file("model.safetensors", b"old");
    let wrong = HostTensor { shape: vec![2, 2], data: vec![0.0; 3] };
    let tensors: StateDict = [("head.weight".to_owned(), wrong)].into();
    let error = write_safetensors(&path, &tensors, &BTreeMap::new()).expect_err("3 values for 2x2");
    let text = error.to_string();
    assert!(text.contains("head.weight") && text.contains("[2, 2]") && text.contains("3 values"));
    assert_eq!(std::fs::read(&path).expect("readable"), b"old");
    let nowhere = folder.path().join("no/such/folder/x.safetensors");
    let error = write_safetensors(&nowhere, &sample().0, &sample().1).expect_err("no folder");
    assert!(error.to_string().contains("x.safetensors"), "{error}");
    assert_eq!(HostTensor::new([2, 2], vec![0.0; 3]), None);
}

#[test]
fn a_header_is_held_against_the_file() {
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let cases = [
        (header("{"), "JSON"),
        ([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "header length"),
        (header(r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#), "8 bytes of tensor"),
        (header(r#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#), "tensors"),
        (
            header(r#"{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#),
            "",
        ),
        (header(r#"{"w":{"dtype":"Q7","shape":[0],"data_offsets":[0,0]}}"#), "Q7"),
        (
            header(
                r#"{"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},
                    "w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#,
            ),
            "twice",
        ),
    ];
    for (bytes, expected) in cases {
        let (_folder, path) = file("w.safetensors", &bytes);
        let error = read(&path).expect_err("the file must be refused").to_string();
        assert!(error.contains(expected), "expected '{expected}' in: {error}");
        assert!(error.contains("w.safetensors"), "{error}");
    }
}
