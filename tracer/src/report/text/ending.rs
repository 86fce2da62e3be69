//! How the target ended.

use std::io;

use super::super::model::{Completion, ProcessProfile, Profile};
use super::super::name;
use super::closing_reason;
use super::page::{Page, Style};
use crate::event::Nanos;
use crate::record::EndReason;
use crate::units::{size, time};
use crate::words::printable;

/// What a breakpoint that nobody expects is.
const SIGTRAP: u8 = 5;

/// Writes how the main process ended, and which others were killed for want of memory.
pub(super) fn write(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let Some(main) = profile.main_process() else {
        return Ok(());
    };
    let is_scope = profile.opening.options.contains_key("scope");
    if !is_scope {
        main_ended(page, profile, main)?;
    }
    others_killed(page, profile, (!is_scope).then_some(main))
}

fn main_ended(page: &mut Page<'_>, profile: &Profile, main: &ProcessProfile) -> io::Result<()> {
    let Some(ended) = &main.ended else {
        if matches!(profile.completion, Completion::UnderWay) {
            return page.line(&[(Style::Plain, "It runs on, and is traced.")]);
        }
        return page.line(&[(Style::Plain, "How it ended is not in the recording.")]);
    };
    let text = match ended.reason {
        EndReason::OomKilled => return oom(page, profile, main),
        EndReason::Exited { code } => format!("It exited with code {code}."),
        EndReason::Signal { signal: SIGTRAP } => format!(
            "It was killed by {}. highwater's probes are breakpoints: if the program's code was copied, patched or debugged \
             while they were in, they are the likely cause.",
            signal_name(SIGTRAP)
        ),
        EndReason::Signal { signal } => format!("It was killed by {}.", signal_name(signal)),
        EndReason::Executed => "It became another program, which was not followed.".to_owned(),
        EndReason::Vanished => "It is gone; how it ended was not seen.".to_owned(),
        EndReason::Detached => match closing_reason(profile) {
            Some(reason) => format!("It runs on: tracing ended here ({}).", printable(reason)),
            None => "It runs on: tracing ended here.".to_owned(),
        },
    };
    page.prose(Style::Plain, (0, 0), &text)
}

/// The kill that people come here for: when, how long after the peak, and at which limit.
fn oom(page: &mut Page<'_>, profile: &Profile, main: &ProcessProfile) -> io::Result<()> {
    let killed_at = killed_at(profile, main);
    let when = match killed_at.0.saturating_sub(profile.peak.at.0) {
        0..1_000_000 => "at the peak".to_owned(),
        after => format!("{} after the peak", time::duration(after)),
    };
    let text = format!("It was OOM-killed {when}: {}.", limit_of(profile, main));
    page.prose(Style::Bold, (0, 0), &text)
}

/// A worker's kill explains what its master says of it.
fn others_killed(
    page: &mut Page<'_>,
    profile: &Profile,
    main: Option<&ProcessProfile>,
) -> io::Result<()> {
    let is_killed = |process: &&ProcessProfile| {
        let ended = process.ended.as_ref();
        main.is_none_or(|main| process.process.id != main.process.id)
            && ended.is_some_and(|end| end.reason == EndReason::OomKilled)
    };
    let killed = profile.processes.iter().filter(is_killed);
    let count = killed.clone().count();
    let Some(first) = killed.min_by_key(|process| killed_at(profile, process)) else {
        return Ok(());
    };
    let at = time::offset(profile.since_start(killed_at(profile, first)).0);
    let program = name::program(&first.process.command);
    let who = match count {
        1 => format!("Process {} ({program}) was OOM-killed", first.process.pid),
        _ => format!(
            "{count} of its processes were OOM-killed, the first of them {} ({program})",
            first.process.pid
        ),
    };
    let text = format!("{who} at {at}: {}.", limit_of(profile, first));
    page.prose(Style::Bold, (0, 0), &text)
}

fn killed_at(profile: &Profile, process: &ProcessProfile) -> Nanos {
    let ended = process.ended.as_ref().map(|end| end.at);
    process.oom_at.or(ended).unwrap_or(profile.ended)
}

/// Which limit it ran into, as far as that is known.
fn limit_of(profile: &Profile, process: &ProcessProfile) -> String {
    // The last sample may have come too late to see the limit of a cgroup that is gone.
    let limit = process
        .memory
        .end
        .cgroup_limit
        .or(profile.memory.peak.cgroup_limit)
        .or(profile.memory.attach.cgroup_limit);
    let cgroup = process.process.cgroup.as_ref();
    let cgroup = cgroup.map(|cgroup| printable(&cgroup.path));
    match (&cgroup, limit) {
        (Some(cgroup), Some(limit)) => {
            format!("the cgroup {cgroup} is limited to {}", size::short(limit))
        }
        (Some(cgroup), None) => format!("the limit of its cgroup {cgroup} is not known"),
        (None, Some(limit)) => format!("its cgroup is limited to {}", size::short(limit)),
        (None, None) => "whether a cgroup's limit or the machine ran out is not known".to_owned(),
    }
}

/// `SIGSEGV (signal 11)`: x86-64 Linux, `signal(7)`.
fn signal_name(signal: u8) -> String {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    match usize::from(signal)
        .checked_sub(1)
        .and_then(|index| NAMES.get(index))
    {
        Some(name) => format!("{name} (signal {signal})"),
        None => format!("signal {signal}"),
    }
}
