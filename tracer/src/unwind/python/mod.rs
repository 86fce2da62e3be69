//! CPython: what the kernel side must know of an interpreter to read the frames of its threads.
//!
//! ```text
//! ELF file ──► Image ──► Layout ──► Interpreter (in the kernel)
//!           image     layout    live: held against the process itself
//! ```
//!
//! An [`Image`] says where in a file the evaluation loop and the interpreter's roots lie, a [`Layout`] where the members of
//! its structures do: from 3.13 on the interpreter itself says so (`_Py_DebugOffsets`), before that each version has its
//! table. Neither is believed: [`live`] reads a process's threads and frames by them, through `/proc/PID/mem` and without
//! stopping it, and the kernel side looks at each frame whether it is one. What a frame's line is, its code object's line
//! table says ([`lines`]).
//!
//! All of it belongs to whoever wrote the target.

pub mod image;
pub mod layout;
pub mod lines;
pub mod live;

pub use image::Image;
pub use layout::{Layout, Version};
pub use lines::Lines;
