//! The turns of a followed process's life: forks, execs, its end.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    END_GRACE, Session, SessionError, Subject,
    attach::examine,
    clock,
    follow::{Followed, Stage},
    lifecycle,
    probes::Probed,
};
use crate::words::say;
use crate::{
    event::{Call, Nanos, ProcessId},
    record::{EndReason, Entry, Origin, ProcessEnd},
    target::{
        Target,
        allocator::{self, Allocator},
        mapped_file::identity_of,
        safety::Findings,
    },
};

/// How long a new program may take to map its libc.
const LIBRARY_PATIENCE: Duration = Duration::from_secs(2);

/// How long a program maps libraries, mostly.
const LIBRARIES_TAKE: Duration = Duration::from_millis(25);

impl Session {
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
        match self.examine_and_attach(child, Some((identity, at)), Some(parent)) {
            Ok(_) => self.book(lifecycle(at, parent, Call::Forked { child: identity })),
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
        self.modules.end(old.id, self.symbols.as_ref());
        self.python.end(&old);
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
        // It may have ended already, and been reaped: what it did is still to come.
        let target = Target::open(tgid).unwrap_or_else(|_| old.target.clone());
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
            say!("tracing {tgid} ({})", new.target.command);
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
        // Before anything else: the program may allocate as soon as its libraries are mapped.
        self.read_code(followed);
        if followed.link.is_some() && followed.age() < LIBRARIES_TAKE {
            // Its probes are in: what follows takes longer than the program takes to map the rest of its libraries.
            return;
        }
        let found = examine(followed.target.pid).and_then(|(target, findings)| {
            let allocator = if followed.link.is_some() {
                allocator::find_probed(&target)
            } else {
                allocator::find(&target)
            };
            allocator.map(|allocator| (findings, allocator))
        });
        let settled = match found {
            Ok((findings, mut allocator)) => {
                self.settle(followed, written, since, &findings, &mut allocator)
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
        self.know_code(followed);
    }

    /// The libc is mapped: keeps the link if it is the one that is probed, places it anew otherwise.
    fn settle(
        &mut self,
        followed: &mut Followed,
        written: bool,
        since: Nanos,
        findings: &Findings,
        allocator: &mut Allocator,
    ) -> Result<(), SessionError> {
        self.note_allocators(&followed.target, allocator);
        let keeps = followed.link.is_some() && followed.library == identity_of(&allocator.file);
        if keeps {
            followed.probed = allocator.in_memory.take().map(Probed::new);
            return Ok(self.declare(followed, Some(allocator), 0)?);
        }
        followed.unlink();
        let kind = self.kind_for(&followed.target, findings)?;
        self.place_held(followed, kind, allocator)?;
        let now = clock::monotonic();
        let missed_ns = now.0.saturating_sub(since.0);
        if written {
            self.quality.unfollowed_children += 1;
            self.quality.note(format!(
                "process {} ({}) mapped another libc than was expected ({}): its first {:.1} ms were not seen",
                followed.target.pid,
                followed.target.command,
                allocator.name.display(),
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
        self.note_unseen(&followed);
        if followed.is_written() {
            self.book(lifecycle(at, process, Call::Exited { status }));
        }
        self.end(&followed, at, reason);
    }

    /// A program is over and no call of it was seen. That is told of a command that was launched, for hardly any makes none;
    /// and of what ended before it was known whether the libc that it had mapped is the one that is probed.
    pub(super) fn note_unseen(&mut self, followed: &Followed) {
        let launched = followed.target.pid == self.root
            && matches!(self.options.subject, Subject::Command { .. });
        let sampled = self.exponent != 0 || self.options.sample.is_some();
        let concerned = match followed.stage {
            Stage::Held => false,
            Stage::Awaiting { .. } => true,
            Stage::Settled => launched,
        };
        let seen = self.live.process_totals(followed.id).is_some_and(|totals| {
            [
                totals.allocations,
                totals.failed_allocations,
                totals.frees,
                totals.unmatched_frees,
            ]
            .iter()
            .any(|count| *count > 0)
        });
        if !concerned || sampled || seen {
            return;
        }
        self.quality.unfollowed_children += 1;
        if launched {
            self.quality.note(format!(
                "process {} ({}): none of its calls was seen; either it made none, or its probes were in too late",
                followed.target.pid, followed.target.command
            ));
        }
    }

    /// The leader has exited, and so has the thread that carried the probes: another one takes them over.
    fn follow_another_thread(&mut self, tgid: u32) {
        let Some(mut followed) = self.processes.remove(&tgid) else {
            return;
        };
        followed.unlink();
        let relinked = self.relink(&mut followed);
        let then = match relinked {
            Ok(()) => {
                "another one carries them since; what was called in between was not seen".to_owned()
            }
            Err(error) => format!("nothing of it is seen since: {error}"),
        };
        self.quality.note(format!(
            "process {tgid} ({}) has lost the thread that carried its probes: {then}",
            followed.target.command
        ));
        self.processes.insert(tgid, followed);
    }

    /// A process that is gone although nothing said so.
    pub(super) fn check_end(&mut self, tgid: u32) {
        let Some(followed) = self.processes.get_mut(&tgid) else {
            return;
        };
        if followed.target.is_alive() {
            followed.gone_since = None;
            if followed.target.leader_gone && !followed.target.proc_dir().exists() {
                self.follow_another_thread(tgid);
            }
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

    pub(super) fn end(&mut self, followed: &Followed, at: Nanos, reason: EndReason) {
        self.write_pending();
        self.modules.end(followed.id, self.symbols.as_ref());
        self.python.end(followed);
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
}
