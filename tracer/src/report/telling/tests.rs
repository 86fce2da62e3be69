//! Which frames tell who holds the memory.

use super::*;
use crate::record::RuntimeIndex;

fn named(function: &str) -> NamedFrame<'_> {
    NamedFrame {
        function: Some(function),
        ..NamedFrame::default()
    }
}

fn python<'a>(function: &'a str, file: &'a str) -> NamedFrame<'a> {
    NamedFrame {
        file: Some(file),
        kind: FrameKind::Managed(RuntimeIndex(0)),
        ..named(function)
    }
}

fn script<'a>(function: &'a str, file: &'a str) -> NamedFrame<'a> {
    NamedFrame {
        file: Some(file),
        runtime: Some(JAVASCRIPT),
        ..named(function)
    }
}

fn module(path: &str) -> Module {
    Module {
        index: 0,
        path: path.into(),
        build_id: None,
    }
}

fn labels(frames: &[NamedFrame<'_>], lines: usize) -> Vec<String> {
    let telling = most_telling(frames, lines);
    telling.iter().map(|frame| frame.label()).collect()
}

#[test]
fn plumbing_is_told_from_the_programs_own() {
    for name in [
        "operator new(unsigned long)",
        "std::vector<int, std::allocator<int>>::reserve(unsigned long)",
        "void std::vector<app::Row>::_M_realloc_insert<app::Row const&>(app::Row const&)",
        "<alloc::vec::Vec<T> as core::iter::Extend<T>>::extend",
        "alloc::alloc::alloc",
        "__rust_alloc",
        "__libc_start_main",
        "_start",
    ] {
        assert!(named(name).is_plumbing(), "{name}");
    }
    for name in [
        "main",
        "app::load(std::string const&)",
        "std_lib_wrapper",
        "<app::Table as core::clone::Clone>::clone",
        "restart",
    ] {
        assert!(!named(name).is_plumbing(), "{name}");
    }
}

#[test]
fn libraries_of_the_language_are_told_by_file_and_source() {
    for path in [
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/lib64/ld-linux-x86-64.so.2",
        "/usr/lib/libstdc++.so.6.0.30",
    ] {
        let library = module(path);
        let frame = NamedFrame {
            module: Some(&library),
            ..named("anything")
        };
        assert!(frame.is_plumbing(), "{path}");
    }
    let own = module("/srv/libcurl.so.4");
    assert!(
        !NamedFrame {
            module: Some(&own),
            ..named("anything")
        }
        .is_plumbing()
    );
    for file in [
        "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/alloc/src/alloc.rs",
        "library/core/src/ops/function.rs",
        "/usr/src/rustc-1.85.0/library/core/src/fmt/mod.rs",
        "/opt/rust/lib/rustlib/src/rust/library/std/src/rt.rs",
        "/usr/include/c++/12/bits/stl_vector.h",
    ] {
        let frame = NamedFrame {
            file: Some(file),
            ..named("alloc")
        };
        assert!(frame.is_plumbing(), "{file}");
    }
    let php = NamedFrame {
        file: Some("ext/standard/string.c"),
        ..named("php_repeat")
    };
    assert!(!php.is_plumbing());
}

#[test]
fn the_most_telling_frames_are_the_programs_own() {
    let frames = [
        named("operator new(unsigned long)"),
        NamedFrame::default(),
        named("load"),
        named("std::invoke"),
        named("main"),
    ];
    assert_eq!(labels(&frames, 4), ["load", "main"]);
    assert_eq!(labels(&frames, 1), ["load"]);
    assert_eq!(labels(&frames[..1], 4), ["operator new(unsigned long)"]);
    assert_eq!(labels(&frames[1..2], 4), ["(unknown frame)"]);
    assert_eq!(labels(&[], 4), [""; 0]);
}

#[test]
fn plumbing_is_told_with_its_library_in_place_of_a_line_of_libcs_source() {
    let loader = module("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    let own = module("/srv/app");
    let mapping = NamedFrame {
        file: Some("sysdeps/unix/sysv/linux/mmap64.c"),
        line: Some(58),
        inlined: true,
        module: Some(&loader),
        ..named("__mmap64")
    };
    let place = |frame: &NamedFrame<'_>| frame.whereabouts();
    assert_eq!(place(&mapping).unwrap(), "ld-linux-x86-64.so.2");
    let of_program = NamedFrame {
        module: Some(&own),
        ..mapping.clone()
    };
    assert_eq!(place(&of_program).unwrap(), "linux/mmap64.c:58, inlined");
    // Without a name, the label says it already.
    let unnamed = NamedFrame {
        function: None,
        ..mapping
    };
    assert_eq!(place(&unnamed).unwrap(), "inlined");
}

#[test]
fn a_stripped_program_is_told_before_functions_of_libc() {
    let (git, libc) = (module("/usr/bin/git"), module("/lib/libc.so.6"));
    let frames = [
        NamedFrame {
            module: Some(&libc),
            ..named("strdup")
        },
        NamedFrame {
            module: Some(&git),
            offset: Some(0x28_1bdc),
            ..NamedFrame::default()
        },
        NamedFrame {
            module: Some(&libc),
            ..named("__libc_start_call_main")
        },
    ];
    assert_eq!(labels(&frames, 4), ["git+0x281bdc"]);
    // Where nothing is its own, what is not in every stack of it.
    let libc_alone = [frames[0].clone(), frames[2].clone()];
    assert_eq!(labels(&libc_alone, 4), ["strdup"]);
}

#[test]
fn code_without_file_or_name_tells_less_than_any_other_of_its_own() {
    let anonymous = module("[anon]");
    let compiled = NamedFrame {
        module: Some(&anonymous),
        offset: Some(0x7f00),
        ..NamedFrame::default()
    };
    assert_eq!(labels(&[compiled.clone(), named("run")], 1), ["run"]);
    assert_eq!(labels(&[compiled, named("_start")], 1), ["[anon]+0x7f00"]);
}

#[test]
fn what_only_allocates_for_others_is_passed_over_with_what_it_calls() {
    let sqlite = module("/usr/lib/libsqlite3.so.0");
    let unnamed = |offset| NamedFrame {
        module: Some(&sqlite),
        offset: Some(offset),
        ..NamedFrame::default()
    };
    let frames = [
        unnamed(0xa_7504),
        named("sqlite3Malloc"),
        named("fetch_page"),
        unnamed(0x1000),
        named("main"),
    ];
    assert_eq!(
        labels(&frames, 4),
        ["fetch_page", "libsqlite3.so.0+0x1000", "main"]
    );
    // A name that is not one of those says more than what it calls by itself.
    let other = [named("load"), named("xmalloc"), named("main")];
    assert_eq!(labels(&other, 1), ["load"]);
    assert_eq!(labels(&[named("xmalloc"), named("main")], 1), ["main"]);
    assert_eq!(labels(&[named("xmalloc"), named("_start")], 1), ["xmalloc"]);
    // It says more than libc's function that it called.
    let libc = module("/lib/libc.so.6");
    let mmap = NamedFrame {
        module: Some(&libc),
        ..named("__GI___mmap64")
    };
    assert_eq!(
        labels(&[mmap, named("ggc_internal_alloc")], 1),
        ["ggc_internal_alloc"]
    );
}

#[test]
fn a_function_of_javascript_comes_before_the_engine_that_runs_it() {
    let frames = [
        named("node::NodeArrayBufferAllocator::Allocate(unsigned long)"),
        named("v8::internal::BackingStore::Allocate(unsigned long)"),
        named("Builtins_TypedArrayConstructor"),
        script("alloc", "node:buffer"),
        script("load", "/srv/app.js"),
        script("main", "/srv/app.js"),
        named("Builtins_JSEntry"),
        named("node::Start(int, char**)"),
    ];
    assert_eq!(labels(&frames, 4), ["load", "main"]);
    let unnamed = [frames[0].clone(), frames[2].clone(), frames[7].clone()];
    assert_eq!(
        labels(&unnamed, 2),
        ["Builtins_TypedArrayConstructor", "node::Start(int, char**)"]
    );
}

#[test]
fn of_the_engine_what_gets_memory_for_the_rest_is_passed_over_whatever_it_returns() {
    let frames = [
        named("v8::base::OS::SetPermissions(void*, unsigned long, v8::base::OS::MemoryPermission)"),
        named("v8::internal::SemiSpace::GrowTo(unsigned long)"),
        named("v8::internal::Heap::CollectGarbage(v8::internal::AllocationSpace)"),
        named("void v8::internal::Factory::NewFillerObject<true>(int)"),
        named("Builtins_InterpreterEntryTrampoline"),
    ];
    assert_eq!(
        labels(&frames, 1),
        ["void v8::internal::Factory::NewFillerObject<true>(int)"]
    );
    // Where there is nothing else, it is better than nothing.
    assert_eq!(
        labels(&frames[1..3], 1),
        ["v8::internal::SemiSpace::GrowTo(unsigned long)"]
    );
    let own = [frames[3].clone(), named("void app::load<int>(int)")];
    assert_eq!(labels(&own, 1), ["void app::load<int>(int)"]);
}

#[test]
fn by_weight_the_holder_is_the_same() {
    let frames = [
        named("operator new"),
        named("keep"),
        python("get_code", "<frozen importlib._bootstrap>"),
        python("load", "/srv/app.py"),
        named("_start"),
    ];
    for from in 0..frames.len() {
        for to in from + 1..=frames.len() {
            let stack = &frames[from..to];
            let holder = Weight::most_telling(stack.iter().map(Weight::of)).unwrap();
            assert_eq!(stack[holder], *most_telling(stack, 1)[0]);
        }
    }
    assert_eq!(Weight::most_telling([].into_iter()), None);
}

#[test]
fn a_python_line_comes_first_then_what_it_called_then_its_callers() {
    let frames = [
        named("npy_alloc_cache"),
        named("array_empty"),
        python("load", "/srv/app.py"),
        python("main", "/srv/app.py"),
        named("_start"),
    ];
    assert_eq!(labels(&frames, 2), ["load", "array_empty"]);
    assert_eq!(labels(&frames, 9), ["load", "array_empty", "main"]);
    let importing = [
        named("read_file"),
        python("get_code", "<frozen importlib._bootstrap_external>"),
        python("<module>", "/srv/app.py"),
    ];
    assert_eq!(labels(&importing, 1), ["<module>"]);
}
