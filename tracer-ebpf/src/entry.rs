//! An allocator function begins: what was asked for is kept for its return; frees are sent at once.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_probe_read_user},
    programs::ProbeContext,
};
use highwater_common::{
    cookie::Function,
    counter::Counter,
    event::{EventKind, FLAG_IN_SIGNAL},
    process::{PROCESS_HELD, TracedProcess},
};

use crate::{
    call::{
        AlternateStack, Call, MAX_CALLS, Standing, THREAD_ABOVE_TOLD, THREAD_AUTODISARMS, Thread,
        make_room, standing,
    },
    emit::{self, count},
    lifecycle,
    maps::PROCESSES,
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
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let Some(process) = (unsafe { PROCESSES.get(tgid) }) else {
        count(Counter::Strangers);
        return Verdict::NoReturn;
    };
    if process.flags & PROCESS_HELD != 0 {
        return Verdict::NoReturn;
    }
    let Some(function) = Function::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
    else {
        return Verdict::NoReturn;
    };
    let regs = unsafe { &*ctx.regs };
    let sp = regs.rsp;
    let return_address = unsafe { bpf_probe_read_user(sp as *const u64) }.unwrap_or(0);
    if function.frees() {
        free(process, tid, sp, return_address, regs.rdi, function);
        return Verdict::NoReturn;
    }
    let Some(thread) = Thread::get(tid) else {
        return Verdict::NoReturn;
    };
    let alternate = AlternateStack::of_current_thread();
    if alternate.is_forgotten_in_handlers() {
        thread.flags |= THREAD_AUTODISARMS;
    }
    if alternate.is_above(sp) && thread.flags & THREAD_ABOVE_TOLD == 0 {
        thread.flags |= THREAD_ABOVE_TOLD;
        lifecycle::tell(process, EventKind::AlternateAbove, 0, 0);
    }
    let flags = match standing(thread, sp, return_address, process, &alternate) {
        Standing::Outermost => 0,
        Standing::InSignal => FLAG_IN_SIGNAL,
        Standing::Nested => {
            thread.nested += !skips as u32;
            return Verdict::NoReturn;
        }
        Standing::Above => {
            thread.nested += !skips as u32;
            count(Counter::UnsafeReturns);
            return Verdict::NoReturn;
        }
    };
    if !make_room(thread) {
        thread.nested += !skips as u32;
        return Verdict::NoReturn;
    }
    let depth = thread.depth as usize;
    let (size, pointer) = request(function, regs.rdi, regs.rsi, regs.rdx);
    let call = &mut thread.calls[depth & (MAX_CALLS - 1)];
    *call = Call {
        sp,
        return_address,
        size,
        pointer,
        function: function as u8,
        flags,
        retire_lost: 0,
        reserved: [0; 5],
    };
    if resizes(function) && pointer != 0 {
        // Retired now: another thread may be handed this address before our return probe runs.
        let sent = emit::event(
            process,
            tid,
            EventKind::ResizeBegan,
            emit::Body {
                address: pointer,
                size: chunk_header(pointer),
                stack: 0,
                flags,
                function,
                slot: depth as u8,
            },
        );
        call.retire_lost = !sent as u8;
    }
    thread.depth = depth as u32 + 1;
    Verdict::AwaitReturn
}

/// A block is handed back. There is no return probe, so nothing is kept.
#[inline(always)]
fn free(
    process: &TracedProcess,
    tid: u32,
    sp: u64,
    return_address: u64,
    block: u64,
    function: Function,
) {
    let own = return_address >= process.allocator_start && return_address < process.allocator_end;
    // The allocator hands back what the program has handed back before (a thread's cache, as the thread ends).
    if block == 0 || own {
        return;
    }
    let mut flags = 0;
    if let Some(thread) = Thread::known(tid) {
        let busy = thread.depth > 0;
        let alternate = if busy {
            AlternateStack::of_current_thread()
        } else {
            AlternateStack::default()
        };
        match standing(thread, sp, return_address, process, &alternate) {
            Standing::Outermost => {}
            // `realloc` hands back the old block itself: its own events say so.
            Standing::Nested => return,
            Standing::InSignal | Standing::Above => flags = FLAG_IN_SIGNAL,
        }
    }
    emit::event(
        process,
        tid,
        EventKind::Freed,
        emit::Body {
            address: block,
            size: chunk_header(block),
            stack: 0,
            flags,
            function,
            slot: 0,
        },
    );
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

/// The word below a block: glibc keeps the chunk's size there. 0 if it cannot be read.
#[inline(always)]
fn chunk_header(block: u64) -> u64 {
    unsafe { bpf_probe_read_user(block.wrapping_sub(8) as *const u64) }.unwrap_or(0)
}
