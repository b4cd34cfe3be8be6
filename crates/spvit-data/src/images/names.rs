//! What classes are called.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DataError;

/// ImageNet's list comes with the downloaded archive, whose images lie three folders deeper.
const ABOVE: usize = 4;
const SYNSETS: &str = "LOC_synset_mapping.txt";

/// The classes' names for people: from `class_names.txt` or `classes.txt` in `root`, which have a name a line in the
/// order of the classes, or `FOLDER NAME`; from ImageNet's `LOC_synset_mapping.txt` there or above, if it knows all
/// classes; or else what their folders are called.
///
/// # Errors
///
/// [`DataError::Malformed`] where a list of the folder's own has another number of names or is not text.
pub(crate) fn readable(root: &Path, classes: &[String]) -> Result<Vec<String>, DataError> {
    for name in ["class_names.txt", "classes.txt"] {
        let file = root.join(name);
        if file.is_file() {
            let text = text(&file)?;
            let lines: Vec<&str> = lines(&text).collect();
            if let Some(names) = mapped(&lines, classes) {
                return Ok(names);
            }
            if lines.len() != classes.len() {
                return Err(DataError::malformed(
                    &file,
                    format!("{} class names, one a line", classes.len()),
                    format!("{} lines", lines.len()),
                    "Give every class a line, or remove the file",
                ));
            }
            return Ok(lines.into_iter().map(str::to_owned).collect());
        }
    }
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let lists = root.ancestors().take(ABOVE).map(|folder| folder.join(SYNSETS));
    for file in lists.filter(|file: &PathBuf| file.is_file()) {
        let text = text(&file)?;
        if let Some(names) = mapped(&lines(&text).collect::<Vec<_>>(), classes) {
            return Ok(names);
        }
    }
    Ok(classes.to_vec())
}

/// The numbers of the classes that `asked` names, in that order. Each is called by its folder's name or by its own.
///
/// # Errors
///
/// [`DataError::Option`] where `asked` does not name every class once.
pub(crate) fn order(asked: &[String], called: [&[String]; 2]) -> Result<Vec<usize>, DataError> {
    for names in called {
        let places: Option<Vec<usize>> =
            asked.iter().map(|name| names.iter().position(|own| own == name)).collect();
        let mut sorted = places.clone().unwrap_or_default();
        sorted.sort_unstable();
        sorted.dedup();
        if let Some(places) = places.filter(|_| sorted.len() == names.len()) {
            return Ok(places);
        }
    }
    let expected = format!("each of {} once, in any order", called[0].join(", "));
    Err(DataError::option("classes", expected, asked.join(", ")))
}

fn text(file: &Path) -> Result<String, DataError> {
    let bytes = fs::read(file).map_err(|cause| DataError::io("read", file, cause))?;
    String::from_utf8(bytes).map_err(|_| {
        let advice = "Save it as UTF-8";
        DataError::malformed(file, "UTF-8 text", "other bytes", advice)
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

/// The names of all classes by lines that begin with the class.
fn mapped(lines: &[&str], classes: &[String]) -> Option<Vec<String>> {
    let pairs: std::collections::HashMap<&str, &str> =
        lines.iter().filter_map(|line| line.split_once([' ', '\t', ','])).collect();
    let name = |class: &String| pairs.get(class.as_str()).map(|name| name.trim().to_owned());
    classes.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        vec!["n01440764".into(), "n01443537".into()]
    }

    #[test]
    fn an_order_names_every_class_once() {
        let names: Vec<String> = ["tench", "goldfish"].map(String::from).to_vec();
        let asked = |asked: [&str; 2]| order(&asked.map(String::from), [&classes(), &names]);
        assert_eq!(asked(["goldfish", "tench"]).unwrap(), [1, 0]);
        assert_eq!(asked(["n01440764", "n01443537"]).unwrap(), [0, 1]);
        for wrong in [["tench", "tench"], ["tench", "n01443537"], ["tench", "shark"]] {
            let error = asked(wrong).unwrap_err().to_string();
            assert!(error.contains("n01440764"), "{error}");
        }
        assert!(order(&["tench".into()], [&classes(), &names]).is_err());
    }

    #[test]
    fn names_come_by_order_or_by_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(readable(folder.path(), &classes()).unwrap(), classes());
        let list = folder.path().join("classes.txt");
        fs::write(&list, "tench\ngoldfish\n").unwrap();
        assert_eq!(readable(folder.path(), &classes()).unwrap(), ["tench", "goldfish"]);
        fs::write(&list, "n01443537 goldfish\nn01440764 tench, Tinca tinca\nn0 x\n").unwrap();
        assert_eq!(
            readable(folder.path(), &classes()).unwrap(),
            ["tench, Tinca tinca", "goldfish"]
        );
        fs::write(&list, "tench\n").unwrap();
        let message = readable(folder.path(), &classes()).unwrap_err().to_string();
        assert!(message.contains("2 class names") && message.contains("1 lines"), "{message}");
    }

    #[test]
    fn imagenets_list_may_lie_above() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("ILSVRC/Data/CLS-LOC");
        fs::create_dir_all(&deep).unwrap();
        fs::write(folder.path().join(SYNSETS), "n01440764 tench\nn01443537 goldfish, x\n").unwrap();
        assert_eq!(readable(&deep, &classes()).unwrap(), ["tench", "goldfish, x"]);
    }
}
