//! `highwater export`: who held the memory, for other tools.

use std::{
    fs::{self, File},
    io::{self, BufWriter, IsTerminal as _, Write},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use flate2::{Compression, write::GzEncoder};

use super::output::{self, Former, Usage};
use super::question::{self, Asked};
use super::recording::Recording;
use crate::record::{ahead::Ahead, reader};
use crate::report::{
    Profile, ReplayError, Threads,
    answer::Answer,
    export::{collapsed, csv, firefox, heaptrack, lines, pprof, speedscope},
    question::{Question, When},
};
use crate::words::say;

/// Write who held the memory in a format of other tools
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// The format
    #[arg(long, value_enum)]
    format: Format,
    /// Where to write it; `-` is standard output (default: FILE with the ending of the format)
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
    /// For speedscope: bytes and blocks held at the moment asked for, and allocated
    Speedscope,
    /// For heaptrack_print and heaptrack_gui: every allocation and free, compressed as the name says (.gz, .zst)
    Heaptrack,
    /// A row a holder, for spreadsheets and databases
    Csv,
    /// The same, a row a line of source: own and total bytes and blocks
    Lines,
    /// For profiler.firefox.com: what was held over time, by call tree, and RSS
    Firefox,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Self::Pprof => "pb.gz",
            Self::Collapsed => "collapsed",
            Self::Speedscope => "speedscope.json",
            Self::Heaptrack => "heaptrack.gz",
            Self::Csv => "csv",
            Self::Lines => "lines.csv",
            Self::Firefox => "firefox.json",
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let file = arguments.recording.path()?;
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None if file.as_os_str() == "-" => "-".into(),
        None => file.with_extension(arguments.format.ending()),
    };
    let to_stdout = path.as_os_str() == "-";
    if to_stdout && arguments.format == Format::Pprof && io::stdout().is_terminal() {
        let said = "a pprof profile is not for a terminal: name a file with -o, or pipe it on";
        return Err(Usage(said.to_owned()).into());
    }
    let whole_course = match arguments.format {
        Format::Heaptrack => "a heaptrack file",
        Format::Firefox => "a profile for Firefox",
        _ => "",
    };
    if !whole_course.is_empty() && (question.when != When::Peak || question.least > 0) {
        let said = format!(
            "{whole_course} has the whole course of the recording: leave out which moment or window, and --min"
        );
        return Err(Usage(said).into());
    }
    if arguments.format == Format::Heaptrack {
        return write_heaptrack(&file, &question, &path);
    }
    let threads = match arguments.format {
        Format::Pprof | Format::Csv => Threads::Apart,
        Format::Collapsed
        | Format::Speedscope
        | Format::Heaptrack
        | Format::Lines
        | Format::Firefox => Threads::Together,
    };
    let profile = question::read(&file, &question, threads)?;
    let held = Answer::of(&profile, &question);
    let allocated = || {
        let all = Question {
            when: When::Allocated,
            ..question.clone()
        };
        Answer::of(&profile, &all)
    };
    write_to(&path, &profile, |out| match arguments.format {
        Format::Pprof => pprof::write(&profile, &allocated(), &held, out),
        Format::Speedscope => speedscope::write(&profile, &held, &allocated(), out),
        Format::Csv => csv::write(&profile, &[&held], None, out),
        Format::Lines => lines::write(&profile, &held, out),
        Format::Firefox => firefox::write(&profile, &question, out),
        Format::Collapsed | Format::Heaptrack => collapsed::write(&profile, &held, out),
    })
}

/// The recording is read twice: names come after what they name.
fn write_heaptrack(file: &Path, question: &Question, path: &Path) -> anyhow::Result<()> {
    let spooled;
    let file = match file.as_os_str() == "-" {
        true => {
            spooled = Spooled::stdin()?;
            &spooled.path
        }
        false => file,
    };
    let (profile, happened) = question::read_definitions(file, question)?;
    if profile.folded {
        let missing = ReplayError::Folded {
            what: "every allocation and free, which is what heaptrack reads",
        };
        return Err(missing).with_context(|| format!("cannot export {}", file.display()));
    }
    if profile.sampling.is_some() {
        say!("allocations were sampled: sizes are estimates, calls those sampled");
    }
    let entries = || {
        let reader = reader::open(file).map_err(io::Error::other)?;
        Ahead::of(reader)
    };
    let write =
        |out: &mut dyn Write| heaptrack::write((&profile, happened), question, entries, out);
    // heaptrack tells by the name, too.
    write_to(path, &profile, |out| {
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("gz") => {
                let mut packed = BufWriter::new(GzEncoder::new(out, Compression::fast()));
                write(&mut packed)?;
                packed.into_inner()?.finish().map(drop)
            }
            Some("zst") => {
                let mut packed = BufWriter::new(zstd::Encoder::new(out, 0)?);
                write(&mut packed)?;
                packed.into_inner()?.finish().map(drop)
            }
            _ => write(out),
        }
    })
}

/// Standard input, kept in a file without a name.
struct Spooled {
    /// It is there as long as this is open.
    _file: File,
    path: PathBuf,
}

impl Spooled {
    fn stdin() -> anyhow::Result<Self> {
        let named = std::env::temp_dir().join(format!("highwater-export-{}", std::process::id()));
        let mut file = output::create(&named)?;
        fs::remove_file(&named).with_context(|| format!("cannot remove {}", named.display()))?;
        io::copy(&mut io::stdin().lock(), &mut file)
            .with_context(|| format!("cannot keep standard input in {}", named.display()))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        Ok(Self { _file: file, path })
    }
}

/// Writes a new file, or standard output.
fn write_to(
    path: &Path,
    profile: &Profile,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> anyhow::Result<()> {
    if !profile.is_complete() {
        say!("not all was seen; `highwater report` says what is missing");
    }
    output::write(path, Former::Kept, |out| Ok(write(out)?))
}
