//! Writing events to the ring, and counting what could not be written.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::bpf_ktime_get_ns,
};
use highwater_common::{
    cookie::Function,
    counter::Counter,
    event::{EventKind, RawEvent},
    process::TracedProcess,
};

use crate::{
    atomic,
    maps::{COUNTERS, EVENTS},
};

/// What differs from event to event of one thread.
pub struct Body {
    pub address: u64,
    pub size: u64,
    pub stack: u64,
    pub flags: u8,
    pub function: Function,
    pub slot: u8,
}

/// Sends an event about a call. Says whether there was room; if not, that is counted.
#[inline(always)]
pub fn event(process: &TracedProcess, tid: u32, kind: EventKind, body: Body) -> bool {
    let lost = match kind {
        EventKind::Freed | EventKind::ResizeBegan | EventKind::ResizeFreed => Counter::LostFrees,
        _ => Counter::LostAllocations,
    };
    let at_ns = unsafe { bpf_ktime_get_ns() };
    send(
        &RawEvent {
            at_ns,
            address: body.address,
            size: body.size,
            stack: body.stack,
            process: process.identity,
            tid,
            epoch: process.epoch,
            kind: kind as u8,
            flags: body.flags,
            function: body.function as u8,
            slot: body.slot,
        },
        lost,
        is_worth_waking(at_ns),
    )
}

/// Whether the reader is to be woken for an event of that time.
///
/// It drains on a timer. Only when the ring is more than half full is it woken, and only about one event in 64 looks: a
/// wake-up costs as much as ten events.
#[inline(always)]
pub fn is_worth_waking(at_ns: u64) -> bool {
    at_ns & 63 == 0
        && EVENTS.query(BPF_RB_AVAIL_DATA as u64) > EVENTS.query(BPF_RB_RING_SIZE as u64) / 2
}

/// Sends an event in one step, so that the ring's order is program order, and wakes the reader if asked.
#[inline(always)]
pub fn send(event: &RawEvent, lost: Counter, wake: bool) -> bool {
    let flag = if wake {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    let sent = EVENTS.output::<RawEvent>(event, flag as u64).is_ok();
    if !sent {
        count(lost);
    }
    sent
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // Atomic: another program may preempt this one on the same CPU.
        atomic::increment(value);
    }
}

/// Adds to a counter.
#[inline(always)]
pub fn add(counter: Counter, amount: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        atomic::add(value, amount);
    }
}
