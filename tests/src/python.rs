//! The CPythons of this machine, and victims in Python.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::program::profile_directory;

/// The versions that highwater reads: their second numbers.
const READ: RangeInclusive<u32> = 9..=14;

/// A CPython that is there for the tests.
#[derive(Clone, Debug)]
pub struct CPython {
    /// Where it is, as it sees it.
    program: PathBuf,
    /// Its root, if that is another than ours.
    root: Option<PathBuf>,
    /// The second number of its version: 11 of 3.11.
    pub minor: u32,
}

impl CPython {
    /// Whether it has the C library that we have. Where a launched program turns out to have another, its first calls are not seen.
    pub fn has_our_root(&self) -> bool {
        self.root.is_none()
    }

    /// The words that run a script of ours.
    pub fn words(&self, victim: &str) -> Vec<OsString> {
        let script = python_victim(victim);
        let Some(root) = &self.root else {
            return vec![self.program.clone().into(), script.into()];
        };
        // Others may be doing the same.
        let inside = Path::new("victims").join(victim);
        let draft = root.join(format!("{}.{}", inside.display(), process::id()));
        fs::copy(&script, &draft)
            .and_then(|_| fs::rename(&draft, root.join(&inside)))
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", script.display()));
        vec![
            "chroot".into(),
            root.into(),
            self.program.clone().into(),
            Path::new("/").join(inside).into(),
        ]
    }

    /// What runs a script of ours.
    pub fn command(&self, victim: &str) -> Command {
        let words = self.words(victim);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// A Python function on a stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonFrame {
    /// Its file, as the interpreter names it.
    pub file: String,
    /// The line that runs.
    pub line: Option<u64>,
    /// Its name; qualified from 3.11 on.
    pub function: String,
}

/// Every CPython that is found here and that highwater reads: Debian's, those of pyenv, the one on the path, and those of the next
/// Debian in a root of their own. Panics if there is none.
#[track_caller]
pub fn every_cpython() -> Vec<CPython> {
    let mut pythons = pythons_of_this_root();
    let mut newer = newer_pythons();
    newer.retain(|python| READ.contains(&python.minor));
    pythons.append(&mut newer);
    pythons
}

/// Those of the next Debian, newest last. Panics if there is none.
#[track_caller]
fn newer_pythons() -> Vec<CPython> {
    let root = profile_directory().join("../newer-pythons/root");
    let programs = fs::read_dir(root.join("usr/bin"))
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask setup`", root.display()));
    let mut found: Vec<CPython> = programs
        .flatten()
        .filter_map(|program| {
            let name = program.file_name().into_string().ok()?;
            let minor = name.strip_prefix("python3.")?.parse().ok()?;
            Some(CPython {
                program: Path::new("/usr/bin").join(name),
                root: Some(root.clone()),
                minor,
            })
        })
        .collect();
    assert!(!found.is_empty(), "no Python is in {}", root.display());
    found.sort_by_key(|python| python.minor);
    found
}

fn pythons_of_this_root() -> Vec<CPython> {
    let pyenv = env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let mut candidates: Vec<PathBuf> = versions
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin/python3"))
        .collect();
    candidates.extend(["/usr/bin/python3".into(), "/usr/local/bin/python3".into()]);
    let path = env::var_os("PATH").unwrap_or_default();
    candidates.extend(env::split_paths(&path).map(|directory| directory.join("python3")));
    let mut found: BTreeMap<PathBuf, CPython> = BTreeMap::new();
    for program in candidates {
        let Some((file, minor)) = asked(&program) else {
            continue;
        };
        if READ.contains(&minor) {
            found.entry(file).or_insert(CPython {
                program,
                root: None,
                minor,
            });
        }
    }
    let found: Vec<CPython> = found.into_values().collect();
    assert!(
        !found.is_empty(),
        "there is no CPython here that highwater reads: run `cargo xtask setup`"
    );
    found
}

/// What an interpreter says of itself: its file, and the second number of its version.
fn asked(program: &Path) -> Option<(PathBuf, u32)> {
    const QUESTION: &str = "import os, sys\n\
        print(sys.implementation.name, sys.version_info[0], sys.version_info[1], os.path.realpath(sys.executable))";
    if !program.is_file() {
        return None;
    }
    let output = Command::new(program)
        .args(["-S", "-c", QUESTION])
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let mut words = said.trim().splitn(4, ' ');
    if (words.next()?, words.next()?) != ("cpython", "3") {
        return None;
    }
    let minor = words.next()?.parse().ok()?;
    Some((words.next()?.into(), minor))
}

/// The path of a victim in Python.
pub fn python_victim(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("victims/python")
        .join(name)
}

/// The stacks that a victim has told, by the size of the allocation: what it is about, and its frames, leaf first.
pub fn told_python_stacks(said: &[String]) -> BTreeMap<u64, (String, Vec<PythonFrame>)> {
    said.iter()
        .filter_map(|line| line.strip_prefix("TRUTH\tSTACK\t"))
        .map(|line| {
            let words: Vec<&str> = line.split('\t').collect();
            let size = words[1].parse().expect("a size is a number");
            let mut frames: Vec<PythonFrame> = words[2..]
                .chunks_exact(3)
                .map(|frame| PythonFrame {
                    file: frame[0].to_owned(),
                    line: frame[1].parse().ok(),
                    function: frame[2].to_owned(),
                })
                .collect();
            frames.reverse();
            (size, (words[0].to_owned(), frames))
        })
        .collect()
}
