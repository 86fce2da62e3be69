//! Entries about code: allocator functions, runtimes, files, locations, their names, stacks.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::super::damage::Damage;
use super::super::fields::{Fields, put_optional_text};
use super::super::varint::{put, put_bytes};
use super::super::{
    Does, Frame, FrameIndex, FrameKind, FrameNames, Function, FunctionName, Loads, Module,
    ModuleIndex, Runtime, RuntimeIndex, Stack,
};
use super::{FRAME, FUNCTION, LOADS, MODULE, NAMES, RUNTIME, meaningless};
use crate::event::{FunctionIndex, ProcessId, StackIndex};

const ALLOCATES: u8 = 1;
const RESIZES: u8 = 2;
const FREES: u8 = 3;

/// Flag of a stack: its root end is missing.
const TRUNCATED: u8 = 1;

pub(super) fn put_function(to: &mut Vec<u8>, function: &Function) -> u8 {
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

pub(super) fn function(fields: &mut Fields) -> Result<Function, Damage> {
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

pub(super) fn put_loads(to: &mut Vec<u8>, loads: Loads) -> u8 {
    let Loads {
        process,
        module,
        count,
    } = loads;
    put(to, process.0.into());
    put(to, module.0.into());
    put(to, count);
    LOADS
}

pub(super) fn loads(fields: &mut Fields) -> Result<Loads, Damage> {
    Ok(Loads {
        process: ProcessId(fields.unsigned_32()?),
        module: ModuleIndex(fields.unsigned_32()?),
        count: fields.unsigned()?,
    })
}

pub(super) fn put_runtime(to: &mut Vec<u8>, runtime: &Runtime) -> u8 {
    let Runtime { index, name } = runtime;
    put(to, index.0.into());
    put_bytes(to, name.as_bytes());
    RUNTIME
}

pub(super) fn runtime(fields: &mut Fields) -> Result<Runtime, Damage> {
    Ok(Runtime {
        index: RuntimeIndex(fields.unsigned_32()?),
        name: fields.text()?,
    })
}

pub(super) fn put_module(to: &mut Vec<u8>, module: &Module) -> u8 {
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

pub(super) fn module(fields: &mut Fields) -> Result<Module, Damage> {
    Ok(Module {
        index: fields.unsigned_32()?,
        path: PathBuf::from(OsStr::from_bytes(fields.bytes()?)),
        build_id: fields.optional_text()?,
    })
}

pub(super) fn put_frame(to: &mut Vec<u8>, frame: Frame) -> u8 {
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

pub(super) fn frame(fields: &mut Fields) -> Result<Frame, Damage> {
    Ok(Frame {
        index: FrameIndex(fields.unsigned_32()?),
        module: fields.optional_32()?.map(ModuleIndex),
        offset: fields.unsigned()?,
        kind: frame_kind(fields)?,
    })
}

/// Left out of machine code that is no interpreter's. In versions 1 to 3 there was one runtime, which has number 0.
pub(super) fn frame_kind(fields: &mut Fields) -> Result<FrameKind, Damage> {
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

pub(super) fn put_names(to: &mut Vec<u8>, names: &FrameNames) -> u8 {
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

pub(super) fn names(fields: &mut Fields) -> Result<FrameNames, Damage> {
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

pub(super) fn stack(fields: &mut Fields) -> Result<Stack, Damage> {
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
