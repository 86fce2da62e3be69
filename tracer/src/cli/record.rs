//! `highwater record`: trace, and answer.

use std::{
    io::{self, IsTerminal as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    DONE, is_broken_pipe, meant,
    output::{self, Usage},
    report, scope,
};
use crate::words::say;
use crate::{
    follow::{
        Scope,
        scope::{Id, Name},
    },
    probe::{capability, link::LinkKind},
    record::Opening,
    session::{self, Options, Outcome, Preflight, Subject},
    target::{Target, leave_out_arguments, namespace},
    units::{
        size::{Size, SizeError},
        time::{Length, LengthError},
    },
};

/// Trace processes until they end, Ctrl-C, or --duration; then say who held the memory
#[derive(Debug, Args)]
#[command(
    override_usage = "highwater record -p PID [OPTIONS]\n       \
        highwater record --comm NAME|--cgroup PATH|--container ID [OPTIONS]\n       \
        highwater record --unit NAME|--system [OPTIONS]\n       \
        highwater record [OPTIONS] -- COMMAND [ARGS]...",
    after_help = "The end of `record` is the answer: the first screen of `highwater report`.\n\
        A scope (--comm, --cgroup, --container, --unit, --system) may be empty at first, and what comes to be in it later is followed \
        too. When its last process ends, recording goes on, until --duration or Ctrl-C.",
    group = clap::ArgGroup::new("whom").required(true)
)]
pub(super) struct Arguments {
    /// Attach to this running process, by its pid or by a name that it alone has (may be repeated)
    #[arg(
        short,
        long,
        value_name = "PID|NAME",
        value_parser = meant::pid,
        group = "whom"
    )]
    pid: Vec<u32>,
    /// Follow every process of this name, now and later: the name that the kernel has for it, as `ps -o comm` shows it (may be
    /// repeated)
    #[arg(long, value_name = "NAME", value_parser = scope::name, group = "whom")]
    comm: Vec<Name>,
    /// Follow every process in this cgroup or below it: a path below /sys/fs/cgroup, or as /proc/PID/cgroup names it
    #[arg(long, value_name = "PATH", group = "whom")]
    cgroup: Option<String>,
    /// Follow every process in this container of docker, containerd, podman or cri-o: its id, or at least 6 digits of it
    #[arg(long, value_name = "ID", value_parser = scope::container, group = "whom")]
    container: Option<Id>,
    /// Follow every process of this unit of systemd, as nginx or nginx.service
    #[arg(long, value_name = "NAME", value_parser = scope::unit, group = "whom")]
    unit: Option<String>,
    /// Follow every process of the machine, except highwater itself
    #[arg(long, group = "whom")]
    system: bool,
    /// Do not follow processes of this name; of a process or a command, nor what they make (may be repeated)
    #[arg(long, value_name = "NAME", value_parser = scope::name)]
    exclude: Vec<Name>,
    /// Where to write the recording (default: COMMAND-PID-TIME.hwm here); never overwritten; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Stop after this long: 30s, 5m, 1h
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Beyond this size the recording holds totals for each stack (at the peak, at the end, what grows) in place of single events
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = parse_max_size)]
    max_size: u64,
    /// Hold totals from the start: a recording of a day stays small
    #[arg(long)]
    aggregate: bool,
    /// Only this process, not those that it makes or has made
    #[arg(long)]
    no_children: bool,
    /// Only heap blocks, no memory mappings: following those slows every system call on the machine by some 350 ns
    #[arg(long)]
    no_mappings: bool,
    /// Follow only a sample of allocations: of so many bytes asked for, one on average (512KiB; a power of two). Cheaper, and
    /// reports give estimates with their error
    #[arg(long, value_name = "SIZE", value_parser = parse_sample)]
    sample: Option<u32>,
    /// The most that tracing may slow the process (5%): beyond that, allocations are sampled where that helps, else the
    /// probes are taken out
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    max_overhead: Option<f64>,
    /// Size of the event ring in kernel memory (default: 4MiB to 64MiB by the calls that are counted before attaching, 32MiB
    /// where none are)
    #[arg(long, value_name = "SIZE", value_parser = parse_ring)]
    ring: Option<u32>,
    /// Count the calls of the process for at most this long before attaching, to tell what tracing will cost; 0: do not
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_window)]
    preflight: Duration,
    /// Attach even if that will slow the process much, without asking
    #[arg(short, long)]
    yes: bool,
    /// Leave arguments out of all command lines in the recording: they may be secret
    #[arg(long)]
    redact: bool,
    /// Python's small objects too, one by one: the command is run with PYTHONMALLOC=malloc. Slower; without it, the arenas that
    /// they lie in are what counts
    #[arg(long)]
    python_allocators: bool,
    /// Kind of probe link (session, multi or perf) instead of the best that works
    #[arg(long, value_name = "KIND", hide = true)]
    link: Option<LinkKind>,
    /// Launch this command and trace it from its start
    #[arg(last = true, value_name = "COMMAND", group = "whom")]
    command: Vec<String>,
    /// End without the answer: `check` gives one of its own
    #[arg(long, hide = true)]
    no_answer: bool,
}

/// The longest recording that ends by itself.
const MOST_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);
/// The longest count beforehand.
const MOST_PREFLIGHT: Duration = Duration::from_secs(60);

impl Arguments {
    pub(super) fn launches(&self) -> bool {
        !self.command.is_empty()
    }
}

/// How long to count calls beforehand; 0 is not at all.
fn parse_window(text: &str) -> Result<Duration, String> {
    let Length(window) = text
        .parse()
        .map_err(|error: LengthError| error.to_string())?;
    if window > MOST_PREFLIGHT {
        return Err("counting costs the process too: at most 60s".to_owned());
    }
    Ok(window)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let Length(duration) = text
        .parse()
        .map_err(|error: LengthError| error.to_string())?;
    if !duration.is_zero() && text.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(format!("a unit is missing: {text}s, {text}m or {text}h?"));
    }
    if duration.is_zero() {
        return Err("must be longer than 0; leave it out to trace until Ctrl-C".to_owned());
    }
    if duration > MOST_DURATION {
        return Err("at most 8760h, a year; leave it out to trace until Ctrl-C".to_owned());
    }
    Ok(duration)
}

fn parse_max_size(text: &str) -> Result<u64, String> {
    let Size(bytes) = text.parse().map_err(|error: SizeError| error.to_string())?;
    match bytes {
        0x10_0000.. => Ok(bytes),
        _ => Err("must be at least 1MiB (names and stacks need that much)".to_owned()),
    }
}

fn parse_ring(text: &str) -> Result<u32, String> {
    let Size(bytes) = text.parse().map_err(|error: SizeError| error.to_string())?;
    match u32::try_from(bytes) {
        Ok(bytes) if (4096..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("must be between 4KiB and 1GiB".to_owned()),
    }
}

/// log2 of a power of two, or of the nearest.
fn parse_sample(text: &str) -> Result<u32, String> {
    let Size(bytes) = text.parse().map_err(|error: SizeError| error.to_string())?;
    match bytes {
        1024..=0x8000_0000 => Ok((bytes as f64).log2().round() as u32),
        _ => Err("must be between 1KiB and 2GiB".to_owned()),
    }
}

/// A share: 0.05 for `5%`.
fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if percent > 0.0 && percent <= 10_000.0 => Ok(percent / 100.0),
        _ => Err("a number of percent above 0, such as 5%".to_owned()),
    }
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<u8> {
    let Arguments {
        pid,
        comm,
        cgroup,
        container,
        unit,
        system,
        exclude,
        output,
        duration,
        max_size,
        aggregate,
        no_children,
        no_mappings,
        sample,
        max_overhead,
        ring,
        preflight,
        yes,
        redact,
        python_allocators,
        link,
        command,
        no_answer,
    } = arguments;
    if python_allocators && command.is_empty() {
        let words = "--python-allocators is for a command that is launched: an interpreter chooses its allocator as it starts.\n\
             Start the program with PYTHONMALLOC=malloc in its environment, and attach to it without this option";
        return Err(Usage(words.to_owned()).into());
    }
    let to_stdout = output.as_ref().is_some_and(|path| path.as_os_str() == "-");
    if to_stdout {
        check_stdout(!command.is_empty())?;
    }
    capability::check()?;
    namespace::check()?;
    session::spare_others();
    if redact {
        leave_out_arguments();
    }
    let first = pid.first().copied();
    let whom = scope::whom(comm, cgroup.as_deref(), container, unit, system)?;
    let (subject, name) = match (first, whom) {
        (Some(first), _) => {
            let pids = distinct(pid);
            // One of several may have gone: the session says so, and traces the others.
            let opened = pids.iter().find_map(|&pid| Target::open(pid).ok());
            let target = opened.map_or_else(|| Target::open(first), Ok);
            let target = target.map_err(scope::of_another_namespace)?;
            (Subject::Running { pids }, target.command)
        }
        (None, Some(whom)) => {
            let name = scope::file_name(&whom);
            let except = exclude.clone();
            (Subject::Scope(Scope { whom, except }), name)
        }
        (None, None) => (
            Subject::Command {
                command: command.clone(),
            },
            command.first().cloned().unwrap_or_default(),
        ),
    };
    let now = jiff::Timestamp::now();
    let path = output.unwrap_or_else(|| {
        output::recording_name(&name, first.unwrap_or_else(std::process::id), now)
    });
    let file = match to_stdout {
        true => io::stdout().as_fd().try_clone_to_owned()?.into(),
        false => output::create(&path)?,
    };
    let options = Options {
        subject,
        except: exclude,
        output: path.clone(),
        max_size,
        aggregate,
        duration,
        children: !no_children,
        mappings: !no_mappings,
        sample,
        max_overhead,
        ring_bytes: ring,
        python_allocators,
        link,
        preflight: Preflight {
            window: preflight,
            go_on: yes,
        },
        progress: true,
        so_far: (!to_stdout).then_some(report::so_far),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let opening = opening(redact, &options);
    let outcome = runtime.block_on(session::record(options, file, opening));
    let Outcome { reason, status } = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            if to_stdout {
                return Err(error.into());
            }
            let wrote = matches!(error, session::SessionError::Write { .. });
            return Err(match (forget_if_empty(&path), wrote) {
                (true, true) => {
                    anyhow::anyhow!("{error}; nothing of use was written, and the file was removed")
                }
                (false, true) => anyhow::anyhow!(
                    "{error}; what was written before is readable: highwater report {}",
                    path.display()
                ),
                (_, false) => error.into(),
            });
        }
    };
    log::debug!("recording ended: {reason}");
    if !to_stdout && !no_answer {
        match report::print_answer(&path) {
            // The command's own status is passed on all the same.
            Err(error) if is_broken_pipe(&error) => {}
            answered => answered?,
        }
    }
    if reason == session::OVER_LIMIT {
        say!("{reason}: the probes are out, and what was seen until then is above");
    }
    Ok(match status {
        Some(status) => status
            .code()
            .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
            .try_into()
            .unwrap_or(super::FAILED),
        None => DONE,
    })
}

/// Each once, in the order given.
fn distinct(pids: Vec<u32>) -> Vec<u32> {
    let mut distinct = Vec::with_capacity(pids.len());
    for pid in pids {
        if !distinct.contains(&pid) {
            distinct.push(pid);
        }
    }
    distinct
}

/// Whether a recording may go to standard output.
fn check_stdout(launches: bool) -> Result<(), Usage> {
    if launches {
        let said = "-o - and a command: its output would be mixed with the recording; record to a file, or attach with -p";
        return Err(Usage(said.to_owned()));
    }
    if io::stdout().is_terminal() {
        let said =
            "-o -: a recording is no text for a terminal; pipe it on, as in `| highwater report -`";
        return Err(Usage(said.to_owned()));
    }
    Ok(())
}

/// A recording that never began is no use to anyone: it is removed. Says whether it was.
fn forget_if_empty(path: &std::path::Path) -> bool {
    let began = crate::record::reader::open(path)
        .is_ok_and(|mut reader| matches!(reader.next(), Some(Ok(_))));
    if !began {
        // It may be gone already.
        let _ = std::fs::remove_file(path);
    }
    !began
}

/// How this recording came to be; the session adds the kind of link, and when it began.
fn opening(redacted: bool, options: &Options) -> Opening {
    let uname = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Opening {
        highwater: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: command_line(redacted),
        kernel: format!(
            "{} {} {}",
            part(uname.sysname()),
            part(uname.release()),
            part(uname.machine())
        ),
        started_ns: 0,
        started_unix_ns: 0,
        page_size: rustix::param::page_size() as u64,
        link: String::new(),
        redacted,
        options: options.told(),
    }
}

/// Our own command line; without what the command to be launched is given, if that may be secret.
fn command_line(redacted: bool) -> Vec<String> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let mut words: Vec<String> = words.collect();
    if redacted && let Some(end) = words.iter().position(|word| word == "--") {
        words.truncate(end + 2);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beforehand_may_be_left_out_and_is_bounded() {
        assert_eq!(parse_window("0"), Ok(Duration::ZERO));
        assert_eq!(parse_window("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "x", "-1s", "2m"] {
            assert!(parse_window(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_time_at_all_is_refused_and_so_is_nonsense() {
        assert_eq!(parse_duration("8760h"), Ok(MOST_DURATION));
        for text in [
            "0",
            "0s",
            "",
            "-1",
            "x",
            "3 weeks",
            "1e300h",
            "nan",
            "8761h",
            "18000000000000000000s",
            "90",
            "1.5",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
