//! Processes that are traced, as the kernel side knows them.

/// Value of the `PROCESSES` map, keyed by tgid in the initial pid namespace.
///
/// What is traced is a program image: one execution of one program by one process, from fork or exec to exec or exit. The
/// kernel side numbers them, from 1, and gives no number out again: at a fork, in the exec tracepoint itself (so that no event
/// of the new program can carry the old number), and where the user side asks for one (`hw_image`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TracedProcess {
    /// The number of the image.
    pub identity: u32,
    /// Mapping epoch, raised by either side when mappings have changed meaning.
    pub epoch: u32,
    /// Bits `PROCESS_*`.
    pub flags: u32,
    /// The process that runs it.
    pub tgid: u32,
    /// Where the allocator's library is mapped, first byte: a return address in it belongs to a nested call.
    pub libc_start: u64,
    /// ... and the byte after its last. Zero: not known yet.
    pub libc_end: u64,
    /// Where in it the allocator's own functions are. A block that is handed back from there was handed back before, by
    /// the program: thread ends empty the thread's cache so.
    pub allocator_start: u64,
    /// ... and the byte after their last. Zero: not known yet.
    pub allocator_end: u64,
    /// Its code ranges: the first one's place in `CODE_RANGES`.
    pub code_start: u32,
    /// ... and how many.
    pub code_count: u32,
    /// Raised by the user side whenever code ranges or tables have changed: remembered walks are dropped.
    pub code_generation: u32,
    /// Its Python interpreter: which of `INTERPRETERS`; 0: it has none.
    pub interpreter: u32,
}

const _: () = assert!(size_of::<TracedProcess>() == 64);

impl TracedProcess {
    /// Whether its calls do not count yet: their entries are not kept.
    #[inline(always)]
    pub const fn is_held(&self) -> bool {
        self.flags & (PROCESS_HELD | PROCESS_CALLS_HELD) != 0
    }

    /// What was said of the program before an exec says nothing of the one after it: whose memory it has, where its code lies,
    /// and what it runs. Both `hw_exec` and `hw_update`, which may be in the midst of saying so, end it by this.
    #[inline(always)]
    pub fn forget_program(&mut self) {
        self.flags &= !(PROCESS_HELD
            | PROCESS_CALLS_HELD
            | PROCESS_SHARES_MEMORY
            | PROCESS_CHANGED_SHARED
            | PROCESS_INHERITS);
        self.libc_start = 0;
        self.libc_end = 0;
        self.allocator_start = 0;
        self.allocator_end = 0;
        self.code_count = 0;
        self.interpreter = 0;
    }
}

/// A change of a [`TracedProcess`] by the user side, made by the kernel side's program `hw_update`: both sides write the
/// value, and one that was read, changed and put back whole would undo an exec that came in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUpdate {
    /// The process that the update is of.
    pub tgid: u32,
    /// The identity that the change is meant for: if the process has another one by now, nothing is changed.
    pub identity: u32,
    /// What is updated: bits `UPDATE_*`.
    pub what: u32,
    /// New bits `PROCESS_*`, where `what` has [`UPDATE_LIBRARY`].
    pub flags: u32,
    /// ... and where the allocator's library is, as in [`TracedProcess`].
    pub libc_start: u64,
    /// As in [`TracedProcess`].
    pub libc_end: u64,
    /// As in [`TracedProcess`].
    pub allocator_start: u64,
    /// As in [`TracedProcess`].
    pub allocator_end: u64,
    /// [`UPDATE_CODE`]: as in [`TracedProcess`].
    pub code_start: u32,
    /// As in [`TracedProcess`].
    pub code_count: u32,
    /// As in [`TracedProcess`].
    pub interpreter: u32,
}

/// Flags and the place of the library are set.
pub const UPDATE_LIBRARY: u32 = 1;
/// The place of code ranges and the interpreter are set, and a new code generation begins.
pub const UPDATE_CODE: u32 = 2;
/// A new mapping epoch begins.
pub const UPDATE_EPOCH: u32 = 4;

/// What `hw_update` answers: the process is not traced.
pub const UPDATED_NOTHING: u32 = 0;
/// ... it has called exec since.
pub const UPDATED_TOO_LATE: u32 = 1;
/// ... it was changed.
pub const UPDATED: u32 = 2;

impl ProcessUpdate {
    /// As arguments of a raw tracepoint, of which there are at most twelve.
    pub fn arguments(&self) -> [u64; 12] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [
            pair(self.tgid, self.identity),
            pair(self.what, self.flags),
            self.libc_start,
            self.libc_end,
            self.allocator_start,
            self.allocator_end,
            pair(self.code_start, self.code_count),
            u64::from(self.interpreter),
            0,
            0,
            0,
            0,
        ]
    }

    /// What [`ProcessUpdate::arguments`] made of it.
    #[inline(always)]
    pub fn from_arguments(argument: impl Fn(usize) -> u64) -> Self {
        let low = |index| argument(index) as u32;
        let high = |index| (argument(index) >> 32) as u32;
        Self {
            tgid: low(0),
            identity: high(0),
            what: low(1),
            flags: high(1),
            libc_start: argument(2),
            libc_end: argument(3),
            allocator_start: argument(4),
            allocator_end: argument(5),
            code_start: low(6),
            code_count: high(6),
            interpreter: low(7),
        }
    }
}

/// Calls are not followed until the process has called exec: the child that will become a launched command.
pub const PROCESS_HELD: u32 = 1;

/// Children are registered as they are forked: held if they share memory, until they call exec.
pub const PROCESS_FOLLOW_CHILDREN: u32 = 2;

/// The process runs in its parent's memory (`vfork`, `CLONE_VM`), until it calls exec; with [`PROCESS_HELD`].
pub const PROCESS_SHARES_MEMORY: u32 = 4;

/// ... and has changed that memory's mappings, which was counted.
pub const PROCESS_CHANGED_SHARED: u32 = 8;

/// The process was forked, and holds what its parent held until it calls exec: with sampling, its frees are sent whether or
/// not the block is known, since nobody here knows which of its parent's blocks were sampled.
pub const PROCESS_INHERITS: u32 = 16;

/// Calls of the allocator are not followed until all probes are in again; what changes the address space is.
pub const PROCESS_CALLS_HELD: u32 = 32;

/// Most processes traced at once.
pub const MAX_PROCESSES: u32 = 4096;

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for TracedProcess {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_program_before_an_exec_only_what_outlives_it_stays() {
        let mut process = TracedProcess {
            identity: 7,
            epoch: 3,
            flags: u32::MAX,
            tgid: 100,
            libc_start: 1,
            libc_end: 2,
            allocator_start: 3,
            allocator_end: 4,
            code_start: 5,
            code_count: 6,
            code_generation: 8,
            interpreter: 9,
        };
        process.forget_program();
        let said_of_a_program = PROCESS_HELD
            | PROCESS_CALLS_HELD
            | PROCESS_SHARES_MEMORY
            | PROCESS_CHANGED_SHARED
            | PROCESS_INHERITS;
        let left = TracedProcess {
            identity: 7,
            epoch: 3,
            flags: !said_of_a_program,
            tgid: 100,
            code_start: 5,
            code_generation: 8,
            ..TracedProcess::default()
        };
        assert_eq!(process, left);
    }
}
