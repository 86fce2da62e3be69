//! Recorders that run at the same time, and the one case in which they endanger each other's targets.
//!
//! At a hit the kernel asks every link of that function whether it wants the return, and a link that is for another
//! process says yes (`uprobe_prog_run` answers 0, which for a session means "call me at the return"):
//! <https://github.com/torvalds/linux/blob/v6.18/kernel/trace/bpf_trace.c#L3176>. So while a second link stands on the same
//! library, be it another recorder's or that of a child that we follow, returns cannot be skipped. They must be where a
//! thread has its alternate signal stack above its ordinary one (see the kernel side's `call` module), or a handler that
//! allocates inside an allocator call is the target's death.
//!
//! Such a target is therefore traced alone. Recorders share a lock; one that finds such a target makes it exclusive, or
//! lets the target go.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::fs::{FlockOperation, flock};
use thiserror::Error;

use super::{Session, SessionError};
use crate::{
    event::ProcessId,
    probe::link::LinkKind,
    target::{Refusal, Target},
};

/// The lock. Where it cannot be made (no root), recorders do not know of each other.
const LOCK: &str = "/run/highwater.lock";

/// Another recorder traces a process that a second recorder would endanger.
#[derive(Debug, Error)]
#[error(
    "another highwater traces a process that handles signals on an alternate stack above its ordinary one; a second \
     recorder at the same time could kill that process. Try again when the other recording has ended"
)]
pub struct Endangers;

/// Other processes are traced, and this one must be traced alone.
#[derive(Debug, Error)]
#[error(
    "process {pid} handles signals on an alternate stack above its ordinary one, and can only be traced alone: another \
     recording at the same time could kill it. Try again when the other recording has ended"
)]
pub struct Endangered {
    pid: u32,
}

/// Our place among the recorders of this machine.
pub(crate) struct Company {
    lock: Option<File>,
    /// A process that must be traced alone.
    lone: Option<ProcessId>,
}

impl Company {
    /// Joins the others, unless one of them must be alone.
    pub(crate) fn join() -> Result<Self, Endangers> {
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(LOCK)
            .ok();
        match &lock {
            Some(file) if flock(file, FlockOperation::NonBlockingLockShared).is_err() => {
                Err(Endangers)
            }
            _ => Ok(Self { lock, lone: None }),
        }
    }

    /// Makes us the only recorder. Says whether we are.
    fn be_alone(&mut self) -> bool {
        match &self.lock {
            Some(file) if flock(file, FlockOperation::NonBlockingLockExclusive).is_ok() => true,
            Some(file) => {
                // The attempt gave up our share; the others are there, so it is to be had again.
                let _ = flock(file, FlockOperation::NonBlockingLockShared);
                false
            }
            None => true,
        }
    }
}

impl Session {
    /// Before any probe goes in: a process with a thread that needs returns skipped must be the only one that is traced,
    /// and by a session link.
    pub(super) fn admit(
        &mut self,
        target: &Target,
        id: ProcessId,
        kind: LinkKind,
    ) -> Result<(), SessionError> {
        if self.kernel.has_alternate_stack_above(target.pid) != Some(true) {
            return Ok(());
        }
        let first = self.processes.is_empty();
        if kind != LinkKind::Session {
            return Err(Refusal::AlternateStack.of(target).into());
        }
        if !first || !self.company.be_alone() {
            return Err(Endangered { pid: target.pid }.into());
        }
        self.company.lone = Some(id);
        Ok(())
    }

    /// A process was found whose threads need returns skipped: it is traced alone and by a session link, or let go.
    pub(super) fn needs_to_be_alone(&mut self, process: ProcessId) {
        let Some(tgid) = self.tgid_of(process) else {
            return;
        };
        if self.company.lone == Some(process) {
            return;
        }
        if self.link_kind(tgid) != Some(LinkKind::Session)
            || self.roots != [tgid]
            || !self.company.be_alone()
        {
            let why = "it handles signals on an alternate stack above its ordinary one. A handler that allocates inside \
                       an allocator call would die of a return probe, and only a single session link (Linux 6.13) can do \
                       without";
            self.let_one_go(tgid, why);
            return;
        }
        self.company.lone = Some(process);
        self.await_attached();
        let others: Vec<u32> = self
            .processes
            .keys()
            .copied()
            .filter(|other| *other != tgid)
            .collect();
        for other in others {
            self.let_one_go(
                other,
                "its parent must be traced alone (alternate signal stack above the ordinary one)",
            );
        }
    }

    /// Whether no further process may be linked.
    pub(super) fn is_alone(&self) -> bool {
        self.company.lone.is_some()
    }
}
