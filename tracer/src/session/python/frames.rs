//! What the frames of a process's Python mean: functions and lines, and where they stand among native frames.

use std::sync::Arc;

use highwater_common::python::CodeKey;

use super::super::{Session, follow::Followed, opening::PYTHON};
use super::merge::{Part, merge};
use crate::{
    event::{
        Address,
        decode::StackDefinition,
        python::{self as sent, CodeDefinition},
    },
    record::{Entry, FrameIndex, FrameKind, FrameNames, FunctionName},
    unwind::python::{
        Lines,
        live::{self, Memory},
    },
};

/// Longest line table that is read, bytes.
const MOST_LINE_BYTES: u32 = 4 << 20;
/// The name of a function that has none that we know.
const UNKNOWN: &str = "<unknown Python function>";

/// A code object.
pub(super) struct Known {
    /// The function, however often it was compiled.
    function: u32,
    name: String,
    file: Option<String>,
    first_traceable: i32,
    lines: Option<Lines>,
}

impl Known {
    /// What it takes, bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.name.len()
            + self.file.as_ref().map_or(0, String::len)
            + self.lines.as_ref().map_or(0, Lines::bytes)
    }
}

impl Session {
    /// A code object that frames of stacks to come run.
    pub(in crate::session) fn know_python_code(&mut self, definition: CodeDefinition) {
        let key = CodeKey {
            code: definition.code.0,
            process: definition.process.0,
            check: definition.check,
        };
        if self.python.code.contains(&key) {
            return;
        }
        let tgid = self.tgid_of(definition.process);
        let python = tgid
            .and_then(|tgid| self.processes.get(&tgid))
            .and_then(|followed| followed.python.as_ref());
        let version = python
            .and_then(|python| python.file.image.version)
            // Without it nothing of the table can be read; a process that is gone has told us before.
            .or_else(|| {
                self.python
                    .files
                    .values()
                    .find_map(|file| file.image.version)
            });
        let table = definition
            .lines
            .clone()
            .or_else(|| self.long_line_table(&definition));
        let lines = version
            .zip(table)
            .map(|(version, table)| Lines::new(version, definition.first_line, table));
        if lines.is_none() {
            self.python.quality.lineless += 1;
        }
        let CodeDefinition {
            name,
            file,
            first_line,
            first_traceable,
            ..
        } = definition;
        let functions = &mut self.python.functions;
        let is_named = name.is_some();
        let name = name.unwrap_or_else(|| UNKNOWN.to_owned());
        let known = match functions.number(file.as_deref(), &name, first_line) {
            Some(function) => Known {
                function,
                name,
                file,
                first_traceable,
                lines,
            },
            // No room for its names: a frame of a function that is not known.
            None => Known {
                function: 0,
                name: UNKNOWN.to_owned(),
                file: None,
                first_traceable,
                lines: None,
            },
        };
        if !is_named || known.function == 0 {
            self.python.quality.nameless += 1;
        }
        let bytes = known.bytes();
        let gone = self.python.code.insert(key, Arc::new(known), bytes);
        self.kernel.forget_code(&gone);
    }

    /// A line table that the kernel side left to us. The code object may be gone, and its memory be another's: what tells it
    /// from others is looked at before and after.
    fn long_line_table(&self, definition: &CodeDefinition) -> Option<Vec<u8>> {
        let (address, length) = definition.lines_at;
        let tgid = self.tgid_of(definition.process)?;
        let followed = self.processes.get(&tgid)?;
        let interpreter = &followed.python.as_ref()?.interpreter;
        if length == 0 || length > MOST_LINE_BYTES {
            return None;
        }
        let memory = Memory::open(&followed.target.proc_dir()).ok()?;
        let is_it = || {
            live::check_of_code(&memory, interpreter, definition.code.0) == Some(definition.check)
        };
        let table = is_it().then(|| memory.bytes(address.0, length as usize))??;
        is_it().then_some(table)
    }

    /// The Python frames of a stack, as far as a traceback would show them.
    pub(in crate::session) fn python_parts(
        &mut self,
        followed: Option<&Followed>,
        definition: &StackDefinition,
    ) -> Vec<Part<FrameIndex>> {
        let mut parts = Vec::with_capacity(definition.python.len());
        for frame in &definition.python {
            let shown = self.python_frame(definition.process.0, followed, frame);
            parts.push(Part {
                frame: shown,
                is_entry: frame.is_entry,
            });
        }
        parts
    }

    fn python_frame(
        &mut self,
        kernel_process: u32,
        followed: Option<&Followed>,
        frame: &sent::Frame,
    ) -> Option<FrameIndex> {
        if frame.code == Address(0) {
            return None;
        }
        let key = CodeKey {
            code: frame.code.0,
            process: kernel_process,
            check: frame.check,
        };
        let (code, gone) = self.python.code.get(&key);
        self.kernel.forget_code(&gone);
        let Some(code) = code else {
            self.python.quality.nameless += 1;
            return Some(self.name_python(None, 0, UNKNOWN, None, followed));
        };
        if frame.instruction < code.first_traceable && !frame.is_generator {
            return None;
        }
        let line = match &code.lines {
            Some(lines) => lines.line(frame.instruction),
            None => None,
        };
        Some(self.name_python(
            code.file.as_deref(),
            code.function,
            &code.name,
            line,
            followed,
        ))
    }

    /// The location of a function's line; a new one is written with its name.
    fn name_python(
        &mut self,
        file: Option<&str>,
        function: u32,
        name: &str,
        line: Option<u32>,
        followed: Option<&Followed>,
    ) -> FrameIndex {
        let place = u64::from(function) << 32 | u64::from(line.unwrap_or(0));
        let interned = self.frames.intern(FrameKind::Managed(PYTHON), None, place);
        if interned.new {
            self.write_frame(&interned);
            let source = file
                .zip(line)
                .zip(followed)
                .and_then(|((file, line), followed)| {
                    let sources = self.python.sources.as_mut()?;
                    let named = followed.files.as_ref()?;
                    sources.line(&followed.target.proc_dir(), named, file, line)
                });
            self.write(&Entry::Names(FrameNames {
                frame: interned.index,
                functions: vec![FunctionName {
                    function: name.to_owned(),
                    file: file.map(str::to_owned),
                    line,
                }],
                source,
            }));
        }
        interned.index
    }

    /// Native and Python frames as one stack.
    pub(in crate::session) fn merge_python(
        &mut self,
        native: &[(FrameIndex, bool)],
        python: &[Part<FrameIndex>],
        definition: &StackDefinition,
    ) -> Vec<FrameIndex> {
        let merged = merge(native, python, definition.truncated, definition.python_cut);
        if merged.unpaired {
            self.python.quality.unpaired += 1;
        }
        merged.frames
    }
}
