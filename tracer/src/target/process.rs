//! One process: who it is, and whether it still is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::{
    fs::{Mode, OFlags},
    time::{ClockId, clock_gettime},
};

use super::{
    error::{Privilege, TargetError},
    file_rights::Rights,
    namespace::innermost,
    procfs::{self, STATUS_LIMIT, Stat},
};

/// Clock ticks a second in `/proc`: `USER_HZ`, a constant of the kernel's x86-64 ABI.
const TICKS_PER_SECOND: u64 = 100;

/// Most processes that are looked at, each the parent of the one before.
const MOST_ANCESTORS: usize = 1000;

/// A command line is cut here, bytes.
const COMMAND_LIMIT: usize = 16 << 10;

/// A process, identified by its pid and the time it started.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its pid, as we see it.
    pub pid: u32,
    /// Its pid in its own (the innermost) pid namespace.
    pub ns_pid: u32,
    /// When it started, clock ticks after boot: with the pid, its identity.
    pub start_ticks: u64,
    /// When it started, nanoseconds since 1970-01-01 UTC, as exact as a clock tick (10 ms).
    pub started_unix_ns: u64,
    /// Its command line, arguments joined by a space; `[name]` where it has none.
    pub command: String,
    /// The leader thread has exited, while others run on.
    pub leader_gone: bool,
    /// A thread that runs: the leader (so, the pid) unless that is gone.
    pub live_tid: u32,
    /// Where its stack began: tells the program from the one that it becomes by exec.
    stack_start: u64,
}

impl Target {
    /// Looks the process up.
    ///
    /// # Errors
    ///
    /// [`TargetError::NoSuchProcess`], [`TargetError::IsThread`], or [`TargetError::Gone`] if it ended meanwhile. One
    /// that has ended but is not reaped yet can be opened; [`super::safety::examine`] refuses it.
    pub fn open(pid: u32) -> Result<Self, TargetError> {
        let dir = process_dir(pid);
        let status_path = dir.join("status");
        let status =
            procfs::read(&status_path, STATUS_LIMIT).map_err(
                |source| match TargetError::reading(pid, &status_path, Privilege::Inspect, source) {
                    TargetError::Gone { pid } => TargetError::NoSuchProcess { pid },
                    other => other,
                },
            )?;
        // `/proc/TID` exists for every thread, though it is not listed.
        let tgid = procfs::status_number(&status, "Tgid").ok_or(TargetError::Malformed {
            path: status_path,
            what: "no Tgid",
        })?;
        if tgid != u64::from(pid) {
            return Err(TargetError::IsThread {
                tid: pid,
                pid: u32::try_from(tgid).unwrap_or(0),
            });
        }
        let stat = read_stat(pid, &dir)?;
        let (leader_gone, live_tid) = match live_thread(pid, stat) {
            Some(tid) => (tid != pid, tid),
            None => (false, pid),
        };
        // Kernels before 4.1 have no NSpid; there, and in our own namespace, it is the pid.
        let ns_pid = innermost(&status).unwrap_or(pid);
        let target = Self {
            pid,
            ns_pid,
            start_ticks: stat.start_ticks,
            started_unix_ns: unix_ns(stat.start_ticks),
            command: shown(command(&dir, &status)),
            leader_gone,
            live_tid,
            stack_start: stat.stack_start,
        };
        if read_stat(pid, &dir)?.start_ticks != stat.start_ticks {
            return Err(TargetError::Gone { pid });
        }
        Ok(target)
    }

    /// Whether the same process (same start time) still runs. One that only waits to be reaped does not.
    ///
    /// It may have called exec since: that keeps pid and start time.
    pub fn is_alive(&self) -> bool {
        read_stat(self.pid, &process_dir(self.pid)).is_ok_and(|stat| {
            stat.start_ticks == self.start_ticks && live_thread(self.pid, stat).is_some()
        })
    }

    /// Whether the thread by which it was seen has ended, and another goes on. A first thread that has ended stays as a zombie.
    pub fn has_lost_its_thread(&self) -> bool {
        if self.leader_gone {
            return !self.proc_dir().exists();
        }
        let Ok(leader) = self.stat() else {
            return false;
        };
        let Some(living) = live_thread(self.pid, leader).filter(|living| *living != self.pid)
        else {
            return false;
        };
        // Where the whole process is about to end, its threads do one after another.
        let task = process_dir(self.pid).join("task").join(living.to_string());
        read_stat(self.pid, &task).is_ok_and(|stat| !stat.is_ending())
    }

    /// Whether it is still the program that was looked up: it has not called exec since.
    pub fn is_same_program(&self) -> bool {
        // A leader that has exited has no stack to compare; its process cannot call exec without replacing it.
        self.leader_gone
            || self
                .stat()
                .is_ok_and(|stat| stat.stack_start == self.stack_start)
    }

    /// The process that debugs it, by ptrace.
    pub fn debugger(&self) -> Option<u32> {
        let status = procfs::read(&self.proc_dir().join("status"), STATUS_LIMIT).ok()?;
        let tracer = procfs::status_number(&status, "TracerPid")?;
        u32::try_from(tracer).ok().filter(|tracer| *tracer != 0)
    }

    /// The process that made it, or took it over.
    pub(super) fn parent(&self) -> Option<u32> {
        self.stat().ok().map(|stat| stat.parent)
    }

    /// Whether it handles SIGTRAP, as who sets breakpoints in himself does.
    pub fn catches_breakpoints(&self) -> bool {
        let status = procfs::read(&self.proc_dir().join("status"), STATUS_LIMIT);
        let caught = status.ok().and_then(|status| {
            let mask = procfs::status_field(&status, "SigCgt")?;
            u64::from_str_radix(str::from_utf8(mask).ok()?, 16).ok()
        });
        caught.is_some_and(|mask| mask >> (libc::SIGTRAP - 1) & 1 == 1)
    }

    /// The directory of a thread that runs, `/proc/PID/task/TID`: of a leader that has exited the kernel shows no
    /// maps, no root and no memory figures, although the process has them.
    pub fn proc_dir(&self) -> PathBuf {
        process_dir(self.pid)
            .join("task")
            .join(self.live_tid.to_string())
    }

    /// Whether its command line could be read: that of a process that has ended is gone, and its name stands there.
    pub fn has_command_line(&self) -> bool {
        !self.command.starts_with('[')
    }

    /// It had ended before its command line could be read, which was this.
    pub fn was_launched_as(&mut self, words: &[String]) {
        let mut command = words.join(" ");
        command.truncate(command.floor_char_boundary(COMMAND_LIMIT));
        self.command = shown(command);
    }

    /// The same process seen through a thread that runs now; the one that [`Target::live_tid`] names may have ended.
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`] if the process has ended.
    pub fn refreshed(&self) -> Result<Self, TargetError> {
        let gone = TargetError::Gone { pid: self.pid };
        let stat = read_stat(self.pid, &process_dir(self.pid))?;
        if stat.start_ticks != self.start_ticks {
            return Err(gone);
        }
        let live_tid = live_thread(self.pid, stat).ok_or(gone)?;
        Ok(Self {
            live_tid,
            leader_gone: live_tid != self.pid,
            ..self.clone()
        })
    }

    /// The user who owns the files that it makes (`fsuid`).
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`], or a `status` that does not say.
    pub fn file_owner(&self) -> Result<u32, TargetError> {
        Ok(self.file_rights()?.user())
    }

    /// With what rights it opens files now.
    pub(super) fn file_rights(&self) -> Result<Rights, TargetError> {
        let path = self.proc_dir().join("status");
        let status = procfs::read(&path, STATUS_LIMIT)
            .map_err(|source| TargetError::reading(self.pid, &path, Privilege::Inspect, source))?;
        let namespace = fs::read_link(self.proc_dir().join("ns/user")).ok();
        let ours = fs::read_link("/proc/self/ns/user").ok();
        Rights::of(&status, namespace.is_some() && namespace == ours).ok_or(
            TargetError::Malformed {
                path,
                what: "no user ids",
            },
        )
    }

    /// When the program in its memory began, nanoseconds since 1970-01-01 UTC: its own start, or that of the eldest of the processes
    /// that run, of which each forked the next and the last forked this one.
    pub fn program_began_unix_ns(&self) -> u64 {
        let mut began = self.start_ticks;
        let Ok(mut child) = self.stat() else {
            return self.started_unix_ns;
        };
        // Pids that are reused while we read could lead in a circle.
        for _ in 0..MOST_ANCESTORS {
            let Ok(parent) = read_stat(child.parent, &process_dir(child.parent)) else {
                break;
            };
            // An exec puts the stack elsewhere.
            let forked = parent.stack_start == child.stack_start && parent.stack_start != 0;
            if !forked || parent.start_ticks > began {
                break;
            }
            began = parent.start_ticks;
            child = parent;
        }
        let before = (self.start_ticks - began).saturating_mul(1_000_000_000 / TICKS_PER_SECOND);
        self.started_unix_ns.saturating_sub(before)
    }

    /// Its root directory, to open files in; stays usable after the process has ended.
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`], or [`TargetError::NotPermitted`].
    pub fn root(&self) -> Result<OwnedFd, TargetError> {
        let path = self.proc_dir().join("root");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).map_err(|source| {
            TargetError::reading(self.pid, &path, Privilege::Inspect, source.into())
        })
    }

    /// The process's threads, by id, as listed now. Some may have ended by the time they are looked at.
    pub fn threads(&self) -> Vec<u32> {
        threads(self.pid)
    }

    /// Processor time that its threads have taken, those that have ended included, nanoseconds. 0 once it is gone.
    pub fn cpu_ns(&self) -> u64 {
        // Not /proc/PID/stat, which counts hundredths of a second.
        let mut clock = 0;
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: both only write what they are given.
        let known = unsafe {
            libc::clock_getcpuclockid(self.pid.cast_signed(), &raw mut clock) == 0
                && libc::clock_gettime(clock, &raw mut time) == 0
        };
        if !known {
            return 0;
        }
        let (seconds, rest) = (time.tv_sec.cast_unsigned(), time.tv_nsec.cast_unsigned());
        seconds.saturating_mul(1_000_000_000).saturating_add(rest)
    }

    pub(super) fn stat(&self) -> Result<Stat, TargetError> {
        read_stat(self.pid, &process_dir(self.pid))
    }
}

/// The processes below `pid`: its children, theirs, and so on; a parent always before its children.
///
/// A process that lost its parent was handed to another one and is no longer found here.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for child in numbered_entries(Path::new("/proc")) {
        if let Ok(stat) = read_stat(child, &process_dir(child)) {
            children.entry(stat.parent).or_default().push(child);
        }
    }
    // Pids are reused while we read, so that the links might form a circle: each process is taken once.
    let mut seen = HashSet::from([pid]);
    let mut found = Vec::new();
    let mut next = 0;
    let mut parent = pid;
    loop {
        for &child in children.get(&parent).into_iter().flatten() {
            if seen.insert(child) {
                found.push(child);
            }
        }
        let Some(&following) = found.get(next) else {
            return found;
        };
        parent = following;
        next += 1;
    }
}

fn process_dir(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn read_stat(pid: u32, dir: &Path) -> Result<Stat, TargetError> {
    let path = dir.join("stat");
    let text = procfs::read(&path, STATUS_LIMIT)
        .map_err(|source| TargetError::reading(pid, &path, Privilege::Inspect, source))?;
    procfs::parse_stat(&text).ok_or(TargetError::Malformed {
        path,
        what: "too few fields",
    })
}

/// A thread that runs: the leader if it does.
fn live_thread(pid: u32, leader: Stat) -> Option<u32> {
    if !leader.is_dead() {
        return Some(pid);
    }
    let tasks = process_dir(pid).join("task");
    threads(pid)
        .into_iter()
        .find(|tid| read_stat(pid, &tasks.join(tid.to_string())).is_ok_and(|stat| !stat.is_dead()))
}

fn threads(pid: u32) -> Vec<u32> {
    numbered_entries(&process_dir(pid).join("task"))
}

/// The entries of a directory of `/proc` whose names are numbers.
pub(super) fn numbered_entries(dir: &Path) -> Vec<u32> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Whether arguments are left out of all command lines.
static WITHOUT_ARGUMENTS: AtomicBool = AtomicBool::new(false);

/// From here on, arguments are left out of the command lines of all targets: they may be secret, and nothing that
/// is said of a target can then give them away.
pub fn leave_out_arguments() {
    WITHOUT_ARGUMENTS.store(true, Ordering::Relaxed);
}

/// As much of a command line as may be shown.
fn shown(command: String) -> String {
    if !WITHOUT_ARGUMENTS.load(Ordering::Relaxed) {
        return command;
    }
    let program = command.split(' ').next().unwrap_or_default();
    program.to_owned()
}

fn command(dir: &Path, status: &[u8]) -> String {
    // A process can make its command line megabytes long: take what a person would read.
    let arguments = read_start(&dir.join("cmdline"), COMMAND_LIMIT);
    // A process that sets its title pads the rest with NULs.
    let end = arguments
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    if end == 0 {
        let name = procfs::status_field(status, "Name").unwrap_or_default();
        return format!("[{}]", String::from_utf8_lossy(name));
    }
    let joined: Vec<u8> = arguments[..end]
        .iter()
        .map(|&byte| if byte == 0 { b' ' } else { byte })
        .collect();
    String::from_utf8_lossy(&joined).into_owned()
}

fn read_start(path: &Path, length: usize) -> Vec<u8> {
    use std::io::Read;
    let mut text = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // Without a command line the name stands in: there is nothing to report.
        if file.take(length as u64).read_to_end(&mut text).is_err() {
            text.clear();
        }
    }
    text
}

/// Boot-clock ticks as wall-clock time: both clocks are read now, and what lies between them is the time of boot.
fn unix_ns(ticks: u64) -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        });
    let boot_clock = clock_gettime(ClockId::Boottime);
    let since_boot = u64::try_from(boot_clock.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(boot_clock.tv_nsec).unwrap_or(0));
    let started = ticks.saturating_mul(1_000_000_000 / TICKS_PER_SECOND);
    now.saturating_sub(since_boot).saturating_add(started)
}

#[cfg(test)]
pub(super) mod tests;
