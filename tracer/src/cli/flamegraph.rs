//! `highwater flamegraph`: the holders as a picture.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    output::Usage,
    question::{self, Asked},
};
use crate::live::Kinds;
use crate::report::question::Question;
use crate::report::{Threads, answer::Answer, flamegraph, html};

/// Draw who held the memory as a flame graph
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write the page, or the picture if it ends in .svg; `-` is standard output (default: FILE with .html)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw who asked for the memory at the bottom, and on it who called that
    #[arg(long)]
    inverted: bool,
    #[command(flatten)]
    asked: Asked,
}

impl Arguments {
    fn order(&self) -> flamegraph::Order {
        match self.inverted {
            false => flamegraph::Order::RootFirst,
            true => flamegraph::Order::LeafFirst,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => arguments.file.with_extension("html"),
    };
    let is = |wanted: &str| {
        let extension = path.extension();
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
    };
    let written = if is("html") || is("htm") || path.as_os_str() == "-" {
        page(arguments, &question)?
    } else if is("svg") {
        picture(arguments, &question)?
    } else {
        let said = format!(
            "{}: flame graphs are written as HTML or SVG; name it .html or .svg",
            path.display()
        );
        return Err(Usage(said).into());
    };
    if path.as_os_str() == "-" {
        return Ok(io::stdout().lock().write_all(&written)?);
    }
    std::fs::write(&path, written).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("highwater: wrote {}", path.display());
    Ok(())
}

/// The page has threads and kinds told apart, whatever it shows at first.
fn page(arguments: &Arguments, question: &Question) -> anyhow::Result<Vec<u8>> {
    let whole = Question {
        kinds: Kinds::ALL,
        ..question.clone()
    };
    let profile = question::read(&arguments.file, &whole, Threads::Apart)?;
    let mut page = Vec::new();
    html::write(&profile, question, arguments.order(), &mut page)?;
    Ok(page)
}

fn picture(arguments: &Arguments, question: &Question) -> anyhow::Result<Vec<u8>> {
    let profile = question::read(&arguments.file, question, Threads::Together)?;
    let answer = Answer::of(&profile, question);
    let mut svg = Vec::new();
    flamegraph::write_svg(&profile, &answer, arguments.order(), &mut svg)?;
    Ok(svg)
}
