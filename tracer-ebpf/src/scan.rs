//! A look at the threads of one process before any probe goes in: an iterator program, run once per thread by a read.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_task_pt_regs};

use crate::{
    atomic,
    call::AlternateStack,
    lifecycle::member,
    maps::{KERNEL_OFFSETS, SCAN},
};

/// Offset of `sp` in x86-64's `struct pt_regs`.
const PT_REGS_SP: usize = 152;

/// What the kernel hands to an iterator over tasks (`struct bpf_iter__task`).
#[repr(C)]
struct Context {
    meta: *const c_void,
    task: *mut c_void,
}

/// Counts the threads of the process in `SCAN[0]` whose alternate signal stack lies above their ordinary one, in
/// `SCAN[1]`; all threads of it in `SCAN[2]`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn hw_threads(context: *mut c_void) -> i32 {
    let task = unsafe { (*context.cast::<Context>()).task };
    if task.is_null() {
        return 0;
    }
    let regs = unsafe { bpf_task_pt_regs(task.cast()) } as usize;
    let Some(wanted) = SCAN.get(0) else { return 0 };
    let tgid: Option<u32> = member(task, KERNEL_OFFSETS.load().task_tgid);
    if tgid.map(u64::from) != Some(*wanted) {
        return 0;
    }
    if let Some(all) = SCAN.get_ptr_mut(2) {
        atomic::increment(all);
    }
    let Ok(sp) = (unsafe { bpf_probe_read_kernel((regs + PT_REGS_SP) as *const u64) }) else {
        return 0;
    };
    if AlternateStack::of(task as u64).is_above(sp)
        && let Some(above) = SCAN.get_ptr_mut(1)
    {
        atomic::increment(above);
    }
    0
}
