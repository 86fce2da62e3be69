//! One step of a walk: from a frame to its caller's.

use core::ffi::c_void;

use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_loop, generated::bpf_probe_read_kernel as gen_probe_read_kernel,
};
use highwater_common::{
    stack::{
        CUT_DEPTH, CUT_FRAME_POINTER, CUT_NO_CODE, CUT_NOT, CUT_UNREADABLE, CUT_UNSUPPORTED,
        MAX_FRAMES,
    },
    unwind::{CFA_DEREFERENCED, CFA_END, CFA_PLT, CFA_SIGNAL, Rule, SAVED_RBP, SIGNAL_REGISTERS},
};

use super::{
    Walk, find,
    memory::{Frame, Memory, OPAQUE},
    verify,
};
use crate::maps::KERNEL_OFFSETS;

/// No address: code and stacks never lie in the first page.
const FIRST_ADDRESS: u64 = 4096;

/// Probed returns of a thread that are looked through for a trampoline's true address.
const MOST_RETURN_INSTANCES: u32 = 8;

/// Walks from where the memory says, until the stack ends, cannot be followed, or is found to go on as remembered.
#[inline(always)]
pub fn all(walk: &mut Walk) {
    unsafe {
        bpf_loop(
            MAX_FRAMES as u32,
            step as *mut c_void,
            (&raw mut *walk).cast(),
            0,
        );
    }
}

extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &mut *context.cast::<Walk>() };
    match frame(walk) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(cut) => {
            walk.memory().cut = cut as u64;
            1
        }
    }
}

/// One frame. Whether there are more; an error is the reason of a cut.
#[inline(always)]
fn frame(walk: &mut Walk) -> Result<bool, u16> {
    let memory = walk.memory();
    if memory.fresh >= MAX_FRAMES as u64 {
        return Err(CUT_DEPTH);
    }
    let at = MAX_FRAMES as u64 - 1 - memory.fresh;
    if at < memory.live {
        // Deeper than there is room for both: what is remembered goes.
        memory.live = 0;
    }
    memory.fresh += 1;
    *memory.frame(at) = Frame {
        ip: memory.ip,
        cfa: 0,
        hash: 0,
        check: 0,
        base_slot: 0,
        base: 0,
        cfa_slot: 0,
        add: 0,
        uses: 0,
        saves: 0,
        needs: 0,
        exact: memory.exact as u8,
    };
    // A return address may lie behind its function's last instruction: the call before it is what is meant.
    let pc = memory.ip - (1 - (memory.exact & 1));
    let (rule, by_frame_pointer) = find::rule(walk, pc)?;
    let memory = walk.memory();
    match rule.cfa {
        CFA_END => {
            memory.cut = CUT_NOT as u64;
            return Ok(false);
        }
        CFA_SIGNAL => {
            memory.frame(at).needs = OPAQUE;
            return signal(memory);
        }
        _ => {}
    }
    let unreadable = if by_frame_pointer {
        CUT_FRAME_POINTER
    } else {
        CUT_UNREADABLE
    };
    let cfa = canonical_frame_address(memory, at, &rule, by_frame_pointer)?;
    if cfa == 0 {
        memory.cut = CUT_NOT as u64;
        return Ok(false);
    }
    // Frames lie above one another; where they do not, this is no frame.
    if cfa <= memory.sp || cfa & 7 != 0 {
        return Err(unreadable);
    }
    memory.frame(at).cfa = cfa;
    memory.frame(at).saves = rule.saves;
    if memory.live != 0 && verify::joins(walk, at) {
        return Ok(false);
    }
    let memory = walk.memory();
    let from = if rule.slots_from_rbp != 0 {
        if rule.register != 6 {
            memory.frame(at).needs = OPAQUE;
        }
        register(memory, 6).ok_or(unreadable)?.0
    } else {
        cfa
    };
    for index in 0..6 {
        if rule.saves >> index & 1 != 0 {
            memory.slots[index] = from.wrapping_add((rule.slots[index] as i64 * 8) as u64);
        }
    }
    let slot = cfa - 8;
    let found = memory.word(slot).ok_or(unreadable)?;
    let return_address = true_return(slot, found);
    if return_address == 0 && !by_frame_pointer {
        // Who makes a stack for a coroutine may leave it so: there is nothing to return to. A frame pointer is only
        // believed to be one, and what lies beside it proves nothing.
        memory.root_return = 0;
        memory.cut = CUT_NOT as u64;
        return Ok(false);
    }
    if return_address < FIRST_ADDRESS {
        memory.root_return = return_address;
        return Err(CUT_NO_CODE);
    }
    memory.ip = return_address;
    memory.exact = 0;
    memory.signal = 0;
    memory.sp = cfa;
    Ok(true)
}

/// The frame's CFA; 0: the stack ends here.
#[inline(always)]
fn canonical_frame_address(
    memory: &mut Memory,
    at: u64,
    rule: &Rule,
    by_frame_pointer: bool,
) -> Result<u64, u16> {
    let (base, slot) = register(memory, rule.register).ok_or(if by_frame_pointer {
        CUT_FRAME_POINTER
    } else if is_known(memory, rule.register) {
        // Its page may be back the next time.
        CUT_UNREADABLE
    } else {
        CUT_UNSUPPORTED
    })?;
    let frame = memory.frame(at);
    frame.base_slot = slot;
    frame.base = base;
    frame.uses = match saved(rule.register) {
        Some(index) => 1 << index,
        None => 0,
    };
    if by_frame_pointer && base < FIRST_ADDRESS {
        // Starts of threads clear it: whatever has frames was seen.
        return Ok(0);
    }
    let address = base.wrapping_add(rule.offset as i64 as u64);
    Ok(match rule.cfa {
        CFA_DEREFERENCED => {
            let word = memory.word(address).ok_or(CUT_UNREADABLE)?;
            let frame = memory.frame(at);
            frame.cfa_slot = address;
            frame.add = rule.add;
            word.wrapping_add(rule.add as i64 as u64)
        }
        CFA_PLT if (memory.ip & 15) as i32 >= rule.add => address + 8,
        _ => address,
    })
}

/// A signal handler's frame: the interrupted function goes on where the kernel will put everything back.
#[inline(always)]
fn signal(memory: &mut Memory) -> Result<bool, u16> {
    let registers = memory.sp.wrapping_add(SIGNAL_REGISTERS);
    let mut read = |place: u64| memory.word(registers.wrapping_add(place * 8));
    let (sp, ip) = (
        read(15).ok_or(CUT_UNREADABLE)?,
        read(16).ok_or(CUT_UNREADABLE)?,
    );
    if ip < FIRST_ADDRESS {
        return Err(CUT_UNREADABLE);
    }
    // rbx, rbp, r12 to r15
    for (index, place) in [11u64, 10, 4, 5, 6, 7].into_iter().enumerate() {
        memory.slots[index] = registers.wrapping_add(place * 8);
    }
    memory.signal = registers;
    memory.sp = sp;
    memory.ip = ip;
    memory.exact = 1;
    Ok(true)
}

/// The place of a register among the saved ones.
#[inline(always)]
fn saved(register: u8) -> Option<usize> {
    match register {
        3 => Some(0),
        6 => Some(SAVED_RBP),
        12 => Some(2),
        13 => Some(3),
        14 => Some(4),
        15 => Some(5),
        _ => None,
    }
}

/// A register's value in the frame that the walk is at, and where it was read (0: not from memory that is kept).
#[inline(always)]
fn register(memory: &mut Memory, register: u8) -> Option<(u64, u64)> {
    if register == 7 {
        return Some((memory.sp, 0));
    }
    if let Some(index) = saved(register) {
        let slot = memory.slots[index];
        if slot == 0 {
            return Some((memory.registers[index], 0));
        }
        let value = memory.word(slot)?;
        return Some((value, slot));
    }
    // Others are known only where a signal interrupted: the kernel keeps them all.
    if memory.signal == 0 || register > 15 {
        return None;
    }
    /// `SIGNAL_ORDER`, a nibble each: the verifier takes no table here.
    const ORDER: u64 = 0x7654_3210_fa89_becd;
    let place = ORDER >> ((register & 15) * 4) & 15;
    let value = memory.word(memory.signal.wrapping_add(place * 8))?;
    Some((value, 0))
}

/// Whether the place of a register is known, whether it can be read or not.
#[inline(always)]
fn is_known(memory: &Memory, register: u8) -> bool {
    saved(register).is_some() || (memory.signal != 0 && register <= 15)
}

/// The address that a return probe's trampoline stands for: the kernel keeps it, for probes of others too.
#[inline(always)]
pub fn true_return(slot: u64, found: u64) -> u64 {
    if found & 0xfff != 0 || found < FIRST_ADDRESS {
        return found;
    }
    let offsets = KERNEL_OFFSETS.load();
    let task = unsafe { bpf_get_current_task() };
    let utask = kernel_word(task, offsets.task_utask);
    let mut instance = kernel_word(utask, offsets.utask_return_instances);
    for _ in 0..MOST_RETURN_INSTANCES {
        if instance == 0 {
            break;
        }
        if kernel_word(instance, offsets.return_instance_stack) == slot {
            return kernel_word(instance, offsets.return_instance_address);
        }
        instance = kernel_word(instance, offsets.return_instance_next);
    }
    found
}

/// A word of a kernel structure; 0 where there is none. (An `Option` here becomes a register that the verifier takes for
/// one never written.)
#[inline(always)]
pub fn kernel_word(structure: u64, offset: u32) -> u64 {
    let mut word = 0u64;
    if structure != 0 && offset != u32::MAX {
        unsafe {
            gen_probe_read_kernel(
                (&raw mut word).cast(),
                size_of::<u64>() as u32,
                structure.wrapping_add(offset as u64) as *const c_void,
            );
        }
    }
    word
}
