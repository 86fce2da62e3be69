//! `highwater export`: who held the memory, for other tools.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::output::{self, Usage};
use super::question::{self, Asked};
use crate::report::{
    Threads,
    answer::Answer,
    export::{collapsed, pprof},
    question::{Question, When},
};

/// Write who held the memory in a format of other tools
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The recording; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The format
    #[arg(long, value_enum)]
    format: Format,
    /// Where to write it; `-` is standard output (default: FILE with .pb.gz or .collapsed)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For `go tool pprof` and what reads the same: allocated, and in use at the moment asked for
    Pprof,
    /// A line a stack, for flamegraph.pl and inferno
    Collapsed,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let path = arguments.output.clone().unwrap_or_else(|| {
        arguments.file.with_extension(match arguments.format {
            Format::Pprof => "pb.gz",
            Format::Collapsed => "collapsed",
        })
    });
    let to_stdout = path.as_os_str() == "-";
    if to_stdout && arguments.format == Format::Pprof && io::stdout().is_terminal() {
        let said = "a pprof profile is not for a terminal: name a file with -o, or pipe it on";
        return Err(Usage(said.to_owned()).into());
    }
    let mut written = Vec::new();
    match arguments.format {
        Format::Pprof => {
            let profile = question::read(&arguments.file, &question, Threads::Apart)?;
            let all = Question {
                when: When::Allocated,
                ..question.clone()
            };
            let (allocated, in_use) = (Answer::of(&profile, &all), Answer::of(&profile, &question));
            pprof::write(&profile, &allocated, &in_use, &mut written)?;
        }
        Format::Collapsed => {
            let profile = question::read(&arguments.file, &question, Threads::Together)?;
            let answer = Answer::of(&profile, &question);
            collapsed::write(&profile, &answer, &mut written)?;
        }
    }
    if to_stdout {
        return Ok(io::stdout().lock().write_all(&written)?);
    }
    let mut file = output::create(&path)?;
    file.write_all(&written)
        .with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("highwater: wrote {}", path.display());
    Ok(())
}
