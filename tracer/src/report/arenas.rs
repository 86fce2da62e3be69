//! pymalloc's arenas: Python gets memory for its small objects in large pieces, and a stack that a piece was mapped on tells only
//! whose object happened to be the first that no longer fitted. So they are one holder.

use std::collections::HashMap;

use super::model::Profile;
use super::name::NamedFrame;
use super::telling;
use super::view::Alike;
use crate::event::StackIndex;
use crate::live::Kind;
use crate::record::{FrameKind, Module};

/// What the holder of all arenas is called.
pub(super) const LABEL: &str = "Python's small objects";
/// What there is to say of it.
pub(super) const ADVICE: &str = "who holds them was not seen: --python-allocators";

/// The same where there is less room.
pub(super) const SHORT_ADVICE: &str = "held by whom: --python-allocators";

/// How long an arena is, bytes: before CPython 3.10, and from then on
/// (<https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_obmalloc.h#L232>).
const SIZES: [u64; 2] = [256 << 10, 1 << 20];

/// Functions of the interpreter that may be the first outside of libc when an arena is mapped. Most are static, so that in a program
/// without debug information they have no name.
const FUNCTIONS: [&str; 13] = [
    "_PyObject_ArenaMmap",
    "_PyMem_ArenaAlloc",
    "new_arena",
    "allocate_from_new_pool",
    "pymalloc_alloc",
    "_PyObject_Malloc",
    "_PyObject_Calloc",
    "_PyObject_Realloc",
    "PyObject_Malloc",
    "PyObject_Calloc",
    "PyObject_Realloc",
    "PyMem_Malloc",
    "PyMem_Realloc",
];

/// The stacks that arenas were mapped on, and how long each arena is, bytes.
pub(super) fn stacks(profile: &Profile, alike: &Alike) -> HashMap<StackIndex, u64> {
    let mappings = profile.allocated.iter();
    let mappings = mappings.filter(|holder| holder.kind == Kind::Mapping);
    mappings
        .filter_map(|holder| {
            let size = size(holder.bytes, holder.blocks)?;
            let frames = profile.frames(holder.stack)?;
            let maps = alike.is_called_by_interpreter(holder.stack) || maps_arena(&frames);
            maps.then_some((holder.stack, size))
        })
        .collect()
}

/// How long each of so many mappings is, if all may be arenas. (What is live of them says less: neighbours are one mapping.)
fn size(bytes: u64, mappings: u64) -> Option<u64> {
    let is_each = |size: &u64| mappings > 0 && mappings.checked_mul(*size) == Some(bytes);
    SIZES.into_iter().find(is_each)
}

/// Whether the innermost frame outside of libc is the interpreter's allocator.
fn maps_arena(frames: &[NamedFrame<'_>]) -> bool {
    let first = frames.iter().find(|frame| !is_of_libc(frame));
    // Where the interpreter's own frames are left out, a Python function stands right before the system call.
    if first.is_some_and(|first| first.kind.is_managed()) {
        return true;
    }
    let Some(first) = first else {
        return false;
    };
    let is_python = || frames.iter().any(|frame| frame.kind.is_managed());
    let is_interpreter = is_of_interpreter(first, frames);
    match first.function {
        // The interpreter may be a part of the program.
        Some(function) => FUNCTIONS.contains(&function) && (is_interpreter || is_python()),
        None => is_interpreter,
    }
}

fn file_name(module: &Module) -> String {
    let name = module.path.file_name();
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn is_of_libc(frame: &NamedFrame<'_>) -> bool {
    frame.module.is_some_and(telling::is_libc)
}

fn is_of_interpreter(frame: &NamedFrame<'_>, frames: &[NamedFrame<'_>]) -> bool {
    let name = frame.module.map_or_else(String::new, file_name);
    let named = ["python", "libpython"]
        .iter()
        .any(|start| name.starts_with(start));
    let runs_python = |other: &NamedFrame<'_>| {
        matches!(other.kind, FrameKind::Interpreter(_)) && other.module == frame.module
    };
    frame.module.is_some() && (named || frames.iter().any(runs_python))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::RuntimeIndex;

    fn frame<'a>(module: &'a Module, function: Option<&'a str>) -> NamedFrame<'a> {
        NamedFrame {
            module: Some(module),
            function,
            ..NamedFrame::default()
        }
    }

    #[test]
    fn arenas_are_told_by_the_interpreters_allocator_with_a_name_or_without() {
        let [libc, python, numpy] = [
            "/lib/libc.so.6",
            "/usr/bin/python3.11",
            "/lib/_multiarray.so",
        ]
        .map(|path| Module {
            index: 0,
            path: path.into(),
            build_id: None,
        });
        let mmap = frame(&libc, Some("mmap64"));
        for first in [Some("_PyObject_ArenaMmap"), Some("_PyObject_Malloc"), None] {
            assert!(
                maps_arena(&[mmap.clone(), frame(&python, first)]),
                "{first:?}"
            );
        }
        assert!(!maps_arena(&[
            mmap.clone(),
            frame(&python, Some("new_mmap_object"))
        ]));
        assert!(!maps_arena(&[
            mmap.clone(),
            frame(&numpy, None),
            frame(&python, None)
        ]));
        let line = NamedFrame {
            kind: FrameKind::Managed(RuntimeIndex(0)),
            ..NamedFrame::default()
        };
        assert!(maps_arena(&[mmap.clone(), line.clone()]));
        assert!(maps_arena(&[line]));
        assert!(!maps_arena(&[mmap]));
    }

    #[test]
    fn arenas_are_all_of_one_length() {
        assert_eq!(size(18 << 20, 18), Some(1 << 20));
        assert_eq!(size(3 << 18, 3), Some(1 << 18));
        assert_eq!(size(18 << 20, 13), None);
        assert_eq!(size(8 << 20, 1), None);
        assert_eq!(size(0, 0), None);
    }
}
