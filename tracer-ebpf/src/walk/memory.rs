//! A thread's last walk, and the room for the one under way.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{bpf_probe_read_user, generated::bpf_probe_read_user as gen_probe_read_user},
};
use highwater_common::{
    process::TracedProcess,
    python::{CodeRecord, MAX_PYTHON_FRAMES},
    stack::{CUT_DEPTH, MAX_FRAMES, StackHead},
    unwind::{CodeRange, SAVED_RBP},
};

use super::{find::Search, python::Python};
use crate::{
    atomic,
    maps::{TABLE_SIZES, WALKS},
};

/// In how many places a thread's walk may lie.
const WAYS: u32 = 8;

/// Words of the stack that are read at once.
const WINDOW_WORDS: usize = 128;
/// No address: nothing has been read yet.
pub const NO_WINDOW: u64 = 1 << 62;
/// How many of them lie below the one that was asked for: the registers that a callee has saved lie below its return address.
const WORDS_BELOW: u64 = 8;

/// Words that can follow a stack's head: more than there are, so that a mask bounds them.
const SENT_WORDS: usize = 4 * MAX_FRAMES;
const _: () = assert!(MAX_FRAMES + 2 * MAX_PYTHON_FRAMES <= SENT_WORDS);

/// How many rules are kept at hand.
const KNOWN_RULES: usize = 256;

/// A rule that was found for an address.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KnownRule {
    pub address: u64,
    pub tag: u32,
    /// Index in `RULES`.
    pub rule: u32,
}

/// One frame, with all that its place in the stack was concluded from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Frame {
    /// Return address into the frame's function; after a signal frame, the interrupted instruction.
    pub ip: u64,
    /// Canonical frame address: the caller's stack pointer. 0: the walk ended before it was known.
    pub cfa: u64,
    /// Hash of the frames from the outermost to this one.
    pub hash: u64,
    /// A second hash of the same.
    pub check: u64,
    /// Where the base register of the CFA was read. 0: it was still in the processor, or is the stack pointer.
    pub base_slot: u64,
    /// ... and what lay there.
    pub base: u64,
    /// Where the CFA itself was read (less `add`). 0: it was not.
    pub cfa_slot: u64,
    /// What to add to what is read at `cfa_slot`, bytes.
    pub add: i32,
    /// The saved registers that the CFA hangs on, a bit each.
    pub uses: u8,
    /// The saved registers that this frame's function has saved.
    pub saves: u8,
    /// The registers this frame leaves to its callers as they are, and that matter to a CFA there; or [`OPAQUE`].
    pub needs: u8,
    /// 1: `ip` is the next instruction itself, no return address.
    pub exact: u8,
}

const _: () = assert!(size_of::<Frame>() == 64);

/// In [`Frame::needs`]: the walk came through here in a way that is not kept. No walk is continued from this frame.
pub const OPAQUE: u8 = 0x80;

/// Whose walk it is, and what it is valid for.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    tid: u32,
    identity: u32,
    epoch: u32,
    generation: u32,
}

/// A thread's last walk, and the room for the one under way. All of it lies in map memory, of which the verifier knows
/// nothing: a number that it could follow would make every step a state of its own.
#[repr(C)]
pub struct Memory {
    /// 1 while a walk uses it. A thread is never in two walks at once, but others may look for room.
    busy: u64,
    owner: Owner,
    /// Where the walk under way starts.
    pub now: Start,
    /// Where the remembered walk started: the caller's return address, stack pointer and `rbp`.
    start: [u64; 3],
    /// Registers at the start that the walk hangs on, as [`Frame::needs`].
    pub start_needs: u64,
    /// Frames that are remembered: `frames[..count]`, outermost first.
    pub count: u64,
    /// What lay in the outermost frame's return address slot.
    pub root_return: u64,
    /// A `CUT_*`: how it ended.
    pub remembered_cut: u64,
    /// Identity under which it was sent, 0 if it was not...
    pub sent: u64,
    /// ... with these Python frames.
    pub sent_python: u64,

    /// A `CUT_*`: how the walk under way ended.
    pub cut: u64,
    /// The walk under way: the program counter, and whether it is no return address.
    pub ip: u64,
    pub exact: u64,
    /// Stack pointer: the CFA of the frame before.
    pub sp: u64,
    /// Where the signal frame just before keeps its registers. 0: the frame before was none.
    pub signal: u64,
    /// Where the callers' values of the saved registers lie. 0: still in the processor.
    pub slots: [u64; 8],
    /// The saved registers as they are in the processor.
    pub registers: [u64; 8],
    /// Frames so far; they lie at the end of `frames`, the first one last.
    pub fresh: u64,
    /// Remembered frames that the walk has not passed yet: `frames[..live]`.
    pub live: u64,
    /// Remembered frames that it was found to go on with: `frames[..joined]`.
    pub joined: u64,
    /// The frame's rule is being searched for.
    pub search: Search,
    /// The CFA below which remembered frames are passed.
    pub below: u64,
    /// Verification: 1 if the first frame's CFA was computed anew, so that what it was concluded from need not be looked at.
    pub first_is_known: u64,
    /// Verification: 1 once the outermost frame was found unchanged.
    pub holds: u64,
    /// Hashes that the outermost frame's begin from.
    pub seed: [u64; 2],
    /// Position of the remembered frame that is being verified.
    pub position: u64,
    /// Where the range search stands.
    pub code_start: u32,
    pub code_count: u32,
    /// The code range found last.
    pub range: CodeRange,

    /// The registers of the user's that a system call was made with: too many for the stack of BPF.
    pub user: pt_regs,

    /// Where `window` was read, or [`NO_WINDOW`].
    pub window_start: u64,
    /// A piece of the stack. Reading costs by the call, hardly by the byte, and a walk only goes up: so it reads ahead.
    pub window: [u64; WINDOW_WORDS],

    /// What the tables are valid for: entries of `known_rules` that say otherwise are not.
    pub tag: u32,
    pub reserved: u32,
    /// Rules found before, by address: stacks go through the same calls again and again.
    pub known_rules: [KnownRule; KNOWN_RULES],

    pub frames: [Frame; MAX_FRAMES],
    /// What is sent: the head and the addresses behind it, leaf first; then Python frames, of two words each.
    pub head: StackHead,
    pub addresses: [u64; SENT_WORDS],

    /// The Python frames, as they are now.
    pub python: Python,
    /// A code object that is sent.
    pub code: CodeRecord,
}

/// Where a walk starts: in a caller, just behind its call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Start {
    /// Return address of the call. (A system call's counts as one.)
    pub ip: u64,
    /// Stack pointer when the call has returned.
    pub sp: u64,
    /// The saved registers: rbx, rbp, r12 to r15.
    pub registers: [u64; 6],
}

impl Start {
    #[inline(always)]
    pub fn new(regs: &pt_regs) -> Self {
        Self {
            ip: regs.rip,
            sp: regs.rsp,
            registers: [regs.rbx, regs.rbp, regs.r12, regs.r13, regs.r14, regs.r15],
        }
    }
}

/// No place in `WALKS`.
const NO_PLACE: u64 = u32::MAX as u64;

/// Takes the memory of a thread's last walk, or one that can be made its own, and gives its place in `WALKS`.
#[inline(always)]
pub fn claim(process: &TracedProcess, tid: u32) -> u64 {
    let owner = Owner {
        tid,
        identity: process.identity,
        epoch: process.epoch,
        generation: process.code_generation,
    };
    let place = first_place(tid);
    if let Some(memory) = WALKS.get_ptr_mut(place)
        && unsafe { (*memory).owner.tid } == tid
        && claim_as(place as u64, &owner)
    {
        return place as u64;
    }
    hw_claim_walk(tid, owner.identity, owner.epoch, owner.generation)
}

/// Where a thread's walk lies unless others were there before.
#[inline(always)]
fn first_place(tid: u32) -> u32 {
    (tid.wrapping_mul(0x9e37_79b1) >> 16) & last_place()
}

#[inline(always)]
fn last_place() -> u32 {
    (1 << (TABLE_SIZES.load().walks & 31)) - 1
}

/// Takes the memory of a thread's last walk, or one that can be made its own, and gives its place in `WALKS`. [`NO_PLACE`]: all
/// that it may use are busy.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_claim_walk(tid: u32, identity: u32, epoch: u32, generation: u32) -> u64 {
    let owner = Owner {
        tid,
        identity,
        epoch,
        generation,
    };
    let (first, last) = (first_place(tid), last_place());
    let mut vacant = NO_PLACE;
    for way in 0..WAYS {
        let place = ((first + way) & last) as u64;
        let Some(candidate) = WALKS.get_ptr_mut(place as u32) else {
            return NO_PLACE;
        };
        let held_by = unsafe { (*candidate).owner.tid };
        if held_by == tid {
            return if claim_as(place, &owner) {
                place
            } else {
                NO_PLACE
            };
        }
        if held_by == 0 && vacant == NO_PLACE {
            vacant = place;
        }
    }
    if vacant != NO_PLACE && claim_as(vacant, &owner) {
        return vacant;
    }
    // Whose turn it is to be forgotten is as good as chance: the thread's number and the epoch.
    for way in 0..WAYS {
        let turn = (tid ^ epoch).wrapping_add(way);
        let place = ((first + turn % WAYS) & last) as u64;
        if claim_as(place, &owner) {
            return place;
        }
    }
    NO_PLACE
}

#[inline(always)]
fn claim_as(place: u64, owner: &Owner) -> bool {
    let Some(candidate) = WALKS.get_ptr_mut(place as u32) else {
        return false;
    };
    if atomic::exchange(unsafe { &raw mut (*candidate).busy }, 1) != 0 {
        return false;
    }
    let memory = unsafe { &mut *candidate };
    if memory.owner != *owner {
        memory.owner = *owner;
        memory.count = 0;
        memory.range = CodeRange::default();
    }
    true
}

/// A position among the frames, bounded in a way that the verifier sees: the compiler would leave out a mask that it can
/// prove needless, or prove it by comparisons that the verifier does not follow.
#[inline(always)]
fn bounded(position: u64) -> usize {
    const _: () = assert!(MAX_FRAMES == 1024);
    let mut position = position;
    unsafe { asm!("{0} &= 1023", inout(reg) position, options(pure, nomem, nostack)) };
    position as usize
}

impl Memory {
    /// The frame at a position.
    #[inline(always)]
    pub fn frame(&mut self, position: u64) -> &mut Frame {
        unsafe { self.frames.get_unchecked_mut(bounded(position)) }
    }

    /// Copies a frame from one position to another.
    #[inline(always)]
    pub fn move_frame(&mut self, from: u64, to: u64) {
        unsafe {
            let from = (&raw const *self.frames.get_unchecked(bounded(from))).cast::<u64>();
            let to = (&raw mut *self.frames.get_unchecked_mut(bounded(to))).cast::<u64>();
            for word in 0..size_of::<Frame>() / 8 {
                to.add(word).write(from.add(word).read());
            }
        }
    }

    /// Puts down an address to be sent.
    #[inline(always)]
    pub fn put_address(&mut self, index: u64, address: u64) {
        const _: () = assert!(SENT_WORDS == 4096);
        let mut index = index;
        unsafe {
            asm!("{0} &= 4095", inout(reg) index, options(pure, nomem, nostack));
            *self.addresses.get_unchecked_mut(index as usize) = address;
        }
    }

    /// A word of the stack as it is now; of a walk that has begun by forgetting the window.
    #[inline(always)]
    pub fn word(&mut self, address: u64) -> Option<u64> {
        const SIZE: u64 = WINDOW_WORDS as u64 * 8;
        if address & 7 != 0 {
            return unsafe { bpf_probe_read_user(address as *const u64) }.ok();
        }
        if address.wrapping_sub(self.window_start) >= SIZE {
            self.window_start = address.wrapping_sub(WORDS_BELOW * 8);
            let read = unsafe {
                gen_probe_read_user(
                    self.window.as_mut_ptr().cast(),
                    SIZE as u32,
                    self.window_start as *const c_void,
                )
            };
            if read != 0 {
                // Some of it is not there: the word alone may be.
                self.window_start = NO_WINDOW;
                return unsafe { bpf_probe_read_user(address as *const u64) }.ok();
            }
        }
        let mut index = address.wrapping_sub(self.window_start) >> 3;
        const _: () = assert!(WINDOW_WORDS == 128);
        unsafe {
            asm!("{0} &= 127", inout(reg) index, options(pure, nomem, nostack));
            Some(*self.window.get_unchecked(index as usize))
        }
    }

    /// The place where a rule for an address is kept.
    #[inline(always)]
    pub fn known_rule(&mut self, address: u64) -> &mut KnownRule {
        const _: () = assert!(KNOWN_RULES == 256);
        let mut index = address ^ address >> 8;
        unsafe {
            asm!("{0} &= 255", inout(reg) index, options(pure, nomem, nostack));
            self.known_rules.get_unchecked_mut(index as usize)
        }
    }

    /// Done with it.
    #[inline(always)]
    pub fn release(&mut self) {
        atomic::exchange(&raw mut self.busy, 0);
    }

    /// Whose memory it is: the kernel side's identity of the process.
    #[inline(always)]
    pub fn identity(&self) -> u32 {
        self.owner.identity
    }

    /// The process's mapping epoch.
    #[inline(always)]
    pub fn epoch(&self) -> u32 {
        self.owner.epoch
    }

    /// Whether the walk under way starts like the remembered one.
    #[inline(always)]
    pub fn starts_alike(&self) -> bool {
        const RBP: u64 = 1 << SAVED_RBP;
        let start = &self.now;
        self.count != 0
            && self.start[0] == start.ip
            && self.start[1] == start.sp
            && self.start_needs & !RBP == 0
            && (self.start_needs == 0 || self.start[2] == start.registers[SAVED_RBP])
    }

    /// A walk begins.
    #[inline(always)]
    pub fn begin(&mut self) {
        let start = self.now;
        self.start = [start.ip, start.sp, start.registers[SAVED_RBP]];
        self.ip = start.ip;
        self.exact = 0;
        self.sp = start.sp;
        self.signal = 0;
        for slot in &mut self.slots {
            *slot = 0;
        }
        for (to, from) in self.registers.iter_mut().zip(start.registers) {
            *to = from;
        }
        self.fresh = 0;
        self.live = self.count;
        self.joined = 0;
        self.cut = CUT_DEPTH as u64;
        self.sent = 0;
        self.tag = self.owner.identity
            ^ self.owner.epoch.rotate_left(16)
            ^ self.owner.generation.wrapping_mul(0x9e37_79b1)
            | 1;
    }
}
