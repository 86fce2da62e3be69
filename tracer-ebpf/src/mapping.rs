//! The system calls by which an address space changes, whoever makes them: libc, the allocator, or a program's own
//! `syscall` instruction.
//!
//! The kernel has one tracepoint for the beginnings of all system calls of all processes and one for their ends, so both
//! programs look at the call's number first, and at nothing else where it is none of ours.
//!
//! **When it is told.** What gives addresses back (`munmap`, `mremap`) is told as it begins, because another thread may
//! be given these addresses before it ends; and again if it failed. What takes or changes addresses is told when it has
//! succeeded: nobody else can be given them before. A call that was not seen to begin says nothing at its end: it began
//! before the process was traced, or never did (a seccomp filter answers in the kernel's place, and then only the end
//! is seen).
//!
//! **What is not said by the arguments.** A segment of shared memory is as long as the kernel says ([`area::segment`]); whether
//! a file is one by name alone, and memory that is shared, it says as well ([`area::is_of_memory`]); and a
//! failed `mprotect` has changed what lies before the first area that it could not change ([`area::as_accessible`]).
//!
//! **Whose doing.** What the allocator maps is flagged: for a call that is followed by [`call::is_of_latest_call`], for others
//! by what the stack says, or, while a new program's stacks are cut, by [`call::is_of_untaken_call`].

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns, bpf_probe_read_kernel,
    },
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use highwater_common::{
    counter::Counter,
    event::{
        EventKind, FLAG_BY_ALLOCATOR, MAPPING_COMMITTED, MAPPING_FILE, MAPPING_KEEPS_OLD,
        MAPPING_SHARED, MAPPING_STACK, RawEvent,
    },
    process::{PROCESS_CHANGED_SHARED, PROCESS_HELD, PROCESS_SHARES_MEMORY, TracedProcess},
};

use crate::{
    area, call, emit,
    lifecycle::member,
    maps::{KERNEL_OFFSETS, PROCESSES},
    mark,
    thread::Thread,
    walk,
};

/// Numbers of x86-64's system calls
/// (<https://github.com/torvalds/linux/blob/v6.18/arch/x86/entry/syscalls/syscall_64.tbl>). Those of x32 have a bit that
/// these have not.
const MMAP: u64 = 9;
const MPROTECT: u64 = 10;
const MUNMAP: u64 = 11;
const BRK: u64 = 12;
const MREMAP: u64 = 25;
const MADVISE: u64 = 28;
const SHMAT: u64 = 30;
const SHMDT: u64 = 67;
const PKEY_MPROTECT: u64 = 329;

/// `TS_COMPAT` of `thread_info.status`: a system call by the 32-bit interface, which has other numbers.
const COMPAT: u32 = 2;

const PAGE: u64 = 4096;
/// `-MAX_ERRNO`: results from here on are errors.
const FIRST_ERROR: u64 = -4095i64 as u64;
/// `-ENOMEM` and `-EACCES`: with these `mprotect` fails at an area after it has changed those before.
const NO_MEMORY: u64 = -12i64 as u64;
const NO_ACCESS: u64 = -13i64 as u64;

// Of <asm-generic/mman-common.h> and <linux/mman.h>.
const PROT_ANY: u64 = 7;
const MAP_TYPE: u64 = 0xf;
const MAP_SHARED: u64 = 1;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_GROWSDOWN: u64 = 0x100;
const MAP_STACK: u64 = 0x2_0000;
const MAP_HUGETLB: u64 = 0x4_0000;
const MAP_HUGE_SHIFT: u64 = 26;
const MREMAP_DONTUNMAP: u64 = 4;
const MADV_DONTNEED: u64 = 4;
const MADV_FREE: u64 = 8;
const MADV_REMOVE: u64 = 9;

/// `sys_enter(regs, number)`: after seccomp and ptrace have let the call pass.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn hw_call_begins(ctx: RawTracePointContext) -> i32 {
    let number: u64 = ctx.arg(1);
    if changes_mappings(number) {
        begins(ctx.arg(0), number);
    } else if number == mark::WRITE && mark::may_be(ctx.arg(0)) {
        marks(ctx.arg(0));
    }
    0
}

/// `sys_exit(regs, result)`: before any signal is delivered, so that what a thread began it ends before its handlers run.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn hw_call_ends(ctx: RawTracePointContext) -> i32 {
    let regs: *const pt_regs = ctx.arg(0);
    if let Ok(number) = unsafe { bpf_probe_read_kernel(&raw const (*regs).orig_rax) }
        && changes_mappings(number)
    {
        ends(regs, number, ctx.arg(1));
    }
    0
}

/// Whether a call of this number is one of ours.
#[inline(always)]
fn changes_mappings(number: u64) -> bool {
    const NUMBERS: u64 = 1 << MMAP
        | 1 << MPROTECT
        | 1 << MUNMAP
        | 1 << BRK
        | 1 << MREMAP
        | 1 << MADVISE
        | 1 << SHMAT;
    number < 64 && NUMBERS >> number & 1 != 0 || number == SHMDT || number == PKEY_MPROTECT
}

/// The process, if its calls are to be told.
#[inline(always)]
fn followed(tgid: u32) -> Option<&'static TracedProcess> {
    let process = unsafe { PROCESSES.get(tgid) }?;
    (process.flags & PROCESS_HELD == 0).then_some(process)
}

/// A process in its parent's memory is not followed: its calls of the allocator pass our probes by, since those are its
/// parent's alone. Most such processes do nothing but call exec. One that takes memory there or gives it back is counted, so that
/// what its parent holds is not called complete. (What it takes from the heap without a system call goes unnoticed.)
#[inline(always)]
fn count_change_of_shared_memory(tgid: u32, regs: *const pt_regs, number: u64) {
    let Some(process) = PROCESSES.get_ptr_mut(tgid) else {
        return;
    };
    let flags = unsafe { (*process).flags };
    let takes_or_gives = match number {
        MMAP | MUNMAP | MREMAP | SHMAT | SHMDT => true,
        // Of 0 it only asks.
        BRK => argument(regs, 0) != Some(0),
        _ => false,
    };
    if flags & PROCESS_SHARES_MEMORY == 0 || flags & PROCESS_CHANGED_SHARED != 0 || !takes_or_gives
    {
        return;
    }
    unsafe { (*process).flags = flags | PROCESS_CHANGED_SHARED };
    emit::count(Counter::SharedMemoryChanged);
}

/// A process may have named a moment.
#[inline(always)]
fn marks(regs: *const pt_regs) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if let Some(process) = followed((pid_tgid >> 32) as u32) {
        mark::tell(process, pid_tgid as u32, regs);
    }
}

#[inline(always)]
fn begins(regs: *const pt_regs, number: u64) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let Some(process) = followed(tgid) else {
        count_change_of_shared_memory(tgid, regs, number);
        return;
    };
    let task = unsafe { bpf_get_current_task() };
    let offsets = KERNEL_OFFSETS.load();
    if member::<u32>(task as *const _, offsets.task_status).unwrap_or(0) & COMPAT != 0 {
        return;
    }
    let Some(thread) = Thread::current(tgid, tid) else {
        return;
    };
    thread.system_call = number as u32;
    thread.retired = 0;
    thread.kept = 0;
    match number {
        MUNMAP | MREMAP => {
            let Some(range) = Range::given(regs, number) else {
                return;
            };
            let kind = if number == MUNMAP {
                EventKind::UnmapBegan
            } else {
                EventKind::RemapBegan
            };
            thread.retired = tell(process, tid, kind, range, &Said::NOTHING) as u32;
        }
        SHMDT => {
            let Some(start) = argument(regs, 0) else {
                return;
            };
            let length = area::segment(start).unwrap_or(0);
            thread.kept = length;
            if length != 0 {
                let range = Range { start, length };
                thread.retired =
                    tell(process, tid, EventKind::UnmapBegan, range, &Said::NOTHING) as u32;
            }
        }
        BRK => {
            let space: Option<u64> = member(task as *const _, offsets.task_mm);
            if let Some(space) = space
                && let Some(now) = member(space as *const _, offsets.mm_break)
            {
                thread.kept = now;
            }
        }
        _ => {}
    }
}

#[inline(always)]
fn ends(regs: *const pt_regs, number: u64, result: u64) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((pid_tgid >> 32) as u32, pid_tgid as u32);
    let Some(process) = followed(tgid) else {
        return;
    };
    let Some(thread) = Thread::current(tgid, tid) else {
        return;
    };
    if thread.system_call as u64 != number {
        return;
    }
    thread.system_call = 0;
    let failed = result >= FIRST_ERROR;
    let (kind, range, traits) = match number {
        MUNMAP | MREMAP if failed => {
            let (kind, Some(range)) = (
                if number == MUNMAP {
                    EventKind::UnmapFailed
                } else {
                    EventKind::RemapFailed
                },
                Range::given(regs, number),
            ) else {
                return;
            };
            // A failure whose beginning found no room would be taken for that of an earlier one.
            if thread.retired != 0 {
                tell(process, tid, kind, range, &Said::NOTHING);
            }
            return;
        }
        SHMDT => {
            let Some(start) = argument(regs, 0) else {
                return;
            };
            let length = thread.kept;
            if failed && thread.retired != 0 {
                let range = Range { start, length };
                tell(process, tid, EventKind::UnmapFailed, range, &Said::NOTHING);
            } else if !failed && length == 0 {
                emit::count(Counter::LostFrees);
            }
            return;
        }
        MPROTECT | PKEY_MPROTECT if result == NO_MEMORY || result == NO_ACCESS => {
            let (Some(range), Some(protection)) = (Range::given(regs, number), argument(regs, 2))
            else {
                return;
            };
            let accessible = committed(protection) != 0;
            let Ok(length) = area::as_accessible(range.start, range.length, accessible) else {
                emit::count(Counter::LostAllocations);
                return;
            };
            if length == 0 {
                return;
            }
            let range = Range { length, ..range };
            (EventKind::Protected, range, committed(protection))
        }
        _ if failed => return,
        SHMAT => {
            let length = area::segment(result).unwrap_or(0);
            if length == 0 {
                emit::count(Counter::LostAllocations);
                return;
            }
            let range = Range {
                start: result,
                length,
            };
            (EventKind::Mapped, range, MAPPING_COMMITTED | MAPPING_SHARED)
        }
        MMAP => {
            let Some((length, mut traits)) = asked_for(regs) else {
                return;
            };
            // What is a file by name alone is memory that is shared.
            if traits & MAPPING_FILE != 0
                && traits & MAPPING_SHARED != 0
                && area::is_of_memory(result)
            {
                traits &= !MAPPING_FILE;
            }
            let range = Range {
                start: result,
                length,
            };
            (EventKind::Mapped, range, traits)
        }
        MREMAP => {
            let (Some(old), Some(new), Some(flags)) =
                (argument(regs, 1), argument(regs, 2), argument(regs, 3))
            else {
                return;
            };
            let range = Range {
                start: result,
                length: whole_pages(new),
            };
            // From no length at all it makes a second mapping of the same shared pages.
            let keeps_old = flags & MREMAP_DONTUNMAP != 0 || old == 0;
            let traits = if keeps_old { MAPPING_KEEPS_OLD } else { 0 };
            (EventKind::Remapped, range, traits)
        }
        BRK => {
            let before = thread.kept;
            if before == 0 || before == result {
                return;
            }
            let breaks = Range {
                start: result,
                length: before,
            };
            (EventKind::BreakMoved, breaks, 0)
        }
        MPROTECT | PKEY_MPROTECT => {
            let (Some(range), Some(protection)) = (Range::given(regs, number), argument(regs, 2))
            else {
                return;
            };
            (EventKind::Protected, range, committed(protection))
        }
        MADVISE => {
            let (Some(range), Some(advice)) = (Range::given(regs, number), argument(regs, 2))
            else {
                return;
            };
            if matches!(advice, MADV_DONTNEED | MADV_FREE | MADV_REMOVE) {
                tell(process, tid, EventKind::Discarded, range, &Said::NOTHING);
            }
            return;
        }
        _ => return,
    };
    let sp = unsafe { bpf_probe_read_kernel(&raw const (*regs).rsp) }.unwrap_or(0);
    let is_allocators = call::is_of_latest_call(thread, sp) || call::is_of_untaken_call(thread, sp);
    let by_allocator = if is_allocators { FLAG_BY_ALLOCATOR } else { 0 };
    let (stack, cut) = walk::take_of_system_call(process, tid, regs);
    let said = Said {
        stack,
        flags: by_allocator | cut,
        traits,
    };
    tell(process, tid, kind, range, &said);
}

/// An argument of the call.
#[inline(always)]
fn argument(regs: *const pt_regs, index: usize) -> Option<u64> {
    let place = unsafe {
        match index {
            0 => &raw const (*regs).rdi,
            1 => &raw const (*regs).rsi,
            2 => &raw const (*regs).rdx,
            _ => &raw const (*regs).r10,
        }
    };
    unsafe { bpf_probe_read_kernel(place) }.ok()
}

/// A range of whole pages; of `BreakMoved`, the break after and before.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    length: u64,
}

impl Range {
    /// The range that the first two arguments give; `None` where the kernel takes none.
    #[inline(always)]
    fn given(regs: *const pt_regs, number: u64) -> Option<Self> {
        let (start, length) = (argument(regs, 0)?, whole_pages(argument(regs, 1)?));
        // `mremap` from no length: what lies at the address is what the new mapping will be like.
        let length = if length == 0 && number == MREMAP {
            PAGE
        } else {
            length
        };
        (start & (PAGE - 1) == 0 && length != 0).then_some(Self { start, length })
    }
}

/// A length, rounded up as the kernel does; what overflows it refuses.
#[inline(always)]
fn whole_pages(length: u64) -> u64 {
    length.wrapping_add(PAGE - 1) & !(PAGE - 1)
}

/// Length and `MAPPING_*` of what `mmap` was asked for.
#[inline(always)]
fn asked_for(regs: *const pt_regs) -> Option<(u64, u8)> {
    let (length, protection, flags) = (argument(regs, 1)?, argument(regs, 2)?, argument(regs, 3)?);
    let mut traits = committed(protection);
    let mut length = whole_pages(length);
    if flags & MAP_ANONYMOUS == 0 {
        traits |= MAPPING_FILE;
    } else if flags & MAP_HUGETLB != 0 {
        // The flags say the size of its pages, or nothing for that of most machines, 2 MiB.
        let shift = flags >> MAP_HUGE_SHIFT & 63;
        let page = 1 << if shift == 0 { 21 } else { shift };
        length = length.wrapping_add(page - 1) & !(page - 1);
    }
    if matches!(flags & MAP_TYPE, MAP_SHARED | MAP_SHARED_VALIDATE) {
        traits |= MAPPING_SHARED;
    }
    if flags & (MAP_STACK | MAP_GROWSDOWN) != 0 {
        traits |= MAPPING_STACK;
    }
    Some((length, traits))
}

#[inline(always)]
fn committed(protection: u64) -> u8 {
    if protection & PROT_ANY != 0 {
        MAPPING_COMMITTED
    } else {
        0
    }
}

/// What an event says besides its range.
struct Said {
    stack: u64,
    flags: u8,
    /// Bits `MAPPING_*`.
    traits: u8,
}

impl Said {
    const NOTHING: Self = Self {
        stack: 0,
        flags: 0,
        traits: 0,
    };
}

/// Sends an event; says whether there was room.
#[inline(always)]
fn tell(process: &TracedProcess, tid: u32, kind: EventKind, range: Range, said: &Said) -> bool {
    let lost = match kind {
        EventKind::Mapped | EventKind::Remapped | EventKind::BreakMoved | EventKind::Protected => {
            Counter::LostAllocations
        }
        _ => Counter::LostFrees,
    };
    let at_ns = unsafe { bpf_ktime_get_ns() };
    emit::send(
        &RawEvent {
            at_ns,
            address: range.start,
            size: range.length,
            stack: said.stack,
            process: process.identity,
            tid,
            epoch: process.epoch,
            kind: kind as u8,
            flags: said.flags,
            function: said.traits,
            slot: 0,
        },
        lost,
        emit::is_worth_waking(at_ns),
    )
}
