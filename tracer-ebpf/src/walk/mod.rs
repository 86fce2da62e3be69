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
//!
//! Frames of Python functions are a list beside these, read anew each time ([`python`]).

mod code;
mod find;
mod memory;
mod python;
mod send;
mod settle;
mod step;
mod verify;

pub use memory::Memory;
use memory::Start;

use aya_ebpf::{
    bindings::pt_regs, helpers::generated::bpf_probe_read_kernel as gen_probe_read_kernel,
};
use highwater_common::{
    counter::Counter,
    event::{FLAG_BY_ALLOCATOR, FLAG_TRUNCATED},
    process::TracedProcess,
    stack::{
        CUT_DEPTH, CUT_FRAME_POINTER, CUT_NO_CODE, CUT_NO_RULE, CUT_NOT, CUT_PENDING,
        CUT_UNREADABLE, CUT_UNSUPPORTED,
    },
};

use crate::{
    emit::{add, count},
    maps::WALKS,
};

/// What the steps of a walk share besides the [`Memory`].
#[repr(C)]
struct Walk {
    memory: *mut Memory,
}

impl Walk {
    /// The walk whose memory has that place in `WALKS`.
    #[inline(always)]
    fn at(place: u64) -> Option<Self> {
        let memory = WALKS.get_ptr_mut(place as u32)?;
        Some(Self { memory })
    }

    /// The memory, as it is now. Taken anew after each `bpf_loop`: the steps change it, and a reference held or passed across
    /// one would promise the compiler that they do not.
    #[inline(always)]
    fn memory<'a>(&self) -> &'a mut Memory {
        unsafe { &mut *self.memory }
    }
}

/// From an allocator's function to its system call are not more frames than this: `malloc`, `sysmalloc`, `sbrk`, `brk`.
const ALLOCATORS_REACH: u64 = 8;

/// Takes the stack of a call that returns, so that the registers are its caller's; gives its identity (0 for none) and the
/// event's flags.
#[inline(always)]
pub fn take(process: &TracedProcess, tid: u32, regs: &pt_regs) -> (u64, u8) {
    let Some((place, walk)) = claim(process, tid) else {
        return (0, 0);
    };
    // The kernel has put the true return address into `rip` before it runs us.
    walk.memory().now = Start::new(regs);
    run(process, place, &walk, |_| 0)
}

/// Takes the stack of a system call: from the instruction that made it.
#[inline(always)]
pub fn take_of_system_call(process: &TracedProcess, tid: u32, regs: *const pt_regs) -> (u64, u8) {
    let Some((place, walk)) = claim(process, tid) else {
        return (0, 0);
    };
    let read = unsafe {
        gen_probe_read_kernel(
            (&raw mut walk.memory().user).cast(),
            size_of::<pt_regs>() as u32,
            regs.cast(),
        )
    };
    if read != 0 {
        walk.memory().release();
        return (0, 0);
    }
    let memory = walk.memory();
    memory.now = Start::new(&memory.user);
    run(process, place, &walk, |memory| {
        if comes_from_allocator(process, memory) {
            FLAG_BY_ALLOCATOR
        } else {
            0
        }
    })
}

/// Memory for a walk, and its place in `WALKS`.
#[inline(always)]
fn claim(process: &TracedProcess, tid: u32) -> Option<(u64, Walk)> {
    let place = memory::claim(process, tid);
    let walk = Walk::at(place);
    if walk.is_none() {
        count(Counter::NoWalkBuffer);
    }
    Some((place, walk?))
}

/// Takes the stack from where the memory says, has a look at it, and lets go of the memory; gives the identity, and flags: what the
/// look said, and [`FLAG_TRUNCATED`].
#[inline(always)]
fn run(
    process: &TracedProcess,
    place: u64,
    walk: &Walk,
    look: impl Fn(&mut Memory) -> u8,
) -> (u64, u8) {
    let memory = walk.memory();
    memory.code_start = process.code_start;
    memory.code_count = process.code_count;
    memory.python.begin(process.interpreter);
    hw_walk(place);
    if process.interpreter != 0 {
        python::hw_walk_python(place);
    }
    let identity = send::hw_send_stack(place);
    let memory = walk.memory();
    let cut = memory.cut as u16;
    memory.remembered_cut = memory.cut;
    let seen = look(memory);
    memory.release();
    if cut == CUT_NOT {
        return (identity, seen);
    }
    count(cause(cut));
    (identity, seen | FLAG_TRUNCATED)
}

/// Walks from where the memory says, or finds that the stack is what it was.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_walk(place: u64) -> u64 {
    let Some(mut walk) = Walk::at(place) else {
        return 0;
    };
    walk.memory().window_start = memory::NO_WINDOW;
    if walk.memory().starts_alike() && verify::from_start(&mut walk) {
        add(Counter::VerifiedFrames, walk.memory().count);
    } else {
        walk.memory().begin();
        step::all(&mut walk);
        settle::all(&mut walk);
    }
    0
}

/// Whether a system call was made for the allocator: one of its innermost frames is in the allocator's own code. That tells
/// it of calls that are not followed too: `free`, and with sampling most others.
#[inline(always)]
fn comes_from_allocator(process: &TracedProcess, memory: &mut Memory) -> bool {
    let frames = memory.count;
    for inner in 1..=ALLOCATORS_REACH {
        if inner > frames {
            break;
        }
        let ip = memory.frame(frames - inner).ip;
        if ip >= process.allocator_start && ip < process.allocator_end {
            return true;
        }
    }
    false
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
