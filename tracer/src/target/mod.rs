//! What is known of a process from outside, through `/proc`: before any probe goes in, and without touching it.
//!
//! Everything read here was written by someone else (file names, ELF files, process titles) and may change while it
//! is read. So every read is bounded, every parser total, and "the process went away" is an error with a name
//! ([`TargetError::Gone`]).

pub mod allocator;
pub mod cgroup;
pub mod elf;
pub mod error;
mod file_rights;
pub mod launch;
pub mod leftover;
pub mod listed;
pub mod makeup;
pub mod malloc;
pub mod mapped_file;
pub mod maps;
pub mod memory;
pub mod named_file;
mod named_link;
pub mod namespace;
pub mod pages;
pub mod placement;
pub mod probed_code;
pub mod process;
mod procfs;
mod refusal;
pub mod room;
pub mod safety;
mod thunk;
pub mod vdso;

pub use error::TargetError;
pub use process::{Target, descendants, leave_out_arguments};
pub use refusal::Refusal;
