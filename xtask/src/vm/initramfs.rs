//! What a machine has to run: the tests with all that they need, and nothing else of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Run, cpio, init};
use crate::command;

/// Programs that tests run by name.
const PROGRAMS: [&str; 16] = [
    "true", "dmesg", "sh", "ls", "sleep", "cat", "bash", "dd", "mkdir", "tee", "touch", "unshare",
    "mount", "ln", "grep", "env",
];

/// The users and groups that tests name.
const USERS: [(&str, &str); 2] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
];

/// Where processes and the kernel find what they look for.
const DIRECTORIES: [&str; 7] = ["dev", "proc", "run", "sys", "tmp", "etc", "root"];

/// Packs everything; returns the archive.
pub(super) fn make(
    directory: &Path,
    highwater: &Path,
    victims: &Path,
    plan: &[Run],
) -> Result<PathBuf> {
    let mut contents = Contents::default();
    contents.add_program("init", &env::current_exe()?)?;
    contents.add_program(init::HIGHWATER, highwater)?;
    for program in PROGRAMS {
        let path = command::find(program).with_context(|| format!("there is no {program}"))?;
        contents.add_program(&format!("bin/{program}"), &path)?;
    }
    for (name, content) in USERS {
        contents.add(name, content.into());
    }
    for run in plan {
        contents.add_program(&init::test_path(&run.name), &run.executable)?;
    }
    let mut lines = String::new();
    for run in plan {
        lines += &format!("{} {}\n", run.name, run.arguments.join(" "));
    }
    contents.add(init::PLAN, lines.into_bytes());
    for victim in fs::read_dir(victims)? {
        let victim = victim?.path();
        let name = victim.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| !name.starts_with('.')) else {
            continue;
        };
        // With their debug information, which is what names their functions.
        contents.add(&format!("{}/{name}", init::VICTIMS), fs::read(&victim)?);
        contents.add_libraries(&victim)?;
    }
    let archive = directory.join("initramfs.cpio");
    contents
        .write(&archive)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    println!(
        "{}: {:.1} MB",
        archive.display(),
        archive.metadata()?.len() as f64 / 1e6
    );
    Ok(archive)
}

/// Files by their name in the machine, without the leading slash.
#[derive(Default)]
struct Contents(BTreeMap<String, Vec<u8>>);

impl Contents {
    fn add(&mut self, name: &str, content: Vec<u8>) {
        self.0.insert(name.to_owned(), content);
    }

    /// A program of ours or of this machine, without its debug information, and the libraries it takes.
    fn add_program(&mut self, name: &str, path: &Path) -> Result<()> {
        let stripped = super::directory().join("stripped");
        command::run(
            Command::new("strip")
                .arg("--strip-debug")
                .arg("-o")
                .arg(&stripped)
                .arg(path),
        )?;
        self.add(name, fs::read(&stripped)?);
        fs::remove_file(&stripped)?;
        self.add_libraries(path)
    }

    /// Where this machine has them.
    fn add_libraries(&mut self, program: &Path) -> Result<()> {
        // It fails for what is static, or of another machine.
        let said = command::output(Command::new("ldd").arg(program)).unwrap_or_default();
        for library in said
            .split_whitespace()
            .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        {
            let name = library.trim_start_matches('/');
            if !self.0.contains_key(name) {
                let content =
                    fs::read(library).with_context(|| format!("cannot read {library}"))?;
                self.add(name, content);
            }
        }
        Ok(())
    }

    fn write(&self, to: &Path) -> Result<()> {
        let mut archive = cpio::Archive::new(BufWriter::new(File::create(to)?));
        let mut directories: BTreeSet<&str> = DIRECTORIES.into();
        for name in self.0.keys() {
            let parents = name.match_indices('/').map(|(at, _)| &name[..at]);
            directories.extend(parents);
        }
        // In order, so that a directory comes before those in it.
        for directory in directories {
            archive.directory(directory)?;
        }
        for (name, content) in &self.0 {
            archive.file(name, content)?;
        }
        Ok(archive.finish()?)
    }
}
