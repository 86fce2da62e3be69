//! Names for code locations: which function, which file, which line.
//!
//! ```text
//! return address ──► (module, file offset) ──► FrameIndex ──► FrameNames
//!                 CodeMap                 FrameInterner   Symbols (thread "hw-symbol")
//! ```
//!
//! The first two steps are pure and cheap and happen where stacks arrive. The third reads ELF and DWARF, which may
//! take seconds for a large binary, and happens on a thread of its own. Files are held open from the moment they are
//! seen, so that names are found after the process has ended or its binary was replaced.
//!
//! ELF files, DWARF and symbol names belong to whoever wrote the target. [`elf`], [`debug_file`] and [`dwarf`] look
//! at a file first, with bounded reads, and only what they find bearable is handed on to blazesym; [`demangle`]
//! bounds the names that come back.

pub mod debug_file;
pub mod demangle;
pub mod dwarf;
pub mod elf;
#[cfg(test)]
mod fixture;
pub mod interner;
pub mod locate;
mod module;
mod named;
pub mod resolver;
pub mod thread;

pub use interner::FrameInterner;
pub use locate::{CodeMap, CodeMapping};
pub use module::ModuleSource;
pub use thread::{SymbolCounters, Symbols};
