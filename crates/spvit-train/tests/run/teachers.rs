//! Teachers that fine-tuning follows.

use std::{fs, path::Path};

use burn::backend::Flex;
use spvit_interchange::{Target, write};
use spvit_layers::{Init, ModelConfig, Vit, VitConfig};
use spvit_search::{Architecture, CostModel};
use spvit_train::{RunConfig, Silent};

use crate::{Stopper, finish, run, support::following};

/// Writes a fresh dense model: `[side, patch, channels, classes, dim, depth, heads]`.
pub fn model(path: &Path, shape: [usize; 7], seed: u64) -> (Vit<Flex>, Architecture) {
    let shape: ModelConfig = VitConfig::deit(shape).into();
    let blocks = shape.dense_blocks();
    let model = Vit::new(&shape, &blocks, &mut Init::new(seed, &Default::default()));
    let own = Architecture::dense(shape, CostModel::Paper);
    write(path, Target::Safetensors, &model, &own, &Default::default()).unwrap();
    (model, own)
}

/// The student's shape is the dense model's; another width and depth teaches, too.
#[test]
fn a_named_teacher_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let result = |name: &str, config: &RunConfig| {
        let root = folder.path().join(name);
        finish::<Flex>(config, &root);
        fs::read(root.join("compact.safetensors")).unwrap()
    };
    let dense = following(Path::new(""), &[]);
    let same = following(&dense.dense.weights, &[]);
    let expected = result("dense", &dense);
    assert!(expected == result("same", &same), "the dense model by its name teaches otherwise");
    let path = folder.path().join("other.safetensors");
    model(&path, [28, 7, 1, 10, 32, 2, 2], 1);
    assert!(expected != result("other", &following(&path, &[])), "nobody follows the teacher");
}

#[test]
fn a_teacher_that_does_not_fit_is_refused_before_the_search() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    let refused = |teacher: &Path, expected: &[&str]| {
        let root = tempfile::tempdir().unwrap();
        let config = following(teacher, &[]);
        let error = run::<Flex>(&config, root.path(), &mut Silent).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        for part in expected {
            assert!(error.contains(part), "{part}: {error}");
        }
        let begun = fs::read_dir(root.path().join("checkpoints")).unwrap().count();
        assert_eq!((begun, root.path().join("searched.safetensors").exists()), (0, false));
    };
    refused(&path, &["teacher.safetensors is not there", "finetune.teacher"]);
    for (shape, expected) in [
        ([28, 4, 1, 7, 16, 1, 2], ["expected 10 classes", "found 7"]),
        ([28, 4, 3, 10, 16, 1, 2], ["expected 1 channels", "found 3"]),
        ([32, 4, 1, 10, 16, 1, 2], ["expected 28 x 28 pixels", "found 32 x 32"]),
    ] {
        model(&path, shape, 1);
        refused(&path, &expected);
    }
    fs::write(&path, "no model").unwrap();
    refused(&path, &["teacher.safetensors"]);
    #[cfg(not(feature = "onnxruntime"))]
    {
        let onnx = folder.path().join("teacher.ONNX");
        fs::write(&onnx, "no network").unwrap();
        refused(&onnx, &["rebuild with --features onnxruntime"]);
    }
}

#[test]
fn a_resumed_run_is_told_of_another_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let (root, path) = (folder.path().join("run"), folder.path().join("teacher.safetensors"));
    model(&path, [28, 7, 1, 10, 16, 1, 2], 1);
    let config = following(&path, &[]);
    let mut observer = Stopper { after: 8, ..Stopper::default() };
    assert!(run::<Flex>(&config, &root, &mut observer).unwrap().is_none());
    let said = observer.messages.iter().filter(|message| message.contains("in their order"));
    assert_eq!(said.count(), 1, "{:?}", observer.messages);

    model(&path, [28, 7, 1, 10, 16, 1, 2], 2);
    let error = run::<Flex>(&config, &root, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("another teacher") && error.contains("--redo finetune"), "{error}");
    model(&path, [28, 7, 1, 10, 16, 1, 2], 1);
    finish::<Flex>(&config, &root);
    let result = fs::read(root.join("compact.safetensors")).unwrap();
    let whole = folder.path().join("whole");
    finish::<Flex>(&config, &whole);
    assert!(result == fs::read(whole.join("compact.safetensors")).unwrap());
}
