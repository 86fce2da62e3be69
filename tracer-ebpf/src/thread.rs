//! What is kept of each thread: the calls under way, and what is known of its process.
//!
//! Every hit needs both, so both are found without a search: a thread's place is told by its tid. Where machines number more
//! threads than there are places, several share a set of four, and those that find it full go to another set, which is told by a
//! hash of the tid: those that have the first set in common do not have the second. The copy of the process is good for as long as nothing has
//! changed any process: two counters say so, one that only the user side writes, one that only the kernel side adds to.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use highwater_common::{cookie::Function, counter::Counter, process::TracedProcess};

use crate::{
    atomic,
    call::{Call, MAX_CALLS},
    emit::count,
    maps::{CHANGES, PROCESSES, TABLE_SIZES, THREADS},
};

/// Binary logarithm of the places of a set. Linux numbers threads up to 32768 unless it is told otherwise: in a table of that size
/// each has its own place.
const SET_LOG2: u32 = 2;
const SET: u32 = 1 << SET_LOG2;
/// The places in which a thread may be kept: those of two sets.
const WAYS: u32 = 2 * SET;

/// A number is spread over all bits by it: the golden ratio's.
const SPREAD: u32 = 0x9e37_79b1;

/// The thread was seen with an alternate stack that the kernel forgets while its handler runs.
pub const THREAD_AUTODISARMS: u32 = 1;
/// The thread was seen with an alternate stack above its own, and that was told.
pub const THREAD_ABOVE_TOLD: u32 = 2;

/// A call that was not sampled, as far as it may have to be known again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Untaken {
    /// Stack pointer at entry; 0: there is none.
    pub sp: u64,
    /// The address that the call returns to.
    pub return_address: u64,
    /// 1: its function hands it on to another one by a jump ([`crate::entry`]).
    pub is_handed_on: u32,
    /// How many more calls are kept for [`crate::call::is_of_untaken_call`]: stacks may be cut still, so that they do not say
    /// what comes from the allocator.
    pub kept_for_mappings: u32,
}

impl Untaken {
    const NONE: Self = Self {
        sp: 0,
        return_address: 0,
        is_handed_on: 0,
        kept_for_mappings: 0,
    };
}

/// What is remembered of a thread from one probe to the next.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// Its tid; 0: the place is free.
    owner: u64,
    /// How many of `calls` are under way.
    pub depth: u32,
    /// Nested calls whose return probe will fire though we do not follow them (links without sessions).
    pub nested: u32,
    /// Bits `THREAD_*`.
    pub flags: u32,
    /// When `process` was copied: the two of [`CHANGES`].
    seen: [u64; 2],
    /// The process that the thread belongs to.
    pub process: TracedProcess,
    /// Sampling: bytes that may still be asked for before the next sample.
    pub until_sample: u64,
    /// ... and the exponent by which that was drawn; 0: it was not.
    pub exponent: u32,
    /// Sampling: what is known of the latest call that was not sampled.
    pub untaken: Untaken,
    /// Of the latest free that was sent: the stack pointer at its entry ...
    pub freed_sp: u64,
    /// ... and the block; 0: the thread has called another function of the allocator since.
    pub freed: u64,
    /// The system call about mappings that the thread is in ([`crate::mapping`]), 0: none.
    pub system_call: u32,
    /// 1: that call's range was retired, and the ring had room to say so.
    pub retired: u32,
    /// The function that is called.
    function: u32,
    /// What the end of that call needs of its beginning. `brk`: where the break was; `shmdt`: how long the segment is.
    pub kept: u64,
    pub calls: [Call; MAX_CALLS],
}

impl Thread {
    /// This thread, if its process is traced. `None` is counted: the process is not, or the table is full.
    #[inline(always)]
    pub fn current(tgid: u32, tid: u32) -> Option<&'static mut Self> {
        let thread = unsafe { &mut *THREADS.get_ptr_mut(place(tid, 0))? };
        if thread.owner == tid as u64 && thread.seen == changes()? {
            return Some(thread);
        }
        let place = hw_thread(tgid, tid);
        Some(unsafe { &mut *THREADS.get_ptr_mut(place as u32)? })
    }
}

/// How often processes have changed.
#[inline(always)]
fn changes() -> Option<[u64; 2]> {
    let (user, kernel) = (CHANGES.get(0)?, CHANGES.get(1)?);
    Some(unsafe {
        [
            core::ptr::read_volatile(user),
            core::ptr::read_volatile(kernel),
        ]
    })
}

impl Thread {
    /// The function once more, in a way that the verifier does not know which one it is: all that follows would be looked at for
    /// each of them.
    #[inline(always)]
    pub fn forget_which(&mut self, function: Function) -> Option<Function> {
        let place = &raw mut self.function;
        unsafe {
            core::ptr::write_volatile(place, function as u32);
            Function::from_cookie(core::ptr::read_volatile(place) as u64)
        }
    }
}

/// No place in [`THREADS`].
const NO_PLACE: u64 = u32::MAX as u64;

/// The same for a thread that is not where most are, or whose copy of the process is old: its place in [`THREADS`], its copy of the process as new as can be; or [`NO_PLACE`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_thread(tgid: u32, tid: u32) -> u64 {
    // Read before the process is: a change in between is found next time.
    let Some(seen) = changes() else {
        return NO_PLACE;
    };
    if let Some((place, thread)) = find(tid) {
        if thread.seen == seen {
            return place as u64;
        }
        return hw_refresh(place, tgid, seen[0], seen[1]);
    }
    // Strangers are given no place.
    if unsafe { PROCESSES.get(tgid) }.is_none() {
        count(Counter::Strangers);
        return NO_PLACE;
    }
    let Some(place) = claim(tid) else {
        count(Counter::ThreadsFull);
        return NO_PLACE;
    };
    hw_refresh(place, tgid, seen[0], seen[1])
}

/// Looks at the process again. Gives the place once more, or [`NO_PLACE`] if it is not traced.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_refresh(place: u32, tgid: u32, user: u64, kernel: u64) -> u64 {
    let Some(process) = (unsafe { PROCESSES.get(tgid) }) else {
        count(Counter::Strangers);
        return NO_PLACE;
    };
    let Some(thread) = THREADS.get_ptr_mut(place) else {
        return NO_PLACE;
    };
    let thread = unsafe { &mut *thread };
    if thread.process.identity != process.identity {
        // Another thread had this tid, or this one was another program.
        thread.depth = 0;
        thread.nested = 0;
        thread.flags = 0;
        thread.exponent = 0;
        thread.untaken = Untaken::NONE;
        thread.freed = 0;
        thread.system_call = 0;
    }
    // Said so, or the compiler has it copied byte by byte.
    unsafe { core::ptr::copy_nonoverlapping(process, &raw mut thread.process, 1) };
    thread.seen = [user, kernel];
    place as u64
}

/// The place that a thread has.
#[inline(always)]
fn find(tid: u32) -> Option<(u32, &'static mut Thread)> {
    for way in 0..WAYS {
        let place = place(tid, way);
        let thread = unsafe { &mut *THREADS.get_ptr_mut(place)? };
        if thread.owner == tid as u64 {
            return Some((place, thread));
        }
    }
    None
}

#[inline(always)]
fn place(tid: u32, way: u32) -> u32 {
    let sets = (TABLE_SIZES.load().threads - SET_LOG2) & 31;
    let set = if way < SET {
        tid
    } else {
        // The upper half, which all bits of the number have gone into.
        tid.wrapping_mul(SPREAD) >> 16
    };
    let way = ((tid >> sets) + way) & (SET - 1);
    (set & ((1 << sets) - 1)) + (way << sets)
}

/// Gives a thread a place that is free.
#[inline(always)]
fn claim(tid: u32) -> Option<u32> {
    for way in 0..WAYS {
        let place = place(tid, way);
        let thread = THREADS.get_ptr_mut(place)?;
        let owner = unsafe { &raw mut (*thread).owner };
        let (_, taken) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                owner, 0, tid as u64,
            )
        };
        if taken {
            let thread = unsafe { &mut *thread };
            // The process that it is compared with has an identity.
            thread.process.identity = 0;
            return Some(place);
        }
    }
    None
}

/// A thread has ended, or begins anew.
#[inline(always)]
pub fn forget(tid: u32) {
    if let Some((_, thread)) = find(tid) {
        unsafe { core::ptr::write_volatile(&raw mut thread.owner, 0) };
    }
}

/// What is known of a process has changed: copies are to be made anew.
#[inline(always)]
pub fn process_changed() {
    if let Some(changes) = CHANGES.get_ptr_mut(1) {
        atomic::increment(changes);
    }
}
