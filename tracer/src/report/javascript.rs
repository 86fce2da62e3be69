//! JavaScript's functions, as V8 names the machine code that it makes for them (`--perf-basic-prof` writes a perf map):
//!
//! ```text
//! JS:~load /srv/app.js:12:9          interpreted
//! JS:*load /srv/app.js:12:9          optimized
//! LazyCompile:*load /srv/app.js:12:9 the same of Node before 16
//! Script:~ /srv/app.js:1:1           the top level of a file
//! ```
//!
//! Source: `CodeEventLogger` and `LogFunction` of V8, <https://github.com/v8/v8/blob/10.2.154/src/logging/log.cc#L195>.

/// What [`NamedFrame::runtime`](super::name::NamedFrame::runtime) is of such functions.
pub(super) const JAVASCRIPT: &str = "javascript";

/// What the perf map says the code is. Other kinds (`Builtin:`, `BytecodeHandler:`, `Stub:`) are V8's own.
const KINDS: [&str; 6] = [
    "JS:",
    "LazyCompile:",
    "Function:",
    "Script:",
    "Eval:",
    "Callback:",
];

/// How well the code was compiled; of no interest here.
const TIERS: [char; 4] = ['~', '^', '+', '*'];

/// How the files of functions begin: a path, a URL, `[eval]`.
const FILES: [&str; 6] = ["/", "[", "node:", "file:", "http:", "https:"];

/// A function of JavaScript.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) file: Option<&'a str>,
    pub(super) line: Option<u32>,
}

impl<'a> Function<'a> {
    /// What a name of a perf map says; `None` for all that is no function of JavaScript.
    pub(super) fn of(name: &'a str) -> Option<Self> {
        let kind = KINDS.iter().find(|kind| name.starts_with(*kind))?;
        let named = name[kind.len()..].trim_start_matches(TIERS);
        let unnamed = match *kind {
            "Script:" => "(top level)",
            _ => "(anonymous)",
        };
        let or_unnamed = |name: &'a str| match name.trim() {
            "" => unnamed,
            name => name,
        };
        // Both names and paths may have spaces: the file begins where something that looks like one does.
        let begins_file = |rest: &str| FILES.iter().any(|start| rest.starts_with(start));
        let split = named
            .match_indices(' ')
            .find(|(at, _)| begins_file(&named[at + 1..]))
            .map(|(at, _)| at)
            .or_else(|| named.rfind(' '));
        let Some((name, place)) = split.map(|at| (&named[..at], &named[at + 1..])) else {
            return Some(Self {
                name: or_unnamed(named),
                file: None,
                line: None,
            });
        };
        let (file, line) = without_column(place);
        Some(Self {
            name: or_unnamed(name),
            file: Some(file).filter(|file| !file.is_empty()),
            line,
        })
    }
}

/// `/srv/app.js:12:9` without the column.
fn without_column(place: &str) -> (&str, Option<u32>) {
    let number = |text: &str| text.parse::<u32>().ok();
    let Some((before, last)) = place
        .rsplit_once(':')
        .filter(|(_, last)| number(last).is_some())
    else {
        return (place, None);
    };
    match before.rsplit_once(':') {
        Some((file, line)) if number(line).is_some() => (file, number(line)),
        _ => (before, number(last)),
    }
}

/// Functions of the engine.
const ENGINE: [&str; 4] = ["v8::", "node::", "Builtins_", "construct_stub_"];

/// Those of them that get memory for all others, and collect garbage where there is none left.
const MEMORY: [&str; 16] = [
    "v8::base::",
    "v8::PageAllocator::",
    "v8::ArrayBuffer::",
    "v8::internal::AllocatePages",
    "v8::internal::SetPermissions",
    "v8::internal::VirtualMemory::",
    "v8::internal::MemoryAllocator::",
    "v8::internal::SemiSpace",
    "v8::internal::PagedSpace",
    "v8::internal::CompactionSpace",
    "v8::internal::LargeObjectSpace",
    "v8::internal::OldLargeObjectSpace",
    "v8::internal::Heap::",
    "v8::internal::HeapAllocator::",
    "v8::internal::BackingStore::",
    "node::NodeArrayBufferAllocator::",
];

/// What of an engine a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It gets memory for whatever the engine does.
    Memory,
    /// Something else, in whose code every stack of a JavaScript program runs.
    Other,
}

/// What of V8 or Node a function is, if it is one of theirs. `path`: its name without what it returns and takes.
pub(super) fn of_engine(path: &str) -> Option<Part> {
    let is_one = |starts: &[&str]| starts.iter().any(|start| path.starts_with(start));
    match () {
        () if is_one(&MEMORY) => Some(Part::Memory),
        () if is_one(&ENGINE) => Some(Part::Other),
        () => None,
    }
}

/// Whether it runs a function of JavaScript, which an interpreter's frame alone does not name.
pub(super) fn runs_javascript(function: &str) -> bool {
    function.starts_with("Builtins_") && function.ends_with("EntryTrampoline")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str) -> Option<(&str, Option<&str>, Option<u32>)> {
        Function::of(name).map(|it| (it.name, it.file, it.line))
    }

    #[test]
    fn functions_are_told_by_name_file_and_line() {
        let load = Some(("load", Some("/srv/app.js"), Some(12)));
        assert_eq!(told("JS:~load /srv/app.js:12:9"), load);
        assert_eq!(told("JS:*load /srv/app.js:12:9"), load);
        assert_eq!(told("LazyCompile:*load /srv/app.js:12"), load);
        assert_eq!(
            told("JS:^get size file:///srv/my app.js:3:1"),
            Some(("get size", Some("file:///srv/my app.js"), Some(3)))
        );
        assert_eq!(
            told("Script:~ [eval]:1:1"),
            Some(("(top level)", Some("[eval]"), Some(1)))
        );
        assert_eq!(
            told("JS:~ node:internal/vm:208:32"),
            Some(("(anonymous)", Some("node:internal/vm"), Some(208)))
        );
        assert_eq!(told("JS:~load"), Some(("load", None, None)));
        assert_eq!(told("JS:"), Some(("(anonymous)", None, None)));
    }

    #[test]
    fn what_is_no_function_of_javascript_is_left_as_it_is() {
        for name in [
            "Builtin:ArrayPrototypeFill",
            "BytecodeHandler:Ldar",
            "main",
            "",
        ] {
            assert_eq!(told(name), None, "{name}");
        }
    }
}
