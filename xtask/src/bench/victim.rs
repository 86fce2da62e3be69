//! The programs that are traced: `tests/victims/pairs.c`, and those that talk as it does.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::program::Program;
use crate::{command, repository};

/// For what takes no time unless the machine hangs.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What a pair's stack and size are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// One call site.
    SameStack,
    /// Eight call sites, each at another depth, in turn.
    ManyStacks,
    /// One call site, sizes from 16 to 1039 bytes, 32 blocks live.
    MixedSizes,
}

/// What the threads of the program do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Setting {
    /// Frames between thread start and malloc, at least.
    pub(super) depth: u32,
    pub(super) threads: u32,
    pub(super) shape: Shape,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { depth, threads, .. } = self;
        let threads = if *threads == 1 {
            "1 thread".to_owned()
        } else {
            format!("{threads} threads")
        };
        let shape = match self.shape {
            Shape::SameStack => "",
            Shape::ManyStacks => ", changing stacks",
            Shape::MixedSizes => ", mixed sizes",
        };
        write!(f, "depth {depth}, {threads}{shape}")
    }
}

/// What the program says of a stretch of time, summed over its threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pairs {
    pub(super) pairs: u64,
    pub(super) wall_ns: u64,
    pub(super) cpu_ns: u64,
    /// The longest time that 64 pairs took.
    pub(super) longest_ns: u64,
}

/// Compiled as most programs are: without frame pointers.
pub(super) fn compile(directory: &Path) -> Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let program = directory.join("pairs");
    command::run(
        Command::new("gcc")
            .args(["-std=gnu11", "-Wall", "-Wextra", "-pthread"])
            .args(["-O2", "-fomit-frame-pointer"])
            .arg("-o")
            .arg(&program)
            .arg(repository().join("tests/victims/pairs.c")),
    )?;
    Ok(program)
}

/// A line of numbers with names.
pub(super) struct Facts(String);

impl Facts {
    pub(super) fn get(&self, key: &str) -> Result<u64> {
        let Self(line) = self;
        let mut facts = line.split_ascii_whitespace();
        let value = facts.find_map(|fact| fact.strip_prefix(key)?.strip_prefix('=')?.parse().ok());
        value.with_context(|| format!("the program did not tell {key}: {line}"))
    }
}

/// The program under way, or what runs it.
pub(super) struct Victim {
    program: Program,
}

impl Victim {
    /// By itself, or by a command that runs it and hands our words on.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let program = Program::start(command.stdin(Stdio::piped()))?;
        program.wait_for("READY", PATIENCE)?;
        Ok(Self { program })
    }

    pub(super) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(super) fn set(&mut self, setting: Setting) -> Result<()> {
        let shape = match setting.shape {
            Shape::SameStack => 0,
            Shape::ManyStacks => 1,
            Shape::MixedSizes => 2,
        };
        for (name, number) in [
            ("depth", setting.depth),
            ("threads", setting.threads),
            ("shape", shape),
        ] {
            self.tell(name, number.into())?;
            self.finished(name)?;
        }
        Ok(())
    }

    /// Pairs for so long.
    pub(super) fn go(&mut self, time: Duration) -> Result<Pairs> {
        self.begin(time)?;
        self.pairs()
    }

    pub(super) fn begin(&mut self, time: Duration) -> Result<()> {
        self.tell("go", time.as_millis() as u64)
    }

    /// What came of what was begun, when it is over.
    pub(super) fn pairs(&mut self) -> Result<Pairs> {
        let facts = self.facts("go")?;
        let fact = |key| facts.get(key);
        Ok(Pairs {
            pairs: fact("pairs")?,
            wall_ns: fact("wall_ns")?,
            cpu_ns: fact("cpu_ns")?,
            longest_ns: fact("longest_ns")?,
        })
    }

    /// What it tells of what it was told to do, when it has done it.
    pub(super) fn facts(&mut self, name: &str) -> Result<Facts> {
        let line = self.program.wait_for("TRUTH", PATIENCE)?;
        self.finished(name)?;
        Ok(Facts(line))
    }

    /// Allocates so many blocks and keeps them.
    pub(super) fn hold(&mut self, blocks: u64) -> Result<()> {
        self.tell("hold", blocks)?;
        self.finished("hold")
    }

    /// Until it, and what runs it, have ended.
    pub(super) fn quit(mut self) -> Result<()> {
        drop(self.program.child().stdin.take());
        self.program.child().wait()?;
        Ok(())
    }

    pub(super) fn tell(&mut self, name: &str, number: u64) -> Result<()> {
        let input = self.program.child().stdin.as_mut();
        let input = input.context("the program has no standard input")?;
        writeln!(input, "{name} {number}").context("the program has ended")
    }

    fn finished(&self, name: &str) -> Result<()> {
        self.program.wait_for(&format!("DONE {name}"), PATIENCE)?;
        Ok(())
    }
}
