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
//! Code that no file has, made as the process runs, is named by the process's [perf map](perf_map), which is read again
//! as it grows. Debug information that is not on this machine is fetched where `DEBUGINFOD_URLS` asks for that.
//!
//! ELF files, DWARF and symbol names belong to whoever wrote the target. [`elf`], [`debug_file`] and [`dwarf`] look
//! at a file first, with bounded reads, and only what they find bearable is handed on to blazesym; [`demangle`]
//! bounds the names that come back.

mod cxx;
pub mod debug_file;
mod debuginfod;
pub mod demangle;
pub mod dwarf;
pub mod elf;
#[cfg(test)]
mod fixture;
pub mod interner;
mod jit;
pub mod locate;
mod module;
mod named;
mod parents;
pub mod perf_map;
mod requests;
pub mod resolver;
pub mod thread;

mod worker;

pub use interner::{FrameInterner, Interned};
pub use jit::PerfMapSource;
pub use locate::{CodeMap, CodeMapping};
pub use module::ModuleSource;
pub use requests::SymbolCounters;
pub use thread::Symbols;
