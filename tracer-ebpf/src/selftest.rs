//! Programs that only count, for the self-test that chooses a kind of link.

use aya_ebpf::{
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

#[inline(always)]
fn hit(which: u32) {
    if let Some(value) = SELFTEST.get_ptr_mut(which) {
        atomic::increment(value);
    }
}
