//! Whether a stack goes on as it did a moment ago. The argument is in [`super`].

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use highwater_common::stack::MAX_FRAMES;

use super::{Walk, step::true_return};

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
    let live = memory.live;
    if live == 0 || live > MAX_FRAMES as u64 {
        return false;
    }
    if memory.frame(live - 1).cfa < cfa {
        memory.below = cfa;
        unsafe {
            bpf_loop(
                MAX_FRAMES as u32,
                pass_below as *mut c_void,
                (&raw mut *walk).cast(),
                0,
            );
        }
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
    let memory = walk.memory();
    memory.first_is_known = first_is_known;
    memory.holds = 0;
    unsafe {
        bpf_loop(
            memory.position as u32,
            unchanged as *mut c_void,
            (&raw mut *walk).cast(),
            0,
        );
    }
    walk.memory().holds != 0
}

/// One frame: whether all that it was concluded from, and its caller's address, are as they were.
extern "C" fn unchanged(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let memory = walk.memory();
    let position = memory.position.wrapping_sub(1);
    if position >= MAX_FRAMES as u64 {
        return 1;
    }
    if memory.first_is_known == 0 {
        let frame = memory.frame(position);
        let (slot, base) = (frame.base_slot, frame.base);
        if slot != 0 && memory.word(slot) != Some(base) {
            return 1;
        }
        let frame = memory.frame(position);
        let (slot, word) = (
            frame.cfa_slot,
            frame.cfa.wrapping_sub(frame.add as i64 as u64),
        );
        if slot != 0 && memory.word(slot) != Some(word) {
            return 1;
        }
    }
    memory.first_is_known = 0;
    let cfa = memory.frame(position).cfa;
    if cfa != 0 {
        let expected = if position == 0 {
            memory.root_return
        } else {
            memory.frame(position - 1).ip
        };
        let slot = cfa - 8;
        let Some(found) = memory.word(slot) else {
            return 1;
        };
        if found != expected && true_return(slot, found) != expected {
            return 1;
        }
    }
    memory.position = position;
    if position == 0 {
        memory.holds = 1;
        return 1;
    }
    0
}

/// Passes a remembered frame that lies below the walk.
extern "C" fn pass_below(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let memory = walk.memory();
    let live = memory.live;
    if live == 0 || live > MAX_FRAMES as u64 {
        return 1;
    }
    let cfa = memory.frame(live - 1).cfa;
    if cfa >= memory.below {
        return 1;
    }
    memory.live = live - 1;
    0
}
