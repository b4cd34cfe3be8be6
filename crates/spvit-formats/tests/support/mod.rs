//! What several test programs need: the data folder, and a writer of made-up PyTorch files.

#![allow(dead_code, missing_docs)]

use std::path::PathBuf;

pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The PyTorch file of a pickle and storages: a stored zip, as `torch.save` lays it out.
pub fn zip(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut entries = vec![("archive/data.pkl".to_owned(), pickle)];
    entries.extend(storages.iter().map(|(key, bytes)| (format!("archive/data/{key}"), *bytes)));
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in &entries {
        let header = out.len() as u32;
        let lens = [bytes.len() as u32, bytes.len() as u32].map(u32::to_le_bytes).concat();
        let name_len = (name.len() as u16).to_le_bytes();
        out.extend(b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        out.extend([&lens[..], &name_len, &[0; 2], name.as_bytes(), bytes].concat());
        directory.extend(b"PK\x01\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        directory.extend([&lens[..], &name_len, &[0; 12], &header.to_le_bytes()].concat());
        directory.extend(name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let (start, len) = ((out.len() as u32).to_le_bytes(), (directory.len() as u32).to_le_bytes());
    out.extend(directory);
    out.extend([&b"PK\x05\x06\0\0\0\0"[..], &count, &count, &len, &start, &[0; 2]].concat());
    out
}

/// A pickle of `{name: tensor}` with one tensor in the storage "0", sizes given as opcodes.
pub fn tensor_pickle(name: &str, storage_len: i32, shape: &[i32], stride: &[i32]) -> Vec<u8> {
    let mut out = b"\x80\x02}".to_vec();
    out.extend(text(name));
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    out.extend(text("storage"));
    out.extend(b"ctorch\nFloatStorage\n");
    out.extend([text("0"), text("cpu"), int(storage_len)].concat());
    out.extend(b"tQK\0");
    for sizes in [shape, stride] {
        out.push(b'(');
        sizes.iter().for_each(|&n| out.extend(int(n)));
        out.push(b't');
    }
    out.extend(b"\x89}tRs.");
    out
}

pub fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

pub fn int(n: i32) -> Vec<u8> {
    [b"J", &n.to_le_bytes()[..]].concat()
}

/// Writes `bytes` to a file in a fresh temporary folder; both live as long as the first value.
pub fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a temporary file");
    (folder, path)
}
