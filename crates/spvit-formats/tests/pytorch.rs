//! PyTorch files, most of them written by PyTorch itself (tests/interop/small_files.py).

#![allow(missing_docs)]

mod support;

use spvit_formats::{Checkpoint, Container, FormatError, read, read_under};
use support::{data, file, int, tensor_pickle, text, zip};

fn reference() -> Checkpoint {
    read(data("reference.safetensors")).expect("the reference file is sound")
}

fn message(bytes: &[u8]) -> String {
    let (_folder, path) = file("weights.pth", bytes);
    let error = read(&path).expect_err("the file must be refused").to_string();
    assert!(error.contains("weights.pth"), "the file is not named in: {error}");
    error
}

/// Every view (transposed, shared, expanded, empty) and every number format, bit by bit.
#[track_caller]
fn reads_as_reference(name: &str, container: Container) -> Checkpoint {
    let found = read(data(name)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(found.origin.container, container);
    assert_eq!(found.tensors, reference().tensors);
    let skipped: Vec<_> = found.origin.skipped.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    assert_eq!(
        skipped,
        ["bn.num_batches_tracked: int64 tensor", "index: int32 tensor", "mask: bool tensor"]
    );
    found
}

#[test]
fn a_plain_state_dict_is_read_from_each_container() {
    let zip = reads_as_reference("plain.zip.pth", Container::PthZip);
    assert_eq!(zip.origin.nested_under, [""; 0]);
    reads_as_reference("plain.legacy.pth", Container::PthLegacy);
    reads_as_reference("protocol4.zip.pth", Container::PthZip);
    let st = reads_as_reference("model.safetensors", Container::Safetensors);
    assert_eq!(st.metadata["format"], "pt");
}

#[test]
fn a_training_checkpoint_gives_its_model_and_says_what_it_ignored() {
    for (name, container) in
        [("training.zip.pth", Container::PthZip), ("training.legacy.pth", Container::PthLegacy)]
    {
        let found = reads_as_reference(name, container);
        assert_eq!(found.origin.nested_under, ["model"]);
        assert_eq!(found.origin.stripped_prefixes, ["module."]);
        assert_eq!(
            found.origin.ignored,
            ["args", "best_accuracy", "lr_scheduler", "optimizer", "scaler"]
        );
        assert_eq!(found.metadata["epoch"], "7");
        assert_eq!(found.metadata["arch"], "deit");
    }
}

#[test]
fn a_named_entry_can_be_read_instead() {
    let (_folder, path) = {
        let inner = tensor_pickle("w", 2, &[2], &[1]);
        let inner = &inner[2..inner.len() - 1];
        let pickle =
            [b"\x80\x02}", &text("model")[..], inner, b"s", &text("old")[..], inner, b"s."]
                .concat();
        file("two.pth", &zip(&pickle, &[("0", &[0, 0, 128, 63, 0, 0, 0, 64])]))
    };
    let found = read_under(&path, "old").expect("the entry is there");
    assert_eq!(found.origin.nested_under, ["old"]);
    assert_eq!(found.tensors["w"].data, [1.0, 2.0]);
    let error = read_under(&path, "ema").expect_err("no such entry").to_string();
    assert!(error.contains("'ema'") && error.contains("'model', 'old'"), "{error}");
}

#[test]
fn a_pickled_model_is_refused_by_its_class() {
    for name in ["whole_model.zip.pth", "nested_model.zip.pth"] {
        let error = read(data(name)).expect_err("not a state dict").to_string();
        assert!(error.contains("torch.nn.modules.linear.Linear"), "{error}");
        assert!(error.contains("model.state_dict()"), "{error}");
    }
}

/// `os.system`, called while unpickling, beside a tensor: read as data, never called.
#[test]
fn reading_a_pickle_runs_no_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = folder.path().join("executed");
    let command = format!("touch {}", mark.display());
    let tensor = tensor_pickle("w", 1, &[1], &[1]);
    let tensor = &tensor[..tensor.len() - 1];
    let pickle = [
        tensor,
        &text("evil"),
        b"cposix\nsystem\n",
        &text(&command),
        b"\x85Rs",
        &text("worse"),
        b"cbuiltins\neval\n",
        &text("open('x','w')"),
        b"\x85R}bs.",
    ]
    .concat();
    let (_folder, path) = file("evil.pth", &zip(&pickle, &[("0", &[0; 4])]));
    let found = read(&path).expect("the tensor is sound");
    assert_eq!(found.tensors.len(), 1);
    assert_eq!(found.origin.skipped["evil"], "a pickled object of posix.system");
    assert_eq!(found.origin.skipped["worse"], "a pickled object of builtins.eval");
    assert!(!mark.exists(), "the pickle's command was executed");
}

#[test]
fn a_tensor_beyond_its_storage_is_an_error() {
    let storage: &[u8] = &[0; 16];
    for (shape, stride) in
        [(&[5][..], &[1][..]), (&[2, 2], &[3, 1]), (&[2], &[i32::MAX]), (&[i32::MAX; 3], &[1; 3])]
    {
        let error = message(&zip(&tensor_pickle("w", 4, shape, stride), &[("0", storage)]));
        assert!(error.contains('w'), "{error}");
    }
    // The largest strides do no harm where the dimension has one element.
    let pickle = tensor_pickle("w", 4, &[1, 2, 1, 2], &[i32::MAX, 1, i32::MAX, 2]);
    let (_folder, path) = file("fits.pth", &zip(&pickle, &[("0", storage)]));
    assert_eq!(read(&path).expect("in bounds").tensors["w"].data, [0.0; 4]);
}

#[test]
fn a_stride_of_zero_cannot_blow_a_file_up() {
    let error = message(&zip(&tensor_pickle("w", 1, &[1 << 30], &[0]), &[("0", &[0; 4])]));
    assert!(error.contains("2.5 times"), "{error}");
}

#[test]
fn endless_structure_is_refused() {
    // Doubling tuples, and a million nested lists: small files, deep and wide values.
    let mut doubling = b"\x80\x02)".to_vec();
    doubling.extend(b"2\x86".repeat(1 << 20));
    doubling.push(b'.');
    message(&zip(&doubling, &[]));
    let mut nested = b"\x80\x02".to_vec();
    nested.extend(b"(".repeat(1 << 20));
    nested.extend(b"t".repeat(1 << 20));
    nested.push(b'.');
    message(&zip(&nested, &[]));
    // A list that contains itself.
    let error = message(&zip(b"\x80\x02]q\0h\0a.", &[]));
    assert!(error.contains("a list"), "{error}");
}

#[test]
fn things_that_are_no_checkpoint_are_told_apart() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>", "not a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x80\x04\x95\x05\0\0\0\0\0\0\0]\x94.", "something else wrote"),
        (b"\x80\x02]q\0.", "something else wrote"),
        (&zip(b"\x80\x02}.", &[]), "no entry"),
        (&zip(b"\x80\x02K\x05.", &[]), "an integer"),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "without it"),
    ];
    for (bytes, expected) in cases {
        let error = message(bytes);
        assert!(error.contains(expected), "expected '{expected}' in: {error}");
    }
    let missing = read(data("no-such-file.pth")).expect_err("there is none");
    assert!(matches!(missing, FormatError::Io { .. }));
    assert!(missing.to_string().contains("no-such-file.pth"));
    let folder = read(data("")).expect_err("a folder is no file").to_string();
    assert!(folder.contains("a folder"), "{folder}");
}

#[test]
fn a_name_with_and_without_prefix_is_an_error() {
    let one = tensor_pickle("w", 1, &[1], &[1]);
    let two = tensor_pickle("module.w", 1, &[1], &[1]);
    // {w: tensor, module.w: tensor}: the second pickle's own dictionary is left out.
    let pickle = [&one[..one.len() - 1], &two[3..]].concat();
    let error = message(&zip(&pickle, &[("0", &[0; 4])]));
    assert!(error.contains("the prefix module."), "{error}");
}

#[test]
fn old_and_foreign_opcodes_are_named() {
    let error = message(&zip(b"\x80\x00}.", &[]));
    assert!(error.contains("pickle protocol 0"), "{error}");
    let error = message(&zip(&[b"\x80\x02", &int(3)[..], b"\x82\x01."].concat(), &[]));
    assert!(error.contains("0x82"), "{error}");
}
