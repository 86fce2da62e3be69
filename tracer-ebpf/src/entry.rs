//! An allocator function begins: what was asked for is kept for its return; frees are sent at once.

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
    process::PROCESS_HELD,
    sampling::Sampling,
};

use crate::{
    blocks::{Tag, chunk_header},
    call::{self, AlternateStack, MAX_CALLS, Standing, make_room, standing},
    emit::{self, count},
    lifecycle, sampling,
    thread::{THREAD_ABOVE_TOLD, THREAD_AUTODISARMS, Thread},
};

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
    if thread.process.flags & PROCESS_HELD != 0 {
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
    let (size, pointer) = request(function, regs.rdi, regs.rsi, regs.rdx);
    let old = Tag::new(thread.process.identity, pointer);
    let resizes = resizes(function) && pointer != 0;
    let (mut wanted, mut follows_old) = (true, resizes);
    if sampling.exponent != 0 {
        wanted = sampling::takes(thread, size, sampling.exponent);
        follows_old = resizes && (sampling.all_frees != 0 || old.is_known());
        // The part of a call that was not sampled is not sampled either: nothing says that we are inside.
        let inner = |thread: &Thread| {
            thread.depth == 0 && is_allocators_own(thread, call::return_address(sp))
        };
        if !(wanted || follows_old) || inner(thread) {
            return false;
        }
    }
    let alternate = AlternateStack::of_current_thread();
    if alternate.is_forgotten_in_handlers() {
        thread.flags |= THREAD_AUTODISARMS;
    }
    if alternate.is_above(sp) && thread.flags & THREAD_ABOVE_TOLD == 0 {
        thread.flags |= THREAD_ABOVE_TOLD;
        lifecycle::tell(&thread.process, EventKind::AlternateAbove, 0, 0);
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
    if !known && sampling.exponent != 0 && sampling.all_frees == 0 {
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
