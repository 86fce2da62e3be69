//! Stacks as the page has them: a trie of frames, root first, over a table of strings.

use std::collections::HashMap;

use serde::Serialize;

use super::super::difference::comparable;
use super::super::fit;
use super::super::joined;
use super::super::model::Profile;
use super::super::name::{self, NamedFrame, UNKNOWN_STACK};
use super::super::telling::{Role, Weight};
use crate::event::{ProcessId, StackIndex};
use crate::live::{Amount, Holder, HolderKey};
use crate::record::{FrameIndex, FrameKind};
use crate::words;

/// Strings, each once.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Strings {
    list: Vec<String>,
    #[serde(skip)]
    numbers: HashMap<String, u32>,
}

impl Strings {
    pub(super) fn number(&mut self, text: String) -> u32 {
        let next = self.list.len() as u32;
        *self.numbers.entry(text).or_insert_with_key(|text| {
            self.list.push(text.clone());
            next
        })
    }
}

/// It tells little: see [`NamedFrame::is_plumbing`].
const PLUMBING: u8 = 1;
/// It is no frame: a process, or what stands for what is not known.
const SPECIAL: u8 = 2;
/// It stands for a process, of several.
const PROCESS: u8 = 4;
/// It is code in no file that has no name: see [`Role::Nameless`].
const NAMELESS: u8 = 8;

/// What stands for all of Python's arenas: who holds the objects in them was not seen.
const ARENAS: &str = "Python's small objects";

/// What is known of a frame; of each column one entry a frame, strings by number, of an empty one nothing is known.
#[derive(Debug, Default, Serialize)]
struct Frames {
    name: Vec<u32>,
    /// The name as a box has it: without what is not needed to know it.
    short: Vec<u32>,
    place: Vec<u32>,
    module: Vec<u32>,
    flags: Vec<u8>,
    kind: Vec<u8>,
    source: Vec<u32>,
}

/// Machine code. Where there is any of the other kinds, the page lets its reader choose what to look at.
const NATIVE: u8 = 0;
/// A Python function.
const PYTHON: u8 = 1;
/// Machine code of its interpreter.
const INTERPRETER: u8 = 2;
/// A function of JavaScript, which the engine compiled.
const JAVASCRIPT: u8 = 3;

/// How many characters of a name a box has, as a rule.
const ROOM: usize = 60;

type Frame = (u32, u32, u32, u8, u8, u32);

/// Where a stack ends.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leaf {
    pub(super) node: u32,
    /// Which of its frames is the holder, counted from the leaf.
    pub(super) telling: u32,
}

/// The stacks. Node 0 is the root; parents come before their children.
#[derive(Debug, Default, Serialize)]
pub(super) struct Trie {
    strings: Strings,
    frames: Frames,
    parent: Vec<u32>,
    frame: Vec<u32>,
    #[serde(skip)]
    frame_numbers: HashMap<Frame, u32>,
    #[serde(skip)]
    children: HashMap<(u32, u32), u32>,
    #[serde(skip)]
    leaves: HashMap<(ProcessId, StackIndex, bool), Leaf>,
    #[serde(skip)]
    locations: HashMap<FrameIndex, Vec<(u32, Weight)>>,
    #[serde(skip)]
    by_name: HashMap<u32, u32>,
}

impl Trie {
    pub(super) fn new() -> Self {
        let mut trie = Self {
            strings: Strings::default(),
            frames: Frames::default(),
            parent: vec![0],
            frame: vec![0],
            frame_numbers: HashMap::new(),
            children: HashMap::new(),
            leaves: HashMap::new(),
            locations: HashMap::new(),
            by_name: HashMap::new(),
        };
        trie.special("");
        trie
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    /// Where a holder's stack ends. Where several processes were traced, theirs are the first nodes. An arena of Python's ends in
    /// what stands for all of them.
    pub(super) fn stack(&mut self, profile: &Profile, key: HolderKey) -> Leaf {
        let HolderKey { process, stack, .. } = key;
        let is_arena = joined::is_arena(&profile.arenas, &Holder::of(key, Amount::default()));
        if let Some(leaf) = self.leaves.get(&(process, stack, is_arena)) {
            return *leaf;
        }
        let mut at = self.process(profile, process);
        let mut telling = 0;
        if profile.is_truncated(stack) {
            let truncated = self.special("(truncated)");
            at = self.child(at, truncated);
        }
        let frames = self.functions_of(profile, stack);
        if frames.is_empty() {
            let unknown = self.special(UNKNOWN_STACK);
            at = self.child(at, unknown);
        } else {
            let weights = frames.iter().map(|(_, weight)| *weight);
            telling = Weight::most_telling(weights).unwrap_or(0);
        }
        for (frame, _) in frames.into_iter().rev() {
            at = self.child(at, frame);
        }
        if is_arena {
            let arenas = self.special(ARENAS);
            at = self.child(at, arenas);
            telling = 0;
        }
        let leaf = Leaf {
            node: at,
            telling: telling as u32,
        };
        self.leaves.insert((process, stack, is_arena), leaf);
        leaf
    }

    /// The node of a stack by the names of its functions alone, so that it is the same in another recording, whatever the
    /// process. A function's place is the one it is first met with.
    pub(super) fn compared(&mut self, profile: &Profile, stack: StackIndex) -> Leaf {
        let frames = profile.frames(stack).unwrap_or_default();
        if frames.is_empty() {
            let unknown = self.special(UNKNOWN_STACK);
            let node = self.child(0, unknown);
            return Leaf { node, telling: 0 };
        }
        let telling = Weight::most_telling(frames.iter().map(Weight::of)).unwrap_or(0);
        let mut at = 0;
        for frame in frames.iter().rev() {
            let label = words::printable(&comparable(frame)).into_owned();
            let label = self.strings.number(label);
            let number = match self.by_name.get(&label) {
                Some(number) => *number,
                None => {
                    let (_, place, module, flags, kind, source) = self.known(frame);
                    let number = self.frame((label, place, module, flags, kind, source));
                    self.by_name.insert(label, number);
                    number
                }
            };
            at = self.child(at, number);
        }
        Leaf {
            node: at,
            telling: telling as u32,
        }
    }

    /// The node for what is not told apart.
    pub(super) fn other(&mut self, profile: &Profile, process: ProcessId) -> u32 {
        let at = self.process(profile, process);
        self.other_below(at)
    }

    /// The same, below a node.
    pub(super) fn other_below(&mut self, at: u32) -> u32 {
        let other = self.special("(other)");
        self.child(at, other)
    }

    fn process(&mut self, profile: &Profile, process: ProcessId) -> u32 {
        if profile.processes.len() < 2 {
            return 0;
        }
        let label = process_name(profile, process);
        let frame = self.flagged(&label, SPECIAL | PROCESS);
        self.child(0, frame)
    }

    fn special(&mut self, name: &str) -> u32 {
        self.flagged(name, SPECIAL)
    }

    fn flagged(&mut self, name: &str, flags: u8) -> u32 {
        let none = self.strings.number(String::new());
        let name = self.strings.number(name.to_owned());
        self.frame((name, none, none, flags, NATIVE, none))
    }

    /// The functions of a stack, leaf first. What is at a code location is looked at once: most of them are on many stacks.
    fn functions_of(&mut self, profile: &Profile, stack: StackIndex) -> Vec<(u32, Weight)> {
        let mut functions = Vec::new();
        for location in profile.locations_of(stack) {
            if !self.locations.contains_key(&location) {
                let at = profile.functions_at(location);
                let at = at.iter().map(|frame| {
                    let known = self.known(frame);
                    (self.frame(known), Weight::of(frame))
                });
                let at = at.collect();
                self.locations.insert(location, at);
            }
            functions.extend_from_slice(&self.locations[&location]);
        }
        functions
    }

    fn known(&mut self, frame: &NamedFrame<'_>) -> Frame {
        let module = frame.module.map(|module| module.path.to_string_lossy());
        let module = module.map(|path| words::printable(&path).into_owned());
        let mut flags = 0;
        let role = frame.role();
        for (flag, is) in [
            (PLUMBING, frame.is_plumbing()),
            (NAMELESS, role == Role::Nameless),
        ] {
            if is {
                flags |= flag;
            }
        }
        let name = self.strings.number(label(frame));
        let place = self.strings.number(frame.place().unwrap_or_default());
        let module = self.strings.number(module.unwrap_or_default());
        let source = frame.source.map(words::printable).unwrap_or_default();
        let source = self.strings.number(source.into_owned());
        let kind = match frame.kind {
            FrameKind::Native if frame.is_of_runtime() => JAVASCRIPT,
            FrameKind::Native => NATIVE,
            FrameKind::Managed(_) => PYTHON,
            FrameKind::Interpreter(_) => INTERPRETER,
        };
        (name, place, module, flags, kind, source)
    }

    fn frame(&mut self, frame: Frame) -> u32 {
        let next = self.frames.name.len() as u32;
        let number = *self.frame_numbers.entry(frame).or_insert(next);
        if number == next {
            let (name, place, module, flags, kind, source) = frame;
            let full = &self.strings.list[name as usize];
            let short = match flags & SPECIAL {
                0 => fit::fitted(full, ROOM),
                _ => full.clone(),
            };
            let short = self.strings.number(short);
            self.frames.name.push(name);
            self.frames.short.push(short);
            self.frames.place.push(place);
            self.frames.module.push(module);
            self.frames.flags.push(flags);
            self.frames.kind.push(kind);
            self.frames.source.push(source);
        }
        number
    }

    fn child(&mut self, parent: u32, frame: u32) -> u32 {
        let next = self.parent.len() as u32;
        let number = *self.children.entry((parent, frame)).or_insert(next);
        if number == next {
            self.parent.push(parent);
            self.frame.push(frame);
        }
        number
    }
}

/// A function's name; of a module's own code with the module, which tells more: `<module pip._internal.cli.main>`.
fn label(frame: &NamedFrame<'_>) -> String {
    let module = match (frame.runtime, frame.function, frame.file) {
        (Some("python"), Some("<module>"), Some(file)) => python_module(file),
        _ => None,
    };
    match module {
        Some(module) => format!("<module {}>", words::printable(&module)),
        None => frame.label(),
    }
}

/// The folder that modules lie in ends with one of these.
const MODULES_IN: [&str; 2] = ["/site-packages/", "/dist-packages/"];

/// The dotted name of the module that a file is, as far as its path tells that.
fn python_module(file: &str) -> Option<String> {
    if let Some(frozen) = file.strip_prefix("<frozen ") {
        return Some(frozen.trim_end_matches('>').to_owned());
    }
    let file = file.strip_suffix(".py")?;
    let installed = MODULES_IN.iter().filter_map(|part| file.rsplit_once(part));
    let standard = file.split_once("/lib/python3").and_then(|(_, rest)| {
        let (_, path) = rest.split_once('/')?;
        Some(path)
    });
    let path = installed
        .map(|(_, path)| path)
        .min_by_key(|path| path.len())
        .or(standard)
        .or_else(|| file.rsplit('/').next())?;
    let path = path.strip_suffix("/__init__").unwrap_or(path);
    (!path.is_empty()).then(|| path.replace('/', "."))
}

/// `worker (pid 4242)`.
pub(super) fn process_name(profile: &Profile, process: ProcessId) -> String {
    match profile.process(process) {
        Some(process) => {
            let process = &process.process;
            format!("{} (pid {})", name::program(&process.command), process.pid)
        }
        None => "(unknown process)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::python_module;

    #[test]
    fn a_module_of_python_is_named_by_where_its_file_lies() {
        for (file, module) in [
            (
                "/usr/lib/python3/dist-packages/pip/_internal/cli/main.py",
                "pip._internal.cli.main",
            ),
            (
                "/srv/venv/lib/python3.11/site-packages/numpy/__init__.py",
                "numpy",
            ),
            ("/usr/lib/python3.11/json/decoder.py", "json.decoder"),
            ("<frozen runpy>", "runpy"),
            ("/srv/app.py", "app"),
        ] {
            assert_eq!(python_module(file).as_deref(), Some(module), "{file}");
        }
        assert_eq!(python_module("<string>"), None);
    }
}
