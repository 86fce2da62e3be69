//! An allocator function returns: what was asked for meets what was given.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user},
};
use highwater_common::{
    cookie::{self, Function},
    counter::Counter,
    event::{EventKind, SAMPLING_SHIFT},
    process::TracedProcess,
};

use crate::{
    blocks::Tag,
    call::{Call, MAX_CALLS},
    emit::{self, Body, count},
    sampling,
    thread::Thread,
    walk,
};

/// The cookie of a link that runs in no process but its own.
pub const ANY_PROCESS: u64 = 0;

/// Runs at the return of every followed call. The program of another process's link has no call here.
#[inline(always)]
pub fn leave(regs: *mut pt_regs, cookie: u64) {
    count(Counter::Hits);
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    if !cookie::is_for(cookie, tgid) {
        return;
    }
    let Some(thread) = Thread::current(tgid, tid) else {
        return;
    };
    let regs = unsafe { &*regs };
    // `ret` has popped the return address: the slot lay just below.
    let Some(slot) = take(thread, regs.rsp.wrapping_sub(8)) else {
        return;
    };
    // Looked at where it lies: the thread is in us, and begins no other call meanwhile. The stack of BPF has no room for a copy.
    let call = &thread.calls[slot as usize & (MAX_CALLS - 1)];
    let Some(function) = Function::from_cookie(call.function as u64) else {
        return;
    };
    finish(&thread.process, tid, regs, slot, call, function);
}

/// Takes the call that was entered at `sp`, and drops those above it: they were left without returning. Gives its place.
#[inline(always)]
fn take(thread: &mut Thread, sp: u64) -> Option<u8> {
    let mut depth = thread.depth as usize;
    for _ in 0..MAX_CALLS {
        if depth == 0 {
            break;
        }
        depth -= 1;
        if thread.calls[depth & (MAX_CALLS - 1)].sp == sp {
            // Added at once: Linux 6.1's verifier sees no bound to a loop from one number that it does not know to another.
            let above = (thread.depth as usize).saturating_sub(depth + 1);
            if above > 0 {
                emit::add(Counter::MissedReturns, above as u64);
            }
            thread.depth = depth as u32;
            return Some(depth as u8);
        }
    }
    if thread.nested > 0 {
        thread.nested -= 1;
    } else if !thread.process.is_held() {
        // (Where calls do not count yet, entries are not kept.)
        count(Counter::UnpairedReturns);
    }
    None
}

/// Sends what the call came to.
#[inline(always)]
fn finish(
    process: &TracedProcess,
    tid: u32,
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
    let (resized, wanted) = (call.follows_old != 0, call.wanted != 0);
    let (kind, address) = match (resized, block) {
        (false, 0) if call.size == 0 || !wanted => return,
        (false, 0) => (EventKind::Failed, 0),
        (false, _) if !wanted => return,
        (false, block) => (EventKind::Allocated, block),
        (true, 0) if call.size == 0 => (EventKind::ResizeFreed, call.pointer),
        (true, 0) => (EventKind::ResizeFailed, call.pointer),
        // The old block is gone, and the new one was not sampled.
        (true, _) if !wanted => (EventKind::ResizeFreed, call.pointer),
        (true, block) => (EventKind::Resized, block),
    };
    if kind == EventKind::ResizeFailed && call.knew_old != 0 {
        let old = Tag::new(process.identity, call.pointer);
        // With sampling, none may take the place of another.
        if call.exponent == 0 || !old.keep() {
            old.remember();
        }
    }
    let tag = Tag::new(process.identity, block);
    let gives = matches!(kind, EventKind::Allocated | EventKind::Resized);
    if gives && call.exponent != 0 && !tag.keep() {
        if sampling::now().all_frees == 0 {
            count(Counter::DroppedSamples);
            return;
        }
        // Its free is sent whether it is known or not.
        tag.remember();
    }
    let (mut stack, mut flags) = (0, call.flags);
    if gives || kind == EventKind::Failed {
        let (identity, cut) = walk::take(process, tid, regs);
        stack = identity;
        flags |= cut;
    }
    // The ring had no room for the old block's retirement: it comes late rather than never. If the address is another
    // thread's block by now, that one's allocation has retired the old block.
    let is_gone = matches!(kind, EventKind::Resized | EventKind::ResizeFreed);
    if call.retire_lost != 0 && is_gone && !Tag::new(process.identity, call.pointer).is_known() {
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
    let sent = emit::event(
        process,
        tid,
        kind,
        Body {
            address,
            size: call.size,
            stack,
            flags,
            function,
            slot: slot | call.exponent << SAMPLING_SHIFT,
        },
    );
    if gives && call.exponent == 0 && sent {
        tag.remember();
    } else if gives && call.exponent != 0 && !sent {
        tag.forget();
    }
}
