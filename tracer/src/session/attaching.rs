//! The thread that looks at processes and puts probes into them while others are traced.
//!
//! To look at a process is to read its maps and its allocator's file, and the kernel waits for a grace period before it lets the first
//! probe of a process be placed: together some milliseconds, in which the session would take no events. So it gives both away, and does
//! itself what takes microseconds: what the kernel side has to know before, and after. What comes back may be of an image that is no
//! more; then the probes come out again, or are those of the program that it has become.

use std::{collections::VecDeque, io, num::NonZeroU32, sync::Arc, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::Notify;

use super::{
    Session, SessionError,
    attach::{examine, sites},
    clock,
    follow::{Followed, Stage},
    probes::Probed,
};
use crate::{
    event::{Nanos, ProcessId},
    follow::Fact,
    probe::{
        ProbeError,
        link::{Link, LinkKind, Placement, Whose},
    },
    record::LossKind,
    target::{
        Target, TargetError,
        allocator::{self, Allocator},
        mapped_file::identity_of,
        safety::Findings,
    },
};
use highwater_common::process::PROCESS_HELD;

/// Most jobs that the thread is given before it is done with the first.
const MOST: usize = 64;

/// A process is to be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) image: ProcessId,
    pub(super) pid: u32,
    pub(super) at: Looking,
}

/// What it is looked at as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Looking {
    /// A child that was forked then.
    Child { at: Nanos, parent: ProcessId },
    /// A process that was found in the scope.
    Newcomer,
    /// A new program. `is_probed`: it has probes that may be the right ones.
    Program { is_probed: bool },
}

/// What was found in a process that can be traced.
pub(super) type Found = (Target, Findings, Allocator);

enum Job {
    Look(Look),
    Place(Box<Placing>),
}

struct Placing {
    image: ProcessId,
    pid: u32,
    allocator: Allocator,
    placement: Placement,
}

enum Done {
    Looked(Look, Box<Result<Found, TargetError>>),
    Placed(Box<Placed>),
}

struct Placed {
    image: ProcessId,
    pid: u32,
    allocator: Allocator,
    link: Result<Link, ProbeError>,
    /// When all probes were in.
    at: Nanos,
}

/// What was given to the thread, and comes back from it.
pub(super) struct Attaching {
    jobs: Sender<Job>,
    done: Receiver<Done>,
    /// Something has come back.
    pub(super) ready: Arc<Notify>,
    /// Given, and not taken back.
    under_way: usize,
    /// For these there was no room yet.
    waiting: VecDeque<Job>,
}

impl Attaching {
    /// Starts the thread.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, given) = bounded::<Job>(MOST);
        let (results, done) = bounded(MOST);
        let ready = Arc::new(Notify::new());
        let news = Arc::clone(&ready);
        let work = move || {
            for job in given {
                let result = match job {
                    Job::Look(look) => Done::Looked(look, Box::new(find(look))),
                    Job::Place(placing) => Done::Placed(Box::new(place(*placing))),
                };
                if results.send(result).is_err() {
                    break;
                }
                news.notify_one();
            }
        };
        thread::Builder::new()
            .name("hw-attach".to_owned())
            .spawn(work)?;
        Ok(Self {
            jobs,
            done,
            ready,
            under_way: 0,
            waiting: VecDeque::new(),
        })
    }

    /// Has a process looked at.
    pub(super) fn look(&mut self, look: Look) {
        self.give(Job::Look(look));
    }

    fn give(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.go_on();
    }

    /// Gives away what there is room for.
    fn go_on(&mut self) {
        while self.under_way < MOST
            && let Some(job) = self.waiting.pop_front()
        {
            if self.jobs.send(job).is_err() {
                log::error!("the thread that attaches has ended: no other process is followed");
                return;
            }
            self.under_way += 1;
        }
    }

    fn take(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        self.under_way -= 1;
        self.go_on();
        Some(done)
    }

    /// The same, after a wait if something is under way.
    fn wait(&mut self) -> Option<Done> {
        if self.under_way == 0 {
            return None;
        }
        let done = self.done.recv().ok()?;
        self.under_way -= 1;
        self.go_on();
        Some(done)
    }
}

fn find(look: Look) -> Result<Found, TargetError> {
    let (target, findings) = examine(look.pid)?;
    let allocator = match look.at {
        Looking::Program { is_probed: true } => allocator::find_probed(&target)?,
        Looking::Program { is_probed: false } | Looking::Child { .. } | Looking::Newcomer => {
            allocator::find(&target)?
        }
    };
    Ok((target, findings, allocator))
}

fn place(placing: Placing) -> Placed {
    let Placing {
        image,
        pid,
        allocator,
        placement,
    } = placing;
    let link = placement.place(allocator.library());
    Placed {
        image,
        pid,
        allocator,
        link,
        at: clock::monotonic(),
    }
}

impl Session {
    /// Takes what has come back.
    pub(super) fn take_attached(&mut self) {
        while let Some(done) = self.attaching.take() {
            self.attached(done);
        }
    }

    /// Takes all that is under way: then no probe goes in any more unless something asks for it anew.
    pub(super) fn await_attached(&mut self) {
        while let Some(done) = self.attaching.wait() {
            self.attached(done);
        }
    }

    /// Takes what is under way for the last time. What was not looked at yet has no probes, and gets none.
    pub(super) fn end_attaching(&mut self) {
        self.attaching.waiting.clear();
        while let Some(done) = self.attaching.wait() {
            if matches!(done, Done::Placed(_)) {
                self.attached(done);
            }
        }
    }

    fn attached(&mut self, done: Done) {
        match done {
            Done::Looked(look, found) => match look.at {
                Looking::Child { at, parent } => {
                    self.looked_at_child((look.image, look.pid), at, parent, *found);
                }
                Looking::Newcomer => self.looked_at_newcomer((look.image, look.pid), *found),
                Looking::Program { .. } => self.looked_at_program((look.image, look.pid), *found),
            },
            Done::Placed(placed) => self.placed(*placed),
        }
    }

    fn looked_at_child(
        &mut self,
        (image, pid): (ProcessId, u32),
        at: Nanos,
        parent: ProcessId,
        found: Result<Found, TargetError>,
    ) {
        if self.images.pid(image) != Some(pid) {
            return;
        }
        if self.is_alone() {
            self.refuse_child(image, pid);
            return;
        }
        let prepared = found
            .map_err(SessionError::from)
            .and_then(|found| self.prepare_child(image, at, parent, found));
        match prepared {
            Ok(followed) => {
                self.processes.insert(pid, followed);
            }
            Err(error) => self.not_followed(image, pid, &error),
        }
    }

    fn prepare_child(
        &mut self,
        image: ProcessId,
        at: Nanos,
        parent: ProcessId,
        (target, findings, allocator): Found,
    ) -> Result<Followed, SessionError> {
        self.note_allocators(&target, &allocator);
        let kind = self.kind_for(&target, &findings)?;
        self.admit(&target, image, kind)?;
        let stage = Stage::PlacingInChild { since: at };
        let mut child = Followed::new(image, Some(parent), target, stage);
        child.inherits = true;
        self.begin_placing(&mut child, kind, allocator)?;
        Ok(child)
    }

    /// Has the probes placed, none of which counts before all are in: they go in one after another, and a block whose allocation was
    /// seen but whose free was not would stay live for ever.
    pub(super) fn begin_placing(
        &mut self,
        followed: &mut Followed,
        kind: LinkKind,
        allocator: Allocator,
    ) -> Result<(), SessionError> {
        let placement = self.prepare_placing(followed, kind, &allocator)?;
        self.attaching.give(Job::Place(Box::new(Placing {
            image: followed.id,
            pid: followed.target.pid,
            allocator,
            placement,
        })));
        Ok(())
    }

    /// Before probes go in: from here on the kernel side tells of an exec, and counts nothing yet.
    pub(super) fn prepare_placing(
        &mut self,
        followed: &mut Followed,
        kind: LinkKind,
        allocator: &Allocator,
    ) -> Result<Placement, SessionError> {
        self.declare(followed, Some(allocator), PROCESS_HELD)?;
        // Of an exec before it nobody has heard.
        if !followed.target.is_same_program() {
            return Err(TargetError::Executed {
                pid: followed.target.pid,
            }
            .into());
        }
        // Its tables are built while the probes go in.
        self.read_code(followed);
        let whose = whose(&followed.target);
        Ok(Placement::new(
            &mut self.kernel,
            kind,
            &sites(allocator),
            whose,
        )?)
    }

    /// All probes are in: from here on they count.
    pub(super) fn keep_link(
        &mut self,
        followed: &mut Followed,
        link: (Link, Nanos),
        allocator: &mut Allocator,
    ) -> Result<(), SessionError> {
        self.adopt_link(followed, link, allocator);
        followed.keeps_library = true;
        followed.probed = allocator.in_memory.take().map(Probed::new);
        self.know_code(followed);
        Ok(self.declare(followed, Some(allocator), 0)?)
    }

    fn adopt_link(
        &mut self,
        followed: &mut Followed,
        (link, at): (Link, Nanos),
        allocator: &Allocator,
    ) {
        followed.place = self.places.remember(link.kind(), allocator);
        followed.link = Some(link);
        followed.linked_at = at;
        followed.library = identity_of(&allocator.file);
    }

    fn placed(&mut self, placed: Placed) {
        let Placed {
            image,
            pid,
            mut allocator,
            link,
            at,
        } = placed;
        // If it has ended or was let go of, nobody takes the link, and the probes come out.
        let Some(mut followed) = self.processes.remove(&pid) else {
            self.newcomer_done(image);
            return;
        };
        if !followed.stage.is_placing() {
            if matches!(followed.stage, Stage::Awaiting { .. })
                && followed.link.is_none()
                && let Ok(link) = link
            {
                // It called exec while they went in: its new program has them, as if they had been there before.
                self.adopt_link(&mut followed, (link, at), &allocator);
            }
            self.processes.insert(pid, followed);
            self.newcomer_done(image);
            return;
        }
        if followed.id != image {
            self.processes.insert(pid, followed);
            self.newcomer_done(image);
            return;
        }
        let kept = link
            .map_err(|error| of_process(error, &followed.target))
            .and_then(|link| match followed.target.is_alive() {
                true => self.keep_link(&mut followed, (link, at), &mut allocator),
                false => Err(TargetError::Gone { pid }.into()),
            });
        let missed_since = |since: Nanos| clock::monotonic().0.saturating_sub(since.0);
        let stage = followed.stage;
        let fact = match (kept, stage) {
            (Ok(()), Stage::PlacingInProgram { program, replaces }) => {
                followed.stage = Stage::Settled;
                let missed_ns = missed_since(program.since);
                if replaces {
                    let why = format!(
                        "{}; its first {:.1} ms were not seen",
                        allocator.name.display(),
                        missed_ns as f64 / 1e6,
                    );
                    self.lose(LossKind::OtherLibrary, Some(&followed.target), why);
                }
                Some(Fact::Linked { image, missed_ns })
            }
            (Ok(()), Stage::PlacingInChild { since }) => {
                followed.stage = Stage::Settled;
                let missed_ns = missed_since(since);
                Some(Fact::Linked { image, missed_ns })
            }
            (Ok(()), Stage::PlacingInNewcomer { since }) => {
                followed.stage = Stage::Settled;
                Some(self.newcomer_placed(&mut followed, since))
            }
            (Err(error), Stage::PlacingInNewcomer { .. }) => {
                self.part_with(&mut followed);
                self.newcomer_not_placed(followed, &error);
                return;
            }
            (Err(error), Stage::PlacingInProgram { program, .. }) => {
                self.not_settled(&mut followed, program, &error)
            }
            (Err(error), _) => {
                self.part_with(&mut followed);
                drop(followed);
                self.not_followed(image, pid, &error);
                return;
            }
            (Ok(()), _) => None,
        };
        self.processes.insert(pid, followed);
        if let Some(fact) = fact {
            self.follow(clock::monotonic(), fact);
            self.sample(pid);
            if matches!(fact, Fact::Attached { .. }) {
                self.look_at_attach(pid);
            }
            self.define_stacks(None);
        }
        self.newcomer_done(image);
    }
}

/// What it means that no probes could be placed: the library may have gone with the process, or with its program.
pub(super) fn of_process(error: ProbeError, target: &Target) -> SessionError {
    let pid = target.pid;
    match error {
        ProbeError::Link { .. } if !target.is_alive() => TargetError::Gone { pid }.into(),
        ProbeError::Link { .. } if !target.is_same_program() => {
            TargetError::Executed { pid }.into()
        }
        error => error.into(),
    }
}

/// Whose calls the links of a process see.
pub(super) fn whose(target: &Target) -> Whose {
    let thread = match target.leader_gone {
        true => target.live_tid,
        false => target.pid,
    };
    let thread = NonZeroU32::new(thread).unwrap_or(NonZeroU32::MIN);
    let process = NonZeroU32::new(target.pid).unwrap_or(thread);
    Whose::through(process, thread)
}
