//! Calls of a thread that are under way: pairing of entry and return.
//!
//! A thread is in at most one allocator call, unless a signal interrupted it there and the handler allocates: those
//! count too, and may happen on the same stack or on an alternate one. So each thread has a short stack of calls, each
//! known by the stack pointer at its entry (the address of its return address).
//!
//! **Whose stack.** The kernel knows a thread's alternate signal stack, so that a call on it and one off it are told
//! apart: one of them is a handler's. (A stack set up with `SS_AUTODISARM` is forgotten by the kernel while its handler
//! runs; threads that have one are remembered.)
//!
//! **Alive or not.** A call that awaits its return has had its return address replaced by the kernel's trampoline: the
//! start of a page (the `[uprobes]` mapping). While the function runs, its slot on the stack holds that. From its `ret`
//! to our return probe the trampoline's own code has put something else there. A call that was left by `longjmp` keeps
//! its slot until somebody else writes there. So what the slot holds is proof neither way, and only used where being
//! wrong costs a count.
//! <https://github.com/torvalds/linux/blob/v6.18/kernel/events/uprobes.c#L2090>
//!
//! **Nested or interrupted.** An allocator function that calls another (`realloc` → `malloc`) does so from the library's
//! own text and within a few hundred bytes of stack. A signal frame alone takes more than [`NESTED_REACH`]: the red zone
//! (128), the FXSAVE area (512), and the frame with its registers (440 and more). So on one stack distance tells the two
//! apart, and the return address confirms it.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::{
    bpf_get_current_task_btf, bpf_probe_read_user,
    generated::bpf_probe_read_kernel as gen_probe_read_kernel,
};
use highwater_common::{config::PATCHED_ALTERNATE_STACK, counter::Counter};

use crate::{
    emit::count,
    maps::KERNEL_OFFSETS,
    thread::{THREAD_AUTODISARMS, Thread},
};

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
    /// `realloc`: the old block is followed (with sampling, not all are).
    pub follows_old: u8,
    /// ... and was in the table of blocks.
    pub knew_old: u8,
    /// What is returned is to be sent (with sampling, not all is).
    pub wanted: u8,
    /// log2 of the mean distance of samples; 0: every call is sent.
    pub exponent: u8,
    pub reserved: u8,
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
/// Let S be the slot of the latest call under way.
///
/// - On another stack than S: a handler's. Above S it must not be probed, for the kernel takes a call below `sp` for
///   abandoned and drops its entry. Below S it may.
/// - On the same stack at least [`NESTED_REACH`] below S: a handler's, or S was left by `longjmp` and this is further
///   down. Both are followed alike; the stale entry goes when a call comes back up.
/// - On the same stack just below S, or at S: nested if the allocator itself calls and S still runs; otherwise S is over,
///   since no handler fits in between.
/// - On the same stack above S: S is over, unless the stack only seems the same (`SS_AUTODISARM`).
#[inline(always)]
pub fn standing(thread: &mut Thread, sp: u64, alternate: &AlternateStack) -> Standing {
    if thread.depth == 0 {
        return Standing::Outermost;
    }
    let return_address = return_address(sp);
    for _ in 0..MAX_CALLS {
        if thread.depth == 0 {
            return Standing::Outermost;
        }
        let slot = thread.calls[(thread.depth as usize - 1) & (MAX_CALLS - 1)].sp;
        if alternate.holds(sp) != alternate.holds(slot) {
            return if sp > slot {
                Standing::Above
            } else {
                Standing::InSignal
            };
        }
        if sp <= slot && slot - sp >= NESTED_REACH {
            return Standing::InSignal;
        }
        if sp <= slot {
            let process = &thread.process;
            let from_library = process.libc_end == 0
                || (return_address >= process.libc_start && return_address < process.libc_end);
            // A tail call (`aligned_alloc` → `jmp malloc`) keeps the stack pointer, and finds the trampoline there.
            if holds_trampoline(slot) && (sp == slot || from_library) {
                return Standing::Nested;
            }
        } else if thread.flags & THREAD_AUTODISARMS != 0 || holds_trampoline(slot) {
            return Standing::Above;
        }
        thread.depth -= 1;
        count(Counter::MissedReturns);
    }
    Standing::Outermost
}

/// Where a call that begins with this stack pointer will return to; 0 if that cannot be read.
#[inline(always)]
pub fn return_address(sp: u64) -> u64 {
    unsafe { bpf_probe_read_user(sp as *const u64) }.unwrap_or(0)
}

/// Whether a system call made at `sp` is the doing of the latest call under way, rather than of a signal handler that
/// interrupted it, or of a function further down that `longjmp` left it for.
///
/// By the same measure as [`standing`]: what glibc needs from its entry to its system calls is less than
/// [`NESTED_REACH`], and no handler fits in there. The code that makes the call tells nothing: a program calls the same
/// `mmap` of libc that the allocator does.
#[inline(always)]
pub fn is_of_latest_call(thread: &Thread, sp: u64) -> bool {
    if thread.depth == 0 {
        return false;
    }
    let slot = thread.calls[(thread.depth as usize - 1) & (MAX_CALLS - 1)].sp;
    let alternate = AlternateStack::of_current_thread();
    sp < slot
        && slot - sp < NESTED_REACH
        && alternate.holds(sp) == alternate.holds(slot)
        && holds_trampoline(slot)
}

/// The same of the latest call that was not sampled, as far as that is kept. It awaits no return probe, so nothing but its
/// return address says that it is under way. Whoever makes the same call again is in the allocator once more.
#[inline(always)]
pub fn is_of_untaken_call(thread: &Thread, sp: u64) -> bool {
    let untaken = &thread.untaken;
    if untaken.kept_for_mappings == 0 || sp >= untaken.sp || untaken.sp - sp >= NESTED_REACH {
        return false;
    }
    let alternate = AlternateStack::of_current_thread();
    let return_address = return_address(untaken.sp);
    alternate.holds(sp) == alternate.holds(untaken.sp)
        && (return_address == untaken.return_address || is_trampoline(return_address))
}

/// Makes room when all places are taken: the oldest call goes if it is over.
#[inline(always)]
pub fn make_room(thread: &mut Thread) -> bool {
    if (thread.depth as usize) < MAX_CALLS {
        return true;
    }
    if holds_trampoline(thread.calls[0].sp) {
        count(Counter::CallsTooDeep);
        return false;
    }
    count(Counter::MissedReturns);
    for index in 1..MAX_CALLS {
        thread.calls[index - 1] = thread.calls[index];
    }
    thread.depth = MAX_CALLS as u32 - 1;
    true
}

/// Whether the word at `slot` may be the trampoline's address.
#[inline(always)]
fn holds_trampoline(slot: u64) -> bool {
    is_trampoline(return_address(slot))
}

/// Whether a return address may be the trampoline's.
#[inline(always)]
pub fn is_trampoline(return_address: u64) -> bool {
    return_address != 0 && return_address & 0xfff == 0
}

/// The current thread's alternate signal stack.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct AlternateStack {
    start: u64,
    size: u64,
    flags: u32,
    reserved: u32,
}

/// `SS_AUTODISARM`: the kernel forgets the stack while its handler runs.
const AUTODISARM: u32 = 1 << 31;

impl AlternateStack {
    /// Of the thread that runs. Its `task_struct` is read directly, by loads whose offsets the loader patches: a read by
    /// a helper's call would be a tenth of all that is done at an entry.
    #[inline(always)]
    pub fn of_current_thread() -> Self {
        let task = unsafe { bpf_get_current_task_btf() };
        let (start, size, flags): (u64, u64, u64);
        const _: () = assert!(PATCHED_ALTERNATE_STACK == -32512);
        unsafe {
            asm!("{0} = *(u64 *)({1} - 32512)", out(reg) start, in(reg) task, options(pure, readonly, nostack));
            asm!("{0} = *(u64 *)({1} - 32504)", out(reg) size, in(reg) task, options(pure, readonly, nostack));
            asm!("{0} = *(u32 *)({1} - 32496)", out(reg) flags, in(reg) task, options(pure, readonly, nostack));
        }
        Self {
            start,
            size,
            flags: flags as u32,
            reserved: 0,
        }
    }

    /// Of the thread that a `task_struct` describes.
    #[inline(always)]
    pub fn of(task: u64) -> Self {
        let offset = KERNEL_OFFSETS.load().task_alternate_stack;
        let mut stack = Self::default();
        if offset != u32::MAX {
            unsafe {
                gen_probe_read_kernel(
                    (&raw mut stack).cast(),
                    // The last four bytes are not ours to read.
                    size_of::<Self>() as u32 - 4,
                    (task + offset as u64) as *const c_void,
                );
            }
        }
        stack
    }

    /// Whether an address lies on it.
    #[inline(always)]
    fn holds(&self, sp: u64) -> bool {
        sp.wrapping_sub(self.start) < self.size
    }

    /// Whether it lies above a stack pointer.
    #[inline(always)]
    pub fn is_above(&self, sp: u64) -> bool {
        self.size != 0 && self.start > sp
    }

    /// Whether the kernel forgets it while its handler runs.
    #[inline(always)]
    pub fn is_forgotten_in_handlers(&self) -> bool {
        self.flags & AUTODISARM != 0
    }
}
