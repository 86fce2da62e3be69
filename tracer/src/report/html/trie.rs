//! Stacks as the page has them: a trie of frames, root first, over a table of strings.

use std::collections::HashMap;

use serde::Serialize;

use super::super::difference::comparable;
use super::super::model::Profile;
use super::super::name::{self, NamedFrame, UNKNOWN_STACK};
use crate::event::{ProcessId, StackIndex};
use crate::record::FrameKind;
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

/// The compiler put it into its caller.
const INLINED: u8 = 1;
/// It tells little: see [`NamedFrame::is_plumbing`].
const PLUMBING: u8 = 2;
/// It has no function's name.
const UNNAMED: u8 = 4;
/// It is no frame: a process, or what stands for what is not known.
const SPECIAL: u8 = 8;

/// What is known of a frame; of each column one entry a frame, strings by number, of an empty one nothing is known.
#[derive(Debug, Default, Serialize)]
struct Frames {
    name: Vec<u32>,
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

type Frame = (u32, u32, u32, u8, u8, u32);

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
    leaves: HashMap<(ProcessId, StackIndex), u32>,
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
            by_name: HashMap::new(),
        };
        trie.special("");
        trie
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    /// The node of a stack. Where several processes were traced, theirs are the first nodes.
    pub(super) fn stack(
        &mut self,
        profile: &Profile,
        process: ProcessId,
        stack: StackIndex,
    ) -> u32 {
        if let Some(leaf) = self.leaves.get(&(process, stack)) {
            return *leaf;
        }
        let mut at = self.process(profile, process);
        if profile.is_truncated(stack) {
            let truncated = self.special("(truncated)");
            at = self.child(at, truncated);
        }
        match profile.frames(stack) {
            Some(frames) if !frames.is_empty() => {
                for frame in frames.iter().rev() {
                    let frame = self.named(frame);
                    at = self.child(at, frame);
                }
            }
            _ => {
                let unknown = self.special(UNKNOWN_STACK);
                at = self.child(at, unknown);
            }
        }
        self.leaves.insert((process, stack), at);
        at
    }

    /// The node of a stack by the names of its functions alone, so that it is the same in another recording, whatever the
    /// process. A function's place is the one it is first met with.
    pub(super) fn compared(&mut self, profile: &Profile, stack: StackIndex) -> u32 {
        let frames = profile.frames(stack).unwrap_or_default();
        if frames.is_empty() {
            let unknown = self.special(UNKNOWN_STACK);
            return self.child(0, unknown);
        }
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
        at
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
        let frame = self.special(&label);
        self.child(0, frame)
    }

    fn special(&mut self, name: &str) -> u32 {
        let none = self.strings.number(String::new());
        let name = self.strings.number(name.to_owned());
        self.frame((name, none, none, SPECIAL, NATIVE, none))
    }

    fn named(&mut self, frame: &NamedFrame<'_>) -> u32 {
        let frame = self.known(frame);
        self.frame(frame)
    }

    fn known(&mut self, frame: &NamedFrame<'_>) -> Frame {
        let module = frame.module.map(|module| module.path.to_string_lossy());
        let module = module.map(|path| words::printable(&path).into_owned());
        let mut flags = 0;
        for (flag, is) in [
            (INLINED, frame.inlined),
            (PLUMBING, frame.is_plumbing()),
            (UNNAMED, frame.function.is_none()),
        ] {
            if is {
                flags |= flag;
            }
        }
        let name = self.strings.number(frame.label());
        let place = self.strings.number(frame.place().unwrap_or_default());
        let module = self.strings.number(module.unwrap_or_default());
        let source = frame.source.map(words::printable).unwrap_or_default();
        let source = self.strings.number(source.into_owned());
        let kind = match frame.kind {
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
            self.frames.name.push(name);
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
