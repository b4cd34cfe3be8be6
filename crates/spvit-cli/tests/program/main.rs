//! The program as a person meets it: exit codes, its one line of error, runs and their end.

mod convert;
mod disks;
mod errors;
mod fronts;
mod hostile;
mod latency;
mod limits;
mod one_line;
mod profile;
mod report;
mod runs;
mod shared;
mod sizes;
mod stopping;
mod surroundings;
#[cfg(feature = "mpi")]
mod team;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A file of the checkout.
fn checkout(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).display().to_string()
}

/// The program in a folder of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_spvit"));
        command.current_dir(self.0.path()).args(line.split_whitespace());
        command.env_remove("RUST_BACKTRACE");
        command
    }

    fn call(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Calls the program, which must succeed; its standard output.
    fn succeed(&self, line: &str) -> String {
        let output = self.call(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "spvit {line}: {}\n{errors}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Calls the program, which must end with this code and one line of error; that line.
    fn fail(&self, line: &str, code: i32) -> String {
        let output = self.call(line);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "spvit {line}: {errors}");
        let own: Vec<_> = errors.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(own.len(), 1, "spvit {line}: {errors}");
        assert!(errors.trim_end().ends_with(own[0]), "the error comes last: {errors}");
        assert!(!errors.contains("panicked") && !errors.contains("internal error"), "{errors}");
        own[0].to_string()
    }

    /// Writes a file.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// Options of a run of a small model that takes a second or two.
fn small() -> String {
    let settings = [
        format!("data.folder={}", checkout("data/fashion-mnist-mini")),
        "data.validation=60".into(),
        "data.train_limit=160".into(),
        "data.test_limit=60".into(),
        "model.dim=16".into(),
        "model.depth=2".into(),
        "model.heads=2".into(),
        "model.hidden=32".into(),
        "pretrain.epochs=1".into(),
        "search.epochs=1".into(),
        "finetune.epochs=1".into(),
        "pretrain.batch_size=32".into(),
        "search.batch_size=32".into(),
        "finetune.batch_size=32".into(),
        "run.timing_seconds=0".into(),
    ];
    settings.map(|setting| format!(" --set {setting}")).concat()
}
