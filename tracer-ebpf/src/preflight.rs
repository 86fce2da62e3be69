//! The count before the probes: which function was called, whether after a pause, and nothing else.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_ktime_get_ns},
    macros::uprobe,
    programs::ProbeContext,
};
use highwater_common::cookie::{Function, PAUSE_NS};

use crate::{atomic, maps::CALLS};

/// Counts a call under its function's cookie. The link says whose calls; an unknown cookie has no place.
#[uprobe]
pub fn hw_count(ctx: ProbeContext) -> u32 {
    let function = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    if let Some(calls) = CALLS.get_ptr_mut(function as u32) {
        // Atomic: uprobe programs are preemptible.
        atomic::increment(calls);
    }
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(latest) = CALLS.get_ptr_mut(Function::LATEST) {
        // Two calls at once on one processor are not far apart, whichever is the latest.
        let before = unsafe { core::mem::replace(&mut *latest, now) };
        if now.wrapping_sub(before) > PAUSE_NS
            && let Some(rare) = CALLS.get_ptr_mut(Function::RARE)
        {
            atomic::increment(rare);
        }
    }
    0
}
