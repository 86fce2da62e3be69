//! memray, from PyPI, in an environment of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use super::process::{self, Cost};
use crate::command;

/// Counts the records of a file, frees among them.
const COUNT: &str = "import sys, memray
with memray.FileReader(sys.argv[1]) as reader:
    print(sum(1 for _ in reader.get_allocation_records()))
";

/// Events, bytes, and what a report cost.
type Found = (u64, u64, Cost);

pub(super) struct Memray {
    directory: PathBuf,
}

impl Memray {
    /// Makes the environment, if it is not there.
    pub(super) fn install(directory: &Path) -> Result<Self> {
        let directory = directory.join("memray");
        if !directory.join("bin/memray").is_file() {
            command::run(
                Command::new("python3")
                    .args(["-m", "venv", "--clear"])
                    .arg(&directory),
            )?;
            command::run(
                Command::new(directory.join("bin/python"))
                    .args(["-m", "pip", "install", "--quiet", "memray"]),
            )?;
        }
        Ok(Self { directory })
    }

    /// The interpreter that it runs in.
    pub(super) fn python(&self) -> PathBuf {
        self.directory.join("bin/python")
    }

    /// Runs a script under it, without and with native stacks.
    pub(super) fn measure(&self, script: &str) -> Result<Vec<(String, Found)>> {
        let mut found = Vec::new();
        for (name, options) in [("memray", &[][..]), ("memray --native", &["--native"])] {
            let file = self.directory.join("load.bin");
            if file.exists() {
                fs::remove_file(&file)?;
            }
            command::run(
                Command::new(self.python())
                    .args(["-m", "memray", "run", "--quiet"])
                    .args(options)
                    .arg("-o")
                    .arg(&file)
                    .arg(script)
                    .stdout(Stdio::null()),
            )?;
            let count =
                command::captured(Command::new(self.python()).args(["-c", COUNT]).arg(&file))?;
            let (events, bytes) = (count.trim().parse()?, fs::metadata(&file)?.len());
            let memray = |verb: &str| {
                let mut command = Command::new(self.python());
                command.args(["-m", "memray", verb]);
                command
            };
            let stats = process::cost(memray("stats").arg(&file))?;
            found.push((name.to_owned(), (events, bytes, stats)));
            let page = self.directory.join("load.html");
            let drawn = process::cost(
                memray("flamegraph")
                    .args(["-f", "-o"])
                    .arg(&page)
                    .arg(&file),
            )?;
            found.push((format!("{name}, flamegraph"), (events, bytes, drawn)));
        }
        Ok(found)
    }
}
