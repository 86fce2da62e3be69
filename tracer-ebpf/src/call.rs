//! Calls of a thread that are under way: pairing of entry and return.
//!
//! A thread is in at most one allocator call, unless a signal interrupted it there and the handler allocates: those
//! count too, and may happen on the same stack or on an alternate one. So each thread has a short stack of calls, each
//! known by the stack pointer at its entry (the address of its return address).
//!
//! **Alive or not.** A call that awaits its return has had its return address replaced by the kernel's trampoline: the
//! start of a page (the `[uprobes]` mapping). So a call whose slot on the stack no longer holds the start of a page is
//! over, whether we saw it return or not (a `longjmp`, a missed return), and is dropped. The converse may fail for a
//! while: a slot that nobody has overwritten yet looks alive. What that can cost is stated at each use; it never
//! corrupts another call.
//! <https://github.com/torvalds/linux/blob/v6.18/kernel/events/uprobes.c#L2090>
//!
//! **Nested or interrupted.** An allocator function that calls another (`realloc` → `malloc`) does so from the library's
//! own text and within a few hundred bytes of stack. A signal frame alone takes more than [`NESTED_REACH`]: the red zone
//! (128), the FXSAVE area (512), and the frame with its registers (440 and more). So distance tells the two apart, and
//! the return address confirms it.

use aya_ebpf::helpers::bpf_probe_read_user;
use highwater_common::{counter::Counter, process::TracedProcess};

use crate::{emit::count, maps::THREADS};

/// Calls of one thread that can be under way: one, and three signals in signals.
pub const MAX_CALLS: usize = 4;

/// A nested call's stack pointer lies less than this below its caller's, a signal handler's at least this.
const NESTED_REACH: u64 = 1024;

/// A call under way.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    /// Stack pointer at entry: where the return address lies.
    pub sp: u64,
    /// The true return address.
    pub return_address: u64,
    /// Requested size, bytes.
    pub size: u64,
    /// `realloc`: the old block. `posix_memalign`: where the result goes.
    pub pointer: u64,
    /// The attach cookie.
    pub function: u8,
    /// `FLAG_IN_SIGNAL` or nothing.
    pub flags: u8,
    /// The old block's retirement could not be sent: send it with the result.
    pub retire_lost: u8,
    pub reserved: [u8; 5],
}

/// The calls of one thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// How many of `calls` are under way.
    pub depth: u32,
    /// Nested calls whose return probe will fire though we do not follow them (links without sessions).
    pub nested: u32,
    pub calls: [Call; MAX_CALLS],
}

impl Thread {
    const IDLE: Self = Self {
        depth: 0,
        nested: 0,
        calls: [Call {
            sp: 0,
            return_address: 0,
            size: 0,
            pointer: 0,
            function: 0,
            flags: 0,
            retire_lost: 0,
            reserved: [0; 5],
        }; MAX_CALLS],
    };

    /// This thread's calls, if it has made any.
    #[inline(always)]
    pub fn known(tid: u32) -> Option<&'static mut Self> {
        THREADS.get_ptr_mut(tid).map(|thread| unsafe { &mut *thread })
    }

    /// This thread's calls; `None` when the table is full.
    #[inline(always)]
    pub fn get(tid: u32) -> Option<&'static mut Self> {
        if let Some(thread) = Self::known(tid) {
            return Some(thread);
        }
        if THREADS.insert(tid, Self::IDLE, 0).is_err() {
            count(Counter::ThreadsFull);
            return None;
        }
        Self::known(tid)
    }
}

/// How a new call stands to those under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The thread was outside the allocator.
    Outermost,
    /// Made by the allocator itself: part of the call under way.
    Nested,
    /// Made by a signal handler that interrupted the call under way.
    InSignal,
    /// Made further up the stack than a call that is or may be alive: a handler on an alternate stack above it. Its
    /// return must not be probed: the kernel would drop the interrupted call's trampoline entry as abandoned, and the
    /// target would die of SIGILL.
    Above,
}

/// Drops calls that are over, and says how a call at `sp` stands to what remains.
///
/// A call that is over but whose slot is untouched still counts. Then a later call at the same depth finds its own
/// return address in that slot and clears it; a deeper one is taken for a signal handler's and followed all the same; a
/// shallower one is not followed, and counted.
#[inline(always)]
pub fn standing(thread: &mut Thread, sp: u64, return_address: u64, process: &TracedProcess) -> Standing {
    for _ in 0..MAX_CALLS {
        if thread.depth == 0 {
            return Standing::Outermost;
        }
        let top = thread.calls[(thread.depth as usize - 1) & (MAX_CALLS - 1)].sp;
        if is_alive(top) {
            break;
        }
        thread.depth -= 1;
        count(Counter::MissedReturns);
    }
    if thread.depth == 0 {
        return Standing::Outermost;
    }
    let top = thread.calls[(thread.depth as usize - 1) & (MAX_CALLS - 1)].sp;
    if sp > top {
        return Standing::Above;
    }
    let from_library = process.libc_end == 0
        || (return_address >= process.libc_start && return_address < process.libc_end);
    // A tail call (`aligned_alloc` → `jmp malloc`) keeps the stack pointer, and finds the trampoline as its return.
    if sp == top || (top - sp < NESTED_REACH && from_library) {
        return Standing::Nested;
    }
    Standing::InSignal
}

/// Whether the word at `sp` may be the trampoline's address.
#[inline(always)]
fn is_alive(sp: u64) -> bool {
    match unsafe { bpf_probe_read_user(sp as *const u64) } {
        Ok(word) => word != 0 && word & 0xfff == 0,
        Err(_) => false,
    }
}
