//! Forks and execs of processes that are not traced: told of only where the user side follows a scope that they may be in, and so
//! many at most that they cannot fill the ring.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use highwater_common::{
    counter::Counter,
    event::{EventKind, RawEvent},
    stranger::{NAME_BYTES, SLICE_SHIFT, TOLD_IN_A_SLICE},
};

use crate::{atomic, emit, maps::STRANGERS};

/// Whether the user side asks for them.
#[inline(always)]
pub fn are_wanted() -> bool {
    STRANGERS.get(0).is_some_and(
        |strangers| unsafe { core::ptr::read_volatile(&raw const strangers.wanted) } != 0,
    )
}

/// Tells of the process `tgid`, which has the current one's name, and wakes the reader: it has to look at it while it is there.
#[inline(never)]
pub fn tell(kind: EventKind, tgid: u32) -> u32 {
    let Some(strangers) = STRANGERS.get_ptr_mut(0) else {
        return 0;
    };
    let strangers = unsafe { &mut *strangers };
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let slice = at_ns >> SLICE_SHIFT;
    if strangers.slice != slice {
        // Two processors that do this at once may tell of a few more.
        strangers.slice = slice;
        strangers.told = 0;
    }
    if strangers.told >= TOLD_IN_A_SLICE {
        emit::count(Counter::UntoldStrangers);
        return 0;
    }
    atomic::increment(&raw mut strangers.told);
    let [first, second] = name();
    let event = RawEvent {
        at_ns,
        address: tgid as u64,
        size: first,
        stack: second,
        process: 0,
        tid: bpf_get_current_pid_tgid() as u32,
        epoch: 0,
        kind: kind as u8,
        flags: 0,
        function: 0,
        slot: 0,
    };
    emit::send(&event, Counter::UntoldStrangers, true);
    0
}

/// The name that the kernel has for the current process, as two words of an event.
#[inline(always)]
pub fn name() -> [u64; 2] {
    let name: [u8; NAME_BYTES] = bpf_get_current_comm().unwrap_or_default();
    // SAFETY: both are 16 bytes, any of which is valid.
    unsafe { core::mem::transmute(name) }
}
