//! How each entry that is not events is written: its kind, and a body whose fields follow one another.
//!
//! The rare ones that are likely to grow are JSON. In the others, what a later writer adds goes to the end of the body,
//! where a reader that does not know it passes over it.

mod code;
mod moments;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::live::{FoldedFamily, FoldedProcess, Remains};

use super::cgroups::KnownCgroups;
use super::damage::Damage;
use super::fields::Fields;
use super::format::{Unknown, unknown};
use super::stacks::{StackPacker, StackUnpacker};
use super::varint::Span;
use super::{Entry, FoldPart, Process};
use code::{
    frame, function, loads, module, names, put_frame, put_function, put_loads, put_module,
    put_names, put_runtime, runtime, stack,
};
use moments::{end, mark, memory, put_end, put_mark, put_memory, put_thread_name, thread_name};

const OPENING: u8 = 1;
const PROCESS: u8 = 2;
const MODULE: u8 = 3;
const FRAME: u8 = 4;
const NAMES: u8 = 5;
const STACK: u8 = 6;
const MEMORY: u8 = 7;
const END: u8 = 8;
const QUALITY: u8 = 9;
const CLOSING: u8 = 10;
/// A stack as a path through the trie of all stacks; [`STACK`] has all its frames.
const TRIE_STACK: u8 = 11;
/// A part of a fold.
pub(super) const FOLD: u8 = 12;
/// From version 4 on; before, functions and the one runtime were always the same, and a process told the path of its cgroup.
const FUNCTION: u8 = 13;
const RUNTIME: u8 = 14;
pub(super) const CGROUP: u8 = 15;
/// What the live set said of a process that has ended, and that folds do not tell of any more.
const REMAINS: u8 = 16;
const THREAD_NAME: u8 = 128;
const MARK: u8 = 129;
const LOSS: u8 = 130;
const MAKEUP: u8 = 131;
const LOADS: u8 = 132;

/// Appends the body of an entry and returns its kind; events have none and come back. A process is in the cgroup of this number.
pub(super) fn put_body<'e>(
    to: &mut Vec<u8>,
    entry: &'e Entry,
    stacks: &mut StackPacker,
    cgroup: Option<u32>,
) -> Result<Body<'e>, serde_json::Error> {
    Ok(Body::Kind(match entry {
        Entry::Events(events) => return Ok(Body::Events(events)),
        Entry::Opening(opening) => put_json(to, OPENING, opening)?,
        Entry::Process(process) => put_json(to, PROCESS, &ProcessBody { process, cgroup })?,
        Entry::Function(function) => put_function(to, function),
        Entry::Runtime(runtime) => put_runtime(to, runtime),
        Entry::Module(module) => put_module(to, module),
        Entry::Frame(frame) => put_frame(to, *frame),
        Entry::Names(names) => put_names(to, names),
        Entry::Stack(stack) if stacks.put(to, stack) => TRIE_STACK,
        Entry::Stack(stack) => return Ok(Body::TooLarge(stack.frames.len())),
        Entry::Memory(sample) => put_memory(to, sample),
        Entry::Makeup(makeup) => put_json(to, MAKEUP, makeup)?,
        Entry::ThreadName(name) => put_thread_name(to, name),
        Entry::Loads(loads) => put_loads(to, *loads),
        Entry::Mark(mark) => put_mark(to, mark),
        Entry::Loss(loss) => put_json(to, LOSS, loss)?,
        Entry::End(end) => put_end(to, end),
        Entry::Fold(part) => {
            put_postcard(to, part);
            if let FoldPart::Process(process) = part {
                put_family(to, process);
            }
            FOLD
        }
        Entry::Remains(remains) => {
            put_postcard(to, remains);
            put_family(to, &remains.process);
            REMAINS
        }
        Entry::Quality(quality) => put_json(to, QUALITY, quality)?,
        Entry::Closing(closing) => put_json(to, CLOSING, closing)?,
    }))
}

/// What [`put_body`] made of an entry.
pub(super) enum Body<'e> {
    /// The body was appended; this is its kind.
    Kind(u8),
    /// Events lie in columns of their own: nothing was appended.
    Events(&'e [Event]),
    /// A stack of so many frames: nothing was appended.
    TooLarge(usize),
}

/// What entries may refer to, and is not given back as an entry of its own.
#[derive(Default)]
pub(super) struct Defined {
    stacks: StackUnpacker,
    cgroups: KnownCgroups,
}

/// Reads the entry of this kind with this body; `None` if it is none of its own, or of a kind that may be passed over.
pub(super) fn read_body(
    kind: u8,
    body: &[u8],
    defined: &mut Defined,
) -> Result<Option<Entry>, Damage> {
    let mut fields = Fields {
        body,
        span: Span::all(body),
    };
    Ok(Some(match kind {
        OPENING => Entry::Opening(json(body)?),
        PROCESS => Entry::Process(process(body, &mut defined.cgroups)?),
        FUNCTION => Entry::Function(function(&mut fields)?),
        RUNTIME => Entry::Runtime(runtime(&mut fields)?),
        CGROUP => {
            defined.cgroups.read(&mut fields)?;
            return Ok(None);
        }
        MODULE => Entry::Module(module(&mut fields)?),
        FRAME => Entry::Frame(frame(&mut fields)?),
        NAMES => Entry::Names(names(&mut fields)?),
        STACK => Entry::Stack(stack(&mut fields)?),
        TRIE_STACK => Entry::Stack(defined.stacks.read(body, &mut fields.span)?),
        MEMORY => Entry::Memory(memory(&mut fields)?),
        MAKEUP => Entry::Makeup(json(body)?),
        THREAD_NAME => Entry::ThreadName(thread_name(&mut fields)?),
        LOADS => Entry::Loads(loads(&mut fields)?),
        MARK => Entry::Mark(mark(&mut fields)?),
        LOSS => Entry::Loss(json(body)?),
        END => Entry::End(end(&mut fields)?),
        FOLD => {
            let (mut part, rest) = postcard(body)?;
            if let FoldPart::Process(process) = &mut part {
                read_family(rest, process)?;
            }
            Entry::Fold(part)
        }
        REMAINS => {
            let (mut remains, rest): (Remains, _) = postcard(body)?;
            read_family(rest, &mut remains.process)?;
            Entry::Remains(remains)
        }
        QUALITY => Entry::Quality(json(body)?),
        CLOSING => Entry::Closing(json(body)?),
        _ if unknown(kind) != Unknown::Refuse => return Ok(None),
        _ => return Err(Damage::Entry(kind)),
    }))
}

fn put_json(to: &mut Vec<u8>, kind: u8, value: &impl Serialize) -> Result<u8, serde_json::Error> {
    serde_json::to_writer(to, value)?;
    Ok(kind)
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Damage> {
    serde_json::from_slice(body).map_err(|error| Damage::Json(error.to_string()))
}

/// A process with the number of its cgroup in place of that.
#[derive(Serialize)]
struct ProcessBody<'e> {
    #[serde(flatten)]
    process: &'e Process,
    cgroup: Option<u32>,
}

#[derive(Deserialize)]
struct ReadProcess {
    #[serde(flatten)]
    process: Process,
    cgroup: Option<InCgroup>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum InCgroup {
    Number(u32),
    /// In versions 1 to 3.
    Path(String),
}

fn process(body: &[u8], cgroups: &mut KnownCgroups) -> Result<Process, Damage> {
    let ReadProcess {
        mut process,
        cgroup,
    } = json(body)?;
    process.cgroup = match cgroup {
        None => None,
        Some(InCgroup::Number(number)) => Some(cgroups.get(number)?),
        Some(InCgroup::Path(path)) => Some(cgroups.at(path)),
    };
    Ok(process)
}

/// As postcard writes it (<https://postcard.jamesmunns.com/wire-format>): its integers are the format's own.
fn put_postcard(to: &mut Vec<u8>, value: &impl Serialize) {
    let body = postcard::to_extend(value, std::mem::take(to));
    *to = body.expect("memory takes what plain data comes to");
}

/// What it says, and what lies behind it.
fn postcard<T: DeserializeOwned>(body: &[u8]) -> Result<(T, &[u8]), Damage> {
    postcard::take_from_bytes(body).map_err(|_| Damage::Fold)
}

/// What a process holds together with others, if it does, lies behind the rest: readers that do not know of it pass over it.
fn put_family(to: &mut Vec<u8>, process: &FoldedProcess) {
    if let Some(family) = process.family() {
        put_postcard(to, &family);
    }
}

fn read_family(body: &[u8], process: &mut FoldedProcess) -> Result<(), Damage> {
    if !body.is_empty() {
        let (family, _): (FoldedFamily, _) = postcard(body)?;
        process.set_family(family);
    }
    Ok(())
}

fn meaningless(field: &'static str, value: u8) -> Damage {
    Damage::Field {
        field,
        value: value.into(),
    }
}
