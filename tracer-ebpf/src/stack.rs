//! The caller's stack: walked by frame pointers, named by a hash, and sent once.
//!
//! The walk runs as the call returns: the instruction pointer is the immediate caller (taken from the call's own slot,
//! so it is always there) and `rbp` has the caller's value again.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_loop, bpf_probe_read_user},
};
use highwater_common::{
    counter::Counter,
    event::FLAG_TRUNCATED,
    process::TracedProcess,
    stack::{CUT_DEPTH, CUT_NOT, CUT_UNREADABLE, MAX_FRAMES, StackHead},
};

use crate::{
    atomic,
    call::{Call, MAX_CALLS, Thread},
    emit::count,
    maps::{SENT, STACKS, WALK_BUFFERS, WALKS},
};

/// Room for one walk.
#[repr(C)]
pub struct WalkBuffer {
    /// 1 while a walk uses it.
    busy: u64,
    /// Frames so far. Here rather than in [`Walk`], because the verifier forgets what map memory holds: a number that it
    /// could follow would make every step of the walk a state of its own.
    count: u64,
    /// What is sent: the head and the frames behind it.
    head: StackHead,
    frames: [u64; MAX_FRAMES],
}

/// State of a walk, passed from step to step.
#[repr(C)]
struct Walk {
    buffer: *mut WalkBuffer,
    thread: *const Thread,
    bp: u64,
    first_hash: u64,
    second_hash: u64,
    cut: u64,
}

/// Takes the stack of a call that returns; gives its identity (0 for none) and the event's flags.
#[inline(always)]
pub fn take(process: &TracedProcess, thread: &Thread, regs: &pt_regs, call: &Call) -> (u64, u8) {
    let Some(buffer) = claim() else {
        count(Counter::NoWalkBuffer);
        return (0, call.flags);
    };
    let (identity, cut) = walk(process, thread, regs, call, buffer);
    atomic::exchange(unsafe { &raw mut (*buffer).busy }, 0);
    let mut flags = call.flags;
    if cut != CUT_NOT {
        flags |= FLAG_TRUNCATED;
    }
    (identity, flags)
}

/// A buffer of this CPU that no preempted program is using.
#[inline(always)]
fn claim() -> Option<*mut WalkBuffer> {
    for index in 0..WALK_BUFFERS {
        let buffer = WALKS.get_ptr_mut(index)?;
        if atomic::exchange(unsafe { &raw mut (*buffer).busy }, 1) == 0 {
            return Some(buffer);
        }
    }
    None
}

#[inline(always)]
fn walk(
    process: &TracedProcess,
    thread: &Thread,
    regs: &pt_regs,
    call: &Call,
    buffer: *mut WalkBuffer,
) -> (u64, u16) {
    // The process and its epoch are part of the identity: the same addresses mean other code elsewhere.
    let seed =
        ((process.identity ^ process.nonce.rotate_left(16)) as u64) << 32 | process.epoch as u64;
    let mut walk = Walk {
        buffer,
        thread,
        bp: regs.rbp,
        first_hash: seed ^ 0x9e37_79b9_7f4a_7c15,
        second_hash: seed ^ 0xc2b2_ae3d_27d4_eb4f,
        cut: CUT_DEPTH as u64,
    };
    unsafe { (*buffer).count = 0 };
    push(&mut walk, call.return_address);
    unsafe {
        bpf_loop(
            MAX_FRAMES as u32 - 1,
            step as *mut c_void,
            (&raw mut walk).cast(),
            0,
        );
    }
    let cut = walk.cut as u16;
    match cut {
        CUT_DEPTH => count(Counter::TruncatedDepth),
        CUT_UNREADABLE => count(Counter::TruncatedUnreadable),
        _ => {}
    }
    (send(process, &walk, buffer, cut), cut)
}

/// One frame: the return address above the saved frame pointer, and that frame pointer.
extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &mut *context.cast::<Walk>() };
    let bp = walk.bp;
    if bp < 4096 {
        // `_start` and thread start routines clear rbp, and libc's caller of `main` keeps a small number in it: no
        // address, so whatever has frames was seen.
        walk.cut = CUT_NOT as u64;
        return 1;
    }
    let pair: [u64; 2] = match unsafe { bpf_probe_read_user(bp as *const [u64; 2]) } {
        Ok(pair) if bp & 7 == 0 => pair,
        _ => {
            walk.cut = CUT_UNREADABLE as u64;
            return 1;
        }
    };
    let [next, return_address] = pair;
    if return_address < 4096 {
        walk.cut = if next == 0 { CUT_NOT } else { CUT_UNREADABLE } as u64;
        return 1;
    }
    let return_address = true_return(walk, bp + 8, return_address);
    push(walk, return_address);
    if next >= 4096 && next <= bp {
        // Frames lie above one another; this one does not, so rbp is no frame pointer here.
        walk.cut = CUT_UNREADABLE as u64;
        return 1;
    }
    walk.bp = next;
    0
}

/// The address that a return probe's trampoline stands for, if the slot belongs to a call under way.
#[inline(always)]
fn true_return(walk: &Walk, slot: u64, found: u64) -> u64 {
    if found & 0xfff != 0 {
        return found;
    }
    let thread = unsafe { &*walk.thread };
    for index in 0..MAX_CALLS {
        let call = &thread.calls[index];
        if call.sp == slot {
            return call.return_address;
        }
    }
    found
}

#[inline(always)]
fn push(walk: &mut Walk, address: u64) {
    let buffer = unsafe { &mut *walk.buffer };
    let index = buffer.count as usize;
    if index < MAX_FRAMES {
        buffer.frames[index & (MAX_FRAMES - 1)] = address;
        buffer.count += 1;
    }
    walk.first_hash = mix(walk.first_hash ^ address, 0x9fb2_1c65_1e98_df25);
    walk.second_hash = mix(
        walk.second_hash.rotate_left(23) ^ address,
        0xd6e8_feb8_6659_fd93,
    );
}

/// Spreads every input bit over the upper half and back.
#[inline(always)]
fn mix(value: u64, factor: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(factor);
    value ^ (value >> 29)
}

/// Sends the definition if this stack was not sent before; gives the identity.
#[inline(always)]
fn send(process: &TracedProcess, walk: &Walk, buffer: *mut WalkBuffer, cut: u16) -> u64 {
    let check = (walk.second_hash >> 32) as u32;
    let mut identity = walk.first_hash | 1;
    match unsafe { SENT.get(identity) } {
        Some(known) if *known == check => return identity,
        // Another stack has this identity: take one that depends on both hashes.
        Some(_) => {
            identity = mix(identity ^ walk.second_hash, 0x9fb2_1c65_1e98_df25) | 1;
            if unsafe { SENT.get(identity) }.is_some() {
                return identity;
            }
        }
        None => {}
    }
    let count_of_frames = unsafe { (*buffer).count };
    if count_of_frames > MAX_FRAMES as u64 {
        return identity;
    }
    let definition = unsafe {
        (*buffer).head = StackHead {
            identity,
            check,
            process: process.identity,
            epoch: process.epoch,
            count: count_of_frames as u16,
            cut,
        };
        core::slice::from_raw_parts(
            (&raw const (*buffer).head).cast::<u8>(),
            size_of::<StackHead>() + count_of_frames as usize * 8,
        )
    };
    // Remembered only once it is on its way: a definition that found no room is sent again at its next use.
    if STACKS
        .output::<[u8]>(definition, aya_ebpf::bindings::BPF_RB_NO_WAKEUP as u64)
        .is_ok()
    {
        let _ = SENT.insert(identity, check, 0);
    } else {
        count(Counter::LostStacks);
    }
    identity
}
