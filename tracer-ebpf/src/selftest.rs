//! Programs that only count, for the self-test that chooses a kind of link.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{atomic, maps::SELFTEST, session};

#[uprobe]
pub fn hw_test_session(_ctx: ProbeContext) -> u32 {
    hit(session::is_return() as u32);
    0
}

#[uprobe]
pub fn hw_test_entry(_ctx: ProbeContext) -> u32 {
    hit(0);
    0
}

#[uretprobe]
pub fn hw_test_return(_ctx: RetProbeContext) -> u32 {
    hit(1);
    0
}

/// Counts a call of the child that is being tested. The kernel runs a perf link's return program in every process whose
/// call another link made return through the trampoline, as the self-test of another recorder does at the same place.
#[inline(always)]
fn hit(which: u32) {
    if SELFTEST.get(2) != Some(&(bpf_get_current_pid_tgid() >> 32)) {
        return;
    }
    if let Some(value) = SELFTEST.get_ptr_mut(which) {
        atomic::increment(value);
    }
}
