use super::*;

fn set(pixels: Vec<u8>, labels: Vec<u16>) -> ImageSet {
    ImageSet::new([1, 1, 2], 3, pixels, labels).unwrap()
}

#[test]
fn a_set_refuses_what_does_not_fit() {
    let refusal = |shape, classes, pixels, labels| {
        ImageSet::new(shape, classes, pixels, labels).unwrap_err().to_string()
    };
    assert!(refusal([1, 0, 2], 3, vec![], vec![]).contains("image shape"));
    assert!(refusal([1, usize::MAX, 2], 3, vec![], vec![]).contains("image shape"));
    assert!(refusal([1, 1, 2], 0, vec![], vec![]).contains("classes"));
    assert!(refusal([1, 1, 2], 3, vec![1, 2, 3], vec![0]).contains("found 3 bytes"));
    assert!(refusal([1, 1, 2], 3, vec![1, 2], vec![3]).contains("every label below 3, found 3"));
}

#[test]
fn images_and_labels_are_found_by_index() {
    let set = set(vec![1, 2, 3, 4, 5, 6], vec![2, 0, 2]);
    assert_eq!(set.image(1), Some(&[3, 4][..]));
    assert_eq!(set.label(2), Some(2));
    assert_eq!((set.image(3), set.image(usize::MAX), set.label(3)), (None, None, None));
    assert_eq!(set.class_counts(), [1, 0, 2]);
    assert_eq!(set.select(&[2, 0, 9]).pixels(), [5, 6, 1, 2]);
    let (head, tail) = set.split_at(2);
    assert_eq!((head.labels(), tail.labels()), (&[2, 0][..], &[2][..]));
    assert_eq!(tail.pixels(), [5, 6]);
}

#[test]
fn mean_and_deviation_are_those_of_each_channel() {
    let pixels = vec![0, 255, 7, 7, 0, 255, 7, 7];
    let set = ImageSet::new([2, 1, 2], 1, pixels, vec![0, 0]).unwrap();
    let (mean, std) = set.mean_and_std();
    assert!((mean[0] - 0.5).abs() < 1e-7 && (std[0] - 0.5).abs() < 1e-7);
    assert!((mean[1] - 7.0 / 255.0).abs() < 1e-7);
    assert_eq!(std[1], 1.0);
}
