//! A followed process that becomes another program: the probes of the one before stay if the new one maps the same libc, or go in anew
//! once it has mapped its own.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Session, SessionError, Subject,
    attach::IsUnsettled as _,
    attaching::{Found, Look, Looking},
    clock,
    follow::{Followed, NewProgram, Stage},
    lifecycle,
    probes::Probed,
};
use crate::words::say;
use crate::{
    event::{Call, Nanos, ProcessId},
    follow::Fact,
    record::LossKind,
    target::{Target, TargetError, mapped_file::identity_of},
};

/// How long a new program may take to map its libc.
const LIBRARY_PATIENCE: Duration = Duration::from_secs(2);

/// How long a program maps libraries, mostly.
const LIBRARIES_TAKE: Duration = Duration::from_millis(25);

impl Session {
    /// A followed process became another program.
    pub(super) fn executed(
        &mut self,
        at: Nanos,
        process: ProcessId,
        next: ProcessId,
        (from_thread, name): (bool, &[u8]),
    ) {
        let Some(tgid) = self.images.pid(process) else {
            return;
        };
        if self.leaves_out(name) {
            self.leave(at, process, tgid, next);
            return;
        }
        let known = self.processes.remove(&tgid);
        let mut old = known.filter(|followed| followed.id == process);
        if let Some(old) = &mut old {
            self.part_with(old);
        }
        if self.images.counts(process) {
            self.book(lifecycle(at, process, Call::Executed { next }));
        }
        if from_thread && let Some(old) = &mut old {
            self.link_new_leader(old, at, next);
        }
        let was_held = old.as_ref().is_some_and(|old| old.stage == Stage::Held);
        let parent = match was_held {
            true => old.as_ref().and_then(|old| old.parent),
            false => Some(process),
        };
        // It may have ended already, and been reaped: what it did is still to come.
        let target = Target::open(tgid).ok();
        let has_words = target.as_ref().is_some_and(Target::has_command_line);
        let mut target = target.or_else(|| old.as_ref().map(|old| old.target.clone()));
        if let (Some(target), Subject::Command { command }) = (&mut target, &self.options.subject)
            && tgid == self.root
            && was_held
            && !has_words
        {
            target.was_launched_as(command);
        }
        let linked = old.as_ref().filter(|old| old.link.is_some());
        let linked = linked.map(|old| old.linked_at.0.saturating_sub(at.0));
        if let Some(target) = target {
            let program = NewProgram {
                since: at,
                until: Instant::now() + LIBRARY_PATIENCE,
            };
            let mut new = Followed::new(next, parent, target, program.awaits_look());
            if let Some(old) = old {
                (new.link, new.linked_at) = (old.link, old.linked_at);
                (new.place, new.library) = (old.place, old.library);
                new.expected_at = old.expected_at;
            }
            if tgid == self.root && was_held {
                say!("tracing {tgid} ({})", new.target.command);
            }
            self.processes.insert(tgid, new);
        }
        self.follow(
            at,
            Fact::Executed {
                image: process,
                next,
                linked,
            },
        );
        self.sample(tgid);
    }

    /// A followed process became a program that was left out.
    fn leave(&mut self, at: Nanos, process: ProcessId, tgid: u32, next: ProcessId) {
        if let Some(mut followed) = self.processes.remove(&tgid) {
            self.part_with(&mut followed);
        }
        // What it makes is not followed either.
        self.kernel.forget_process(tgid);
        if self.images.counts(process) {
            self.book(lifecycle(at, process, Call::Executed { next }));
        }
        self.follow(at, Fact::Left { image: process });
        self.is_root_no_more(tgid, "the target became a program that was left out");
    }

    /// Whether some process has called exec and not mapped its libc yet.
    pub(super) fn awaits_library(&self) -> bool {
        self.processes
            .values()
            .any(|followed| matches!(followed.stage, Stage::Awaiting { .. }))
    }

    /// Has the processes looked at that have called exec: once the libc is there, their probes go in or stay.
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
        // Before anything else: the program may allocate as soon as its libraries are mapped.
        self.read_code(followed);
        let is_probed = followed.link.is_some();
        if is_probed && followed.age() < LIBRARIES_TAKE {
            // Its probes are in: what follows takes longer than the program takes to map the rest of its libraries.
            return;
        }
        if let Stage::Awaiting { is_looked_at, .. } = &mut followed.stage
            && !*is_looked_at
        {
            *is_looked_at = true;
            self.attaching.look(Look {
                image: followed.id,
                pid: followed.target.pid,
                at: Looking::Program { is_probed },
            });
        }
    }

    /// A new program was looked at.
    pub(super) fn looked_at_program(
        &mut self,
        (image, pid): (ProcessId, u32),
        found: Result<Found, TargetError>,
    ) {
        let Some(mut followed) = self.processes.remove(&pid) else {
            return;
        };
        let fact = match followed.stage {
            Stage::Awaiting { program, .. } if followed.id == image => {
                followed.stage = program.awaits_look();
                let settled = match found {
                    Ok(found) => self.settle(&mut followed, program, found),
                    Err(_) if Instant::now() < program.until => Ok(None),
                    Err(error) => Err(error.into()),
                };
                settled.unwrap_or_else(|error| self.not_settled(&mut followed, program, &error))
            }
            _ => None,
        };
        self.processes.insert(pid, followed);
        if let Some(fact) = fact {
            self.follow(clock::monotonic(), fact);
        }
    }

    /// The libc is mapped: keeps the link if it is the one that is probed, has it placed anew otherwise.
    fn settle(
        &mut self,
        followed: &mut Followed,
        program: NewProgram,
        (_, findings, mut allocator): Found,
    ) -> Result<Option<Fact>, SessionError> {
        self.note_allocators(&followed.target, &allocator);
        let replaces = followed.link.is_some();
        if replaces && followed.library == identity_of(&allocator.file) {
            followed.keeps_library = true;
            followed.probed = allocator.in_memory.take().map(Probed::new);
            self.declare(followed, Some(&allocator), 0)?;
            followed.stage = Stage::Settled;
            self.know_code(followed);
            return Ok(Some(Fact::Linked {
                image: followed.id,
                missed_ns: followed.linked_at.0.saturating_sub(program.since.0),
            }));
        }
        followed.unlink();
        let kind = self.kind_for(&followed.target, &findings)?;
        self.begin_placing(followed, kind, allocator)?;
        followed.stage = Stage::PlacingInProgram { program, replaces };
        Ok(None)
    }

    /// No probes could be put into a new program.
    pub(super) fn not_settled(
        &mut self,
        followed: &mut Followed,
        program: NewProgram,
        error: &SessionError,
    ) -> Option<Fact> {
        followed.unlink();
        if !followed.target.is_alive() || error.is_unsettled() && Instant::now() < program.until {
            // It has ended, or is yet another program: the kernel side is about to tell.
            followed.stage = program.awaits_look();
            return None;
        }
        followed.stage = Stage::Settled;
        self.lose(
            LossKind::Untraced,
            Some(&followed.target),
            error.to_string(),
        );
        self.know_code(followed);
        Some(Fact::Refused { image: followed.id })
    }
}
