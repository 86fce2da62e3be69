//! The functions and the runtime of versions 1 to 3, which had numbers but no entries.

use crate::event::FunctionIndex;
use crate::record::{Does, Entry, Function, Runtime, RuntimeIndex};

/// By number, from 1.
const NAMES: [(&str, Does); FUNCTIONS as usize] = [
    ("malloc", Does::Allocates),
    ("calloc", Does::Allocates),
    ("realloc", Does::Resizes),
    ("reallocarray", Does::Resizes),
    ("posix_memalign", Does::Allocates),
    ("aligned_alloc", Does::Allocates),
    ("memalign", Does::Allocates),
    ("valloc", Does::Allocates),
    ("pvalloc", Does::Allocates),
    ("free", Does::Frees),
    ("cfree", Does::Frees),
    ("free_sized", Does::Frees),
    ("free_aligned_sized", Does::Frees),
];

/// How many there were.
pub(super) const FUNCTIONS: u8 = 13;

/// What a later version would have defined.
pub(in crate::record) fn definitions() -> impl Iterator<Item = Entry> {
    let python = Entry::Runtime(Runtime {
        index: RuntimeIndex(0),
        name: "python".to_owned(),
    });
    let functions = NAMES.iter().zip(1..).map(|(&(name, does), index)| {
        Entry::Function(Function {
            index: FunctionIndex(index),
            name: name.to_owned(),
            allocator: "glibc".to_owned(),
            does,
        })
    });
    functions.chain([python])
}
