//! `highwater flamegraph`: the holders as a picture.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Args;

use super::{
    output::{self, Former, Usage},
    question::{self, Asked},
    recording::Recording,
};
use crate::live::Kinds;
use crate::report::question::Question;
use crate::report::{
    Threads,
    answer::Answer,
    flamegraph::{self, Order},
    html,
    view::View,
};

/// Draw who held the memory as a flame graph
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// Where to write the page, or the picture if it ends in .svg; `-` is standard output (default: FILE with .html)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Draw who asked for the memory at the bottom, and on it who called that
    #[arg(long)]
    inverted: bool,
    #[command(flatten)]
    asked: Asked,
}

/// What is drawn, as the name of its file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawing {
    Page,
    Picture,
}

impl Drawing {
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        let is = |wanted: &str| {
            let extension = path.extension();
            extension.is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
        };
        if is("html") || is("htm") || path.as_os_str() == "-" {
            return Ok(Self::Page);
        }
        if is("svg") {
            return Ok(Self::Picture);
        }
        let said = format!(
            "{}: flame graphs are written as HTML or SVG; name it .html or .svg",
            path.display()
        );
        Err(Usage(said).into())
    }

    /// Draws it into the file, or `-`, standard output.
    pub(super) fn write(
        self,
        path: &Path,
        draw: impl FnOnce(Self, &mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        output::write(path, Former::Replaced, |out| draw(self, out))
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let file = arguments.recording.path()?;
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None if file.as_os_str() == "-" => "-".into(),
        None => file.with_extension("html"),
    };
    Drawing::at(&path)?.write(&path, |drawing, out| match drawing {
        Drawing::Page => page(arguments, &file, &question, out),
        Drawing::Picture => picture(arguments, &file, &question, out),
    })
}

/// The page has threads, kinds and frames told apart, whatever it shows at first.
fn page(
    arguments: &Arguments,
    file: &Path,
    question: &Question,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let whole = Question {
        kinds: Kinds::ALL,
        view: View::All,
        ..question.clone()
    };
    let profile = question::read_for_page(file, &whole)?;
    html::write(&profile, question, Order::new(arguments.inverted), out)?;
    Ok(())
}

fn picture(
    arguments: &Arguments,
    file: &Path,
    question: &Question,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let profile = question::read(file, question, Threads::Together)?;
    let answer = Answer::of(&profile, question);
    flamegraph::write_svg(&profile, &answer, Order::new(arguments.inverted), out)?;
    Ok(())
}
