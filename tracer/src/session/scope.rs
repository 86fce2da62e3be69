//! A scope: processes that are followed for what they are called or where they are, now and later.
//!
//! `hw-scope` finds them ([`lookout`]), `hw-attach` looks at them and places their probes, and the session does what lies between. What
//! traced processes make is followed as anywhere; what is found besides are newcomers.

mod lookout;

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use highwater_common::counter::Counter;
use tokio::time::Instant;

use self::lookout::{Found as Finding, Lookout};
pub(super) use self::lookout::{Newcomer, there_now};
use super::{
    Session, SessionError, Subject,
    attach::IsUnsettled as _,
    attaching::{Found, Look, Looking},
    clock,
    follow::{Followed, Stage},
};
use crate::words::say;
use crate::{
    event::{Nanos, ProcessId, decode::Stranger},
    follow::{
        Fact,
        scope::{Name, Whom},
    },
    record::LossKind,
    target::{Target, TargetError},
};

/// Newcomers that are looked at, or whose probes go in, at once: what traced processes make is not to wait long behind them.
const MOST_AT_ONCE: usize = 8;
/// How long a new program may take to map its libc.
const PATIENCE: Duration = Duration::from_secs(2);
/// Processes that are named as they are traced, or not. More are counted.
const MOST_NAMED: usize = 32;

/// A newcomer that is yet to be looked at, or to be looked at again.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    newcomer: Newcomer,
    /// What fails in it is tried again until then.
    until: Instant,
}

/// What a session keeps of its scope.
pub(super) struct Scoping {
    /// In words.
    name: String,
    lookout: Lookout,
    waiting: VecDeque<Candidate>,
    /// In the midst of exec, as far as is known: they are tried again in a moment.
    unsettled: Vec<Candidate>,
    under_way: Vec<(ProcessId, Candidate)>,
    /// Of the processes that were there at the beginning, how many were found to be done with, until all are.
    first: First,
    named: usize,
    /// Processes that could not be traced, beyond those that are told of one by one.
    refused: HashSet<u32>,
}

/// The processes that were there at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// They are being looked for.
    Awaited,
    /// All are found, and their probes are going in.
    Found,
    /// They are traced, or were refused.
    Done,
}

impl Scoping {
    /// Wakes the session when something was found.
    pub(super) fn ready(&self) -> std::sync::Arc<tokio::sync::Notify> {
        std::sync::Arc::clone(&self.lookout.ready)
    }

    /// Whether processes are to be tried again.
    pub(super) fn awaits_programs(&self) -> bool {
        !self.unsettled.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.unsettled.is_empty() && self.under_way.is_empty()
    }

    /// Whether one more process may be named.
    fn may_name(&mut self) -> bool {
        self.named += 1;
        self.named <= MOST_NAMED
    }
}

impl Session {
    /// Begins to look for the processes of the scope. The kernel side tells of others from before the first look on, so that none falls
    /// between.
    pub(super) fn begin_scope(&mut self) -> Result<(), SessionError> {
        let Subject::Scope(scope) = &self.options.subject else {
            return Ok(());
        };
        self.kernel.hear_of_strangers()?;
        let lookout = Lookout::start(scope.clone()).map_err(|source| SessionError::Start {
            what: "start the thread that looks for the processes of the scope",
            source,
        })?;
        self.scope = Some(Scoping {
            name: scope.whom.to_string(),
            lookout,
            waiting: VecDeque::new(),
            unsettled: Vec::new(),
            under_way: Vec::new(),
            first: First::Awaited,
            named: 0,
            refused: HashSet::new(),
        });
        Ok(())
    }

    /// The kernel side tells of a process that is not traced.
    pub(super) fn hear_of(&mut self, stranger: Stranger) {
        if let Some(scope) = &self.scope {
            scope.lookout.hear(stranger);
        }
    }

    /// Takes what was found.
    pub(super) fn take_newcomers(&mut self) {
        while let Some(scope) = &mut self.scope
            && let Some(found) = scope.lookout.next()
        {
            match found {
                Finding::Newcomer(newcomer) => {
                    let is_same = |candidate: &Candidate| candidate.newcomer.pid == newcomer.pid;
                    scope.waiting.retain(|candidate| !is_same(candidate));
                    scope.unsettled.retain(|candidate| !is_same(candidate));
                    scope.waiting.push_back(Candidate {
                        newcomer,
                        until: Instant::now() + PATIENCE,
                    });
                }
                Finding::LookedAtAll(count) => {
                    scope.first = First::Found;
                    if count == 0 {
                        scope.first = First::Done;
                        say!("nothing in {} yet; waiting", scope.name);
                    }
                }
                Finding::CgroupRemoved => say!(
                    "{} was removed; waiting for one of that name, or Ctrl-C",
                    scope.name
                ),
            }
        }
        self.attach_newcomers();
    }

    /// Tries those again that were in the midst of an exec.
    pub(super) fn try_newcomers_again(&mut self) {
        if let Some(scope) = &mut self.scope {
            scope.waiting.extend(scope.unsettled.drain(..));
        }
        self.attach_newcomers();
    }

    /// Has as many looked at as there is room for.
    fn attach_newcomers(&mut self) {
        while let Some(scope) = &mut self.scope
            && scope.under_way.len() < MOST_AT_ONCE
            && let Some(candidate) = scope.waiting.pop_front()
        {
            let Newcomer { pid, .. } = candidate.newcomer;
            if self.is_known(pid) {
                continue;
            }
            match self.kernel.new_image() {
                Ok(image) => {
                    self.attaching.look(Look {
                        image,
                        pid,
                        at: Looking::Newcomer,
                    });
                    if let Some(scope) = &mut self.scope {
                        scope.under_way.push((image, candidate));
                    }
                }
                Err(error) => self.newcomer_refused(pid, None, &error.into()),
            }
        }
        self.tell_of_the_first();
    }

    /// Whether a process is followed, or the kernel side has said that it is to be, which is still to be read.
    fn is_known(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid) || self.kernel.process(pid).is_some()
    }

    /// A newcomer was looked at.
    pub(super) fn looked_at_newcomer(
        &mut self,
        (image, pid): (ProcessId, u32),
        found: Result<Found, TargetError>,
    ) {
        let Some(candidate) = self.no_longer_under_way(image) else {
            return;
        };
        if self.is_known(pid) {
            // It was forked by a process that is traced, and its parent's events came meanwhile.
            self.attach_newcomers();
            return;
        }
        let target = found.as_ref().ok().map(|(target, ..)| target.clone());
        let prepared = found
            .map_err(SessionError::from)
            .and_then(|found| self.prepare_newcomer(image, candidate.newcomer, found));
        match prepared {
            Ok(followed) => {
                self.processes.insert(pid, followed);
                if let Some(scope) = &mut self.scope {
                    scope.under_way.push((image, candidate));
                }
            }
            Err(error) => {
                self.kernel.forget_process(pid);
                self.follow(clock::monotonic(), Fact::Refused { image });
                match (&mut self.scope, error.is_unsettled()) {
                    (Some(scope), true) if Instant::now() < candidate.until => {
                        scope.unsettled.push(candidate);
                    }
                    _ => self.newcomer_refused(pid, target.as_ref(), &error),
                }
            }
        }
        self.attach_newcomers();
    }

    fn prepare_newcomer(
        &mut self,
        image: ProcessId,
        newcomer: Newcomer,
        (target, findings, allocator): Found,
    ) -> Result<Followed, SessionError> {
        let Newcomer {
            pid,
            start_ticks,
            since,
        } = newcomer;
        if target.start_ticks != start_ticks {
            return Err(TargetError::Gone { pid }.into());
        }
        if self.is_alone() {
            return Err(SessionError::OtherAlone);
        }
        self.note_allocators(&target, &allocator);
        let kind = self.kind_for(&target, &findings)?;
        self.admit(&target, image, kind)?;
        self.follow(clock::monotonic(), Fact::Found { image, pid, since });
        let stage = Stage::PlacingInNewcomer { since };
        let mut followed = Followed::new(image, None, target, stage);
        self.begin_placing(&mut followed, kind, allocator)?;
        Ok(followed)
    }

    /// All probes of a newcomer are in, or none can be: what it is now.
    pub(super) fn newcomer_placed(
        &mut self,
        followed: &mut Followed,
        since: Option<Nanos>,
    ) -> Fact {
        let (image, pid) = (followed.id, followed.target.pid);
        if let Some(scope) = &mut self.scope
            && scope.may_name()
        {
            say!("tracing {pid} ({})", followed.target.command);
        }
        match since {
            Some(since) => Fact::Linked {
                image,
                missed_ns: clock::monotonic().0.saturating_sub(since.0),
            },
            None => Fact::Attached {
                image,
                pid,
                parent: None,
                baseline_bytes: followed.held_bytes(),
            },
        }
    }

    /// No probes could be put into a newcomer that had been looked at.
    pub(super) fn newcomer_not_placed(&mut self, followed: Followed, error: &SessionError) {
        let (image, pid) = (followed.id, followed.target.pid);
        let candidate = self.no_longer_under_way(image);
        self.kernel.forget_process(pid);
        self.follow(clock::monotonic(), Fact::Refused { image });
        match (&mut self.scope, candidate) {
            (Some(scope), Some(candidate))
                if error.is_unsettled() && Instant::now() < candidate.until =>
            {
                scope.unsettled.push(candidate);
            }
            _ => self.newcomer_refused(pid, Some(&followed.target), error),
        }
        drop(followed);
        self.attach_newcomers();
    }

    /// A newcomer is done with, whatever has become of it.
    pub(super) fn newcomer_done(&mut self, image: ProcessId) {
        if self.no_longer_under_way(image).is_some() {
            self.attach_newcomers();
        }
    }

    fn no_longer_under_way(&mut self, image: ProcessId) -> Option<Candidate> {
        let scope = self.scope.as_mut()?;
        let at = scope.under_way.iter().position(|(of, _)| *of == image)?;
        Some(scope.under_way.swap_remove(at).1)
    }

    /// A process of the scope cannot be traced; the others are.
    fn newcomer_refused(&mut self, pid: u32, target: Option<&Target>, error: &SessionError) {
        let Some(scope) = &mut self.scope else {
            return;
        };
        if matches!(
            error,
            SessionError::Target(TargetError::Gone { .. } | TargetError::NoSuchProcess { .. })
        ) {
            log::info!("process {pid} is not traced: {error}");
            self.quality.unfollowed_children += 1;
            return;
        }
        if !scope.refused.insert(pid) {
            return;
        }
        let is_named = scope.may_name();
        if is_named {
            say!("process {pid} is not traced: {error}");
        }
        let opened;
        let target = match target {
            Some(target) => Some(target),
            None => {
                opened = Target::open(pid).ok();
                opened.as_ref()
            }
        };
        match target {
            Some(target) if is_named => {
                self.lose(LossKind::NotAttached, Some(target), error.to_string());
            }
            _ => self.quality.unfollowed_children += 1,
        }
    }

    /// Says once that all processes that were there at the beginning are traced.
    fn tell_of_the_first(&mut self) {
        let Some(scope) = &mut self.scope else {
            return;
        };
        if scope.first != First::Found || !scope.is_idle() {
            return;
        }
        scope.first = First::Done;
        let traced = self
            .processes
            .values()
            .filter(|followed| followed.stage == Stage::Settled)
            .count();
        let not = match scope.refused.len() {
            0 => String::new(),
            count => format!("; {count} cannot be traced"),
        };
        match traced {
            0 => say!("nothing in {} is traced yet{not}; waiting", scope.name),
            1 => say!("1 process of {} is traced{not}", scope.name),
            count => say!("{count} processes of {} are traced{not}", scope.name),
        }
    }

    /// Whether a followed process that has become a program of this name is to be followed no more.
    pub(super) fn leaves_out(&self, name: &[u8]) -> bool {
        let name = Name::new(name);
        let is_another = match &self.options.subject {
            Subject::Scope(scope) if !self.options.children => match &scope.whom {
                Whom::Named(names) => !names.contains(&name),
                _ => false,
            },
            _ => false,
        };
        is_another || self.options.except.contains(&name)
    }

    /// Writes down what is not known of processes that came and went.
    pub(super) fn tell_of_the_unsure(&mut self) {
        let Some(scope) = &self.scope else {
            return;
        };
        let untold = self.kernel.counter(Counter::UntoldStrangers);
        let unread = scope.lookout.unsure();
        let name = &scope.name;
        let why = match (unread, untold) {
            (0, 0) => return,
            (unread, 0) => format!(
                "{unread} that began while this was recorded had ended before it was seen whether they belong to {name}"
            ),
            (unread, untold) => format!(
                "{unread} that began while this was recorded had ended before it was seen whether they belong to {name}, and {untold} \
                 times more processes began than are looked at at once; what of these lived for a second was found later"
            ),
        };
        self.lose(LossKind::Unsure, None, why);
    }
}
