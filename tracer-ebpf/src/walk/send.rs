//! A stack's identity, and its definition, sent once.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_loop;
use highwater_common::{
    counter::Counter,
    hash::mix,
    python::MAX_PYTHON_FRAMES,
    stack::{MAX_FRAMES, StackHead},
};

use super::{Walk, code, is_settled};
use crate::{
    emit::count,
    maps::{SENT, STACKS},
};

/// Has room for every number of Python frames that a stack can have.
const PYTHON_COUNT_MASK: u64 = (2 * MAX_PYTHON_FRAMES as u64).next_power_of_two() - 1;

/// Gives the stack's identity, and sends the definition if this stack was not sent before.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hw_send_stack(place: u64) -> u64 {
    let Some(mut walk) = Walk::at(place) else {
        return 0;
    };
    let memory = walk.memory();
    if memory.sent != 0 && memory.sent_python == memory.python.hash {
        // The last stack once more.
        return memory.sent;
    }
    let frames = memory.count;
    if frames == 0 || frames > MAX_FRAMES as u64 {
        return 0;
    }
    let (hash, check) = {
        let leaf = memory.frame(frames - 1);
        (leaf.hash, leaf.check)
    };
    let python = &memory.python;
    let (hash, check) = (
        mix(hash ^ python.hash, 0x9fb2_1c65_1e98_df25),
        mix(check ^ python.check, 0xd6e8_feb8_6659_fd93),
    );
    if !is_settled(memory.cut) {
        memory.count = 0;
    }
    define(&mut walk, frames, hash, check)
}

#[inline(always)]
fn define(walk: &mut Walk, frames: u64, hash: u64, second_hash: u64) -> u64 {
    let memory = walk.memory();
    let check = (second_hash >> 32) as u32;
    let mut identity = hash | 1;
    let known = match unsafe { SENT.get(identity) } {
        Some(known) if *known == check => true,
        // Another stack has this identity: take one that depends on both hashes.
        Some(_) => {
            identity = mix(identity ^ second_hash, 0x9fb2_1c65_1e98_df25) | 1;
            unsafe { SENT.get(identity) }.is_some()
        }
        None => false,
    };
    if known {
        memory.sent = identity;
        memory.sent_python = memory.python.hash;
        return identity;
    }
    memory.position = frames;
    unsafe {
        bpf_loop(
            frames as u32,
            gather as *mut c_void,
            (&raw mut *walk).cast(),
            0,
        );
    }
    let memory = walk.memory();
    memory.head = StackHead {
        identity,
        check,
        process: memory.identity(),
        epoch: memory.epoch(),
        count: frames as u16,
        cut: memory.cut as u16,
        python: memory.python.count as u16,
        python_cut: memory.python.is_cut() as u16,
        reserved: 0,
    };
    if memory.python.count != 0 {
        code::all(walk);
    }
    let memory = walk.memory();
    // The verifier of Linux 6.1 loses sight of the comparison, and keeps the mask.
    let python = memory.python.count & PYTHON_COUNT_MASK;
    if python > MAX_PYTHON_FRAMES as u64 {
        return 0;
    }
    let definition = unsafe {
        core::slice::from_raw_parts(
            (&raw const memory.head).cast::<u8>(),
            size_of::<StackHead>() + frames as usize * 8 + python as usize * 16,
        )
    };
    // Remembered only once it is on its way: a definition that found no room is sent again at its next use.
    if STACKS
        .output::<[u8]>(definition, aya_ebpf::bindings::BPF_RB_NO_WAKEUP as u64)
        .is_ok()
    {
        let _ = SENT.insert(identity, check, 0);
        memory.sent = identity;
        memory.sent_python = memory.python.hash;
    } else {
        count(Counter::LostStacks);
    }
    identity
}

/// Copies an address, leaf first.
extern "C" fn gather(index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let memory = walk.memory();
    let from = memory.position.wrapping_sub(1);
    if from >= MAX_FRAMES as u64 || index >= MAX_FRAMES as u64 {
        return 1;
    }
    let address = memory.frame(from).ip;
    memory.put_address(index, address);
    memory.position = from;
    0
}
