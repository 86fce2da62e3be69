//! Unwind tables: from the call frame information of ELF files to what the kernel side walks stacks with.
//!
//! ```text
//! ELF file ──► Sections ──► Functions ──► Draft ──► Table
//!           elf       cfi, rule, bottoms  table  (RuleBook)
//! ```
//!
//! A [`Draft`] is made of one file alone, on any thread. Only the last step needs the one [`RuleBook`] of the session,
//! in which rules are told apart for all tables together. What rows and rules mean is said in
//! [`highwater_common::unwind`].
//!
//! The files belong to whoever wrote the target: every read is bounded, nothing is mapped, and what makes no sense is
//! counted ([`Faults`]) and leaves its function without a rule.

mod bottoms;
mod cfi;
mod elf;
pub mod python;
mod rule;
mod rules;
mod table;
#[cfg(test)]
mod tests;
mod units;

use std::io;

pub use rules::RuleBook;
pub use table::{Draft, Table};

/// Why a file has no unwind table.
#[derive(Debug, thiserror::Error)]
pub enum UnwindError {
    /// It is something else.
    #[error("not an x86-64 ELF executable or shared object")]
    NotElf,
    /// It could not be read.
    #[error("reading {what}: {error}")]
    Unreadable {
        /// The part of the file that was to be read.
        what: &'static str,
        /// What the system or the decompressor said.
        error: io::Error,
    },
    /// Something in it is larger than any linker makes it, or larger than it says.
    #[error("{what} is larger than the {most} we read of it")]
    TooLarge {
        /// The part of the file that is too large.
        what: &'static str,
        /// Most that is read of it: bytes, or entries of a table.
        most: u64,
    },
    /// It has neither `.eh_frame` nor `.debug_frame`, or there is nothing about its code in them.
    #[error("no call frame information")]
    NoFrameInformation,
}

/// What of a file's call frame information is not in its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Entries (CIEs, FDEs) that could not be parsed, wholly or from some instruction on.
    pub broken_entries: u64,
    /// Rows whose rule the tables have no words for.
    pub unsupported_rules: u64,
    /// Rows left out: the table is full, or they are about addresses outside of the file's code.
    pub rows_dropped: u64,
}
