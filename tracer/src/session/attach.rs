//! Putting probes into a process.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use highwater_common::process::{PROCESS_HELD, PROCESS_INHERITS, TracedProcess};

use super::{
    Session, SessionError,
    attaching::{of_process, whose},
    clock,
    follow::{Followed, Stage},
    launch::Launched,
    several::{Tells, each_of},
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
    record::{LossKind, Opening},
    target::{
        self, Refusal, Target, TargetError,
        allocator::{self, Allocator},
        listed::Listed,
        mapped_file::identity_of,
        safety::{self, Findings},
        vdso,
    },
};

/// A process that was looked up, and what the safety gate found of it.
pub(super) type Examined = (Target, Findings);

/// Looks a process up and through the safety gate.
pub(super) fn examine(pid: u32) -> Result<Examined, TargetError> {
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

    /// The kind of link that serves ordinary processes.
    pub(super) fn usual_kind(&mut self) -> Result<LinkKind, ProbeError> {
        let ordinary = Situation::default();
        kind_in(
            &mut self.kernel,
            &mut self.kinds,
            self.options.link,
            ordinary,
        )
    }

    /// Puts probes into each of these processes, and into those that they have made; the first of them is the root.
    ///
    /// # Errors
    ///
    /// The first one, if none of them can be traced. Those that cannot be are told of.
    pub(super) fn begin_running(
        &mut self,
        pids: &[u32],
        mut opening: Opening,
    ) -> Result<(), SessionError> {
        let tells = Tells::of(pids.len());
        let examined = each_of(tells, pids.iter().copied(), |pid| {
            let (target, findings) = settled(|| examine(pid))?;
            let kind = self.kind_for(&target, &findings)?;
            Ok((kind, (target, findings)))
        })?;
        if let Some((root, (kind, _))) = examined.first() {
            self.root = *root;
            opening.link = kind.to_string();
        }
        self.open(opening);
        let mut examined: HashMap<u32, Examined> = examined
            .into_iter()
            .map(|(pid, (_, examined))| (pid, examined))
            .collect();
        let pids = pids
            .iter()
            .copied()
            .filter(|pid| examined.contains_key(pid));
        let pids: Vec<u32> = pids.collect();
        let attached = each_of(tells, pids, |pid| {
            // It may be one that another of them has made.
            match (self.processes.contains_key(&pid), examined.remove(&pid)) {
                (true, _) => Ok(()),
                (false, examined) => self.attach_running(pid, examined),
            }
        })?;
        self.roots = attached.iter().map(|(pid, ())| *pid).collect();
        self.root = self.roots.first().copied().unwrap_or(self.root);
        Ok(())
    }

    /// Follows a process and, if asked, the processes it has made already.
    fn attach_running(&mut self, pid: u32, examined: Option<Examined>) -> Result<(), SessionError> {
        let command = self.examine_and_attach(pid, examined, None)?;
        let mut others = 0;
        let mut left_out = HashSet::new();
        if self.options.children {
            for child in target::descendants(pid) {
                if self.kernel.process(child).is_some() {
                    // It was made a moment ago: what the kernel side says of that is still to be read.
                    continue;
                }
                if self.is_left_out(child, &left_out) {
                    left_out.insert(child);
                    continue;
                }
                let parent = self.processes.get(&pid).map(|root| root.id);
                match self.examine_and_attach(child, None, parent) {
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

    /// Whether a process has a name that was left out, or was made by one that is.
    fn is_left_out(&self, pid: u32, left_out: &HashSet<u32>) -> bool {
        let is =
            |listed: Listed| self.leaves_out(&listed.name) || left_out.contains(&listed.parent);
        !self.options.except.is_empty() && Listed::of(pid).is_ok_and(is)
    }

    /// Puts probes into a process that runs and was examined, or is to be; again if it became another program meanwhile. Says what
    /// its command line is.
    fn examine_and_attach(
        &mut self,
        pid: u32,
        mut examined: Option<Examined>,
        parent: Option<ProcessId>,
    ) -> Result<String, SessionError> {
        settled(|| {
            let (target, findings) = match examined.take() {
                Some(examined) => examined,
                None => examine(pid)?,
            };
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
        let held = followed.held_bytes();
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
        let kind = self.usual_kind()?;
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
