//! `highwater flamegraph`: the holders as a picture.

use std::{
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{kind::OfKind, output::Usage, report};
use crate::{live::Moment, report::flamegraph};

/// Draw who held the memory as a flame graph
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where to write the SVG; `-` is standard output (default: FILE with .svg)
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which moment
    #[arg(long, value_enum, default_value_t = At::Peak)]
    at: At,
    #[command(flatten)]
    of_kind: OfKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum At {
    /// The high-water mark
    Peak,
    /// The end of the recording
    End,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let profile = report::read(&arguments.file, arguments.of_kind.kinds())?;
    let moment = match arguments.at {
        At::Peak => Moment::Peak,
        At::End => Moment::End,
    };
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => arguments.file.with_extension("svg"),
    };
    if path.as_os_str() == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        flamegraph::write_svg(&profile, moment, &mut out)?;
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
    flamegraph::write_svg(&profile, moment, &mut svg)?;
    std::fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("highwater: wrote {}", path.display());
    Ok(())
}
