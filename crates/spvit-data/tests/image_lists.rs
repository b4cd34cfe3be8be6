//! CSV lists and tar shards.

#[path = "common/images.rs"]
mod images;

use std::path::Path;

use images::{assert_says, classes, greys, message, open, png, put};
use tempfile::{TempDir, tempdir};

fn list(text: &str) -> TempDir {
    let folder = tempdir().unwrap();
    for grey in 0..8 {
        put(folder.path(), &format!("pictures/{grey}.png"), &png(4, grey));
    }
    put(folder.path(), "labels.csv", text.as_bytes());
    folder
}

#[test]
fn a_list_gives_paths_labels_and_splits() {
    let folder = list(
        "Path, Label ,split,author\npictures/0.png,9,train,x\npictures/1.png,10,train,x\n\"pictures/2.png\",9,val,\n\
         ./pictures/3.png,10,test,y\n",
    );
    for place in [folder.path(), &folder.path().join("labels.csv")] {
        let data = open(place);
        // Numbers are sorted by their value.
        assert_eq!(data.class_names, ["9", "10"]);
        assert_eq!(greys(&*data.train), [(0, 0), (1, 1)]);
        assert_eq!(greys(&*data.validation), [(2, 0)]);
        assert_eq!(greys(&*data.test), [(3, 1)]);
    }
}

#[test]
fn a_list_without_splits_is_divided() {
    let mut text = "label,path\n".to_owned();
    (0..8).for_each(|grey| text += &format!("{},pictures/{grey}.png\n", ["owl", "cat"][grey % 2]));
    let folder = list(&text);
    put(folder.path(), "class_names.txt", b"Cat\nOwl\n");
    let data = open(folder.path());
    assert_eq!(data.class_names, ["Cat", "Owl"]);
    assert_eq!(data.train.len() + data.validation.len() + data.test.len(), 8);
    assert!(greys(&*data.train).iter().all(|&(grey, label)| label == u16::from(grey % 2 == 0)));
}

#[test]
fn a_wrong_list_is_refused_with_its_line() {
    let at = |text: &str| message(&list(text).path().join("labels.csv"));
    assert_says(&at("file,class\na,b\n"), &["columns called path and label", "file, class"]);
    assert_says(&at("path,label\n"), &["at least one image", "no line"]);
    assert_says(&at("path,label,split\na,b,train\na,b,holdout\n"), &["\"holdout\" in line 3"]);
    assert_says(&at("path,label\na,b\na\n"), &["labels.csv: expected a CSV list"]);
    assert_says(&at("path,label\n,b\n"), &["a path and a label in every line", "line 2"]);
    assert_says(&at("path,label,split\npictures/1.png,1,test\n"), &["training images"]);
    let folder = list("path,label\npictures/1.png,1\n");
    put(folder.path(), "more.csv", b"path,label\npictures/1.png,1\n");
    assert_says(&message(folder.path()), &["labels.csv and", "more.csv"]);
}

#[test]
fn other_lists_do_not_hide_folders() {
    let folder = tempdir().unwrap();
    classes(folder.path(), "train", &["a", "b"], 2);
    classes(folder.path(), "val", &["a", "b"], 2);
    put(folder.path(), "LOC_val_solution.csv", b"ImageId,PredictionString\nx,y\n");
    assert_eq!(open(folder.path()).class_names, ["a", "b"]);
}

fn shard(path: &Path, members: &[(&str, &[u8])]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.finish().unwrap();
}

#[test]
fn shards_are_read_by_member() {
    let folder = tempdir().unwrap();
    let pictures: Vec<Vec<u8>> = (0..6).map(|grey| png(4, grey)).collect();
    let long = format!("{}/000003.png", "long".repeat(60));
    let long_label = format!("{}/000003.cls", "long".repeat(60));
    shard(
        &folder.path().join("shard-train-000000.tar"),
        &[
            ("000000.png", &pictures[0]),
            ("000000.cls", b"7"),
            ("000001.cls", b"11\n"),
            ("000001.png", &pictures[1]),
            ("000002.seg.png", &pictures[2]),
            ("000002.json", br#"{"label": 7, "caption": "x"}"#),
            (&long, &pictures[3]),
            (&long_label, b"11"),
        ],
    );
    shard(
        &folder.path().join("shard-val-000000.tar"),
        &[("a/1.jpg", &pictures[4]), ("a/1.cls", b"7"), ("a/1.txt", b"a caption")],
    );
    shard(
        &folder.path().join("shard-test-000000.tar"),
        &[("b.png", &pictures[5]), ("b.cls", b"11")],
    );
    let data = open(folder.path());
    assert_eq!(data.class_names, ["7", "11"]);
    assert_eq!(greys(&*data.train), [(0, 0), (1, 1), (2, 0), (3, 1)]);
    assert_eq!(greys(&*data.validation), [(4, 0)]);
    assert_eq!(greys(&*data.test), [(5, 1)]);
    assert!(data.train.name(1).ends_with("shard-train-000000.tar, member 000001.png"));
}

#[test]
fn shards_lie_in_folders_of_splits_or_have_none() {
    let folder = tempdir().unwrap();
    let members = |grey: u8| [("0.png", png(4, grey)), ("0.json", br#"{"cls": "owl"}"#.to_vec())];
    for (split, grey) in [("train", 1), ("val", 2), ("test", 3)] {
        let members = members(grey);
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, content)| (*name, &content[..])).collect();
        shard(&folder.path().join(split).join("000.tar"), &members);
    }
    let data = open(folder.path());
    assert_eq!([greys(&*data.train), greys(&*data.test)], [[(1, 0)], [(3, 0)]]);
    assert_eq!(data.class_names, ["owl"]);

    let folder = tempdir().unwrap();
    for number in 0..30 {
        let members = members(number);
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, content)| (*name, &content[..])).collect();
        shard(&folder.path().join(format!("part-{number:03}.tar")), &members);
    }
    let data = open(folder.path());
    assert_eq!([data.train.len(), data.validation.len(), data.test.len()], [24, 3, 3]);
}

#[test]
fn a_damaged_shard_is_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("0.tar");
    let picture = png(4, 1);
    shard(&path, &[("0.png", &picture), ("0.cls", b"1"), ("1.png", &picture), ("1.cls", b"1")]);
    let whole = std::fs::read(&path).unwrap();
    // In the middle of the second picture, and in its header.
    for length in [512 * 5 + 20, 512 * 4 + 100] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_says(&message(folder.path()), &["0.tar: expected a whole tar archive", "cut short"]);
    }
    shard(&path, &[("0.png", &picture), ("1.png", &picture), ("1.cls", b"1")]);
    assert_says(
        &message(folder.path()),
        &["0.tar: expected a label for every image", "no label for 0"],
    );
    shard(&path, &[("0.cls", b"1")]);
    assert_says(&message(folder.path()), &["found 0 classes"]);
}
