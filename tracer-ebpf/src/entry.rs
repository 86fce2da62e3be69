//! An allocator function begins: what was asked for is kept for its return; frees are sent at once.
//!
//! **One draw a call.** Some functions hand a call on by a jump: glibc's `reallocarray` goes on as `realloc`, and `realloc`
//! of no block as `malloc`. Then two or three probes see one call, with the same stack pointer and return address. If the
//! call is followed, its trampoline tells the later ones. With sampling most calls are not: so what will be handed on is
//! remembered, and only the first function draws. In the same way glibc's `free` makes a thread's cache at its first free,
//! or looks for a double free, and then jumps back to its own beginning.

use aya_ebpf::{
    EbpfContext as _,
    bindings::pt_regs,
    helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid},
    programs::ProbeContext,
};
use highwater_common::{
    cookie::Function,
    counter::Counter,
    event::{EventKind, FLAG_IN_SIGNAL},
    process::PROCESS_INHERITS,
    sampling::Sampling,
};

use crate::{
    blocks::{Tag, chunk_header},
    call::{self, AlternateStack, MAX_CALLS, Standing, make_room, standing},
    emit::{self, count},
    lifecycle, sampling,
    thread::{THREAD_ABOVE_TOLD, THREAD_AUTODISARMS, Thread},
};

/// What glibc aligns every block to: `memalign` of no more than that is `malloc`.
const MALLOC_ALIGNMENT: u64 = 16;

/// Calls of a thread, from where the allocator's code is known on, until the tables by which stacks are walked are there too.
const CALLS_WITH_CUT_STACKS: u32 = 1 << 16;

/// Whether the return of this call should be probed.
pub enum Verdict {
    /// Its result matters.
    AwaitReturn,
    /// Nothing to learn there, or not safe.
    NoReturn,
}

/// Runs at the (placed) entry of every traced function. `skips`: an answer of `NoReturn` is heeded, so that no return of
/// this call will be seen.
#[inline(always)]
pub fn enter(ctx: &ProbeContext, skips: bool) -> Verdict {
    count(Counter::Hits);
    let Some(function) = Function::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
    else {
        return Verdict::NoReturn;
    };
    let regs = unsafe { &*ctx.regs };
    if function.frees() && regs.rdi == 0 {
        return Verdict::NoReturn;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let Some(thread) = Thread::current(tgid, tid) else {
        return Verdict::NoReturn;
    };
    if thread.process.is_held() {
        return Verdict::NoReturn;
    }
    let sampling = sampling::now();
    if function.frees() {
        free(thread, tid, regs.rsp, regs.rdi, function, sampling);
        return Verdict::NoReturn;
    }
    if follow(thread, tid, regs, function, sampling) {
        return Verdict::AwaitReturn;
    }
    thread.nested += !skips as u32;
    Verdict::NoReturn
}

/// Keeps a call for its return, if it is one of those that are followed.
#[inline(always)]
fn follow(
    thread: &mut Thread,
    tid: u32,
    regs: &pt_regs,
    function: Function,
    sampling: Sampling,
) -> bool {
    let sp = regs.rsp;
    thread.freed = 0;
    let (size, pointer) = request(function, regs.rdi, regs.rsi, regs.rdx);
    let Some(function) = thread.forget_which(function) else {
        return false;
    };
    let old = Tag::new(thread.process.identity, pointer);
    let resizes = resizes(function) && pointer != 0;
    let (mut wanted, mut follows_old) = (true, resizes);
    if sampling.exponent != 0 {
        let alignment = regs.rdi;
        if thread.untaken.is_handed_on != 0
            && thread.untaken.sp == sp
            && is_handed_on(thread, function, sp, pointer)
        {
            return false;
        }
        wanted = sampling::takes(thread, size, sampling.exponent);
        follows_old = resizes && (sends_all_frees(thread, sampling) || old.is_known());
        // The part of a call that was not sampled is not sampled either: nothing says that we are inside.
        let inner = |thread: &Thread| {
            thread.depth == 0 && is_allocators_own(thread, call::return_address(sp))
        };
        if !(wanted || follows_old) {
            keep_untaken(thread, sp, hands_on(function, pointer, alignment));
            return false;
        }
        if inner(thread) {
            return false;
        }
    }
    let alternate = AlternateStack::of_current_thread();
    if alternate.is_forgotten_in_handlers() {
        thread.flags |= THREAD_AUTODISARMS;
    }
    if alternate.is_above(sp) && thread.flags & THREAD_ABOVE_TOLD == 0 {
        thread.flags |= THREAD_ABOVE_TOLD;
        lifecycle::tell(&thread.process, EventKind::AlternateAbove, 0, 0, 0);
    }
    let flags = match standing(thread, sp, &alternate) {
        Standing::Outermost => 0,
        Standing::InSignal => FLAG_IN_SIGNAL,
        Standing::Nested => return false,
        Standing::Above => {
            count(Counter::UnsafeReturns);
            return false;
        }
    };
    if !make_room(thread) {
        return false;
    }
    let depth = thread.depth as usize;
    let call = &mut thread.calls[depth & (MAX_CALLS - 1)];
    call.sp = sp;
    call.size = size;
    call.pointer = pointer;
    call.function = function as u8;
    call.flags = flags;
    call.retire_lost = 0;
    call.follows_old = follows_old as u8;
    call.knew_old = 0;
    call.wanted = wanted as u8;
    call.exponent = sampling.exponent as u8;
    if follows_old {
        // Retired now: another thread may be handed this address before our return probe runs.
        let known = old.forget();
        let sent = emit::event(
            &thread.process,
            tid,
            EventKind::ResizeBegan,
            emit::Body {
                address: pointer,
                size: if known { 0 } else { chunk_header(pointer) },
                stack: 0,
                flags,
                function,
                slot: depth as u8,
            },
        );
        call.knew_old = known as u8;
        call.retire_lost = !sent as u8;
    }
    thread.depth = depth as u32 + 1;
    true
}

/// Whether frees are sent of blocks that are not known to have been sampled: older ones, or those of a parent.
#[inline(always)]
fn sends_all_frees(thread: &Thread, sampling: Sampling) -> bool {
    sampling.all_frees != 0 || thread.process.flags & PROCESS_INHERITS != 0
}

/// Whether a function hands its call on to another one by a jump.
#[inline(always)]
fn hands_on(function: Function, pointer: u64, alignment: u64) -> bool {
    match function {
        Function::Reallocarray => true,
        Function::Realloc => pointer == 0,
        Function::Memalign | Function::AlignedAlloc => alignment <= MALLOC_ALIGNMENT,
        _ => false,
    }
}

/// Whether a call at the stack pointer of the one that was handed on is the same call.
///
/// The return address tells it from a later call of the same frame, in a library whose functions do not hand on. Where entry
/// and return are two links, the kernel has put its trampoline there after the first function's probe; a call of its own
/// cannot have that yet.
#[inline(always)]
fn is_handed_on(thread: &mut Thread, function: Function, sp: u64, pointer: u64) -> bool {
    if !matches!(function, Function::Realloc | Function::Malloc) {
        return false;
    }
    let return_address = call::return_address(sp);
    let is_same =
        return_address == thread.untaken.return_address || call::is_trampoline(return_address);
    thread.untaken.is_handed_on = (is_same && hands_on(function, pointer, u64::MAX)) as u32;
    is_same
}

/// Keeps what a call that is not sampled has to be known by, if it has to be known again at all: reading its return address
/// costs.
#[inline(always)]
fn keep_untaken(thread: &mut Thread, sp: u64, is_handed_on: bool) {
    let untaken = &mut thread.untaken;
    if thread.process.allocator_end == 0 {
        untaken.kept_for_mappings = CALLS_WITH_CUT_STACKS;
    } else if untaken.kept_for_mappings > 0 {
        untaken.kept_for_mappings -= 1;
    } else if !is_handed_on {
        untaken.is_handed_on = 0;
        return;
    }
    untaken.sp = sp;
    untaken.return_address = call::return_address(sp);
    untaken.is_handed_on = is_handed_on as u32;
}

/// A block is handed back. There is no return probe, so nothing is kept.
#[inline(always)]
fn free(
    thread: &mut Thread,
    tid: u32,
    sp: u64,
    block: u64,
    function: Function,
    sampling: Sampling,
) {
    let known = Tag::new(thread.process.identity, block).forget();
    if !known && sampling.exponent != 0 && !sends_all_frees(thread, sampling) {
        return;
    }
    // The free that was sent a moment ago, handed on. (The block that it was may be the program's again by now, but then
    // it is known, or this thread would have called in between.)
    if !known && thread.freed == block && thread.freed_sp == sp {
        return;
    }
    let mut flags = 0;
    if thread.depth > 0 {
        match standing(thread, sp, &AlternateStack::of_current_thread()) {
            Standing::Outermost => {}
            // `realloc` hands back the old block itself: its own events say so.
            Standing::Nested => return,
            Standing::InSignal | Standing::Above => flags = FLAG_IN_SIGNAL,
        }
    }
    let mut header = 0;
    if !known {
        // The allocator hands back what the program has handed back before (a thread's cache, as the thread ends).
        if is_allocators_own(thread, call::return_address(sp)) {
            return;
        }
        header = chunk_header(block);
    }
    thread.freed = block;
    thread.freed_sp = sp;
    emit::event(
        &thread.process,
        tid,
        EventKind::Freed,
        emit::Body {
            address: block,
            size: header,
            stack: 0,
            flags,
            function,
            slot: 0,
        },
    );
}

/// Whether a call that will return there was made by the allocator itself.
#[inline(always)]
fn is_allocators_own(thread: &Thread, return_address: u64) -> bool {
    let process = &thread.process;
    return_address >= process.allocator_start && return_address < process.allocator_end
}

/// Requested size and the pointer that the return needs.
#[inline(always)]
fn request(function: Function, rdi: u64, rsi: u64, rdx: u64) -> (u64, u64) {
    match function {
        Function::Calloc => (product(rdi, rsi), 0),
        Function::Realloc => (rsi, rdi),
        Function::Reallocarray => (product(rsi, rdx), rdi),
        Function::PosixMemalign => (rdx, rdi),
        Function::AlignedAlloc | Function::Memalign => (rsi, 0),
        _ => (rdi, 0),
    }
}

/// `a * b`, saturated: what overflows is not allocated, and its size is only told.
///
/// By halves, because BPF has no 128-bit product, which the compiler would make of a test by division.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    let (a_high, a_low) = (a >> 32, a & 0xffff_ffff);
    let (b_high, b_low) = (b >> 32, b & 0xffff_ffff);
    if a_high != 0 && b_high != 0 {
        return u64::MAX;
    }
    let cross = a_high * b_low + a_low * b_high;
    let low = a_low * b_low;
    let sum = low.wrapping_add(cross << 32);
    if cross >> 32 != 0 || sum < low {
        u64::MAX
    } else {
        sum
    }
}

/// Whether the function takes an old block.
#[inline(always)]
pub fn resizes(function: Function) -> bool {
    matches!(function, Function::Realloc | Function::Reallocarray)
}
