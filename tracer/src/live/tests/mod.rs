//! One sentence for each rule.

use super::*;
use crate::event::{Address, Function, StackIndex, Tid};

mod allocation;
mod fold;
mod fork;
mod free;
mod lifetimes;
mod mapping;
mod peak;
mod process;
mod resize;
mod twin;

const P: ProcessId = ProcessId(1 << 10);
const CHILD: ProcessId = ProcessId(2 << 10);
const NEXT: ProcessId = ProcessId((1 << 10) + 1);
const A: Address = Address(0x1000);
const B: Address = Address(0x2000);
const STACK: StackIndex = StackIndex(1);
const OTHER_STACK: StackIndex = StackIndex(2);
/// A chunk header that says nothing.
const NO_HEADER: u64 = 0;
/// A chunk header of 64 bytes, previous chunk in use.
const HEADER_OF_64: u64 = 64 | 1;

/// Tells a story: each step happens one nanosecond after the one before, in process `P` and thread 1 unless said.
struct Story {
    live: LiveSet,
    at: u64,
    process: ProcessId,
    thread: Tid,
}

impl Story {
    /// `P` is traced from moment 0, and held this much before.
    fn with_baseline(bytes: u64) -> Self {
        let mut live = LiveSet::new();
        live.open(P, Nanos(0), bytes);
        Self {
            live,
            at: 0,
            process: P,
            thread: Tid(1),
        }
    }

    fn new() -> Self {
        Self::with_baseline(0)
    }

    fn by(mut self, thread: u32) -> Self {
        self.thread = Tid(thread);
        self
    }

    fn of(mut self, process: ProcessId) -> Self {
        self.process = process;
        self
    }

    fn call(mut self, call: Call) -> Self {
        self.at += 1;
        self.live.apply(&Event {
            at: Nanos(self.at),
            process: self.process,
            thread: self.thread,
            call,
        });
        self
    }

    fn allocated(self, address: Address, size: u64) -> Self {
        self.allocated_by(STACK, address, size)
    }

    fn allocated_by(self, stack: StackIndex, address: Address, size: u64) -> Self {
        self.call(Call::Allocated {
            function: Function::Malloc.into(),
            address,
            size,
            stack,
        })
    }

    fn freed(self, address: Address, header: u64) -> Self {
        self.call(Call::Freed { address, header })
    }

    fn resize_began(self, address: Address) -> Self {
        self.call(Call::ResizeBegan {
            address,
            header: HEADER_OF_64,
            slot: 0,
        })
    }

    fn resized(self, address: Address, size: u64) -> Self {
        self.call(Call::Resized {
            function: Function::Realloc.into(),
            address,
            size,
            stack: OTHER_STACK,
            slot: 0,
        })
    }

    fn resize_failed(self, address: Address) -> Self {
        self.call(Call::ResizeFailed {
            address,
            size: 1 << 40,
            slot: 0,
        })
    }

    fn resize_freed(self, address: Address) -> Self {
        self.call(Call::ResizeFreed { address, slot: 0 })
    }

    fn forked(self, child: ProcessId) -> Self {
        self.call(Call::Forked { child })
    }

    fn exited(self) -> Self {
        self.call(Call::Exited { status: 0 })
    }

    fn opened(mut self, process: ProcessId, baseline: u64) -> Self {
        self.at += 1;
        self.live.open(process, Nanos(self.at), baseline);
        self
    }

    fn closed(mut self, process: ProcessId) -> Self {
        self.at += 1;
        self.live.close(process, Nanos(self.at));
        self
    }

    fn detached(mut self, process: ProcessId) -> Self {
        self.at += 1;
        self.live.detach(process, Nanos(self.at));
        self
    }

    fn held(&self) -> (u64, u64) {
        (self.live.live_bytes(), self.live.live_blocks())
    }

    fn peak(&self) -> Snapshot {
        self.live.snapshot(Scope::All, Moment::Peak)
    }

    fn end(&self) -> Snapshot {
        self.live.snapshot(Scope::All, Moment::End)
    }

    fn of_process(&self, process: ProcessId, moment: Moment) -> Snapshot {
        self.live.snapshot(Scope::Process(process), moment)
    }

    fn totals(&self) -> Totals {
        self.live.totals()
    }
}

fn holder(process: ProcessId, stack: StackIndex, bytes: u64, blocks: u64) -> Holder {
    Holder {
        error_bytes: 0,
        process,
        stack,
        thread: None,
        kind: Kind::Heap,
        bytes,
        blocks,
    }
}
