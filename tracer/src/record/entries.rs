//! How each entry that is not events is written: its kind, and a body whose fields follow one another.
//!
//! The rare ones that are likely to grow are JSON. In the others, what a later writer adds goes to the end of the body,
//! where a reader that does not know it passes over it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::event::{Event, FunctionIndex, Nanos, ProcessId, StackIndex, Tid};

use super::cgroups::KnownCgroups;
use super::damage::Damage;
use super::fields::{Fields, put_optional_text};
use super::format::{Unknown, unknown};
use super::stacks::{StackPacker, StackUnpacker};
use super::varint::{Span, put, put_bytes};
use super::{
    Does, EndReason, Entry, Frame, FrameIndex, FrameKind, FrameNames, Function, FunctionName, Mark,
    MarkKind, MemorySample, Module, ModuleIndex, Process, ProcessEnd, Runtime, RuntimeIndex, Stack,
    ThreadName,
};

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

const ALLOCATES: u8 = 1;
const RESIZES: u8 = 2;
const FREES: u8 = 3;

const MOMENT: u8 = 1;
const BEGIN: u8 = 2;
const SPAN_END: u8 = 3;

const EXITED: u8 = 1;
const SIGNAL: u8 = 2;
const OOM_KILLED: u8 = 3;
const EXECUTED: u8 = 4;
const DETACHED: u8 = 5;
const VANISHED: u8 = 6;

/// Flag of a stack: its root end is missing.
const TRUNCATED: u8 = 1;

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
        Entry::ThreadName(name) => put_thread_name(to, name),
        Entry::Mark(mark) => put_mark(to, mark),
        Entry::Loss(loss) => put_json(to, LOSS, loss)?,
        Entry::End(end) => put_end(to, end),
        Entry::Fold(part) => put_postcard(to, FOLD, part),
        Entry::Remains(remains) => put_postcard(to, REMAINS, remains),
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
        THREAD_NAME => Entry::ThreadName(thread_name(&mut fields)?),
        MARK => Entry::Mark(mark(&mut fields)?),
        LOSS => Entry::Loss(json(body)?),
        END => Entry::End(end(&mut fields)?),
        FOLD => Entry::Fold(postcard(body)?),
        REMAINS => Entry::Remains(postcard(body)?),
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

fn put_function(to: &mut Vec<u8>, function: &Function) -> u8 {
    let Function {
        index,
        name,
        allocator,
        does,
    } = function;
    put(to, index.0.into());
    put_bytes(to, name.as_bytes());
    put_bytes(to, allocator.as_bytes());
    to.push(match does {
        Does::Allocates => ALLOCATES,
        Does::Resizes => RESIZES,
        Does::Frees => FREES,
        Does::Other => 0,
    });
    FUNCTION
}

fn function(fields: &mut Fields) -> Result<Function, Damage> {
    Ok(Function {
        index: FunctionIndex(fields.unsigned_32()?),
        name: fields.text()?,
        allocator: fields.text()?,
        does: match fields.byte()? {
            ALLOCATES => Does::Allocates,
            RESIZES => Does::Resizes,
            FREES => Does::Frees,
            // What an event of it does is told by that.
            _ => Does::Other,
        },
    })
}

fn put_runtime(to: &mut Vec<u8>, runtime: &Runtime) -> u8 {
    let Runtime { index, name } = runtime;
    put(to, index.0.into());
    put_bytes(to, name.as_bytes());
    RUNTIME
}

fn runtime(fields: &mut Fields) -> Result<Runtime, Damage> {
    Ok(Runtime {
        index: RuntimeIndex(fields.unsigned_32()?),
        name: fields.text()?,
    })
}

/// As postcard writes it (<https://postcard.jamesmunns.com/wire-format>): its integers are the format's own.
fn put_postcard(to: &mut Vec<u8>, kind: u8, value: &impl Serialize) -> u8 {
    let body = postcard::to_extend(value, std::mem::take(to));
    *to = body.expect("memory takes what plain data comes to");
    kind
}

fn postcard<T: DeserializeOwned>(body: &[u8]) -> Result<T, Damage> {
    let value = postcard::take_from_bytes(body);
    value.map(|(value, _)| value).map_err(|_| Damage::Fold)
}

fn put_module(to: &mut Vec<u8>, module: &Module) -> u8 {
    let Module {
        index,
        path,
        build_id,
    } = module;
    put(to, (*index).into());
    put_bytes(to, path.as_os_str().as_bytes());
    put_optional_text(to, build_id.as_deref());
    MODULE
}

fn module(fields: &mut Fields) -> Result<Module, Damage> {
    Ok(Module {
        index: fields.unsigned_32()?,
        path: PathBuf::from(OsStr::from_bytes(fields.bytes()?)),
        build_id: fields.optional_text()?,
    })
}

fn put_frame(to: &mut Vec<u8>, frame: Frame) -> u8 {
    let Frame {
        index,
        module,
        offset,
        kind,
    } = frame;
    put(to, index.0.into());
    put(to, module.map_or(0, |module| u64::from(module.0) + 1));
    put(to, offset);
    match kind {
        FrameKind::Native => {}
        FrameKind::Managed(runtime) => put(to, 1 + 2 * u64::from(runtime.0)),
        FrameKind::Interpreter(runtime) => put(to, 2 + 2 * u64::from(runtime.0)),
    }
    FRAME
}

fn frame(fields: &mut Fields) -> Result<Frame, Damage> {
    Ok(Frame {
        index: FrameIndex(fields.unsigned_32()?),
        module: fields.optional_32()?.map(ModuleIndex),
        offset: fields.unsigned()?,
        kind: frame_kind(fields)?,
    })
}

/// Left out of machine code that is no interpreter's. In versions 1 to 3 there was one runtime, which has number 0.
fn frame_kind(fields: &mut Fields) -> Result<FrameKind, Damage> {
    if fields.is_empty() {
        return Ok(FrameKind::Native);
    }
    let Some(kind) = fields.unsigned()?.checked_sub(1) else {
        return Ok(FrameKind::Native);
    };
    let runtime = RuntimeIndex(u32::try_from(kind / 2).map_err(|_| Damage::LongInteger)?);
    Ok(match kind % 2 {
        0 => FrameKind::Managed(runtime),
        _ => FrameKind::Interpreter(runtime),
    })
}

fn put_names(to: &mut Vec<u8>, names: &FrameNames) -> u8 {
    let FrameNames {
        frame,
        functions,
        source,
    } = names;
    put(to, frame.0.into());
    put(to, functions.len() as u64);
    for name in functions {
        let FunctionName {
            function,
            file,
            line,
        } = name;
        put_bytes(to, function.as_bytes());
        put_optional_text(to, file.as_deref());
        put(to, line.map_or(0, |line| u64::from(line) + 1));
    }
    if source.is_some() {
        put_optional_text(to, source.as_deref());
    }
    NAMES
}

fn names(fields: &mut Fields) -> Result<FrameNames, Damage> {
    let frame = FrameIndex(fields.unsigned_32()?);
    // Each has at least a length, a length and a line.
    let count = fields.count(3)?;
    let functions = (0..count)
        .map(|_| {
            Ok(FunctionName {
                function: fields.text()?,
                file: fields.optional_text()?,
                line: fields.optional_32()?,
            })
        })
        .collect::<Result<_, _>>()?;
    let source = if fields.is_empty() {
        None
    } else {
        fields.optional_text()?
    };
    Ok(FrameNames {
        frame,
        functions,
        source,
    })
}

fn stack(fields: &mut Fields) -> Result<Stack, Damage> {
    let index = StackIndex(fields.unsigned_32()?);
    let process = ProcessId(fields.unsigned_32()?);
    let truncated = match fields.byte()? {
        0 => false,
        TRUNCATED => true,
        flags => return Err(meaningless("flags of a stack", flags)),
    };
    let count = fields.count(1)?;
    let frames = (0..count)
        .map(|_| Ok(FrameIndex(fields.unsigned_32()?)))
        .collect::<Result<_, _>>()?;
    Ok(Stack {
        index,
        process,
        frames,
        truncated,
    })
}

fn put_thread_name(to: &mut Vec<u8>, name: &ThreadName) -> u8 {
    let ThreadName {
        at,
        process,
        thread,
        name,
    } = name;
    put(to, at.0);
    put(to, process.0.into());
    put(to, thread.0.into());
    put_bytes(to, name.as_bytes());
    THREAD_NAME
}

fn thread_name(fields: &mut Fields) -> Result<ThreadName, Damage> {
    Ok(ThreadName {
        at: Nanos(fields.unsigned()?),
        process: ProcessId(fields.unsigned_32()?),
        thread: Tid(fields.unsigned_32()?),
        name: fields.text()?,
    })
}

fn put_mark(to: &mut Vec<u8>, mark: &Mark) -> u8 {
    let Mark {
        at,
        process,
        kind,
        name,
    } = mark;
    put(to, at.0);
    put(to, process.map_or(0, |process| u64::from(process.0) + 1));
    to.push(match kind {
        MarkKind::Moment => MOMENT,
        MarkKind::Begin => BEGIN,
        MarkKind::End => SPAN_END,
    });
    put_bytes(to, name.as_bytes());
    MARK
}

fn mark(fields: &mut Fields) -> Result<Mark, Damage> {
    Ok(Mark {
        at: Nanos(fields.unsigned()?),
        process: fields.optional_32()?.map(ProcessId),
        kind: match fields.byte()? {
            MOMENT => MarkKind::Moment,
            BEGIN => MarkKind::Begin,
            SPAN_END => MarkKind::End,
            kind => return Err(meaningless("kind of a mark", kind)),
        },
        name: fields.text()?,
    })
}

fn put_memory(to: &mut Vec<u8>, sample: &MemorySample) -> u8 {
    let MemorySample {
        at,
        process,
        rss,
        anon,
        file,
        shmem,
        swap,
        cgroup_current,
        cgroup_limit,
    } = sample;
    let values = [rss, anon, file, shmem, swap, cgroup_current, cgroup_limit];
    put(to, at.0);
    put(to, process.0.into());
    let known = values.iter().enumerate().fold(0, |known, (bit, value)| {
        known | u8::from(value.is_some()) << bit
    });
    to.push(known);
    for value in values.into_iter().flatten() {
        put(to, *value);
    }
    MEMORY
}

fn memory(fields: &mut Fields) -> Result<MemorySample, Damage> {
    let at = Nanos(fields.unsigned()?);
    let process = ProcessId(fields.unsigned_32()?);
    let known = fields.byte()?;
    if known & 0x80 != 0 {
        return Err(meaningless("known values of a memory sample", known));
    }
    let mut values = [None; 7];
    for (bit, value) in values.iter_mut().enumerate() {
        if known >> bit & 1 != 0 {
            *value = Some(fields.unsigned()?);
        }
    }
    let [rss, anon, file, shmem, swap, cgroup_current, cgroup_limit] = values;
    Ok(MemorySample {
        at,
        process,
        rss,
        anon,
        file,
        shmem,
        swap,
        cgroup_current,
        cgroup_limit,
    })
}

fn put_end(to: &mut Vec<u8>, end: &ProcessEnd) -> u8 {
    let ProcessEnd {
        at,
        process,
        reason,
    } = end;
    let (reason, detail) = match *reason {
        EndReason::Exited { code } => (EXITED, code),
        EndReason::Signal { signal } => (SIGNAL, signal),
        EndReason::OomKilled => (OOM_KILLED, 0),
        EndReason::Executed => (EXECUTED, 0),
        EndReason::Detached => (DETACHED, 0),
        EndReason::Vanished => (VANISHED, 0),
    };
    put(to, at.0);
    put(to, process.0.into());
    to.extend([reason, detail]);
    END
}

fn end(fields: &mut Fields) -> Result<ProcessEnd, Damage> {
    let at = Nanos(fields.unsigned()?);
    let process = ProcessId(fields.unsigned_32()?);
    let reason = fields.byte()?;
    let detail = fields.byte()?;
    let reason = match reason {
        EXITED => EndReason::Exited { code: detail },
        SIGNAL => EndReason::Signal { signal: detail },
        OOM_KILLED => EndReason::OomKilled,
        EXECUTED => EndReason::Executed,
        DETACHED => EndReason::Detached,
        VANISHED => EndReason::Vanished,
        _ => return Err(meaningless("reason of an end", reason)),
    };
    Ok(ProcessEnd {
        at,
        process,
        reason,
    })
}

fn meaningless(field: &'static str, value: u8) -> Damage {
    Damage::Field {
        field,
        value: value.into(),
    }
}
