//! The turns of a followed process's life: forks, execs, its end.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    END_GRACE, Session, Subject,
    attaching::{Look, Looking},
    clock,
    follow::{Followed, Stage},
    lifecycle,
};
use crate::{
    event::{Call, Nanos, ProcessId},
    follow::{Action, Fact},
    record::{
        Cgroup, EndReason, Entry, LossKind, Origin, Process, ProcessEnd, fold::parts_of_remains,
    },
    target::Target,
};

/// The command of a process that had ended before it could be read.
const ENDED_UNREAD: &str = "(ended before its name was read)";

/// Images that nothing was heard of, and that are remembered to be so.
const MOST_LOOKED_FOR: usize = 1024;

/// Processes that have ended, and that memory is kept for.
const MOST_ENDED: usize = 1024;

impl Session {
    /// A fact about an image: what follows from it is done.
    pub(super) fn follow(&mut self, at: Nanos, fact: Fact) {
        for action in self.images.step(at, fact) {
            self.perform(at, action);
        }
    }

    fn perform(&mut self, at: Nanos, action: Action) {
        match action {
            Action::Announce {
                image,
                pid,
                parent,
                from,
                origin,
                baseline_bytes,
            } => self.announce((image, pid), parent, from, origin, baseline_bytes),
            Action::Correct {
                image,
                pid,
                parent,
                from,
                origin,
            } => self.announce((image, pid), parent, from, origin, 0),
            Action::Inherit { parent, child, at } => {
                self.book(lifecycle(at, parent, Call::Forked { child }));
            }
            Action::Miss {
                image,
                pid,
                shared_memory,
            } => {
                log::info!("process {pid} ({}) was not traced", image.0);
                match shared_memory {
                    true => self.quality.missed_sharers += 1,
                    false => self.quality.unfollowed_children += 1,
                }
            }
            Action::Close { image, reason } => {
                self.write_loads(image, at);
                self.write_pending();
                self.write(&Entry::End(ProcessEnd {
                    at,
                    process: image,
                    reason,
                }));
            }
            Action::Release { image, pid } => {
                if let Some(own) = self.modules.end(image, self.symbols.as_ref()) {
                    self.frames.forget(own);
                }
                self.stacks.end(image);
                self.threads.forget(image);
                self.count_losses(image);
                self.kernel.release_code(pid);
                self.shed();
            }
        }
    }

    /// Writes down what is said of processes that ended long ago, and forgets it.
    fn shed(&mut self) {
        while let Some(remains) = self.feed.live_mut().shed(MOST_ENDED) {
            // The entries that told of its events, and of its end, come first.
            self.write_pending();
            for part in parts_of_remains(remains) {
                self.recording.write(&Entry::Remains(part));
            }
        }
    }

    /// Writes down what a process is, and opens its books.
    fn announce(
        &mut self,
        (image, pid): (ProcessId, u32),
        parent: Option<ProcessId>,
        from: Nanos,
        origin: Origin,
        baseline_bytes: u64,
    ) {
        let known = self.processes.get(&pid);
        let known = known.filter(|followed| followed.id == image);
        // Of one that has ended already, nothing more is to be had.
        let process = Process {
            id: image,
            pid,
            ns_pid: known.map_or(pid, |followed| followed.target.ns_pid),
            parent,
            command: known.map_or_else(
                || ENDED_UNREAD.to_owned(),
                |followed| followed.target.command.clone(),
            ),
            cgroup: known
                .and_then(|followed| followed.cgroup.as_ref())
                .map(|cgroup| Arc::new(Cgroup::at(cgroup.path.clone()))),
            started_unix_ns: known.map_or(0, |followed| followed.target.started_unix_ns),
            from_ns: from.0,
            origin,
            baseline_bytes,
        };
        self.write_pending();
        self.mapped_files.announce(image, pid);
        self.write(&Entry::Process(process));
    }

    /// A followed process made a child, which the kernel side has registered.
    pub(super) fn forked(
        &mut self,
        at: Nanos,
        parent: ProcessId,
        (child, pid): (ProcessId, u32),
        shares_memory: bool,
    ) {
        self.follow(
            at,
            Fact::Forked {
                parent,
                child,
                pid,
                shares_memory,
            },
        );
        if self.is_alone() {
            log::info!("child process {pid} is not followed: its parent must be traced alone");
            self.refuse_child(child, pid);
            return;
        }
        if shares_memory {
            // It runs in its parent's memory until it calls exec; what it is then is looked at then.
            if let Ok(target) = Target::open(pid) {
                let held = Followed::new(child, Some(parent), target, Stage::Held);
                self.processes.insert(pid, held);
            }
            return;
        }
        self.attaching.look(Look {
            image: child,
            pid,
            at: Looking::Child { at, parent },
        });
    }

    /// An event came of an image that nothing was heard of. If a process that is followed runs it, then the exec that made it
    /// was lost; each image is looked for once.
    pub(super) fn look_for_image(&mut self, at: Nanos, image: ProcessId) {
        if self.looked_for.len() >= MOST_LOOKED_FOR {
            self.looked_for.clear();
        }
        if !self.looked_for.insert(image) {
            return;
        }
        let runs_it = |tgid: &u32| {
            let known = self.kernel.process(*tgid);
            known.is_some_and(|known| known.identity == image.0)
        };
        if let Some(pid) = self.processes.keys().copied().find(runs_it) {
            self.follow(at, Fact::Active { image, pid });
        }
    }

    /// The last thread of a followed process ended.
    pub(super) fn exited(&mut self, at: Nanos, process: ProcessId, status: u32) {
        let Some(tgid) = self.images.pid(process) else {
            return;
        };
        let known = self.tgid_of(process);
        let unsure = known.and_then(|tgid| self.processes.get(&tgid));
        if unsure
            .is_some_and(|followed| followed.link.is_some() && !followed.has_expected_library())
        {
            // It may have ended sooner than what it mapped was heard of; the kernel told of that before.
            self.hear();
        }
        let mut followed = known.and_then(|tgid| self.processes.remove(&tgid));
        if let Some(followed) = &mut followed {
            self.part_with(followed);
        }
        let oom_victim = followed
            .as_ref()
            .is_some_and(|followed| followed.oom_victim);
        let signal = (status & 0x7f) as u8;
        let reason = match signal {
            0 => EndReason::Exited {
                code: (status >> 8) as u8,
            },
            9 if oom_victim => EndReason::OomKilled,
            signal => EndReason::Signal { signal },
        };
        if let Some(followed) = &followed {
            self.note_unseen(followed);
        }
        if self.images.counts(process) {
            self.book(lifecycle(at, process, Call::Exited { status }));
        }
        self.end(process, tgid, at, reason);
    }

    /// A program is over, no call of it was seen, and whether the libc that it had mapped is the one that is probed is not known.
    pub(super) fn note_unseen(&mut self, followed: &Followed) {
        let launched = followed.target.pid == self.root
            && matches!(self.options.subject, Subject::Command { .. });
        let sampled = self.exponent != 0 || self.options.sample.is_some();
        // One without probes was missed in any case, and one that waits to call exec is not traced yet.
        let concerned = followed.link.is_some()
            && followed.stage != Stage::Held
            && !followed.has_expected_library();
        let seen = self
            .feed
            .live()
            .process_totals(followed.id)
            .is_some_and(|totals| {
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
        match launched {
            true => self.lose(LossKind::NothingSeen, Some(&followed.target), String::new()),
            false => self.quality.unfollowed_children += 1,
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
        self.lose(LossKind::CarrierEnded, Some(&followed.target), then);
        self.processes.insert(tgid, followed);
    }

    /// A process that is gone although nothing said so.
    pub(super) fn check_end(&mut self, tgid: u32) {
        let Some(followed) = self.processes.get_mut(&tgid) else {
            return;
        };
        if followed.target.is_alive() {
            followed.gone_since = None;
            let lost = followed.link.is_some() && followed.target.has_lost_its_thread();
            // Twice in a row: a thread that calls exec takes the leader's place, which the kernel side is about to tell of.
            if std::mem::replace(&mut followed.has_lost_its_thread, lost) && lost {
                self.follow_another_thread(tgid);
            }
            return;
        }
        let image = followed.id;
        let since = *followed.gone_since.get_or_insert_with(Instant::now);
        if since.elapsed() < END_GRACE {
            return;
        }
        self.define_stacks(Some(image));
        if let Some(mut followed) = self.processes.remove(&tgid) {
            self.part_with(&mut followed);
            self.kernel.forget_process(tgid);
            self.end(followed.id, tgid, clock::monotonic(), EndReason::Vanished);
        }
    }

    /// A process is followed no more, as the program that it was: what is left to say of it comes before its end does.
    pub(super) fn part_with(&mut self, followed: &mut Followed) {
        self.write_high(followed);
        self.python.end(followed);
    }

    /// Tracing of a process has ended.
    fn end(&mut self, image: ProcessId, pid: u32, at: Nanos, reason: EndReason) {
        self.follow(at, Fact::Ended { image, reason });
        let why = match reason {
            EndReason::Detached => "the target was let go",
            _ => "the target ended",
        };
        self.is_root_no_more(pid, why);
    }

    /// A process is traced no more. If it was the last that was asked for, the recording ends; a scope waits for others.
    pub(super) fn is_root_no_more(&mut self, pid: u32, why: &'static str) {
        let was_traced = self.roots.len();
        self.roots.retain(|root| *root != pid);
        if self.roots.len() < was_traced && self.roots.is_empty() {
            self.root_ended = Some(why);
        }
    }

    /// Takes the probes out of one process, which runs on, and says why.
    pub(super) fn let_one_go(&mut self, tgid: u32, why: &str) {
        self.kernel.forget_process(tgid);
        if let Some(image) = self.processes.get(&tgid).map(|followed| followed.id) {
            self.define_stacks(Some(image));
        }
        let Some(mut followed) = self.processes.remove(&tgid) else {
            return;
        };
        followed.unlink();
        self.part_with(&mut followed);
        self.lose(LossKind::LetGo, Some(&followed.target), why.to_owned());
        self.end(followed.id, tgid, clock::monotonic(), EndReason::Detached);
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
