//! Whether a stack goes on as it did a moment ago. The argument is in [`super`].

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use highwater_common::stack::MAX_FRAMES;

use super::{Memory, Walk, step::true_return};

/// What a verification carries from frame to frame.
#[repr(C)]
struct Verification {
    memory: *mut Memory,
    thread: *const crate::call::Thread,
    /// 1: the first frame's CFA was computed anew, so what it was concluded from need not be looked at.
    first_is_known: u64,
    /// 1 once the outermost frame was found unchanged.
    holds: u64,
}

/// Whether all that is remembered still holds, for a walk that starts where the remembered one did. If not, what lies
/// inside of the first change is forgotten.
#[inline(always)]
pub fn from_start(walk: &mut Walk) -> bool {
    let memory = walk.memory();
    memory.position = memory.count;
    let holds = run(walk, 0);
    let memory = walk.memory();
    if !holds {
        memory.count = memory.position.wrapping_sub(1);
    }
    holds
}

/// Whether the walk, which has come to the frame at `at`, goes on like the remembered one; then the memory says from where.
#[inline(always)]
pub fn joins(walk: &mut Walk, at: u64) -> bool {
    let memory = walk.memory();
    let (ip, cfa, exact) = {
        let frame = memory.frame(at);
        (frame.ip, frame.cfa, frame.exact)
    };
    let mut pass = Passing {
        memory: walk.memory,
        cfa,
    };
    unsafe {
        bpf_loop(
            MAX_FRAMES as u32,
            pass_below as *mut c_void,
            (&raw mut pass).cast(),
            0,
        );
    }
    let memory = walk.memory();
    let live = memory.live;
    if live == 0 || live > MAX_FRAMES as u64 {
        return false;
    }
    let candidate = memory.frame(live - 1);
    if candidate.cfa != cfa
        || candidate.ip != ip
        || candidate.exact != exact
        || candidate.needs != 0
    {
        return false;
    }
    memory.position = live;
    let holds = run(walk, 1);
    let memory = walk.memory();
    if holds {
        // The frame itself is taken from the new walk: where its own base lies is news.
        memory.joined = live - 1;
        memory.cut = memory.remembered_cut;
        return true;
    }
    // What was read for the frame before `position` has changed. Outside of it the walks may meet again.
    memory.live = memory.position.wrapping_sub(1);
    false
}

/// Looks at `frames[..position]` from the innermost to the outermost.
#[inline(always)]
fn run(walk: &mut Walk, first_is_known: u64) -> bool {
    let mut verification = Verification {
        memory: walk.memory,
        thread: walk.thread,
        first_is_known,
        holds: 0,
    };
    unsafe {
        bpf_loop(
            walk.memory().position as u32,
            unchanged as *mut c_void,
            (&raw mut verification).cast(),
            0,
        );
    }
    verification.holds != 0
}

/// One frame: whether all that it was concluded from, and its caller's address, are as they were.
extern "C" fn unchanged(_index: u64, context: *mut c_void) -> i64 {
    let verification = unsafe { &mut *context.cast::<Verification>() };
    let memory = unsafe { &mut *verification.memory };
    let position = memory.position.wrapping_sub(1);
    if position >= MAX_FRAMES as u64 {
        return 1;
    }
    let frame = *memory.frame(position);
    if verification.first_is_known == 0 {
        if frame.base_slot != 0 && memory.word(frame.base_slot) != Some(frame.base) {
            return 1;
        }
        if frame.cfa_slot != 0
            && memory.word(frame.cfa_slot) != Some(frame.cfa.wrapping_sub(frame.add as i64 as u64))
        {
            return 1;
        }
    }
    verification.first_is_known = 0;
    if frame.cfa != 0 {
        let expected = if position == 0 {
            memory.root_return
        } else {
            memory.frame(position - 1).ip
        };
        let slot = frame.cfa - 8;
        let Some(found) = memory.word(slot) else {
            return 1;
        };
        if found != expected
            && true_return(unsafe { &*verification.thread }, slot, found) != expected
        {
            return 1;
        }
    }
    memory.position = position;
    if position == 0 {
        verification.holds = 1;
        return 1;
    }
    0
}

#[repr(C)]
struct Passing {
    memory: *mut Memory,
    cfa: u64,
}

/// Passes a remembered frame that lies below the walk.
extern "C" fn pass_below(_index: u64, context: *mut c_void) -> i64 {
    let pass = unsafe { &mut *context.cast::<Passing>() };
    let memory = unsafe { &mut *pass.memory };
    let live = memory.live;
    if live == 0 || live > MAX_FRAMES as u64 {
        return 1;
    }
    let cfa = memory.frame(live - 1).cfa;
    if cfa >= pass.cfa {
        return 1;
    }
    memory.live = live - 1;
    0
}
