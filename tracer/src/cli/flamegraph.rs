//! `highwater flamegraph`: the holders as a picture.

use std::{
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    output::Usage,
    question::{self, Asked},
};
use crate::report::{Threads, answer::Answer, flamegraph};

/// Draw who held the memory as a flame graph
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write the SVG; `-` is standard output (default: FILE with .svg)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw who asked for the memory at the bottom, and on it who called that
    #[arg(long)]
    inverted: bool,
    #[command(flatten)]
    asked: Asked,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let profile = question::read(&arguments.file, &question, Threads::Together)?;
    let answer = Answer::of(&profile, &question);
    let order = match arguments.inverted {
        false => flamegraph::Order::RootFirst,
        true => flamegraph::Order::LeafFirst,
    };
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => arguments.file.with_extension("svg"),
    };
    if path.as_os_str() == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        flamegraph::write_svg(&profile, &answer, order, &mut out)?;
        return Ok(out.flush()?);
    }
    if path
        .extension()
        .is_none_or(|extension| !extension.eq_ignore_ascii_case("svg"))
    {
        let said = format!(
            "{}: flame graphs are written as SVG; name it .svg",
            path.display()
        );
        return Err(Usage(said).into());
    }
    let mut svg = Vec::new();
    flamegraph::write_svg(&profile, &answer, order, &mut svg)?;
    std::fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("highwater: wrote {}", path.display());
    Ok(())
}
