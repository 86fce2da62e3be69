//! What the user side changes of a traced process, field by field in place: `hw_exec` and `hw_remap` write the same value.

use core::ffi::c_void;

use aya_ebpf::programs::RawTracePointContext;
use highwater_common::process::{
    ProcessUpdate, UPDATE_CODE, UPDATE_EPOCH, UPDATE_LIBRARY, UPDATED, UPDATED_NOTHING,
    UPDATED_TOO_LATE,
};

use crate::{maps::PROCESSES, thread};

/// Run by the user side alone (`BPF_PROG_RUN`), attached to nothing. Without aya's macro, whose wrapper answers 0 whatever
/// the function says.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn hw_update(ctx: *mut c_void) -> u32 {
    let ctx = RawTracePointContext::new(ctx);
    let update = ProcessUpdate::from_arguments(|index| ctx.arg(index));
    let Some(process) = PROCESSES.get_ptr_mut(update.tgid) else {
        return UPDATED_NOTHING;
    };
    let identity = unsafe { &raw const (*process).identity };
    if unsafe { core::ptr::read_volatile(identity) } != update.identity {
        return UPDATED_TOO_LATE;
    }
    let process = unsafe { &mut *process };
    if update.what & UPDATE_LIBRARY != 0 {
        process.flags = update.flags;
        process.libc_start = update.libc_start;
        process.libc_end = update.libc_end;
        process.allocator_start = update.allocator_start;
        process.allocator_end = update.allocator_end;
    }
    if update.what & UPDATE_CODE != 0 {
        process.code_start = update.code_start;
        process.code_count = update.code_count;
        process.interpreter = update.interpreter;
        // In large steps: `hw_exec` and `hw_remap` take small ones, and a number must not come twice.
        process.code_generation = (process.code_generation | 0xffff).wrapping_add(1);
    }
    if update.what & UPDATE_EPOCH != 0 {
        process.epoch = process.epoch.wrapping_add(1);
    }
    // A whole barrier: what was written above is there to be seen before the identity is read again.
    thread::process_changed();
    if unsafe { core::ptr::read_volatile(identity) } == update.identity {
        return UPDATED;
    }
    // It called exec while we wrote: what exec undoes is undone again. Or it ended, and its place is that of a child that was
    // forked since: of that one the user side is about to say anew what was written here, or its exec ends it.
    if process.tgid == update.tgid {
        process.forget_program();
    }
    thread::process_changed();
    UPDATED_TOO_LATE
}
