//! Code goes away: whatever is mapped at its addresses next, the tables of the old code must not be used for it. The user
//! side hears of new code a moment after it is there; so the kernel side itself sees the old code off.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_loop};
use highwater_common::unwind::{MAX_CODE_RANGES_OF_PROCESS, TABLE_PENDING};

use crate::maps::{CODE_RANGES, PROCESSES};

#[repr(C)]
struct Search {
    /// The addresses that are unmapped.
    start: u64,
    end: u64,
    /// Code ranges of the process that have not been looked at.
    next: u32,
    last: u32,
    /// How many of them lay there.
    gone: u32,
    reserved: u32,
}

/// `uprobe_munmap(vma, start, end)`: called for each mapping of a file, or piece of one, as it is unmapped
/// (<https://github.com/torvalds/linux/blob/v6.18/kernel/events/uprobes.c#L1620>).
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry/uprobe_munmap")]
pub extern "C" fn hw_unmap(context: *const u64) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else {
        return 0;
    };
    let process = unsafe { &mut *process };
    let mut search = Search {
        start: unsafe { *context.add(1) },
        end: unsafe { *context.add(2) },
        next: process.code_start,
        last: process.code_start.wrapping_add(process.code_count),
        gone: 0,
        reserved: 0,
    };
    unsafe {
        bpf_loop(
            MAX_CODE_RANGES_OF_PROCESS,
            look as *mut c_void,
            (&raw mut search).cast(),
            0,
        );
    }
    if search.gone != 0 {
        process.code_generation = process.code_generation.wrapping_add(1);
    }
    0
}

/// One code range. They are as few as the libraries of a process, and unmapping is rare and slow: no search is needed.
extern "C" fn look(_index: u64, context: *mut c_void) -> i64 {
    let search = unsafe { &mut *context.cast::<Search>() };
    if search.next >= search.last {
        return 1;
    }
    let Some(range) = CODE_RANGES.get_ptr_mut(search.next) else {
        return 1;
    };
    let range = unsafe { &mut *range };
    if range.start >= search.end {
        return 1;
    }
    if range.end > search.start {
        range.table = TABLE_PENDING;
        search.gone += 1;
    }
    search.next += 1;
    0
}
