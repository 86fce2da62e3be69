//! After a walk: its frames join those that were taken over, each with its hash and with what its callers hang on.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use highwater_common::{counter::Counter, hash::mix, stack::MAX_FRAMES};

use super::Walk;
use crate::emit::add;

/// Moves the new frames behind the remembered ones and completes them.
#[inline(always)]
pub fn all(walk: &mut Walk) {
    let memory = walk.memory();
    add(Counter::WalkedFrames, memory.fresh);
    if memory.joined != 0 {
        add(Counter::VerifiedFrames, memory.joined);
    }
    // The process, its epoch and the end of the walk are part of the identity: the same addresses mean other code
    // elsewhere.
    let seed =
        (memory.identity() as u64) << 32 | (memory.epoch() ^ (memory.cut as u32) << 28) as u64;
    memory.seed = [seed ^ 0x9e37_79b9_7f4a_7c15, seed ^ 0xc2b2_ae3d_27d4_eb4f];
    memory.count = memory.joined;
    memory.position = MAX_FRAMES as u64 - memory.fresh;
    unsafe {
        bpf_loop(
            memory.fresh as u32,
            settle as *mut c_void,
            (&raw mut *walk).cast(),
            0,
        );
    }
}

/// One frame, from the outermost inwards.
extern "C" fn settle(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let memory = walk.memory();
    let (from, to) = (memory.position, memory.count);
    if from >= MAX_FRAMES as u64 || to >= MAX_FRAMES as u64 {
        return 1;
    }
    let ([mut hash, mut check], mut left) = (memory.seed, 0);
    if to != 0 {
        let caller = memory.frame(to - 1);
        (hash, check) = (caller.hash, caller.check);
        left = caller.needs | caller.uses;
    }
    let frame = memory.frame(from);
    let needs = frame.needs | left & !frame.saves;
    frame.needs = needs;
    frame.hash = mix(hash ^ frame.ip, 0x9fb2_1c65_1e98_df25);
    frame.check = mix(check.rotate_left(23) ^ frame.ip, 0xd6e8_feb8_6659_fd93);
    let uses = frame.uses;
    memory.move_frame(from, to);
    memory.start_needs = (needs | uses) as u64;
    memory.position = from + 1;
    memory.count = to + 1;
    0
}
