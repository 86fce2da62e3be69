//! The caller's stack: unwound by tables, or found to be the stack of a moment ago; named by a hash, and sent once.
//!
//! **The walk** is a loop of steps ([`step`]): find the rule for the program counter ([`find`]), compute the frame's CFA,
//! read the return address below it. Registers are not read when they are restored but when a CFA needs them: until then
//! only the *place* where each lies is kept. So a walk reads one word a frame, and one more where a frame hangs on `rbp`.
//!
//! **The stack of a moment ago.** A walk is a function of where it starts, of the words that it reads, and of the tables.
//! Each thread's last walk is kept with all of these ([`memory`]). Where a new walk comes to a frame with the program
//! counter and CFA of a remembered one, and none of the registers that this frame leaves to its callers matters to them
//! (each is either saved by a frame that is remembered too, or never used), the rest of both walks is the same if every
//! word that the remembered one read from there on still has its value ([`verify`]). Return addresses alone would not do:
//! where a CFA hangs on `rbp`, stale words in dead stack memory can hold the addresses of another stack; so the words
//! that bases were read from are compared as well, and frames above a register that is still in the processor are not
//! taken over. Frames are kept outermost first, each with the hash of all frames from the outermost to itself, so that what is
//! taken over needs no hashing ([`settle`]).

mod find;
mod memory;
mod send;
mod settle;
mod step;
mod verify;

pub use memory::{Memory, WALK_MEMORIES};

use aya_ebpf::bindings::pt_regs;
use highwater_common::{
    counter::Counter,
    event::FLAG_TRUNCATED,
    process::TracedProcess,
    stack::{
        CUT_DEPTH, CUT_FRAME_POINTER, CUT_NO_CODE, CUT_NO_RULE, CUT_NOT, CUT_PENDING,
        CUT_UNREADABLE, CUT_UNSUPPORTED,
    },
};

use crate::emit::{add, count};

/// What the steps of a walk share besides the [`Memory`].
#[repr(C)]
struct Walk {
    memory: *mut Memory,
}

impl Walk {
    /// The memory, as it is now. Taken anew after each `bpf_loop`: the steps change it, and a reference held or passed across
    /// one would promise the compiler that they do not.
    #[inline(always)]
    fn memory<'a>(&self) -> &'a mut Memory {
        unsafe { &mut *self.memory }
    }
}

/// Takes the stack of a call that returns, so that the registers are its caller's; gives its identity (0 for none) and the
/// event's flags.
#[inline(always)]
pub fn take(process: &TracedProcess, tid: u32, regs: &pt_regs) -> (u64, u8) {
    let Some(memory) = memory::claim(process, tid) else {
        count(Counter::NoWalkBuffer);
        return (0, 0);
    };
    let mut walk = Walk { memory };
    walk.memory().window_start = memory::NO_WINDOW;
    if walk.memory().starts_alike(regs) && verify::from_start(&mut walk) {
        add(Counter::VerifiedFrames, walk.memory().count);
    } else {
        walk.memory().begin(process, regs);
        step::all(&mut walk);
        settle::all(process, &mut walk);
    }
    let identity = send::stack(process, &mut walk);
    let memory = walk.memory();
    let cut = memory.cut as u16;
    memory.remembered_cut = memory.cut;
    memory.release();
    let mut flags = 0;
    if cut != CUT_NOT {
        flags |= FLAG_TRUNCATED;
        count(cause(cut));
    }
    (identity, flags)
}

/// The counter of a cut.
#[inline(always)]
fn cause(cut: u16) -> Counter {
    match cut {
        CUT_DEPTH => Counter::TruncatedDepth,
        CUT_PENDING => Counter::TruncatedPending,
        CUT_NO_RULE => Counter::TruncatedNoRule,
        CUT_NO_CODE => Counter::TruncatedNoCode,
        CUT_UNSUPPORTED => Counter::TruncatedUnsupported,
        CUT_FRAME_POINTER => Counter::TruncatedFramePointer,
        _ => Counter::TruncatedUnreadable,
    }
}

/// Whether a walk that was cut so would be cut so again, as long as tables and memory are the same.
#[inline(always)]
fn is_settled(cut: u64) -> bool {
    cut != CUT_DEPTH as u64 && cut != CUT_UNREADABLE as u64
}
