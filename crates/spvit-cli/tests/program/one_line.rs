//! A folder of images, a model's weights and a budget, in one line.

use std::path::Path;

use serde_json::Value;

use crate::{Place, checkout};

const USAGE: i32 = 2;

/// An image with a bright upper or left half, and noise from its number.
fn picture(class: usize, number: usize) -> image::GrayImage {
    image::GrayImage::from_fn(32, 28, |x, y| {
        let noise = (x * 7 + y * 13 + number as u32 * 29) % 41;
        let bright = if class == 0 { y < 14 } else { x < 16 };
        image::Luma([if bright { 200 + noise as u8 } else { noise as u8 }])
    })
}

/// `pictures/{train,val,test}/{left,upper}`.
fn pictures(place: &Place) {
    for (split, count) in [("train", 24), ("val", 6), ("test", 8)] {
        for (class, name) in ["upper", "left"].into_iter().enumerate() {
            let folder = place.path("pictures").join(split).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for number in 0..count {
                picture(class, number).save(folder.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

/// What makes the defaults fit a test's patience.
const SHORT: &str = "--set transfer.epochs=6 --set search.epochs=1 --set finetune.epochs=2 --set run.timing_seconds=0";

fn weights() -> String {
    format!("--weights {}", checkout("models/vit_micro-fashion-mnist.safetensors"))
}

#[test]
fn weights_images_and_a_budget_make_a_run() {
    let place = Place::new();
    pictures(&place);
    place.write(
        "pictures/train/left/cut.png",
        &std::fs::read(place.path("pictures/train/left/0.png")).unwrap()[..90],
    );
    // One of 49 is more than one in a hundred.
    let line = format!("run {} --data pictures --budget 60% {SHORT} --out r", weights());
    let error = place.fail(&line, 1);
    assert!(error.contains("cut.png") && error.contains("broken_limit"), "{error}");
    std::fs::remove_dir_all(place.path("r")).unwrap();

    let line = format!("{line} --set data.images.broken_limit=0.1");
    let output = place.call(&line);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("cut.png").count(), 1, "{said}");
    assert!(said.contains("10 classes, the images 2"), "{said}");
    assert!(said.contains("transfer epoch 1/6 done"), "{said}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("Budget") && table.contains("compact"), "{table}");

    let config = std::fs::read_to_string(place.path("r/config.toml")).unwrap();
    for (key, source) in [
        ("budget = 0.6", "--budget"),
        ("weights = ", "--weights"),
        ("transfer = true", "the weights have 10 classes"),
        ("classes = 2", "the images' classes"),
        ("batch_size = 8", "for 49 training images"),
        ("threshold_learning_rate = ", "for 6 steps of the search"),
        ("epochs = 6", "--set"),
    ] {
        let found = config.lines().any(|line| {
            line.starts_with(key) && line.split_once(" # ").is_some_and(|(_, s)| s.contains(source))
        });
        assert!(found, "{key} from {source}:\n{config}");
    }
    // The transferred model is a result of its own, which the run does not need the weights for.
    assert!(place.path("r/transferred.safetensors").exists());
    let error = place.fail("run --resume r --set transfer.epochs=7", USAGE);
    assert!(error.contains("transfer.epochs") && error.contains("--redo transfer"), "{error}");
    // What is there stays as it is, remarks and all.
    place.succeed("evaluate --resume r");
    assert_eq!(std::fs::read_to_string(place.path("r/config.toml")).unwrap(), config);

    // The model carries what it needs: names, mean and deviation.
    let lines = place.succeed("predict r/compact.safetensors pictures/test --json --top 2");
    let answers: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(answers.len(), 16);
    let right = answers.iter().filter(|answer| {
        let image = Path::new(answer["image"].as_str().unwrap());
        let class = image.parent().unwrap().file_name().unwrap().to_str().unwrap();
        answer["classes"][0]["name"] == class
    });
    let right = right.count();
    assert!(right >= 15, "{right} of 16 are right");
    let text = place.succeed("evaluate --weights r/compact.safetensors --data pictures");
    let top1 = format!("top-1 {:.2} %", 100.0 * right as f64 / 16.0);
    assert!(text.contains(&top1) && text.contains("upper"), "{text}");
    let json = place.succeed("evaluate --weights r/compact.safetensors --data pictures --json");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["images"], 16);
    assert_eq!(json["by_class"][0]["name"], "left");
}

/// A model of these classes in another order sees them in its own.
#[test]
fn classes_come_in_the_models_order_or_it_is_said() {
    let place = Place::new();
    pictures(&place);
    let line = format!("run {} --data pictures --budget 60% {SHORT} --out r", weights());
    place.succeed(&format!("{line} --set data.images.classes=['upper','left']"));
    let model = "--weights r/compact.safetensors";
    let asked = |line: &str| {
        let output = place.call(line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        (figures["top1"].as_f64().unwrap(), figures["by_class"][0]["name"].clone(), said)
    };
    let (right, first, said) = asked(&format!("evaluate {model} --data pictures --json"));
    assert!(right > 0.9 && first == "upper" && !said.contains("in this order"), "{right} {said}");
    // Where the names tell nothing, the order is an assumption.
    place.write("pictures/class_names.txt", "one\ntwo\n");
    let (wrong, _, said) = asked(&format!("evaluate {model} --data pictures --json"));
    assert!(wrong < 0.1 && said.contains("calls its classes upper, left"), "{wrong} {said}");
    assert!(said.contains("in this order, one, two"), "{said}");
}

#[test]
fn options_that_do_not_apply_are_refused() {
    let place = Place::new();
    pictures(&place);
    picture(0, 0).save(place.path("a.png")).unwrap();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    for (line, words) in [
        (format!("predict {model} a.png --set search.epochs=3"), "search.epochs"),
        (format!("evaluate --weights {model} --data pictures --budget 60%"), "--budget"),
        (format!("evaluate --weights {model} --data pictures --dry-run"), "--dry-run"),
        ("evaluate --out r --json".into(), "--json"),
        ("finetune --out r --dry-run".into(), "--dry-run"),
    ] {
        let error = place.fail(&line, USAGE);
        assert!(error.contains(words), "{line}: {error}");
    }
    // A run that transfers nothing has no transfer to do anew.
    place.succeed(&format!("pretrain --out r{}", crate::small()));
    let error = place.fail("run --resume r --redo transfer", USAGE);
    assert!(error.contains("no transfer"), "{error}");
    assert!(place.path("r/dense.safetensors").exists());
    // Weights may still be named where nothing was searched.
    place.succeed("evaluate --resume r --set dense.weights=r/dense.safetensors");
}

#[test]
fn images_without_names_are_predicted_and_broken_ones_named() {
    let place = Place::new();
    picture(0, 0).save(place.path("a.png")).unwrap();
    place.write("b.jpg", b"\xff\xd8\xff\xe0 cut short");
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    let how = "--set data.images.mean=[0.286] --set data.images.std=[0.353]";
    let output = place.call(&format!("predict {model} a.png b.jpg {how}"));
    let (text, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(text.starts_with("a.png: ") && text.matches(" %").count() == 5, "{text}");
    assert!(said.contains("b.jpg") && said.contains("1 image could not be read"), "{said}");
    // What the bundled model's own file says, and what a file without a word does not.
    assert!(place.call(&format!("predict {model} a.png")).status.success());
    place.write("bare.safetensors", without_metadata(&std::fs::read(&model).unwrap()));
    let error = place.fail("predict bare.safetensors a.png", USAGE);
    assert!(error.contains("data.images.mean"), "{error}");
    let error = place.fail(&format!("predict {model} nowhere.png {how}"), 1);
    assert!(error.contains("nowhere.png"), "{error}");
}

/// A safetensors file of the same tensors that says nothing else.
fn without_metadata(bytes: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    header.as_object_mut().unwrap().remove("__metadata__");
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[8 + length..]].concat()
}

/// A file of the system that says it is empty, and whose reader waits for ever.
#[cfg(target_os = "linux")]
#[test]
fn a_link_to_what_never_ends_is_no_image() {
    let place = Place::new();
    std::fs::create_dir(place.path("odd")).unwrap();
    picture(0, 0).save(place.path("odd/a.png")).unwrap();
    std::os::unix::fs::symlink("/proc/kmsg", place.path("odd/b.png")).unwrap();
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    let how = "--set data.images.mean=[0.286] --set data.images.std=[0.353]";
    let error = place.fail(&format!("predict {model} odd {how}"), 1);
    assert!(error.contains("1 image could not be read"), "{error}");
}

/// A name may hold line ends, and what a terminal takes for commands.
#[cfg(unix)]
#[test]
fn odd_names_stay_on_one_line() {
    let place = Place::new();
    std::fs::create_dir(place.path("odd")).unwrap();
    picture(0, 0).save(place.path("odd/good\nerror: x\u{1b}[31m.png")).unwrap();
    place.write("odd/bad\nerror: y\r.png", b"no image");
    let model = checkout("models/vit_micro-fashion-mnist.safetensors");
    let how = "--set data.images.mean=[0.286] --set data.images.std=[0.353]";
    let output = place.call(&format!("predict {model} odd {how}"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().count() == 1 && text.contains(r"good\nerror: x\u{1b}[31m"), "{text}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(r"odd/bad\nerror: y\r.png: expected a JPEG"), "{said}");
    // What is given is not assumed.
    assert!(!said.contains("ImageNet's mean"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
}

#[test]
fn a_rehearsal_tells_the_plan_and_writes_nothing() {
    let place = Place::new();
    pictures(&place);
    let line = format!("run {} --data pictures --budget 60% --dry-run --out r", weights());
    let plan = place.succeed(&line);
    for words in ["48 to train on", "transfer", "search", "finetune", "one step", "free"] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert!(!place.path("r").exists());
    // The crop that fits small images gives way to one that is asked for.
    place.succeed(&format!("{line} --set augment.random_resized_crop={{}}"));
    let error = place.fail(&line.replace("60%", "0.1%"), USAGE);
    assert!(error.contains("cannot be met"), "{error}");
}

#[test]
fn a_contact_sheet_shows_the_augmentation() {
    let place = Place::new();
    pictures(&place);
    let line = format!("preview {} --data pictures sheet.png --images 3 --variants 4", weights());
    place.succeed(&line);
    let sheet = image::open(place.path("sheet.png")).unwrap();
    assert!(sheet.width() > 5 * 28 && sheet.height() > 3 * 28, "{sheet:?}");
}

#[test]
fn budgets_are_shares_flops_or_parameters() {
    let place = Place::new();
    pictures(&place);
    let run = |budget: &str, out: &str| {
        let mut command = place.command(&format!("run {} --data pictures {SHORT}", weights()));
        command.args(["--budget", budget, "--out", out]).output().unwrap()
    };
    let output = run("200k params", "p");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Budget 0.20 M parameters"), "{text}");
    let summary = std::fs::read(place.path("p/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let compact = summary["models"][2]["parameters"].as_u64().unwrap();
    assert!((199_000..=200_000).contains(&compact), "{compact}");
    for (budget, words) in [
        ("5 s", "1.8 ms"),
        ("0%", "60%"),
        ("120%", "60%"),
        ("many", "60%"),
        ("1e99G", "--budget: search.budget ="),
    ] {
        let output = run(budget, "wrong");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(USAGE), "{budget}: {said}");
        assert!(said.contains(words), "{budget}: {said}");
    }
    assert!(!place.path("wrong").exists());
}
