//! What to show for a frame, in one place for every report; which frames to show is told in [`telling`](super::telling).
//!
//! | what is known | label |
//! |---|---|
//! | a function | `load_table` |
//! | ... and its place | `load_table (src/table.c:40)`, `(src/table.c:40, inlined)` where the compiler inlined it |
//! | only the file it was mapped from | `libfoo.so.1+0x1234`, the offset of the return address in the file |
//! | only the address | `0x7f0012345678` |
//! | nothing: the recording refers to a location that it does not define | `(unknown frame)` |

use super::javascript::{Function, JAVASCRIPT};
use crate::record::{FrameKind, Module};
use crate::words::printable;

/// What is shown for holders whose stack was not taken, or whose definition was lost.
pub const UNKNOWN_STACK: &str = "(unknown stack)";

/// One frame of a stack as a person sees it: an inlined function is a frame of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedFrame<'a> {
    /// The function, demangled.
    pub function: Option<&'a str>,
    /// Its source file.
    pub file: Option<&'a str>,
    /// The line in it.
    pub line: Option<u32>,
    /// The compiler put this function into the next frame's.
    pub inlined: bool,
    /// The file that its code was mapped from.
    pub module: Option<&'a Module>,
    /// Offset of the return address in that file, or the bare address without one. `None`: the recording refers to a
    /// location that it does not define.
    pub offset: Option<u64>,
    /// What kind of code it is.
    pub kind: FrameKind,
    /// The runtime that it is a function of, where the recording or its name tells that.
    pub runtime: Option<&'a str>,
    /// The line of source text, where that was recorded.
    pub source: Option<&'a str>,
}

impl<'a> NamedFrame<'a> {
    /// The same with what a perf map's name says, if it is one of JavaScript's functions.
    pub(super) fn read_as_javascript(self) -> Self {
        let is_compiled = self.module.is_some_and(Module::is_anonymous);
        let function = self.function.filter(|_| is_compiled);
        match function.and_then(Function::of) {
            Some(Function { name, file, line }) => Self {
                function: Some(name),
                file,
                line,
                runtime: Some(JAVASCRIPT),
                ..self
            },
            None => self,
        }
    }

    /// Whether it is a function of a language that runs in an interpreter or a compiler of its own.
    pub fn is_of_runtime(&self) -> bool {
        self.kind.is_managed() || self.runtime == Some(JAVASCRIPT)
    }
}

impl NamedFrame<'_> {
    /// The function, or the best that stands for it. Printable, never empty.
    pub fn label(&self) -> String {
        if let Some(function) = self.function.filter(|name| !name.trim().is_empty()) {
            return printable(function).into_owned();
        }
        match (self.module, self.offset) {
            (Some(module), Some(offset)) => format!("{}+{offset:#x}", module_name(module)),
            (None, Some(_)) if self.kind.is_managed() => match self.runtime {
                Some("python") => "(unknown Python function)".to_owned(),
                Some(runtime) => format!("(unknown function of {})", printable(runtime)),
                None => "(unknown function)".to_owned(),
            },
            (None, Some(address)) => format!("{address:#x}"),
            (_, None) => "(unknown frame)".to_owned(),
        }
    }

    /// Where in the source: `src/table.c:40`, with `, inlined` where that is so.
    pub fn place(&self) -> Option<String> {
        let inlined = if self.inlined { ", inlined" } else { "" };
        let file = self.function.and(self.file).filter(|file| !file.is_empty());
        match (file.map(short_path), self.line) {
            (Some(file), Some(line)) => Some(format!("{file}:{line}{inlined}")),
            (Some(file), None) => Some(format!("{file}{inlined}")),
            (None, _) if self.inlined => Some("inlined".to_owned()),
            (None, _) => None,
        }
    }

    /// Label and place together.
    pub fn label_and_place(&self) -> String {
        match self.place() {
            Some(place) => format!("{} ({place})", self.label()),
            None => self.label(),
        }
    }
}

/// A program that runs others' scripts.
struct Interpreter {
    /// Its file's name, without a version.
    name: &'static str,
    /// Options behind which the program itself stands.
    inline: &'static [&'static str],
    /// Options that a word of their own follows.
    with_value: &'static [&'static str],
}

const INTERPRETERS: [Interpreter; 7] = [
    interpreter("python", &["-c"], &["-W", "-X"]),
    interpreter("perl", &["-e", "-E"], &["-I"]),
    interpreter("ruby", &["-e"], &["-I", "-r"]),
    interpreter(
        "node",
        &["-e", "-p", "--eval"],
        &["-r", "--require", "--import"],
    ),
    interpreter("php", &["-r"], &["-d", "-c"]),
    interpreter("bash", &["-c"], &["-o", "-O"]),
    interpreter("sh", &["-c"], &["-o"]),
];

const fn interpreter(
    name: &'static str,
    inline: &'static [&'static str],
    with_value: &'static [&'static str],
) -> Interpreter {
    Interpreter {
        name,
        inline,
        with_value,
    }
}

/// Words of a title that a process gives itself, behind the program's name: `nginx: worker process`.
const TITLE: usize = 2;

/// What a command line runs: the last component of its first word; of an interpreter that was given a script or a module (`-m`), of that;
/// or the title that the process has given itself.
pub fn run_by(command: &str) -> String {
    let mut words = command.split_whitespace();
    let first = words.next().unwrap_or("?");
    if first.ends_with(':') {
        let title: Vec<&str> = std::iter::once(first).chain(words.take(TITLE)).collect();
        return printable(&title.join(" ")).into_owned();
    }
    let first = file_name(first);
    let unversioned = first.trim_end_matches(|at: char| at.is_ascii_digit() || at == '.');
    let interpreter = INTERPRETERS.iter().find(|it| it.name == unversioned);
    let script = interpreter.and_then(|interpreter| interpreter.script(words));
    printable(script.map_or(first, file_name)).into_owned()
}

impl Interpreter {
    /// The script or module among its arguments; nothing if the program is one of them, or is read from the input.
    fn script<'w>(&self, mut arguments: impl Iterator<Item = &'w str>) -> Option<&'w str> {
        while let Some(word) = arguments.next() {
            if word == "-m" {
                return arguments.next();
            }
            if word == "-" || self.inline.contains(&word) {
                return None;
            }
            if self.with_value.contains(&word) {
                arguments.next();
            } else if !word.starts_with('-') {
                return Some(word);
            }
        }
        None
    }
}

/// The program of a command line: its first word's last path component.
pub fn program(command: &str) -> String {
    let word = command.split_whitespace().next().unwrap_or("?");
    printable(file_name(word)).into_owned()
}

/// The last component of a path.
fn file_name(path: &str) -> &str {
    let parts = path.rsplit('/');
    parts
        .into_iter()
        .find(|part| !part.is_empty())
        .unwrap_or(path)
}

pub(super) fn module_name(module: &Module) -> String {
    let name = module.path.file_name().unwrap_or(module.path.as_os_str());
    match name.to_string_lossy() {
        name if name.is_empty() => "[no name]".to_owned(),
        name => printable(&name).into_owned(),
    }
}

/// The last two components of a path: `mod.rs` alone would say too little, the whole path too much.
fn short_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        [] => printable(path).into_owned(),
        [name] => printable(name).into_owned(),
        [.., folder, name] => printable(&format!("{folder}/{name}")).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(function: &str) -> NamedFrame<'_> {
        NamedFrame {
            function: Some(function),
            ..NamedFrame::default()
        }
    }

    fn module(path: &str) -> Module {
        Module {
            index: 0,
            path: path.into(),
            build_id: None,
        }
    }

    #[test]
    fn a_frame_shows_the_best_that_is_known_of_it() {
        let library = module("/usr/lib/libfoo.so.1");
        let mut frame = NamedFrame {
            function: Some("load_table"),
            file: Some("/build/src/table.c"),
            line: Some(40),
            inlined: true,
            module: Some(&library),
            offset: Some(0x1234),
            ..NamedFrame::default()
        };
        assert_eq!(
            frame.label_and_place(),
            "load_table (src/table.c:40, inlined)"
        );
        frame.inlined = false;
        assert_eq!(frame.label_and_place(), "load_table (src/table.c:40)");
        frame.line = None;
        assert_eq!(frame.label_and_place(), "load_table (src/table.c)");
        frame.file = None;
        assert_eq!(frame.label_and_place(), "load_table");
        frame.function = None;
        assert_eq!(frame.label_and_place(), "libfoo.so.1+0x1234");
        frame.module = None;
        assert_eq!(frame.label_and_place(), "0x1234");
        frame.offset = None;
        assert_eq!(frame.label_and_place(), "(unknown frame)");
    }

    #[test]
    fn special_mappings_keep_their_names() {
        let vdso = module("[vdso]");
        let frame = NamedFrame {
            module: Some(&vdso),
            offset: Some(16),
            ..NamedFrame::default()
        };
        assert_eq!(frame.label(), "[vdso]+0x10");
    }

    #[test]
    fn names_cannot_touch_the_terminal() {
        assert_eq!(named("evil\x1b[2J\nname").label(), "evil\\x1b[2J\\nname");
        assert_eq!(named("a\u{202e}b").label(), "a\\u{202e}b");
        assert_eq!(program("/opt/x\x07/ser\x07ver --flag"), "ser\\x07ver");
        assert_eq!(program(""), "?");
    }
}
