//! Putting probes into a process.

use std::{collections::HashMap, time::Duration};

use highwater_common::process::{PROCESS_HELD, PROCESS_INHERITS, TracedProcess};

use super::{
    Session, SessionError,
    attaching::{of_process, whose},
    clock,
    follow::{Followed, Stage},
    launch::Launched,
};
use crate::words::say;
use crate::{
    event::ProcessId,
    follow::Fact,
    probe::{
        ProbeError,
        kernel::Kernel,
        link::{Link, LinkKind, Site},
        selftest::{self, Situation},
    },
    record::LossKind,
    target::{
        self, Refusal, Target, TargetError,
        allocator::{self, Allocator},
        mapped_file::identity_of,
        safety::{self, Findings},
        vdso,
    },
};

/// Looks a process up and through the safety gate.
pub(super) fn examine(pid: u32) -> Result<(Target, Findings), TargetError> {
    let target = Target::open(pid)?;
    let findings = safety::examine(&target)?;
    Ok((target, findings))
}

/// How often a process that becomes another program while it is looked at is looked at again.
const LOOKS: usize = 20;
/// How long a new program may take until it has mapped its libc.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Does it again where a process is in the midst of an exec: it is another program by now, or has not mapped its libc yet.
pub(super) fn settled<T, E: IsUnsettled>(mut work: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    for _ in 1..LOOKS {
        match work() {
            Err(error) if error.is_unsettled() => std::thread::sleep(BETWEEN_LOOKS),
            result => return result,
        }
    }
    work()
}

/// Errors that may be those of a process in the midst of an exec.
pub(super) trait IsUnsettled {
    fn is_unsettled(&self) -> bool;
}

impl IsUnsettled for TargetError {
    fn is_unsettled(&self) -> bool {
        matches!(
            self,
            Self::Executed { .. }
                | Self::FileReplaced { .. }
                | Self::Refused {
                    refusal: Refusal::NoLibc,
                    ..
                }
        )
    }
}

impl IsUnsettled for SessionError {
    fn is_unsettled(&self) -> bool {
        matches!(self, Self::Target(error) if error.is_unsettled())
    }
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
pub(crate) fn sites(allocator: &Allocator) -> Vec<Site> {
    allocator.probes.iter().map(Site::from).collect()
}

/// The kind of link that serves a process like this one; a refusal where none is harmless to it. `forced` is taken or none.
pub(super) fn kind_for(
    kernel: &mut Kernel,
    kinds: &mut HashMap<Situation, LinkKind>,
    forced: Option<LinkKind>,
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
    match kind_in(kernel, kinds, forced, situation) {
        Err(ProbeError::NoWorkingLink { tried }) if findings.seccomp => {
            log::info!("no link is harmless under a system-call filter: {tried}");
            Err(Refusal::Seccomp.of(target).into())
        }
        kind => Ok(kind?),
    }
}

/// The best kind of link in a situation, tried once.
pub(super) fn kind_in(
    kernel: &mut Kernel,
    kinds: &mut HashMap<Situation, LinkKind>,
    forced: Option<LinkKind>,
    situation: Situation,
) -> Result<LinkKind, ProbeError> {
    if let Some(kind) = kinds.get(&situation) {
        return Ok(*kind);
    }
    let kind = match forced {
        Some(forced) => match selftest::works(kernel, forced, situation) {
            Ok(()) => forced,
            Err(failure) => {
                return Err(ProbeError::NoWorkingLink {
                    tried: format!("{forced}: {failure}"),
                });
            }
        },
        None => selftest::choose(kernel, situation)?,
    };
    kinds.insert(situation, kind);
    Ok(kind)
}

impl Session {
    /// The kind of link that serves a process like this one; a refusal where none is harmless to it.
    pub(super) fn kind_for(
        &mut self,
        target: &Target,
        findings: &Findings,
    ) -> Result<LinkKind, SessionError> {
        kind_for(
            &mut self.kernel,
            &mut self.kinds,
            self.options.link,
            target,
            findings,
        )
    }

    /// The kind of link for the first of these processes that can be traced, which is the root, and the others.
    pub(super) fn first_of(&mut self, pids: &[u32]) -> Result<(LinkKind, Vec<u32>), SessionError> {
        let mut failed = None;
        for (at, &pid) in pids.iter().enumerate() {
            let kind = settled(|| examine(pid))
                .map_err(SessionError::from)
                .and_then(|(target, findings)| self.kind_for(&target, &findings));
            match (kind, failed.take()) {
                (Ok(kind), _) => {
                    self.root = pid;
                    self.roots = vec![pid];
                    return Ok((kind, pids[at + 1..].to_vec()));
                }
                (Err(error), earlier) => {
                    if pids.len() > 1 {
                        say!("process {pid} is not traced: {error}");
                    }
                    failed = earlier.or(Some(error));
                }
            }
        }
        Err(failed.unwrap_or_else(|| TargetError::Gone { pid: 0 }.into()))
    }

    /// Follows the others of several processes; those that cannot be traced are told. Fails if none can, the first included.
    pub(super) fn attach_others(
        &mut self,
        first: Result<(), SessionError>,
        others: &[u32],
    ) -> Result<(), SessionError> {
        let root = self.root;
        let mut failed = None;
        let mut take = |session: &mut Self, pid: u32, attached| match attached {
            Ok(()) => session.roots.push(pid),
            Err(error) => {
                say!("process {pid} is not traced: {error}");
                failed = failed.take().or(Some(error));
            }
        };
        self.roots.clear();
        take(self, root, first);
        for &pid in others {
            // It may be one that another of them has made.
            let attached = match self.processes.contains_key(&pid) {
                true => Ok(()),
                false => self.attach_running(pid),
            };
            take(self, pid, attached);
        }
        match (self.roots.first(), failed) {
            (Some(&root), _) => {
                self.root = root;
                Ok(())
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    /// Follows a process and, if asked, the processes it has made already.
    pub(super) fn attach_running(&mut self, pid: u32) -> Result<(), SessionError> {
        let command = self.examine_and_attach(pid, None)?;
        let mut others = 0;
        if self.options.children {
            for child in target::descendants(pid) {
                if self.kernel.process(child).is_some() {
                    // It was made a moment ago: what the kernel side says of that is still to be read.
                    continue;
                }
                let parent = self.processes.get(&pid).map(|root| root.id);
                match self.examine_and_attach(child, parent) {
                    Ok(_) => others += 1,
                    Err(error) => {
                        log::info!("child process {child} is not followed: {error}");
                        self.kernel.forget_process(child);
                        self.quality.unfollowed_children += 1;
                    }
                }
            }
        }
        let descendants = match others {
            0 => String::new(),
            1 => " and 1 descendant".to_owned(),
            n => format!(" and {n} descendants"),
        };
        say!("tracing {pid} ({command}){descendants}");
        Ok(())
    }

    /// Looks at a process that runs and puts probes into it, again if it became another program meanwhile. Says what its
    /// command line is.
    fn examine_and_attach(
        &mut self,
        pid: u32,
        parent: Option<ProcessId>,
    ) -> Result<String, SessionError> {
        settled(|| {
            let (target, findings) = examine(pid)?;
            let command = target.command.clone();
            let attached = self.attach(target.clone(), &findings, parent);
            if attached.is_err() {
                // It may be known by the number of a program that it has become since, which is not the one that comes next.
                self.kernel.forget_process(pid);
            }
            match attached {
                Err(SessionError::Probe(error)) => Err(of_process(error, &target)),
                attached => attached.map(|()| command),
            }
        })
    }

    /// Puts probes into a process that runs.
    fn attach(
        &mut self,
        target: Target,
        findings: &Findings,
        parent: Option<ProcessId>,
    ) -> Result<(), SessionError> {
        let mut allocator = allocator::find(&target)?;
        self.note_allocators(&target, &allocator);
        let kind = self.kind_for(&target, findings)?;
        let id = self.kernel.new_image()?;
        self.admit(&target, id, kind)?;
        let mut followed = Followed::new(id, parent, target, Stage::Settled);
        let memory = followed
            .sampler
            .as_mut()
            .and_then(|sampler| sampler.sample().ok());
        let held = memory.map_or(0, |memory| {
            memory.anon.unwrap_or(0) + memory.swap.unwrap_or(0)
        });
        self.place_held(&mut followed, kind, &mut allocator)?;
        let now = clock::monotonic();
        let pid = followed.target.pid;
        self.processes.insert(pid, followed);
        let fact = Fact::Attached {
            image: id,
            pid,
            parent,
            baseline_bytes: held,
        };
        self.follow(now, fact);
        self.sample(pid);
        self.look_at_attach(pid);
        Ok(())
    }

    /// Prepares a child of ours that will become a command: the libc it will map is probed before it runs.
    pub(super) fn hold(&mut self, launched: &Launched) -> Result<LinkKind, SessionError> {
        launched.await_child()?;
        // The child is this executable; what it will become was examined as a file.
        let target = Target::open(launched.pid())?;
        let kind = kind_in(
            &mut self.kernel,
            &mut self.kinds,
            self.options.link,
            Situation::default(),
        )?;
        let library = launched.library();
        let allocator = allocator::in_library(library)?;
        let id = self.kernel.new_image()?;
        let mut followed = Followed::new(id, None, target, Stage::Held);
        self.declare(&followed, None, PROCESS_HELD)?;
        let (sites, whose) = (sites(&allocator), whose(&followed.target));
        let library = allocator.library();
        followed.link = Some(Link::place(&mut self.kernel, kind, library, &sites, whose)?);
        followed.linked_at = clock::monotonic();
        followed.library = identity_of(&allocator.file);
        followed.place = self.places.remember(kind, &allocator);
        // From exec to the first allocation there are milliseconds: too few to build tables in, or to look into a Python.
        let files = launched.files();
        for (_, file) in &files {
            self.unwinding.expect_file(file);
        }
        match vdso::image() {
            Ok(image) => self.unwinding.expect_image(image),
            Err(error) => log::debug!("no table for the vdso: {error}"),
        }
        for (path, file) in &files {
            self.python.expect_file(file, path);
        }
        self.await_tables();
        let pid = followed.target.pid;
        self.processes.insert(pid, followed);
        self.follow(clock::monotonic(), Fact::Launched { image: id, pid });
        Ok(kind)
    }

    /// Tells the kernel side of a process, before its probes go in.
    pub(super) fn declare(
        &mut self,
        followed: &Followed,
        allocator: Option<&Allocator>,
        flags: u32,
    ) -> Result<(), ProbeError> {
        let children = self.options.children_flag();
        let inherits = match followed.inherits {
            true => PROCESS_INHERITS,
            false => 0,
        };
        self.kernel.set_process(TracedProcess {
            identity: followed.id.0,
            tgid: followed.target.pid,
            flags: flags | children | inherits,
            libc_start: allocator.map_or(0, |allocator| allocator.text.start),
            libc_end: allocator.map_or(0, |allocator| allocator.text.end),
            allocator_start: allocator.map_or(0, |allocator| allocator.own_code.start),
            allocator_end: allocator.map_or(0, |allocator| allocator.own_code.end),
            ..TracedProcess::default()
        })
    }

    /// Puts probes into a process at once. None of them counts before all are in, as in [`begin_placing`](Self::begin_placing).
    pub(super) fn place_held(
        &mut self,
        followed: &mut Followed,
        kind: LinkKind,
        allocator: &mut Allocator,
    ) -> Result<(), SessionError> {
        let placement = self.prepare_placing(followed, kind, allocator)?;
        let link = placement.place(allocator.library())?;
        self.keep_link(followed, (link, clock::monotonic()), allocator)
    }

    /// Tells the reader where memory may be handled that we do not see.
    pub(super) fn note_allocators(&mut self, target: &Target, allocator: &Allocator) {
        if let Some(other) = &allocator.interposed_by {
            let why = format!("{} before {}", other.display(), allocator.name.display());
            self.lose(LossKind::OtherAllocator, Some(target), why);
        }
        for file in &allocator.unexamined {
            self.quality.note(format!(
                "process {} ({}) maps {}, which could not be examined: if it holds an allocator of its own, that is not seen",
                target.pid,
                target.command,
                file.display(),
            ));
        }
        for change in &allocator.patched {
            self.quality.patched_functions += 1;
            self.quality.note(format!(
                "process {} ({}) has patched {} in memory, which is not probed: {change}; its calls are not seen",
                target.pid,
                target.command,
                change.function.symbol(),
            ));
        }
        let stepped: Vec<&str> = allocator
            .probes
            .iter()
            .filter(|probe| !probe.emulated)
            .map(|probe| probe.function.symbol())
            .collect();
        if !stepped.is_empty() {
            self.quality.remark(format!(
                "{} of {}: probed at an instruction that the kernel single-steps, so that each call costs more, in a virtual machine some 30 times",
                stepped.join(", "),
                allocator.name.display(),
            ));
        }
    }

    /// A child that was just made cannot be followed. What is wrong may be that it has ended, or is another program by now: the
    /// kernel side is about to tell of that, and it is looked at again then. What never becomes another program is missed.
    pub(super) fn not_followed(&mut self, image: ProcessId, pid: u32, error: &SessionError) {
        log::info!("child process {pid} is not followed: {error}");
        if matches!(error, SessionError::NotAlone(_)) {
            self.refuse_child(image, pid);
        }
    }

    /// A child that was just made may not be followed.
    pub(super) fn refuse_child(&mut self, image: ProcessId, pid: u32) {
        self.kernel.forget_process(pid);
        self.follow(clock::monotonic(), Fact::Refused { image });
    }
}
