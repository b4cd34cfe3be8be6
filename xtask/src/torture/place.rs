//! A folder of its own with the program in it, a random source, and how a call ended.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::shell::Failure;

/// Longest time of one call.
const PATIENCE: Duration = Duration::from_secs(240);

/// Numbers that look random and depend on the seed alone (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to below `end`, 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.next().checked_rem(end as u64).unwrap_or(0) as usize
    }

    /// One of them.
    pub fn choose<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// How a call ended.
pub struct End {
    pub status: Option<ExitStatus>,
    pub errors: String,
}

impl End {
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    pub fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Nothing if the program ended as it should: well, or with exit code 1 or 2 after one line of
    /// error; otherwise what it did.
    pub fn graceful(&self) -> Result<(), String> {
        let Some(status) = self.status else { return Err("it did not end".into()) };
        let lines = self.errors.lines().filter(|line| line.starts_with("error: ")).count();
        let bug = ["panicked", "internal error"].iter().any(|word| self.errors.contains(word));
        match status.code() {
            Some(0) if !bug => Ok(()),
            Some(1 | 2) if !bug && lines == 1 => Ok(()),
            _ => Err(format!("{status}: {}", self.last_lines())),
        }
    }

    pub fn last_lines(&self) -> String {
        let lines: Vec<&str> = self.errors.lines().collect();
        let text = lines[lines.len().saturating_sub(3)..].join(" | ");
        text.chars().take(400).collect()
    }
}

/// A folder and the program.
pub struct Place {
    pub root: PathBuf,
    program: PathBuf,
}

impl Place {
    /// A new one of this name, where no other of this process has it.
    pub fn new(program: &Path, name: &str) -> Result<Self, Failure> {
        let root =
            std::env::temp_dir().join(format!("spvit-torture-{}-{name}", std::process::id()));
        let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", root.display()));
        fs::create_dir_all(&root).map_err(failed)?;
        let program = program.canonicalize().map_err(failed)?;
        Ok(Self { root, program })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A line of shell in this folder, where `spvit` is the program.
    fn command(&self, line: &str) -> Command {
        // What started this may have signals ignored (`nohup`, a shell's background), which the
        // program keeps to.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,TERM,HUP", "bash", "-c"]);
        let program = self.program.display();
        command.arg(format!("spvit=\"{program}\"; {line}")).current_dir(&self.root);
        command.env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Runs a line of shell, in which `exec $spvit` is the program, until it ends or `meanwhile` is
    /// done with it: that is called with the process's number every few milliseconds.
    pub fn run_with(&self, line: &str, mut meanwhile: impl FnMut(u32, Duration)) -> End {
        let errors = self.path("stderr");
        let spawned =
            File::create(&errors).and_then(|file| self.command(line).stderr(file).spawn());
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return End { status: None, errors: error.to_string() },
        };
        let began = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if began.elapsed() < PATIENCE => {
                    meanwhile(child.id(), began.elapsed());
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    break None;
                }
            }
        };
        let errors = fs::read(&errors).unwrap_or_default();
        End { status, errors: String::from_utf8_lossy(&errors).into_owned() }
    }

    /// Runs a line of shell to its end while another one runs.
    pub fn run_beside(&self, line: &str) -> End {
        match self.command(line).stderr(Stdio::piped()).output() {
            Ok(output) => End {
                status: Some(output.status),
                errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Err(error) => End { status: None, errors: error.to_string() },
        }
    }

    /// Runs a line of shell to its end.
    pub fn run(&self, line: &str) -> End {
        self.run_with(line, |_, _| {})
    }

    /// Runs a line that must succeed.
    pub fn must(&self, line: &str) -> Result<(), Failure> {
        let end = self.run(line);
        match end.succeeded() {
            true => Ok(()),
            false => Err(Failure::new(format!("{line}: {}", end.last_lines()))),
        }
    }

    /// Sends a signal, such as `KILL`.
    pub fn signal(&self, process: u32, signal: &str) {
        let _ = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status();
    }

    /// Copies a run folder.
    pub fn copy(&self, from: &str, to: &str) -> Result<(), String> {
        self.remove(to);
        let copy = Command::new("cp").arg("-r").args([self.path(from), self.path(to)]).status();
        match copy {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("cp: {other:?}")),
        }
    }

    pub fn remove(&self, name: &str) {
        let path = self.path(name);
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }

    /// Nothing if two runs gave the same files; otherwise which differ.
    pub fn same(&self, one: &str, other: &str, names: &[&str]) -> Result<(), String> {
        for name in names {
            let [a, b] = [one, other].map(|run| fs::read(self.path(run).join(name)).ok());
            if a.is_none() || a != b {
                return Err(format!("{name} is not what an undisturbed run gives"));
            }
        }
        Ok(())
    }

    /// All files under a folder of this place; links are not followed.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        fn under(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    true => under(&entry.path(), found),
                    false => found.push(entry.path()),
                }
            }
        }
        let mut found = Vec::new();
        under(&self.path(name), &mut found);
        found.sort();
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
