//! An allocator function returns: what was asked for meets what was given.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
};
use highwater_common::{
    cookie::Function, counter::Counter, event::EventKind, process::TracedProcess,
};

use crate::{
    call::{Call, MAX_CALLS, Thread},
    emit::{self, Body, count},
    entry::resizes,
    maps::PROCESSES,
    walk,
};

/// Runs at the return of every followed call.
#[inline(always)]
pub fn leave(regs: *mut pt_regs) {
    count(Counter::Hits);
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let Some(process) = (unsafe { PROCESSES.get(tgid) }) else {
        count(Counter::Strangers);
        return;
    };
    let Some(thread) = Thread::known(tid) else {
        return;
    };
    let regs = unsafe { &*regs };
    // `ret` has popped the return address: the slot lay just below.
    let Some((slot, call)) = take(thread, regs.rsp.wrapping_sub(8)) else {
        return;
    };
    let Some(function) = Function::from_cookie(call.function as u64) else {
        return;
    };
    finish(process, tid, thread, regs, slot, &call, function);
}

/// Takes the call that was entered at `sp`, and drops those above it: they were left without returning.
#[inline(always)]
fn take(thread: &mut Thread, sp: u64) -> Option<(u8, Call)> {
    let mut depth = thread.depth as usize;
    for _ in 0..MAX_CALLS {
        if depth == 0 {
            break;
        }
        depth -= 1;
        let call = thread.calls[depth & (MAX_CALLS - 1)];
        if call.sp == sp {
            // Added at once: Linux 6.1's verifier sees no bound to a loop from one number that it does not know to another.
            let above = (thread.depth as usize).saturating_sub(depth + 1);
            if above > 0 {
                emit::add(Counter::MissedReturns, above as u64);
            }
            thread.depth = depth as u32;
            return Some((depth as u8, call));
        }
    }
    if thread.nested > 0 {
        thread.nested -= 1;
    } else {
        count(Counter::UnpairedReturns);
    }
    None
}

/// Sends what the call came to.
#[inline(always)]
fn finish(
    process: &TracedProcess,
    tid: u32,
    thread: &Thread,
    regs: &pt_regs,
    slot: u8,
    call: &Call,
    function: Function,
) {
    let block = match function {
        Function::PosixMemalign if regs.rax as u32 != 0 => 0,
        Function::PosixMemalign => match unsafe { bpf_probe_read_user(call.pointer as *const u64) }
        {
            Ok(block) => block,
            Err(_) => {
                count(Counter::UnreadableResults);
                return;
            }
        },
        _ => regs.rax,
    };
    let resized = resizes(function) && call.pointer != 0;
    let (kind, address) = match (resized, block) {
        (false, 0) if call.size == 0 => return,
        (false, 0) => (EventKind::Failed, 0),
        (false, block) => (EventKind::Allocated, block),
        (true, 0) if call.size == 0 => (EventKind::ResizeFreed, call.pointer),
        (true, 0) => (EventKind::ResizeFailed, call.pointer),
        (true, block) => (EventKind::Resized, block),
    };
    let mut body = Body {
        address,
        size: call.size,
        stack: 0,
        flags: call.flags,
        function,
        slot,
    };
    if matches!(
        kind,
        EventKind::Allocated | EventKind::Failed | EventKind::Resized
    ) {
        (body.stack, body.flags) = walk::take(process, thread, regs, call);
    }
    if call.retire_lost != 0 && matches!(kind, EventKind::Resized | EventKind::ResizeFreed) {
        // The ring had no room for the old block's retirement: it comes late rather than never.
        emit::event(
            process,
            tid,
            EventKind::Freed,
            Body {
                address: call.pointer,
                size: 0,
                stack: 0,
                flags: call.flags,
                function,
                slot,
            },
        );
    }
    emit::event(process, tid, kind, body);
}
