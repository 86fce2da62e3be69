//! pymalloc's arenas: Python gets memory for its small objects in large pieces, and a stack that a piece was mapped on tells only
//! whose object happened to be the first that no longer fitted. So they are one holder.

use std::collections::HashSet;

use super::model::Profile;
use super::name::NamedFrame;
use crate::event::StackIndex;
use crate::live::Kind;
use crate::record::FrameKind;

/// What the holder of all arenas is called.
pub(super) const LABEL: &str = "Python's small objects";
/// What there is to say of it.
pub(super) const ADVICE: &str = "who holds them was not seen: --python-allocators";

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

/// The stacks that arenas were mapped on.
pub(super) fn stacks(profile: &Profile) -> HashSet<StackIndex> {
    let mappings = profile.allocated.iter();
    let mappings = mappings.filter(|holder| holder.kind == Kind::Mapping);
    mappings
        .filter(|holder| {
            let is_whole = |size: &u64| holder.blocks.checked_mul(*size) == Some(holder.bytes);
            holder.blocks > 0 && SIZES.iter().any(is_whole)
        })
        .map(|holder| holder.stack)
        .filter(|stack| {
            let frames = profile.frames(*stack);
            frames.is_some_and(|frames| maps_arena(&frames))
        })
        .collect()
}

/// Whether the innermost frame outside of libc is the interpreter's allocator.
fn maps_arena(frames: &[NamedFrame<'_>]) -> bool {
    let first = frames.iter().find(|frame| !is_of_libc(frame));
    let Some(first) = first.filter(|first| is_of_interpreter(first, frames)) else {
        return false;
    };
    match first.function {
        Some(function) => FUNCTIONS.contains(&function),
        None => true,
    }
}

fn file_name(frame: &NamedFrame<'_>) -> String {
    let path = frame.module.map(|module| &module.path);
    let name = path.and_then(|path| path.file_name());
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn is_of_libc(frame: &NamedFrame<'_>) -> bool {
    let name = file_name(frame);
    ["libc.so", "libc-", "libpthread"]
        .iter()
        .any(|start| name.starts_with(start))
}

fn is_of_interpreter(frame: &NamedFrame<'_>, frames: &[NamedFrame<'_>]) -> bool {
    let name = file_name(frame);
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
    use crate::record::Module;

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
        assert!(!maps_arena(&[mmap]));
    }
}
