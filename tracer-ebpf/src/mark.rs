//! Moments that a process names itself, by writing `highwater:NAME` to file descriptor -1. No such descriptor exists, so without us
//! the call does nothing but fail, and it costs the program next to nothing to leave it in.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_probe_read_user,
        generated::bpf_probe_read_user as read_user,
    },
};
use highwater_common::{
    counter::Counter,
    event::{EventKind, FLAG_LAST_PART, MARK_PART, MARK_PARTS, MARK_PREFIX, RawEvent},
    mark::{MARKS_IN_A_SLICE, Marking, SLICE_SHIFT},
    process::TracedProcess,
};

use crate::{atomic, emit, maps::MARKING};

/// `write` of x86-64.
pub const WRITE: u64 = 1;

/// The file descriptor, as an `int`.
const NONE: u32 = u32::MAX;

const MOST: usize = MARK_PARTS * MARK_PART;

/// Whether this `write` names a moment, as far as its descriptor tells: one look at the registers, for all processes.
#[inline(always)]
pub fn may_be(regs: *const pt_regs) -> bool {
    unsafe { bpf_probe_read_kernel(&raw const (*regs).rdi) }.is_ok_and(|fd| fd as u32 == NONE)
}

/// Tells the name, if it is one. A function of its own, with room of its own on the stack.
#[inline(never)]
pub fn tell(process: &TracedProcess, tid: u32, regs: *const pt_regs) -> u32 {
    let text = unsafe { bpf_probe_read_kernel(&raw const (*regs).rsi) }.unwrap_or(0);
    let length = unsafe { bpf_probe_read_kernel(&raw const (*regs).rdx) }.unwrap_or(0);
    let Ok(start) = (unsafe { bpf_probe_read_user(text as *const [u8; MARK_PREFIX.len()]) }) else {
        return 0;
    };
    if start != MARK_PREFIX || length <= MARK_PREFIX.len() as u64 {
        return 0;
    }
    let at_ns = unsafe { bpf_ktime_get_ns() };
    if !may_mark(process.tgid, at_ns >> SLICE_SHIFT) {
        emit::count(Counter::DroppedMarks);
        return 0;
    }
    let length = (length - MARK_PREFIX.len() as u64).min(MOST as u64) as u32;
    let mut name = [0u64; MOST / 8];
    let from = text + MARK_PREFIX.len() as u64;
    // SAFETY: `name` has room for `length` bytes.
    let read = unsafe { read_user(name.as_mut_ptr().cast(), length, from as *const _) };
    if read != 0 {
        return 0;
    }
    let parts = length.div_ceil(MARK_PART as u32);
    for number in 0..MARK_PARTS as u32 {
        if number >= parts {
            break;
        }
        let at = number as usize * 3;
        let event = RawEvent {
            at_ns,
            address: name[at],
            size: name[at + 1],
            stack: name[at + 2],
            process: process.identity,
            tid,
            epoch: process.epoch,
            kind: EventKind::Marked as u8,
            flags: if number + 1 == parts {
                FLAG_LAST_PART
            } else {
                0
            },
            function: 0,
            slot: number as u8,
        };
        if !emit::send(&event, Counter::DroppedMarks, false) {
            break;
        }
    }
    0
}

/// Whether the process may name one more moment, which counts if so: a target that does nothing else would fill the ring, and
/// the recording.
#[inline(always)]
fn may_mark(tgid: u32, slice: u64) -> bool {
    let Some(marking) = MARKING.get_ptr_mut(tgid) else {
        let first = Marking { slice, count: 1 };
        return MARKING.insert(tgid, first, 0).is_ok();
    };
    let marking = unsafe { &mut *marking };
    if marking.slice != slice {
        // Threads that do this at once may lose a few of each other's counts.
        marking.slice = slice;
        marking.count = 0;
    }
    if marking.count >= MARKS_IN_A_SLICE as u64 {
        return false;
    }
    atomic::increment(&raw mut marking.count);
    true
}
