//! What is known of a process from outside: its processor time, its resident memory, what it has started.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// User and system time of a process so far, of all its threads, those that have ended too. Nanoseconds.
pub(super) fn processor_time(pid: u32) -> Result<u64> {
    let mut clock = 0;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the clock's id is written before it is read.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error))
            .with_context(|| format!("process {pid} has no clock"));
    }
    // SAFETY: `time` is room for one timespec.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot read the clock of process {pid}"));
    }
    // SAFETY: the call succeeded and so has written it.
    let time = unsafe { time.assume_init() };
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// What running something to its end took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Wall-clock time, seconds.
    pub(super) seconds: f64,
    /// Its processor time, seconds.
    pub(super) processor: f64,
    /// The most resident memory that it had, bytes.
    pub(super) resident: u64,
}

/// Runs a command, whose output nobody reads, to its end.
pub(super) fn cost(command: &mut Command) -> Result<Cost> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let line = crate::command::line(command);
    let began = Instant::now();
    let child = command
        .spawn()
        .with_context(|| format!("cannot run `{line}`"))?;
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    let mut status = 0;
    // SAFETY: waits for a child that nobody else waits for; both places are there to be written.
    let waited = unsafe {
        libc::wait4(
            child.id() as libc::pid_t,
            &raw mut status,
            0,
            usage.as_mut_ptr(),
        )
    };
    let seconds = began.elapsed().as_secs_f64();
    if waited < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot wait for `{line}`"));
    }
    ensure!(status == 0, "`{line}` failed: {status:#x}");
    // SAFETY: the call succeeded and so has written it.
    let usage = unsafe { usage.assume_init() };
    let in_seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Cost {
        seconds,
        processor: in_seconds(usage.ru_utime) + in_seconds(usage.ru_stime),
        resident: (usage.ru_maxrss as u64) << 10,
    })
}

/// Resident memory of a process, bytes.
pub(super) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kibibytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.split_ascii_whitespace().next()?.parse().ok())
        .with_context(|| format!("{path} has no VmRSS"))?;
    Ok(kibibytes << 10)
}

/// A process and all that it has started, and they have; itself first.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let child: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((child, parent(child)?))
        })
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        let children = parents.iter().filter(|(_, parent)| *parent == member);
        family.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    family
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Asks a process to end, as Ctrl-C does.
pub(super) fn interrupt(pid: u32) {
    // SAFETY: sends a signal to a child that we have not waited for; nothing of ours is touched.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGINT) };
}
