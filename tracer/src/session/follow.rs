//! Which processes are followed, from probes in to probes out, through forks and execs.

use std::{num::NonZeroU32, time::Duration};

use highwater_common::process::{PROCESS_FOLLOW_CHILDREN, PROCESS_HELD, TracedProcess};
use tokio::time::Instant;

use super::{
    END_GRACE, Session, SessionError, clock, launch::Launched, lifecycle, ordinals::kernel_identity,
};
use crate::{
    event::{Call, Nanos, ProcessId},
    probe::{
        ProbeError,
        link::{Link, LinkKind, Site},
        selftest::{self, Situation},
    },
    record::{EndReason, Entry, Origin, Process, ProcessEnd},
    symbol::{CodeMap, CodeMapping},
    target::{
        self, Target, TargetError,
        allocator::{self, Allocator},
        cgroup::MemoryCgroup,
        memory::Sampler,
        safety::{self, Findings, Refusal},
    },
};

/// Mappings are read again at an unknown address at most this often.
const REREAD_AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// ... and without one this often.
const REREAD_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
/// How long a new program may take to map its libc.
const LIBRARY_PATIENCE: Duration = Duration::from_secs(2);

/// A followed process.
pub(super) struct Followed {
    pub(super) id: ProcessId,
    pub(super) target: Target,
    pub(super) sampler: Option<Sampler>,
    pub(super) cgroup: Option<MemoryCgroup>,
    pub(super) rss: Option<u64>,
    pub(super) code: CodeMap,
    pub(super) mappings: Vec<CodeMapping>,
    read_at: Instant,
    link: Option<Link>,
    /// Device and inode of the library that the link probes.
    library: Option<(u64, u64)>,
    parent: Option<ProcessId>,
    stage: Stage,
    oom_victim: bool,
    gone_since: Option<Instant>,
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It will call exec; until then nothing of it counts.
    Held,
    /// It has called exec and has not mapped its libc yet. Whether its `Process` entry is written, and since when.
    Awaiting {
        written: bool,
        since: Nanos,
        until: Instant,
    },
    /// It is traced, or was found not to be traceable.
    Settled,
}

impl Followed {
    fn new(id: ProcessId, parent: Option<ProcessId>, target: Target, stage: Stage) -> Self {
        Self {
            id,
            sampler: Sampler::open(&target).ok(),
            cgroup: MemoryCgroup::of(&target).ok().flatten(),
            target,
            rss: None,
            code: CodeMap::new(Vec::new()),
            mappings: Vec::new(),
            read_at: Instant::now(),
            link: None,
            library: None,
            parent,
            stage,
            oom_victim: false,
            gone_since: None,
        }
    }

    /// Takes the probes out.
    pub(super) fn unlink(&mut self) {
        self.link = None;
    }

    /// Whether the recording knows it.
    pub(super) fn is_written(&self) -> bool {
        matches!(
            self.stage,
            Stage::Settled | Stage::Awaiting { written: true, .. }
        )
    }

    /// Whether an unknown address may have its mappings read again.
    pub(super) fn may_reread(&mut self) -> bool {
        self.due_after(REREAD_AT_MOST_EVERY)
    }

    /// Whether its mappings should be looked at again anyhow.
    pub(super) fn is_due_for_reading(&mut self) -> bool {
        self.due_after(REREAD_AT_LEAST_EVERY)
    }

    fn due_after(&mut self, pause: Duration) -> bool {
        let due = self.mappings.is_empty() || self.read_at.elapsed() >= pause;
        if due {
            self.read_at = Instant::now();
        }
        due
    }
}

/// Looks a process up and through the safety gate.
pub(super) fn examine(pid: u32) -> Result<(Target, Findings), TargetError> {
    let target = Target::open(pid)?;
    let findings = safety::examine(&target)?;
    Ok((target, findings))
}

/// Whether a return probe kills a process with a shadow stack on this kernel: the swapped return address was not told to
/// the shadow stack before 6.11
/// (<https://github.com/torvalds/linux/commit/1713b63a07a28a475de94664f783b4cfd2e4fa90>), and there is none before 6.6.
fn shadow_stacks_are_deadly() -> bool {
    let uname = rustix::system::uname();
    let mut numbers = uname
        .release()
        .to_bytes()
        .split(|byte| !byte.is_ascii_digit())
        .filter_map(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (version.0, version.1) < (6, 11)
}

/// Where the probes of an allocator go.
fn sites(allocator: &Allocator) -> Vec<Site> {
    allocator
        .probes
        .iter()
        .map(|probe| Site {
            offset: probe.offset,
            cookie: probe.function as u64,
            returns: !probe.function.frees(),
        })
        .collect()
}

/// Device and inode: which file a library is, whatever it is called.
fn identity_of(allocator: &Allocator) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = allocator.file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl Session {
    /// The kind of link that serves a process like this one; a refusal where none is harmless to it.
    pub(super) fn kind_for(
        &mut self,
        target: &Target,
        findings: &Findings,
    ) -> Result<LinkKind, SessionError> {
        if findings.shadow_stack && shadow_stacks_are_deadly() {
            return Err(Refusal::ShadowStack.of(target).into());
        }
        let situation = Situation {
            leader_gone: target.leader_gone,
            seccomp: findings.seccomp,
        };
        match self.kind_in(situation) {
            Err(ProbeError::NoWorkingLink { tried }) if findings.seccomp => {
                log::info!("no link is harmless under a system-call filter: {tried}");
                Err(Refusal::Seccomp.of(target).into())
            }
            kind => Ok(kind?),
        }
    }

    /// The best kind of link in a situation, tried once.
    fn kind_in(&mut self, situation: Situation) -> Result<LinkKind, ProbeError> {
        if let Some(kind) = self.kinds.get(&situation) {
            return Ok(*kind);
        }
        let kind = match self.options.link {
            Some(forced) => match selftest::works(&mut self.kernel, forced, situation) {
                Ok(()) => forced,
                Err(failure) => {
                    return Err(ProbeError::NoWorkingLink {
                        tried: format!("{forced}: {failure}"),
                    });
                }
            },
            None => selftest::choose(&mut self.kernel, situation)?,
        };
        self.kinds.insert(situation, kind);
        Ok(kind)
    }

    /// Follows the target and, if asked, the processes it has made already.
    pub(super) fn attach_running(
        &mut self,
        target: Target,
        findings: &Findings,
    ) -> Result<(), SessionError> {
        let (pid, command) = (target.pid, target.command.clone());
        self.attach(target, findings, None, None)?;
        let mut others = 0;
        if self.options.children {
            for child in target::descendants(pid) {
                let attached =
                    examine(child)
                        .map_err(SessionError::from)
                        .and_then(|(target, findings)| {
                            let parent = self.processes.get(&pid).map(|root| root.id);
                            self.attach(target, &findings, None, parent)
                        });
                match attached {
                    Ok(()) => others += 1,
                    Err(error) => self.not_followed(child, &error),
                }
            }
        }
        let descendants = match others {
            0 => String::new(),
            1 => " and 1 descendant".to_owned(),
            n => format!(" and {n} descendants"),
        };
        eprintln!("highwater: tracing {pid} ({command}){descendants}");
        Ok(())
    }

    /// Puts probes into a process that runs. `forked` is its identity and when it was forked, if we saw that.
    fn attach(
        &mut self,
        target: Target,
        findings: &Findings,
        forked: Option<(ProcessId, Nanos)>,
        parent: Option<ProcessId>,
    ) -> Result<(), SessionError> {
        let allocator = allocator::find(&target)?;
        self.note_allocators(&target, &allocator);
        let kind = self.kind_for(&target, findings)?;
        let id = match forked {
            Some((id, _)) => id,
            None => self.ordinals.assign(target.pid),
        };
        self.admit(&target, id, kind)?;
        let mut followed = Followed::new(id, parent, target, Stage::Settled);
        let memory = followed
            .sampler
            .as_mut()
            .and_then(|sampler| sampler.sample().ok());
        let held = memory.map_or(0, |memory| {
            memory.anon.unwrap_or(0) + memory.swap.unwrap_or(0)
        });
        self.place_held(&mut followed, kind, &allocator)?;
        let from = clock::monotonic();
        let origin = match forked {
            Some((_, at)) => Origin::Forked {
                missed_ns: clock::monotonic().0.saturating_sub(at.0),
            },
            None => Origin::Attached,
        };
        // A forked child's own memory is its parent's: what the parent held unseen, it holds.
        self.introduce(
            &followed,
            from,
            origin,
            if forked.is_some() { 0 } else { held },
        );
        self.read_code(&mut followed);
        let tgid = followed.target.pid;
        self.processes.insert(tgid, followed);
        self.sample(tgid);
        Ok(())
    }

    /// Prepares a child of ours that will become a command: the libc it will map is probed before it runs.
    pub(super) fn hold(&mut self, launched: &Launched) -> Result<LinkKind, SessionError> {
        // The child is this executable; what it will become was examined as a file.
        let target = Target::open(launched.pid())?;
        let kind = self.kind_in(Situation::default())?;
        let library = launched.library();
        let allocator = allocator::in_library(library, library.to_owned())?;
        let id = self.ordinals.assign(target.pid);
        let mut followed = Followed::new(id, None, target, Stage::Held);
        self.declare(&followed, None, PROCESS_HELD)?;
        followed.link = Some(self.place(kind, &allocator, &followed.target)?);
        followed.library = identity_of(&allocator);
        self.processes.insert(followed.target.pid, followed);
        Ok(kind)
    }

    /// Tells the kernel side of a process, before its probes go in.
    fn declare(
        &mut self,
        followed: &Followed,
        allocator: Option<&Allocator>,
        flags: u32,
    ) -> Result<(), ProbeError> {
        let children = if self.options.children {
            PROCESS_FOLLOW_CHILDREN
        } else {
            0
        };
        let known = self
            .kernel
            .process(followed.target.pid)
            .unwrap_or(TracedProcess {
                nonce: clock::monotonic().0 as u32,
                ..TracedProcess::default()
            });
        self.kernel.set_process(
            followed.target.pid,
            TracedProcess {
                identity: kernel_identity(followed.target.pid, followed.id),
                flags: flags | children,
                libc_start: allocator.map_or(0, |allocator| allocator.text.start),
                libc_end: allocator.map_or(0, |allocator| allocator.text.end),
                allocator_start: allocator.map_or(0, |allocator| allocator.own_code.start),
                allocator_end: allocator.map_or(0, |allocator| allocator.own_code.end),
                ..known
            },
        )
    }

    /// Places all probes before any of them counts: they go in one after another, and a block whose allocation was seen
    /// but whose free was not would stay live for ever.
    fn place_held(
        &mut self,
        followed: &mut Followed,
        kind: LinkKind,
        allocator: &Allocator,
    ) -> Result<(), ProbeError> {
        self.declare(followed, Some(allocator), PROCESS_HELD)?;
        followed.link = Some(self.place(kind, allocator, &followed.target)?);
        followed.library = identity_of(allocator);
        self.declare(followed, Some(allocator), 0)
    }

    fn place(
        &mut self,
        kind: LinkKind,
        allocator: &Allocator,
        target: &Target,
    ) -> Result<Link, ProbeError> {
        let thread = if target.leader_gone {
            target.live_tid
        } else {
            target.pid
        };
        let thread = NonZeroU32::new(thread).unwrap_or(NonZeroU32::MIN);
        Link::place(
            &mut self.kernel,
            kind,
            &allocator.attach_path,
            &sites(allocator),
            thread,
        )
    }

    /// Writes a process into the recording and opens its books.
    fn introduce(&mut self, followed: &Followed, from: Nanos, origin: Origin, baseline_bytes: u64) {
        self.write_pending();
        self.live.open(followed.id, from, baseline_bytes);
        self.write(&Entry::Process(Process {
            id: followed.id,
            pid: followed.target.pid,
            ns_pid: followed.target.ns_pid,
            parent: followed.parent,
            command: followed.target.command.clone(),
            cgroup: followed.cgroup.as_ref().map(|cgroup| cgroup.path.clone()),
            started_unix_ns: followed.target.started_unix_ns,
            from_ns: from.0,
            origin,
            baseline_bytes,
        }));
    }

    /// Tells the reader where memory may be handled that we do not see.
    fn note_allocators(&mut self, target: &Target, allocator: &Allocator) {
        if let Some(other) = &allocator.interposed_by {
            self.quality.note(format!(
                "process {} ({}) has another allocator, {}: what goes through that is not seen yet, only what reaches {}",
                target.pid,
                target.command,
                other.display(),
                allocator.library.display(),
            ));
        }
        for file in &allocator.unexamined {
            self.quality.note(format!(
                "process {} ({}) maps {}, which could not be examined: if it holds an allocator of its own, that is not seen",
                target.pid,
                target.command,
                file.display(),
            ));
        }
    }

    fn not_followed(&mut self, pid: u32, error: &dyn std::fmt::Display) {
        self.kernel.forget_process(pid);
        self.quality.unfollowed_children += 1;
        log::info!("child process {pid} is not followed: {error}");
    }

    /// A followed process made a child, which the kernel side has registered.
    pub(super) fn forked(&mut self, at: Nanos, parent: ProcessId, child: u32, shares_memory: bool) {
        let identity = self.ordinals.assign(child);
        if self.is_alone() {
            self.not_followed(child, &"its parent must be traced alone");
            return;
        }
        if shares_memory {
            // It runs in its parent's memory until it calls exec; what it is then is looked at then.
            if let Ok(target) = Target::open(child) {
                let held = Followed::new(identity, Some(parent), target, Stage::Held);
                self.processes.insert(child, held);
            }
            return;
        }
        let attached = examine(child)
            .map_err(SessionError::from)
            .and_then(|(target, findings)| {
                self.attach(target, &findings, Some((identity, at)), Some(parent))
            });
        match attached {
            Ok(()) => self.book(lifecycle(at, parent, Call::Forked { child: identity })),
            Err(error) => self.not_followed(child, &error),
        }
    }

    /// A followed process became another program.
    pub(super) fn executed(
        &mut self,
        at: Nanos,
        process: ProcessId,
        next: ProcessId,
        from_thread: bool,
    ) {
        let Some(tgid) = self.tgid_of(process) else {
            log::debug!(
                "process {} called exec at {} and ended before it was looked at",
                process.0,
                at.0
            );
            return;
        };
        let Some(mut old) = self.processes.remove(&tgid) else {
            return;
        };
        let was_held = old.stage == Stage::Held;
        if old.is_written() {
            self.book(lifecycle(at, process, Call::Executed { next }));
            self.write_pending();
            self.write(&Entry::End(ProcessEnd {
                at,
                process,
                reason: EndReason::Executed,
            }));
        }
        if from_thread {
            // The link belonged to the leader, whose place another thread has taken.
            old.unlink();
        }
        let parent = if was_held { old.parent } else { Some(process) };
        let Ok(target) = Target::open(tgid) else {
            return;
        };
        let stage = Stage::Awaiting {
            written: old.link.is_some(),
            since: at,
            until: Instant::now() + LIBRARY_PATIENCE,
        };
        let mut new = Followed::new(next, parent, target, stage);
        (new.link, new.library) = (old.link.take(), old.library);
        if new.link.is_some() {
            let origin = if was_held {
                Origin::Launched
            } else {
                Origin::Executed { missed_ns: 0 }
            };
            self.introduce(&new, at, origin, 0);
        }
        if tgid == self.root && was_held {
            eprintln!("highwater: tracing {tgid} ({})", new.target.command);
        }
        self.processes.insert(tgid, new);
        self.sample(tgid);
    }

    /// Whether some process has called exec and not mapped its libc yet.
    pub(super) fn awaits_library(&self) -> bool {
        self.processes
            .values()
            .any(|followed| matches!(followed.stage, Stage::Awaiting { .. }))
    }

    /// Looks at the processes that have called exec: once the libc is there, its probes go in or stay.
    pub(super) fn look_for_libraries(&mut self) {
        let awaiting: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, followed)| matches!(followed.stage, Stage::Awaiting { .. }))
            .map(|(tgid, _)| *tgid)
            .collect();
        for tgid in awaiting {
            let Some(mut followed) = self.processes.remove(&tgid) else {
                continue;
            };
            self.look_for_library(&mut followed);
            self.processes.insert(tgid, followed);
        }
    }

    fn look_for_library(&mut self, followed: &mut Followed) {
        let Stage::Awaiting {
            written,
            since,
            until,
        } = followed.stage
        else {
            return;
        };
        let found = examine(followed.target.pid).and_then(|(target, findings)| {
            allocator::find(&target).map(|allocator| (findings, allocator))
        });
        let settled = match found {
            Ok((findings, allocator)) => {
                self.settle(followed, written, since, &findings, &allocator)
            }
            Err(_) if Instant::now() < until => return,
            Err(error) => Err(error.into()),
        };
        followed.stage = Stage::Settled;
        if let Err(error) = settled {
            followed.unlink();
            if !written {
                self.introduce(followed, since, Origin::Executed { missed_ns: 0 }, 0);
            }
            self.quality.note(format!(
                "process {} ({}) is not traced since it called exec: {error}",
                followed.target.pid, followed.target.command
            ));
        }
        self.read_code(followed);
    }

    /// The libc is mapped: keeps the link if it is the one that is probed, places it anew otherwise.
    fn settle(
        &mut self,
        followed: &mut Followed,
        written: bool,
        since: Nanos,
        findings: &Findings,
        allocator: &Allocator,
    ) -> Result<(), SessionError> {
        self.note_allocators(&followed.target, allocator);
        let keeps = followed.link.is_some() && followed.library == identity_of(allocator);
        if keeps {
            return Ok(self.declare(followed, Some(allocator), 0)?);
        }
        followed.unlink();
        let kind = self.kind_for(&followed.target, findings)?;
        self.place_held(followed, kind, allocator)?;
        let now = clock::monotonic();
        let missed_ns = now.0.saturating_sub(since.0);
        if written {
            self.quality.note(format!(
                "process {} ({}) mapped another libc than was expected ({}): its first {:.1} ms were not seen",
                followed.target.pid,
                followed.target.command,
                allocator.library.display(),
                missed_ns as f64 / 1e6,
            ));
        } else {
            self.introduce(followed, now, Origin::Executed { missed_ns }, 0);
        }
        Ok(())
    }

    /// The last thread of a followed process ended.
    pub(super) fn exited(&mut self, at: Nanos, process: ProcessId, status: u32) {
        let Some(tgid) = self.tgid_of(process) else {
            return;
        };
        let Some(followed) = self.processes.remove(&tgid) else {
            return;
        };
        let signal = (status & 0x7f) as u8;
        let reason = match signal {
            0 => EndReason::Exited {
                code: (status >> 8) as u8,
            },
            9 if followed.oom_victim => EndReason::OomKilled,
            signal => EndReason::Signal { signal },
        };
        if followed.is_written() {
            self.book(lifecycle(at, process, Call::Exited { status }));
        }
        self.end(&followed, at, reason);
    }

    /// A process that is gone although nothing said so.
    pub(super) fn check_end(&mut self, tgid: u32) {
        let Some(followed) = self.processes.get_mut(&tgid) else {
            return;
        };
        if followed.target.is_alive() {
            followed.gone_since = None;
            return;
        }
        let since = *followed.gone_since.get_or_insert_with(Instant::now);
        if since.elapsed() < END_GRACE {
            return;
        }
        if let Some(followed) = self.processes.remove(&tgid) {
            self.kernel.forget_process(tgid);
            let at = clock::monotonic();
            if followed.is_written() {
                self.live.close(followed.id, at);
            }
            self.end(&followed, at, EndReason::Vanished);
        }
    }

    fn end(&mut self, followed: &Followed, at: Nanos, reason: EndReason) {
        self.write_pending();
        if followed.is_written() {
            self.write(&Entry::End(ProcessEnd {
                at,
                process: followed.id,
                reason,
            }));
        }
        if followed.target.pid == self.root {
            self.root_ended = Some(match reason {
                EndReason::Detached => "the target was let go",
                _ => "the target ended",
            });
        }
    }

    /// The kind of link that a process has.
    pub(super) fn link_kind(&self, tgid: u32) -> Option<LinkKind> {
        self.processes.get(&tgid)?.link.as_ref().map(Link::kind)
    }

    /// Takes the probes out of one process, which runs on, and says why.
    pub(super) fn let_one_go(&mut self, tgid: u32, why: &str) {
        self.kernel.forget_process(tgid);
        let Some(mut followed) = self.processes.remove(&tgid) else {
            return;
        };
        followed.unlink();
        self.quality.note(format!(
            "process {tgid} ({}) was let go: {why}",
            followed.target.command
        ));
        let at = clock::monotonic();
        if followed.is_written() {
            self.live.close(followed.id, at);
        }
        self.end(&followed, at, EndReason::Detached);
    }

    /// The kernel kills this process for want of memory.
    pub(super) fn mark_oom(&mut self, process: ProcessId) {
        if let Some(followed) = self
            .tgid_of(process)
            .and_then(|tgid| self.processes.get_mut(&tgid))
        {
            followed.oom_victim = true;
        }
    }

    /// The pid of a followed process.
    pub(super) fn tgid_of(&self, process: ProcessId) -> Option<u32> {
        self.processes
            .iter()
            .find(|(_, followed)| followed.id == process)
            .map(|(tgid, _)| *tgid)
    }

    /// Processes in the recording that have not ended.
    pub(super) fn still_followed(&self) -> Vec<ProcessId> {
        let mut ids: Vec<ProcessId> = self
            .processes
            .values()
            .filter(|followed| followed.is_written())
            .map(|followed| followed.id)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Events lost so far.
    pub(super) fn lost(&self) -> u64 {
        use highwater_common::counter::Counter;
        self.kernel.counter(Counter::LostAllocations) + self.kernel.counter(Counter::LostFrees)
    }
}
