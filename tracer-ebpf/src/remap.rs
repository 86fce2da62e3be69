//! Addresses of code are given out anew: the tables of what lay there must not be used for what will. The user side hears of
//! new code a moment after it is there; so the kernel side itself sees the old code off.
//!
//! A library is mapped at an address of the kernel's choice, so the tracepoint of that choice is where all of them pass.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_loop},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use highwater_common::unwind::{MAX_CODE_RANGES_OF_PROCESS, TABLE_PENDING};

use crate::{
    lifecycle::member,
    maps::{CODE_RANGES, KERNEL_OFFSETS, PROCESSES},
    thread,
};

#[repr(C)]
struct Search {
    /// The addresses that are given out.
    start: u64,
    end: u64,
    /// The first code range of the process, and how many there are.
    first: u32,
    count: u32,
    /// 1 once one was found there.
    found: u64,
}

/// `vm_unmapped_area(address, info)`: the kernel has chosen where a new mapping goes
/// (<https://github.com/torvalds/linux/blob/v6.18/include/trace/events/mmap.h#L10>).
#[raw_tracepoint(tracepoint = "vm_unmapped_area")]
pub fn hw_remap(ctx: RawTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else {
        return 0;
    };
    let process = unsafe { &mut *process };
    let info: *const c_void = ctx.arg(1);
    let start: u64 = ctx.arg(0);
    let Some(length) = member::<u64>(info, KERNEL_OFFSETS.load().unmapped_area_length) else {
        return 0;
    };
    let mut search = Search {
        start,
        end: start.saturating_add(length),
        first: process.code_start,
        count: process.code_count,
        found: 0,
    };
    unsafe {
        bpf_loop(
            MAX_CODE_RANGES_OF_PROCESS,
            look as *mut c_void,
            (&raw mut search).cast(),
            0,
        );
    }
    if search.found != 0 {
        process.epoch = process.epoch.wrapping_add(1);
        process.code_generation = process.code_generation.wrapping_add(1);
        thread::process_changed();
    }
    0
}

/// One code range. They are as few as the libraries of a process, and mapping is slow: no search is needed.
extern "C" fn look(index: u64, context: *mut c_void) -> i64 {
    let search = unsafe { &mut *context.cast::<Search>() };
    if index >= search.count as u64 {
        return 1;
    }
    // By the index, of which the verifier knows nothing: a count that it could follow would make each turn a state of its own.
    let Some(range) = CODE_RANGES.get_ptr_mut(search.first.wrapping_add(index as u32)) else {
        return 1;
    };
    let range = unsafe { &mut *range };
    if range.start >= search.end {
        return 1;
    }
    if range.end > search.start {
        range.table = TABLE_PENDING;
        search.found = 1;
    }
    0
}
