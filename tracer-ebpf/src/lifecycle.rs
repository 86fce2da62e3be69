//! Forks, execs, ends and out-of-memory kills of traced processes; forks and execs of others, where that is asked for.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use aya_log_ebpf::debug;
use highwater_common::{
    counter::Counter,
    event::{EventKind, FLAG_FROM_THREAD, FLAG_REGISTERED, FLAG_SHARES_MEMORY, RawEvent},
    process::{
        PROCESS_FOLLOW_CHILDREN, PROCESS_HELD, PROCESS_INHERITS, PROCESS_SHARES_MEMORY,
        TracedProcess,
    },
};

use crate::{
    atomic, blocks, emit,
    maps::{IMAGE_COUNT, KERNEL_OFFSETS, PROCESSES},
    stranger, thread,
};

/// `sched_process_fork(parent, child)`: also called for threads, which are no processes.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn hw_fork(ctx: RawTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let process = traced(tgid);
    if process.is_none() && !stranger::are_wanted() {
        return 0;
    }
    let offsets = KERNEL_OFFSETS.load();
    let (parent, child): (*const c_void, *const c_void) = (ctx.arg(0), ctx.arg(1));
    let (Some(pid), Some(child_tgid)) = (
        member::<u32>(child, offsets.task_pid),
        member::<u32>(child, offsets.task_tgid),
    ) else {
        return 0;
    };
    if pid != child_tgid {
        return 0;
    }
    let Some(process) = process else {
        stranger::tell(EventKind::StrangerForked, child_tgid);
        return 0;
    };
    let shares = member::<u64>(child, offsets.task_mm) == member::<u64>(parent, offsets.task_mm);
    let mut flags = if shares { FLAG_SHARES_MEMORY } else { 0 };
    let mut image = 0;
    if process.flags & PROCESS_FOLLOW_CHILDREN != 0 {
        image = register(&process, child_tgid, shares);
    }
    if image != 0 {
        flags |= FLAG_REGISTERED;
    }
    let (child_tgid, image) = (child_tgid as u64, image as u64);
    tell(&process, EventKind::Forked, child_tgid, image, flags);
    debug!(&ctx, "process {} forked {}", tgid, child_tgid);
    0
}

/// The number of the next program image, of which there are four thousand million; 0 if none was to be had.
#[inline(always)]
fn next_image() -> u32 {
    match IMAGE_COUNT.get_ptr_mut(0) {
        Some(count) => atomic::next(count) as u32,
        None => 0,
    }
}

/// Run by the user side alone (`BPF_PROG_RUN`): gives the number of an image that it is about to register.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp")]
pub extern "C" fn hw_image(_: *mut c_void) -> u32 {
    let image = next_image();
    blocks::image_began(image);
    image
}

/// Makes a child known before it runs, so that not even its first exec is missed. Gives the number of its image; 0 if there
/// was no room.
#[inline(always)]
fn register(parent: &TracedProcess, tgid: u32, shares_memory: bool) -> u32 {
    let child = TracedProcess {
        identity: next_image(),
        epoch: 0,
        flags: PROCESS_FOLLOW_CHILDREN
            | if shares_memory {
                PROCESS_HELD | PROCESS_SHARES_MEMORY
            } else {
                PROCESS_INHERITS
            },
        tgid,
        libc_start: parent.libc_start,
        libc_end: parent.libc_end,
        allocator_start: parent.allocator_start,
        allocator_end: parent.allocator_end,
        code_start: parent.code_start,
        code_count: parent.code_count,
        code_generation: parent.code_generation,
        interpreter: parent.interpreter,
    };
    if child.identity == 0 {
        return 0;
    }
    blocks::image_began(child.identity);
    let registered = PROCESSES.insert(tgid, child, 0).is_ok();
    thread::process_changed();
    if registered { child.identity } else { 0 }
}

/// `sched_process_exec(task, old_pid, bprm)`: by now the process has one thread and its new memory.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn hw_exec(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else {
        if stranger::are_wanted() {
            stranger::tell(EventKind::StrangerExecuted, tgid);
        }
        return 0;
    };
    // Changed where it lies: that this is another process's by now takes the user side to let this one go, and another to be
    // forked on the same processor as that, within the microsecond until the last of these writes.
    let process = unsafe { &mut *process };
    let next = next_image();
    if next == 0 {
        emit::count(Counter::LostProcessEvents);
        let _ = PROCESSES.remove(tgid);
        thread::process_changed();
        return 0;
    }
    let old_pid: u64 = ctx.arg(1);
    let flags = if old_pid as u32 == tgid {
        0
    } else {
        FLAG_FROM_THREAD
    };
    send(
        process,
        EventKind::Executed,
        next as u64,
        stranger::name(),
        flags,
    );
    // Before all that follows: by it `hw_update` tells whether what it wrote meanwhile is to be undone.
    let old = process.identity;
    unsafe { core::ptr::write_volatile(&raw mut process.identity, next) };
    blocks::image_ended(old);
    blocks::image_began(next);
    thread::process_changed();
    process.epoch += 1;
    process.forget_program();
    process.code_generation += 1;
    thread::process_changed();
    thread::forget(tid);
    // The thread that called exec has taken its leader's number.
    thread::forget(old_pid as u32);
    debug!(&ctx, "process {} called exec", tgid);
    0
}

/// `sched_process_exit(task)`: of each thread; the process ends with its last, not with its leader.
///
/// Two threads that end at once may both find that none is left. So the end is told by the one that removes the process, and
/// what it tells was read before that.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn hw_exit(ctx: RawTracePointContext) -> i32 {
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    // Before the process is looked for: the other one may have removed it.
    thread::forget(tid);
    let Some(process) = traced(tgid) else {
        return 0;
    };
    let offsets = KERNEL_OFFSETS.load();
    let task: *const c_void = ctx.arg(0);
    let Some(signal) = member::<u64>(task, offsets.task_signal) else {
        return 0;
    };
    let signal = signal as *const c_void;
    if member::<u32>(signal, offsets.signal_live) != Some(0) {
        return 0;
    }
    let group = member::<u32>(signal, offsets.signal_group_exit_code).unwrap_or(0);
    let own = member::<u32>(task, offsets.task_exit_code).unwrap_or(0);
    let status = if group != 0 { group } else { own };
    if PROCESSES.remove(tgid).is_err() {
        return 0;
    }
    thread::process_changed();
    tell(&process, EventKind::Exited, status as u64, 0, 0);
    blocks::image_ended(process.identity);
    debug!(&ctx, "process {} ended with status {}", tgid, status);
    0
}

/// `mark_victim`: the task from 6.8 on, its pid before that.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn hw_oom(ctx: RawTracePointContext) -> i32 {
    let victim: u64 = ctx.arg(0);
    let tgid = if victim >> 63 != 0 {
        member::<u32>(victim as *const c_void, KERNEL_OFFSETS.load().task_tgid).unwrap_or(0)
    } else {
        victim as u32
    };
    if let Some(process) = traced(tgid) {
        tell(&process, EventKind::OomVictim, 0, 0, 0);
        debug!(&ctx, "process {} is an out-of-memory victim", tgid);
    }
    0
}

/// A process, as it is now.
///
/// Its place in [`PROCESSES`] may be another process's the moment it is removed, and it may be removed at any time: by the user
/// side, which lets it go, or on another processor, where its last thread ends. So it is copied, and the copy says whose it is.
#[inline(always)]
fn traced(tgid: u32) -> Option<TracedProcess> {
    let process = unsafe { *PROCESSES.get(tgid)? };
    (process.tgid == tgid).then_some(process)
}

/// Reads a member of a kernel structure; `None` where this kernel has none.
#[inline(always)]
pub fn member<T>(structure: *const c_void, offset: u32) -> Option<T> {
    if offset == u32::MAX {
        return None;
    }
    unsafe { bpf_probe_read_kernel(structure.byte_add(offset as usize).cast::<T>()) }.ok()
}

/// Sends an event of a process, which is not about a call, and wakes the reader: it has to look at the process while it
/// is there.
#[inline(always)]
pub fn tell(process: &TracedProcess, kind: EventKind, address: u64, size: u64, flags: u8) {
    send(process, kind, address, [size, 0], flags);
}

#[inline(always)]
fn send(
    process: &TracedProcess,
    kind: EventKind,
    address: u64,
    [size, stack]: [u64; 2],
    flags: u8,
) {
    emit::send(
        &RawEvent {
            at_ns: unsafe { bpf_ktime_get_ns() },
            address,
            size,
            stack,
            process: process.identity,
            tid: bpf_get_current_pid_tgid() as u32,
            epoch: process.epoch,
            kind: kind as u8,
            flags,
            function: 0,
            slot: 0,
        },
        Counter::LostProcessEvents,
        true,
    );
}
