//! Which frames of a stack tell who holds the memory: one rule for every report.
//!
//! | role | which frames |
//! |---|---|
//! | own | everything else: the program's code and that of its libraries, with a name or without |
//! | engine | V8 and Node, which run JavaScript: what was asked for, but not by whom; without the part of it that gets memory for the rest |
//! | wrapper | what is called like an allocator (`xmalloc`), in a file of the program |
//! | nameless | code in no file that nothing has a name for: what a JIT compiler made, or where a file is not known any more |
//! | plumbing | libc, the loader, the C++ and Rust libraries, allocators, an interpreter, the machinery of Python's imports and Node's own JavaScript |
//! | start-up | what runs a program or a thread before any code of its own |
//!
//! The holder is the innermost frame of the first of these roles that the stack has: a stripped program's own code is told as
//! file and offset before any function of libc that has a name. What a function that only allocates for others calls by
//! itself, and has no name, is passed over with it. In a stack with functions of Python or JavaScript the innermost of
//! these comes first, then the machine code that it called, then its callers.

use super::allocating::allocates;
use super::javascript::{self, JAVASCRIPT};
use super::name::{NamedFrame, module_name};
use crate::record::{FrameKind, Module};

/// What a frame tells of who asked for memory; the first is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Code of the program, or of a library that it chose.
    Own,
    /// Code of V8 or Node, which runs functions of JavaScript.
    Engine,
    /// A function that only allocates for others, by its name.
    Wrapper,
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
        matches!(
            self,
            Self::Engine | Self::Wrapper | Self::Plumbing | Self::StartUp
        )
    }
}

/// Files of the C library, by how their names begin.
const LIBC: [&str; 4] = ["libc.so", "libc-", "libc.musl", "libpthread"];

/// Files of plumbing, by how their names begin.
const LIBRARIES: [&str; 13] = [
    "ld-linux",
    "ld-musl",
    "ld.so",
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

/// Where Rust's own sources are: of a release, of a distribution's, and where they are installed beside the compiler.
const RUST: [&str; 3] = ["/rustc/", "/rustc-", "/rustlib/src/rust/"];

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
        match self.function.map(path_of).and_then(javascript::of_engine) {
            Some(javascript::Part::Other) => return Role::Engine,
            Some(javascript::Part::Memory) => return Role::Plumbing,
            None => {}
        }
        if self.module.is_some_and(is_plumbing_file)
            || self.file.is_some_and(is_plumbing_source)
            || self.function.is_some_and(is_plumbing_function)
        {
            return Role::Plumbing;
        }
        if self.function.is_some_and(allocates) {
            return Role::Wrapper;
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

    /// Whether it is of the loader of shared libraries.
    pub fn is_of_loader(&self) -> bool {
        let is_loader = |name: String| name.starts_with("ld-") || name.starts_with("ld.so");
        self.module.map(module_name).is_some_and(is_loader)
    }

    /// Where it is, as the list of holders has it: its place in the source, but of plumbing the library that it is of. That it is the
    /// loader's `mmap` says more than which line of libc's source that is.
    pub fn whereabouts(&self) -> Option<String> {
        let library = self.module.filter(|module| is_plumbing_file(module));
        match (self.function, library) {
            (Some(_), Some(library)) => Some(module_name(library)),
            _ => self.place(),
        }
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
    is_libc(module) || is_named(module, &LIBRARIES)
}

/// Whether it is the C library.
pub(super) fn is_libc(module: &Module) -> bool {
    is_named(module, &LIBC)
}

/// Whether a file's name begins with one of these.
fn is_named(module: &Module, starts: &[&str]) -> bool {
    let name = module.path.file_name().unwrap_or(module.path.as_os_str());
    let name = name.to_string_lossy();
    starts.iter().any(|start| name.starts_with(start))
}

fn is_plumbing_source(file: &str) -> bool {
    SOURCES.iter().any(|part| file.contains(part))
        || file.contains("/library/") && RUST.iter().any(|part| file.contains(part))
        // As the standard library of Rust is told where its sources are not installed.
        || ["library/std/src/", "library/core/src/", "library/alloc/src/"]
            .iter()
            .any(|start| file.starts_with(start))
        || file.starts_with("bits/")
}

/// The path of a function without arguments. C++ names may begin with a return type (`void std::vector<…>::push_back`), Rust's with `<` or
/// `<&mut ` (`<alloc::vec::Vec<T> as …>::extend`): it is the last word before the first argument list.
fn path_of(function: &str) -> &str {
    let path = function.trim_start_matches('<');
    let head = path.split(['<', '(']).next().unwrap_or(path);
    match function.starts_with('<') {
        true => head,
        false => head.rsplit(' ').next().unwrap_or(head),
    }
}

fn is_plumbing_function(function: &str) -> bool {
    if function.starts_with("operator new") || function.starts_with("__rust_") {
        return true;
    }
    let path = path_of(function);
    let mut namespaces = NAMESPACES.iter();
    namespaces.any(|namespace| path.starts_with(namespace)) || WRAPPERS.contains(&path)
}

#[cfg(test)]
mod tests;
