//! The count before the probes: which function was called, and nothing else.

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_get_attach_cookie, macros::uprobe, programs::ProbeContext,
};

use crate::{atomic, maps::CALLS};

/// Counts a call under its function's cookie. The link says whose calls; an unknown cookie has no place.
#[uprobe]
pub fn hw_count(ctx: ProbeContext) -> u32 {
    let function = unsafe { bpf_get_attach_cookie(ctx.as_ptr()) };
    if let Some(calls) = CALLS.get_ptr_mut(function as u32) {
        // Atomic: uprobe programs are preemptible.
        atomic::increment(calls);
    }
    0
}
