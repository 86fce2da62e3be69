//! Identities of the recording for those of the kernel side, which has only pids.
//!
//! A pid may be given to another process while we record. Ring order tells them apart: the fork that makes the new one
//! comes after the end of the old one, and from that fork on the pid means the new one.

use std::collections::HashMap;

use highwater_common::process::GENERATION_BITS;

use crate::event::ProcessId;

/// Which ordinal each pid has now.
#[derive(Debug, Default)]
pub(super) struct Ordinals {
    by_pid: HashMap<u32, u32>,
    last: u32,
    /// The latest answer: almost every event is of the same process as the one before.
    cached: Option<(u32, ProcessId)>,
}

impl Ordinals {
    /// Gives a pid a new ordinal; the identity of its first exec generation.
    pub(super) fn assign(&mut self, pid: u32) -> ProcessId {
        self.last += 1;
        self.by_pid.insert(pid, self.last);
        self.cached = None;
        ProcessId(self.last << GENERATION_BITS)
    }

    /// The recording's identity for the kernel side's, which is the pid and the exec generation.
    pub(super) fn identity(&mut self, kernel: u32) -> Option<ProcessId> {
        if let Some((known, identity)) = self.cached
            && known == kernel
        {
            return Some(identity);
        }
        let ordinal = self.by_pid.get(&(kernel >> GENERATION_BITS))?;
        let identity = ProcessId(ordinal << GENERATION_BITS | generation(kernel));
        self.cached = Some((kernel, identity));
        Some(identity)
    }
}

/// The kernel side's identity of a process.
pub(super) fn kernel_identity(pid: u32, identity: ProcessId) -> u32 {
    pid << GENERATION_BITS | generation(identity.0)
}

fn generation(identity: u32) -> u32 {
    identity & ((1 << GENERATION_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_keeps_the_ordinal_and_counts_the_generation() {
        let mut ordinals = Ordinals::default();
        let first = ordinals.assign(4242);
        let kernel = kernel_identity(4242, first);
        assert_eq!(ordinals.identity(kernel), Some(first));
        assert_eq!(ordinals.identity(kernel + 1), Some(ProcessId(first.0 + 1)));
    }

    #[test]
    fn a_pid_given_out_anew_is_another_process() {
        let mut ordinals = Ordinals::default();
        let first = ordinals.assign(7);
        let again = ordinals.assign(7);
        assert_ne!(first, again);
        assert_eq!(ordinals.identity(kernel_identity(7, again)), Some(again));
    }

    #[test]
    fn a_pid_never_assigned_has_no_identity() {
        assert_eq!(Ordinals::default().identity(9 << GENERATION_BITS), None);
    }
}
