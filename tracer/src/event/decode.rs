//! From the bytes of a ring to events: total, because bytes are bytes.

use highwater_common::{
    cookie::Function,
    event::{
        EventKind, FLAG_BY_ALLOCATOR, FLAG_FROM_THREAD, FLAG_REGISTERED, FLAG_SHARES_MEMORY,
        MAPPING_COMMITTED, MAPPING_FILE, MAPPING_KEEPS_OLD, MAPPING_SHARED, MAPPING_STACK,
        RawEvent, SAMPLING_SHIFT,
    },
    python::MAX_PYTHON_FRAMES,
    stack::{CUT_NO_CODE, CUT_NOT, CUT_PENDING, MAX_FRAMES, StackHead},
    stranger::NAME_BYTES,
};

use super::fields::Fields;
use super::mapping::{Mapping, Range, Traits};
use super::python;
use super::{Address, Call, Event, FunctionIndex, Nanos, ProcessId, StackIndex, Tid};

/// What a record of the event ring says. Processes are named as the kernel side names them (see
/// [`highwater_common::process`]); the session gives them the recording's identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Something for the books.
    Event(Event),
    /// Something that changes who is traced.
    Lifecycle {
        /// Time of the change, `CLOCK_MONOTONIC` nanoseconds.
        at: Nanos,
        /// To which process.
        process: ProcessId,
        /// What happened to the process.
        change: Change,
    },
    /// Part of a name that a process gave this moment: the record has it.
    Named {
        /// Of which process.
        process: ProcessId,
    },
    /// A process that is not traced.
    Stranger(Stranger),
}

/// A process that is not traced has begun, or has become another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// When that was.
    pub at: Nanos,
    /// Its pid.
    pub pid: u32,
    /// The name that the kernel has for it since; a zero ends it.
    pub name: [u8; NAME_BYTES],
    /// It has called exec; else it was forked.
    pub has_executed: bool,
}

/// A change in a process's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It made a child.
    Forked {
        /// The child's tgid.
        child: u32,
        /// The child's image, if the kernel side knows it: it is to be followed.
        image: Option<ProcessId>,
        /// The child runs in its parent's memory until it calls exec.
        shares_memory: bool,
    },
    /// It became another program.
    Executed {
        /// Its image from here on.
        next: ProcessId,
        /// A thread other than the leader called exec and took the leader's place.
        from_thread: bool,
        /// The name that the kernel has for it since; a zero ends it.
        name: [u8; NAME_BYTES],
    },
    /// Its last thread ended.
    Exited {
        /// Wait status, as `wait(2)` would give it.
        status: u32,
    },
    /// The kernel kills it for want of memory.
    OomVictim,
    /// A thread of it has an alternate signal stack above its own.
    AlternateAbove,
}

/// A stack as the kernel side sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackDefinition {
    /// Its identity in events.
    pub identity: u64,
    /// A second hash of the frames.
    pub check: u32,
    /// The process whose stack it is.
    pub process: ProcessId,
    /// In which mapping epoch.
    pub epoch: u32,
    /// The walk was cut.
    pub truncated: bool,
    /// It was cut at code that the kernel side knows nothing of yet.
    pub met_new_code: bool,
    /// Return addresses, leaf first.
    pub frames: Vec<Address>,
    /// Python frames, leaf first.
    pub python: Vec<python::Frame>,
    /// There were more of them.
    pub python_cut: bool,
}

/// Reads one record of the event ring.
pub fn raw_event(bytes: &[u8]) -> Option<RawEvent> {
    let mut fields = Fields(bytes);
    let event = RawEvent {
        at_ns: fields.u64()?,
        address: fields.u64()?,
        size: fields.u64()?,
        stack: fields.u64()?,
        process: fields.u32()?,
        tid: fields.u32()?,
        epoch: fields.u32()?,
        kind: fields.u8()?,
        flags: fields.u8()?,
        function: fields.u8()?,
        slot: fields.u8()?,
    };
    Some(event)
}

/// Reads one record of the stack ring.
pub fn stack_definition(bytes: &[u8]) -> Option<StackDefinition> {
    let mut fields = Fields(bytes);
    let head = StackHead {
        identity: fields.u64()?,
        check: fields.u32()?,
        process: fields.u32()?,
        epoch: fields.u32()?,
        count: fields.u16()?,
        cut: fields.u16()?,
        python: fields.u16()?,
        python_cut: fields.u16()?,
        reserved: fields.u32()?,
    };
    let count = usize::from(head.count);
    if count > MAX_FRAMES || usize::from(head.python) > MAX_PYTHON_FRAMES {
        return None;
    }
    let frames = (0..count)
        .map(|_| fields.u64().map(Address))
        .collect::<Option<_>>()?;
    let python = (0..head.python)
        .map(|_| python::Frame::read(&mut fields))
        .collect::<Option<_>>()?;
    Some(StackDefinition {
        identity: head.identity,
        check: head.check,
        process: ProcessId(head.process),
        epoch: head.epoch,
        truncated: head.cut != CUT_NOT,
        met_new_code: matches!(head.cut, CUT_PENDING | CUT_NO_CODE),
        frames,
        python,
        python_cut: head.python_cut != 0,
    })
}

/// What a record means; `stack` gives the index for a stack's identity.
pub fn decode(raw: &RawEvent, stack: impl FnOnce(u64) -> StackIndex) -> Option<Decoded> {
    let address = Address(raw.address);
    let function = || Function::from_cookie(u64::from(raw.function)).map(FunctionIndex::from);
    let call = match kind(raw.kind)? {
        EventKind::Allocated => Call::Allocated {
            function: function()?,
            address,
            size: raw.size,
            stack: stack(raw.stack),
        },
        EventKind::Failed => Call::Failed {
            function: function()?,
            size: raw.size,
            stack: stack(raw.stack),
        },
        EventKind::Freed => Call::Freed {
            address,
            header: raw.size,
        },
        EventKind::ResizeBegan => Call::ResizeBegan {
            address,
            header: raw.size,
            slot: slot(raw),
        },
        EventKind::Resized => Call::Resized {
            function: function()?,
            address,
            size: raw.size,
            stack: stack(raw.stack),
            slot: slot(raw),
        },
        EventKind::ResizeFailed => Call::ResizeFailed {
            address,
            size: raw.size,
            slot: slot(raw),
        },
        EventKind::ResizeFreed => Call::ResizeFreed {
            address,
            slot: slot(raw),
        },
        kind @ (EventKind::Mapped
        | EventKind::UnmapBegan
        | EventKind::UnmapFailed
        | EventKind::RemapBegan
        | EventKind::Remapped
        | EventKind::RemapFailed
        | EventKind::BreakMoved
        | EventKind::Protected
        | EventKind::Discarded) => Call::Mapping(mapping(kind, raw, stack)?),
        EventKind::Marked => {
            return Some(Decoded::Named {
                process: ProcessId(raw.process),
            });
        }
        kind @ (EventKind::StrangerForked | EventKind::StrangerExecuted) => {
            return Some(Decoded::Stranger(Stranger {
                at: Nanos(raw.at_ns),
                pid: u32::try_from(raw.address).ok()?,
                name: name(raw),
                has_executed: kind == EventKind::StrangerExecuted,
            }));
        }
        lifecycle => {
            let change = match lifecycle {
                EventKind::Forked => Change::Forked {
                    child: u32::try_from(raw.address).ok()?,
                    image: match raw.flags & FLAG_REGISTERED {
                        0 => None,
                        _ => Some(ProcessId(u32::try_from(raw.size).ok()?)),
                    },
                    shares_memory: raw.flags & FLAG_SHARES_MEMORY != 0,
                },
                EventKind::Executed => Change::Executed {
                    next: ProcessId(u32::try_from(raw.address).ok()?),
                    from_thread: raw.flags & FLAG_FROM_THREAD != 0,
                    name: name(raw),
                },
                EventKind::Exited => Change::Exited {
                    status: u32::try_from(raw.address).ok()?,
                },
                EventKind::OomVictim => Change::OomVictim,
                EventKind::AlternateAbove => Change::AlternateAbove,
                _ => return None,
            };
            return Some(Decoded::Lifecycle {
                at: Nanos(raw.at_ns),
                process: ProcessId(raw.process),
                change,
            });
        }
    };
    Some(Decoded::Event(Event {
        at: Nanos(raw.at_ns),
        process: ProcessId(raw.process),
        thread: Tid(raw.tid),
        call,
    }))
}

/// What a record about the address space means; `None` of any other kind.
fn mapping(
    kind: EventKind,
    raw: &RawEvent,
    stack: impl FnOnce(u64) -> StackIndex,
) -> Option<Mapping> {
    let range = Range {
        start: Address(raw.address),
        length: raw.size,
    };
    let is = |flag| raw.function & flag != 0;
    let by_allocator = raw.flags & FLAG_BY_ALLOCATOR != 0;
    Some(match kind {
        EventKind::Mapped => Mapping::Mapped {
            range,
            traits: Traits {
                committed: is(MAPPING_COMMITTED),
                file: is(MAPPING_FILE),
                shared: is(MAPPING_SHARED),
                stack: is(MAPPING_STACK),
                by_allocator,
            },
            stack: stack(raw.stack),
        },
        EventKind::UnmapBegan => Mapping::UnmapBegan { range },
        EventKind::UnmapFailed => Mapping::UnmapFailed,
        EventKind::RemapBegan => Mapping::RemapBegan { range },
        EventKind::Remapped => Mapping::Remapped {
            range,
            keeps_old: is(MAPPING_KEEPS_OLD),
            by_allocator,
            stack: stack(raw.stack),
        },
        EventKind::RemapFailed => Mapping::RemapFailed,
        EventKind::BreakMoved => Mapping::BreakMoved {
            old: Address(raw.size),
            new: Address(raw.address),
            by_allocator,
            stack: stack(raw.stack),
        },
        EventKind::Protected => Mapping::Protected {
            range,
            committed: is(MAPPING_COMMITTED),
            stack: stack(raw.stack),
        },
        EventKind::Discarded => Mapping::Discarded { range },
        _ => return None,
    })
}

/// How a call came to be sampled; `None` of events that are no samples.
pub fn sampling(raw: &RawEvent) -> Option<u8> {
    use EventKind as K;
    let sampled = [K::Allocated, K::Failed, K::Resized].map(|kind| kind as u8);
    sampled
        .contains(&raw.kind)
        .then_some(raw.slot >> SAMPLING_SHIFT)
}

/// The name that a record about a process has.
fn name(raw: &RawEvent) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    let bytes = [raw.size, raw.stack].map(u64::to_le_bytes);
    name.copy_from_slice(bytes.as_flattened());
    name
}

/// Which of its thread's calls under way an event is about.
fn slot(raw: &RawEvent) -> u8 {
    raw.slot & ((1 << SAMPLING_SHIFT) - 1)
}

fn kind(byte: u8) -> Option<EventKind> {
    use EventKind as K;
    [
        K::Allocated,
        K::Failed,
        K::Freed,
        K::ResizeBegan,
        K::Resized,
        K::ResizeFailed,
        K::ResizeFreed,
        K::Forked,
        K::Executed,
        K::Exited,
        K::OomVictim,
        K::AlternateAbove,
        K::Mapped,
        K::UnmapBegan,
        K::UnmapFailed,
        K::RemapBegan,
        K::Remapped,
        K::RemapFailed,
        K::BreakMoved,
        K::Protected,
        K::Discarded,
        K::Marked,
        K::StrangerForked,
        K::StrangerExecuted,
    ]
    .into_iter()
    .find(|kind| *kind as u8 == byte)
}

#[cfg(test)]
mod tests;
