//! Writing events to the ring, each process its share, and counting what could not be written.
//!
//! **Room.** While the ring is less than half full, everything is sent. Beyond that, allocations may take it up to three
//! quarters, frees up to 31 in 32, and what tells of a process's life the rest: a lost allocation is missing from the
//! books, a lost free stays in them. What of frees finds no room goes the long way, through a ring of their own; the reader puts them
//! back in order by their time.
//!
//! **Shares.** So that one process cannot take the room of others, each may send only so much for each eighth of the ring
//! that the reader has taken: the more, the emptier the ring is. Who sends least is refused last. (The fuller the ring,
//! the smaller the quota; the ring settles where the quotas of those who send most add up to what the reader takes, and who
//! sends less than that is not refused.) Frees count against the same share, four times as large, or a process that does
//! nothing but free would take the room that others' allocations may have. However full it is, each process has a small share of
//! its own: enough for one that sends little while the reader is kept waiting.

use aya_ebpf::{
    bindings::{
        BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE,
    },
    helpers::bpf_ktime_get_ns,
};
use highwater_common::{
    cookie::Function,
    counter::Counter,
    event::{EventKind, RawEvent},
    loss::Losses,
    process::TracedProcess,
};

use crate::{
    atomic,
    blocks::chunk_header,
    maps::{COUNTERS, EVENTS, LOSSES, PRESSURE, SPILLED},
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
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let event = RawEvent {
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
    };
    // About one event in 16 looks how full the ring is, until it is more than half full.
    let looks = at_ns & 15 == 0 || is_pressed();
    !looks && write(&event, false) || hw_send_event(&raw const event, looks as u64) != 0
}

/// Sends an event after a look at how full the ring is, or, without one, the long way; not 0 if there was room.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_send_event(event: *const RawEvent, looks: u64) -> u64 {
    const RETIRE: u64 = 1 << EventKind::Freed as u64
        | 1 << EventKind::ResizeBegan as u64
        | 1 << EventKind::ResizeFailed as u64
        | 1 << EventKind::ResizeFreed as u64;
    if event.is_null() {
        return 0;
    }
    let event = unsafe { &*event };
    let retires = RETIRE >> (event.kind & 63) & 1 != 0;
    let mut room = Room::Free;
    if looks != 0 {
        room = look(event.process, retires as u64);
        if matches!(room, Room::Free) && write(event, is_worth_waking(event.at_ns)) {
            return 1;
        }
    }
    not_sent(event, room, retires) as u64
}

/// What a look at the ring says of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    /// What is left of the ring is kept for other processes.
    OverShare,
    None,
}

/// Whether the ring was more than half full at the last look.
#[inline(always)]
fn is_pressed() -> bool {
    PRESSURE
        .get(0)
        .is_some_and(|pressed| unsafe { core::ptr::read_volatile(pressed) } != 0)
}

/// Whether the reader is to be woken for an event of that time: it drains on a timer, and a wake-up costs as much as ten
/// events.
#[inline(always)]
pub fn is_worth_waking(at_ns: u64) -> bool {
    at_ns & 63 == 0 && is_pressed()
}

/// Looks how full the ring is, and whether there is room for one more event of the process.
#[inline(always)]
fn look(identity: u32, retires: u64) -> Room {
    match hw_room(identity, retires) {
        0 => Room::Free,
        1 => Room::OverShare,
        _ => Room::None,
    }
}

/// A function of its own: on the way of few events.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_room(identity: u32, retires: u64) -> u64 {
    let size = EVENTS.query(BPF_RB_RING_SIZE as u64);
    let used = EVENTS.query(BPF_RB_AVAIL_DATA as u64);
    let pressed = (used > size / 2) as u64;
    if let Some(before) = PRESSURE.get_ptr_mut(0)
        && unsafe { *before } != pressed
    {
        unsafe { *before = pressed };
    }
    if pressed == 0 {
        return 0;
    }
    let (from, to) = (size / 2, size / 4 * 3);
    let end = if retires != 0 { size / 32 * 31 } else { to };
    if used >= end {
        return 2;
    }
    let Some(losses) = losses(identity) else {
        return 0;
    };
    let window = EVENTS.query(BPF_RB_CONS_POS as u64) / (size / 8 + 1);
    if losses.window != window {
        losses.window = window;
        losses.sent = 0;
    }
    // At `from` an eighth of the ring, at `to` next to nothing.
    let quota = size / 8 / 64 * (to.saturating_sub(used) * 64 / (to - from).max(1));
    let quota = (quota << (2 * (retires != 0) as u64)).max(size / 64);
    if losses.sent >= quota {
        return 1;
    }
    losses.sent += size_of::<RawEvent>() as u64 + 8;
    0
}

/// The losses of a process, from its first one on.
#[inline(always)]
fn losses(identity: u32) -> Option<&'static mut Losses> {
    let find = || {
        LOSSES
            .get_ptr_mut(identity)
            .map(|losses| unsafe { &mut *losses })
    };
    if let Some(found) = find() {
        return Some(found);
    }
    let _ = LOSSES.insert(identity, Losses::default(), 0);
    find()
}

/// A free goes the long way; whatever is lost is counted.
#[inline(never)]
fn not_sent(event: &RawEvent, room: Room, retires: bool) -> bool {
    let spilled = retires
        && SPILLED
            .output::<RawEvent>(event, BPF_RB_NO_WAKEUP as u64)
            .is_ok();
    // What `realloc` was given is retired as it returns, if need be: only then it is lost.
    if !spilled && event.kind == EventKind::ResizeBegan as u8 {
        return false;
    }
    if !spilled {
        count(if retires {
            Counter::LostFrees
        } else {
            Counter::LostAllocations
        });
    }
    let Some(losses) = losses(event.process) else {
        return spilled;
    };
    if spilled {
        atomic::increment(&raw mut losses.spilled);
        return true;
    }
    if room == Room::OverShare {
        atomic::increment(&raw mut losses.over_share);
    }
    if retires {
        atomic::increment(&raw mut losses.frees);
        // The chunk's size, with flags in the low bits.
        atomic::add(
            &raw mut losses.freed_bytes,
            chunk_header(event.address) & !7,
        );
    } else {
        atomic::increment(&raw mut losses.allocations);
        atomic::add(&raw mut losses.allocated_bytes, event.size);
    }
    false
}

/// Sends an event that is not about a call of the allocator, and wakes the reader if asked.
#[inline(always)]
pub fn send(event: &RawEvent, lost: Counter, wake: bool) -> bool {
    let sent = write(event, wake);
    if !sent {
        count(lost);
    }
    sent
}

/// Writes an event in one step, so that the ring's order is program order.
#[inline(always)]
fn write(event: &RawEvent, wake: bool) -> bool {
    let flag = if wake {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    EVENTS.output::<RawEvent>(event, flag as u64).is_ok()
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    add(counter, 1);
}

/// Adds to a counter.
#[inline(always)]
pub fn add(counter: Counter, amount: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // Atomic: another program may preempt this one on the same CPU.
        atomic::add(value, amount);
    }
}
