//! Which frames of a stack tell who holds the memory: one rule for every report.
//!
//! | role | which frames |
//! |---|---|
//! | own | everything else: the program's code and that of its libraries, with a name or without |
//! | engine | V8 and Node, which run JavaScript: what was asked for, but not by whom |
//! | nameless | code in no file that nothing has a name for: what a JIT compiler made, or where a file is not known any more |
//! | plumbing | libc, the loader, the C++ and Rust libraries, allocators and what is called like one (`xmalloc`), an interpreter, the machinery of Python's imports and Node's own JavaScript |
//! | start-up | what runs a program or a thread before any code of its own |
//!
//! The holder is the innermost frame of the first of these roles that the stack has: a stripped program's own code is told as
//! file and offset before any function of libc that has a name. What a function that only allocates for others calls by
//! itself, and has no name, is passed over with it. In a stack with functions of Python or JavaScript the innermost of
//! these comes first, then the machine code that it called, then its callers.

use super::allocating::allocates;
use super::javascript::{self, JAVASCRIPT};
use super::name::NamedFrame;
use crate::record::{FrameKind, Module};

/// What a frame tells of who asked for memory; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Code of the program, or of a library that it chose.
    Own,
    /// Code of V8 or Node, which runs functions of JavaScript.
    Engine,
    /// Code that is in no file and has no name.
    Nameless,
    /// Code of the language, of libc, of an allocator or an interpreter: it is in the stacks of every program.
    Plumbing,
    /// Code that runs a program or a thread, and is in all its stacks.
    StartUp,
}

impl Role {
    /// Whether it tells little of who asked for the memory: it would be in the stacks of any program.
    fn is_plumbing(self) -> bool {
        matches!(self, Self::Engine | Self::Plumbing | Self::StartUp)
    }
}

/// Files of plumbing, by how their names begin.
const LIBRARIES: [&str; 17] = [
    "libc.so",
    "libc-",
    "libc.musl",
    "ld-linux",
    "ld-musl",
    "ld.so",
    "libpthread",
    "libdl.so",
    "librt.so",
    "libstdc++",
    "libc++",
    "libsupc++",
    "libgcc_s",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "[vdso]",
];

/// Source files of plumbing that is compiled into a program, by what their paths have in them.
const SOURCES: [&str; 3] = ["/include/c++/", "/c++/v1/", "/library/alloc/src/"];

/// Folders of what is installed for programs of Python and JavaScript, by what paths have in them.
const PACKAGES: [&str; 4] = [
    "/site-packages/",
    "/dist-packages/",
    "/lib/python3",
    "/node_modules/",
];

/// Namespaces of plumbing: of C++ and Rust.
const NAMESPACES: [&str; 7] = [
    "std::",
    "core::",
    "alloc::",
    "hashbrown::",
    "__gnu_cxx::",
    "__cxxabiv1::",
    "__rustc::",
];

/// Functions of plumbing that may be linked into the program.
const WRAPPERS: [&str; 13] = [
    "_Znwm",
    "_Znam",
    "mmap",
    "mmap64",
    "__mmap",
    "__mmap64",
    "__GI___mmap",
    "__GI___mmap64",
    "mremap",
    "mprotect",
    "brk",
    "__brk",
    "sbrk",
];

const STARTERS: [&str; 6] = [
    "_start",
    "start_thread",
    "clone",
    "clone3",
    "__clone",
    "__clone3",
];

impl NamedFrame<'_> {
    /// What it tells of who asked for the memory.
    pub fn role(&self) -> Role {
        match self.kind {
            FrameKind::Interpreter(_) => return Role::Plumbing,
            FrameKind::Managed(_) => {
                let importing = |file: &str| file.starts_with("<frozen importlib");
                return match self.file.is_some_and(importing) {
                    true => Role::Plumbing,
                    false => Role::Own,
                };
            }
            FrameKind::Native => {}
        }
        if self.runtime == Some(JAVASCRIPT) {
            return match self.file.is_some_and(|file| file.starts_with("node:")) {
                true => Role::Plumbing,
                false => Role::Own,
            };
        }
        if self.function.is_some_and(is_start_up) {
            return Role::StartUp;
        }
        if self.function.is_some_and(javascript::is_of_engine) {
            return Role::Engine;
        }
        if self.module.is_some_and(is_plumbing_file)
            || self.file.is_some_and(is_plumbing_source)
            || self.function.is_some_and(is_plumbing_function)
            || self.function.is_some_and(allocates)
        {
            return Role::Plumbing;
        }
        let has_name = self.function.is_some_and(|name| !name.trim().is_empty());
        let in_file = self.module.is_some_and(|module| !module.is_anonymous());
        match has_name || in_file {
            true => Role::Own,
            false => Role::Nameless,
        }
    }

    /// Whether it is a function of a package or of the language's own library, which somebody else wrote.
    pub fn is_of_package(&self) -> bool {
        let is_of_package = |file: &str| {
            file.starts_with("<frozen ") || PACKAGES.iter().any(|part| file.contains(part))
        };
        self.file.is_some_and(is_of_package)
    }

    /// Whether it tells little of who asked for the memory: it would be in the stacks of any program.
    pub fn is_plumbing(&self) -> bool {
        self.role().is_plumbing()
    }
}

/// Functions that only allocate for others are looked for among so many innermost frames.
const ALLOCATING_WITHIN: usize = 8;

/// The frames that tell most of a stack, the most telling first, at most `lines`.
pub fn most_telling<'a, 'f>(frames: &'f [NamedFrame<'a>], lines: usize) -> Vec<&'f NamedFrame<'a>> {
    let frames = &frames[Weight::that_allocate_for_others(frames.iter().map(Weight::of))..];
    let Some(best) = frames.iter().map(NamedFrame::role).min() else {
        return Vec::new();
    };
    let of_role = |role: Role| frames.iter().filter(move |frame| frame.role() == role);
    let mut telling: Vec<&NamedFrame<'a>> = match frames.iter().position(is_function_of_runtime) {
        None => of_role(best).collect(),
        Some(innermost) => {
            let (called, callers) = frames.split_at(innermost);
            let native = called.iter().rfind(|frame| frame.role() == Role::Own);
            let mut callers = callers.iter().filter(|frame| frame.role() == Role::Own);
            callers
                .next()
                .into_iter()
                .chain(native)
                .chain(callers)
                .collect()
        }
    };
    telling.truncate(lines);
    telling
}

/// How much a frame tells, for whoever looks at the same frames in many stacks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    role: Role,
    is_of_runtime: bool,
    has_function: bool,
    only_allocates: bool,
}

impl Weight {
    pub(super) fn of(frame: &NamedFrame<'_>) -> Self {
        Self {
            role: frame.role(),
            is_of_runtime: is_function_of_runtime(frame),
            has_function: frame.function.is_some(),
            only_allocates: frame.function.is_some_and(allocates),
        }
    }

    /// Which frame of a stack, leaf first, is the holder: the first of [`most_telling`].
    pub(super) fn most_telling(weights: impl Iterator<Item = Self> + Clone) -> Option<usize> {
        let passed_over = Self::that_allocate_for_others(weights.clone());
        let mut weights = weights.skip(passed_over);
        let of_runtime = weights.clone().position(|weight| weight.is_of_runtime);
        let best = weights.clone().map(|weight| weight.role).min()?;
        of_runtime
            .or_else(|| weights.position(|weight| weight.role == best))
            .map(|at| passed_over + at)
    }

    /// How many innermost frames only allocate for others: up to the outermost of those functions, if all below it are without a name
    /// or plumbing, and the program's own come after it.
    fn that_allocate_for_others(weights: impl Iterator<Item = Self> + Clone) -> usize {
        let innermost = weights.clone().take(ALLOCATING_WITHIN).enumerate();
        let Some((at, _)) = innermost.filter(|(_, weight)| weight.only_allocates).last() else {
            return 0;
        };
        let is_passed_over = |weight: Self| !weight.has_function || weight.role.is_plumbing();
        let passes = weights.clone().take(at).all(is_passed_over);
        let own_comes = weights.skip(at + 1).any(|weight| weight.role == Role::Own);
        match passes && own_comes {
            true => at + 1,
            false => 0,
        }
    }
}

/// Whether it is a function of a runtime, and the program's own.
fn is_function_of_runtime(frame: &NamedFrame<'_>) -> bool {
    frame.is_of_runtime() && frame.role() == Role::Own
}

fn is_start_up(function: &str) -> bool {
    function.starts_with("__libc_start") || STARTERS.contains(&function)
}

fn is_plumbing_file(module: &Module) -> bool {
    let name = module.path.file_name().unwrap_or(module.path.as_os_str());
    let name = name.to_string_lossy();
    LIBRARIES.iter().any(|library| name.starts_with(library))
}

fn is_plumbing_source(file: &str) -> bool {
    SOURCES.iter().any(|part| file.contains(part))
        || file.starts_with("/rustc/") && file.contains("/library/")
        // As the standard library of Rust is told where its sources are not installed.
        || ["library/std/src/", "library/core/src/", "library/alloc/src/"]
            .iter()
            .any(|start| file.starts_with(start))
        || file.starts_with("bits/")
}

fn is_plumbing_function(function: &str) -> bool {
    if function.starts_with("operator new") || function.starts_with("__rust_") {
        return true;
    }
    // C++ names may begin with a return type (`void std::vector<…>::push_back`), Rust's with `<` or `<&mut `
    // (`<alloc::vec::Vec<T> as …>::extend`): the path is the last word before the first argument list.
    let path = function.trim_start_matches('<');
    let head = path.split(['<', '(']).next().unwrap_or(path);
    let path = match function.starts_with('<') {
        true => head,
        false => head.rsplit(' ').next().unwrap_or(head),
    };
    let mut namespaces = NAMESPACES.iter();
    namespaces.any(|namespace| path.starts_with(namespace)) || WRAPPERS.contains(&path)
}

#[cfg(test)]
mod tests {
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
            [
                "node::NodeArrayBufferAllocator::Allocate(unsigned long)",
                "Builtins_TypedArrayConstructor"
            ]
        );
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
}
