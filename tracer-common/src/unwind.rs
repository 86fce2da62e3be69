//! Unwind tables as the kernel side reads them.
//!
//! ```text
//! address ──► CodeRange ──► Unit ──► Row ──► Rule
//!          CODE_RANGES     └── TABLES[table] ┘   RULES
//! ```
//!
//! One table per ELF file, shared by all processes that map it: an inner array of `TABLES` with 8-byte elements, first
//! [`CodeRange::units`] of [`Unit`], then the rows. A program counter's unit is computed, not searched for; it names the
//! few rows among which the last one at or below the program counter is the right one.

/// A stretch of a process's address space that holds code. Ranges of a process lie side by side, sorted by `start`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CodeRange {
    /// First address of the range.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
    /// What to take from an address to get the table's program counter.
    pub bias: u64,
    /// Which of `TABLES`, or a `TABLE_*`.
    pub table: u32,
    /// How many units the table has; its rows begin there.
    pub units: u32,
    /// Binary logarithm of the bytes that a unit covers.
    pub unit_shift: u32,
    /// Always zero: the layout has no implicit padding.
    pub reserved: u32,
}

const _: () = assert!(size_of::<CodeRange>() == 40);

/// A file whose table is not there yet.
pub const TABLE_PENDING: u32 = u32::MAX;
/// Code that keeps frame pointers, or may: what is compiled at run time, and files without any call frame information.
pub const TABLE_FRAME_POINTERS: u32 = u32::MAX - 1;

/// Flags of the inner maps of `TABLES`: any length (`BPF_F_INNER_MAP`, from Linux 5.10), filled by mapping it
/// (`BPF_F_MMAPABLE`).
pub const TABLE_FLAGS: u32 = 1 << 12 | 1 << 10;

/// Most tables at once.
pub const MAX_TABLES: u32 = 8192;
/// Most code ranges of all processes together.
pub const MAX_CODE_RANGES: u32 = 32 << 10;
/// Most code ranges of one process.
pub const MAX_CODE_RANGES_OF_PROCESS: u32 = 8 << 10;
/// Most distinct rules.
pub const MAX_RULES: u32 = 64 << 10;
/// Most rows of one table.
pub const MAX_ROWS: u32 = 8 << 20;

/// The rows that can apply to the program counters of one unit, as indices among the table's rows, both inclusive:
/// `first` is the last row at or below the unit's first byte (or 0), `last` the last one below its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Unit {
    /// Index of the first candidate row.
    pub first: u32,
    /// Index of the last candidate row.
    pub last: u32,
}

/// From `pc` on (to the next row), `rule` applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Row {
    /// Program counter, from the table's base.
    pub pc: u32,
    /// Index in `RULES`.
    pub rule: u32,
}

const _: () = assert!(size_of::<Unit>() == 8 && size_of::<Row>() == 8);

/// How to get from a frame to its caller's.
///
/// The return address lies right below the canonical frame address (CFA), except in signal frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Rule {
    /// How the canonical frame address is found: one of `CFA_*`.
    pub cfa: u8,
    /// The register that the CFA comes from, as DWARF numbers it (0-15).
    pub register: u8,
    /// Which of the [`SAVED_REGISTERS`] the frame has saved: bit n for the n-th.
    pub saves: u8,
    /// 0: `slots` count from the CFA. 1: from the value of `rbp` in this frame (realigned stacks).
    pub slots_from_rbp: u8,
    /// Added to the register.
    pub offset: i32,
    /// [`CFA_DEREFERENCED`]: added to the word read. [`CFA_PLT`]: from this low nibble of the program counter on, one more
    /// word is on the stack.
    pub add: i32,
    /// Where each of the [`SAVED_REGISTERS`] lies, in words of 8 bytes.
    pub slots: [i16; 6],
}

const _: () = assert!(size_of::<Rule>() == 24);

/// The callee-saved registers that can matter to a CFA further up, as DWARF numbers them: rbx, rbp, r12 to r15. `rsp` is the
/// CFA of the frame below.
pub const SAVED_REGISTERS: [u8; 6] = [3, 6, 12, 13, 14, 15];
/// The place of `rbp` in [`SAVED_REGISTERS`].
pub const SAVED_RBP: usize = 1;

/// Nothing is known: a gap between functions, code without call frame information.
pub const CFA_UNKNOWN: u8 = 0;
/// `register + offset`
pub const CFA_REGISTER: u8 = 1;
/// `*(register + offset) + add`
pub const CFA_DEREFERENCED: u8 = 2;
/// A procedure linkage table's entry: `register + offset + ((pc & 15) >= add ? 8 : 0)`
pub const CFA_PLT: u8 = 3;
/// The frame that a signal handler returns to: all registers lie in the `ucontext` that `rsp` points to.
pub const CFA_SIGNAL: u8 = 4;
/// The outermost frame: its return address is undefined.
pub const CFA_END: u8 = 5;
/// There is a rule that this format has no words for.
pub const CFA_UNSUPPORTED: u8 = 6;

/// Code that keeps frame pointers: `rbp + 16`, and the caller's `rbp` below the return address.
pub const CFA_FRAME_POINTER: u8 = 7;

/// Where the kernel's signal frame keeps the registers, from the `ucontext` on: r8 is the first
/// (<https://github.com/torvalds/linux/blob/v6.18/arch/x86/include/uapi/asm/sigcontext.h#L247>).
pub const SIGNAL_REGISTERS: u64 = 40;
/// The place of each DWARF register (0-16, 16 being the program counter) among them.
pub const SIGNAL_ORDER: [u8; 17] = [13, 12, 14, 11, 9, 8, 10, 15, 0, 1, 2, 3, 4, 5, 6, 7, 16];

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CodeRange {}
// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Rule {}
