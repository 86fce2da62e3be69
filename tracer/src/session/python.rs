//! Python in traced processes: whose interpreter the kernel side is told of, and what its frames mean.

mod functions;
mod kept;
mod merge;
mod slots;
mod sources;

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use highwater_common::python::{CodeKey, Interpreter};
use tokio::time::Instant;

use super::{Session, follow::Followed, mapped_code::MappedCode, opening::PYTHON};
use crate::{
    event::{
        Address,
        decode::StackDefinition,
        python::{self as sent, CodeDefinition},
    },
    record::{Entry, FrameIndex, FrameKind, FrameNames, FunctionName, ModuleIndex, PythonQuality},
    target::{
        elf::{CodeSegment, Elf},
        mapped_file::identity_of,
    },
    unwind::python::{
        Image, Layout, Lines, Version,
        live::{self, Memory, Verdict},
    },
};

use functions::Functions;
use kept::Kept;
pub(super) use merge::{Part, merge};
use slots::{Slot, Slots};
use sources::Sources;

/// Code objects that were used last and are kept, of all processes together; four times as many as the kernel side knows to
/// be sent.
const MOST_CODE: usize = 1 << 17;
/// What they take at most, bytes; what was used before them takes as much again.
const MOST_CODE_BYTES: usize = 32 << 20;
/// Longest line table that is read, bytes.
const MOST_LINE_BYTES: u32 = 4 << 20;
/// An interpreter that has not begun is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often a process is looked at whose interpreter contradicts its layout: it runs on while we read, so once is not enough.
const TRIES: u32 = 20;

/// An interpreter's file, and where its code lies in it.
#[derive(Debug)]
pub(super) struct File {
    image: Image,
    segments: Vec<CodeSegment>,
}

impl File {
    /// Looks into a file; `None`: it is no interpreter.
    fn of(file: &fs::File, path: &Path) -> Option<Arc<Self>> {
        let image = match Image::of(file, path) {
            Ok(image) => image?,
            Err(error) => {
                log::debug!("whether {} is a Python: {error}", path.display());
                return None;
            }
        };
        let segments = Elf::open(file).map(|elf| elf.code_segments());
        Some(Arc::new(Self {
            image,
            segments: segments.unwrap_or_default(),
        }))
    }
}

/// A followed process's interpreter.
#[derive(Debug)]
pub(super) struct Python {
    file: Arc<File>,
    /// What to add to the file's addresses.
    bias: u64,
    /// The kernel side's copy; `None`: it has none, and stacks are native.
    slot: Option<Slot>,
    interpreter: Interpreter,
    /// It was held against the process, whatever that came to.
    settled: bool,
    tries: u32,
    looked_at: Instant,
}

impl Python {
    /// Which of the kernel side's interpreters it is; 0: none.
    pub(super) fn slot(&self) -> u32 {
        self.slot.as_ref().map_or(0, Slot::number)
    }

    /// Whether a return address lies in the evaluation loop of an interpreter whose frames are read.
    pub(super) fn evaluates(&self, Address(return_address): Address) -> bool {
        // It may lie behind the last instruction.
        let at = return_address.wrapping_sub(self.bias).wrapping_sub(1);
        let mut parts = self.file.image.evaluation.iter();
        self.slot.is_some() && parts.any(|part| part.contains(&at))
    }
}

/// A code object.
struct Known {
    /// The function, however often it was compiled.
    function: u32,
    name: String,
    file: Option<String>,
    first_traceable: i32,
    lines: Option<Lines>,
}

impl Known {
    /// What it takes, bytes.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.name.len()
            + self.file.as_ref().map_or(0, String::len)
            + self.lines.as_ref().map_or(0, Lines::bytes)
    }
}

/// What the session knows of Python.
pub(super) struct Pythons {
    files: HashMap<ModuleIndex, Arc<File>>,
    /// Files that were looked into before anything mapped them, by device and inode.
    expected: HashMap<(u64, u64), Option<Arc<File>>>,
    /// Modules that are programs of interpreters.
    programs: HashSet<ModuleIndex>,
    /// `None`: source text is not to be recorded.
    sources: Option<Sources>,
    slots: Slots,
    code: Kept<CodeKey, Arc<Known>>,
    functions: Functions,
    /// What could not be seen.
    quality: PythonQuality,
}

impl Pythons {
    /// Knows of none yet. `sources`: lines of source text are to be recorded.
    pub(super) fn new(sources: bool) -> Self {
        Self {
            files: HashMap::new(),
            expected: HashMap::new(),
            programs: HashSet::new(),
            sources: sources.then(Sources::default),
            slots: Slots::default(),
            code: Kept::new(MOST_CODE, MOST_CODE_BYTES),
            functions: Functions::default(),
            quality: PythonQuality::default(),
        }
    }

    /// Looks into a file that will be mapped, for looking takes longer than a program takes to begin.
    pub(super) fn expect_file(&mut self, file: &fs::File, path: &Path) {
        if let Some(inode) = identity_of(file) {
            self.expected.insert(inode, File::of(file, path));
        }
    }

    /// A file that some process maps.
    pub(super) fn add_file(&mut self, module: ModuleIndex, file: &fs::File, path: &Path) {
        let expected = identity_of(file).and_then(|inode| self.expected.get(&inode));
        match expected.map_or_else(|| File::of(file, path), Clone::clone) {
            Some(file) => {
                self.files.insert(module, file);
            }
            // By its name it is an interpreter's program, with hardly more in it than a call of its library.
            None if is_python_program(path) => {
                self.programs.insert(module);
            }
            None => {}
        }
    }

    /// Whether a module is an interpreter.
    pub(super) fn is_interpreter(&self, module: ModuleIndex) -> bool {
        self.files.contains_key(&module) || self.programs.contains(&module)
    }

    /// What could not be seen, as far as it was seen here.
    pub(super) fn quality(&self) -> PythonQuality {
        self.quality
    }

    /// A process has ended, or become another program: its code objects and sources are not asked for any more.
    pub(super) fn end(&mut self, followed: &Followed) {
        self.code.retain(|key| key.process != followed.id.0);
        if let Some(sources) = &mut self.sources {
            sources.end(&followed.target.proc_dir());
        }
    }
}

impl Session {
    /// Looks whether a process runs Python, and tells the kernel side's number for its interpreter with the rest.
    pub(super) fn find_python(&mut self, followed: &mut Followed) {
        let found = followed.unwound.iter().find_map(|code| {
            let file = self.python.files.get(&code.mapping()?.module)?;
            Some((Arc::clone(file), bias(code, &file.segments)?))
        });
        let Some((file, bias)) = found else {
            followed.python = None;
            return;
        };
        let known = followed.python.as_ref();
        if known.is_some_and(|known| known.bias == bias && Arc::ptr_eq(&known.file, &file)) {
            return;
        }
        let mut python = Python {
            bias,
            slot: None,
            interpreter: Interpreter::default(),
            settled: false,
            tries: 0,
            looked_at: Instant::now(),
            file,
        };
        let image = &python.file.image;
        let layout = match readable(image) {
            Ok(layout) => layout,
            Err(why) => {
                let version = image.version.map_or_else(
                    || "an unknown version".to_owned(),
                    |version| version.to_string(),
                );
                self.quality.note(format!(
                    "process {} ({}) runs Python {version}, {why}: its stacks are native",
                    followed.target.pid, followed.target.command
                ));
                python.settled = true;
                followed.python = Some(python);
                return;
            }
        };
        // A process that begins runs its first functions before it can be looked at: the table's word is taken until then.
        // The kernel side believes no frame that is none.
        if let Some(key) = layout.runtime_key {
            let runtime = image.runtime.address.wrapping_add(bias);
            let interpreter = Interpreter {
                state_key: runtime.wrapping_add(key),
                type_of_code: image.type_of_code.wrapping_add(bias),
                ..layout.kernel
            };
            self.tell_interpreter(&mut python, interpreter);
        }
        self.examine_python(followed, &mut python);
        followed.python = Some(python);
    }

    /// Looks again at the interpreters that had not begun. Those that the kernel side is told something new of are placed anew.
    pub(super) fn examine_pythons(&mut self) {
        let due: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, followed)| {
                followed.python.as_ref().is_some_and(|python| {
                    !python.settled && python.looked_at.elapsed() >= LOOK_AGAIN
                })
            })
            .map(|(tgid, _)| *tgid)
            .collect();
        for tgid in due {
            let Some(mut followed) = self.processes.remove(&tgid) else {
                continue;
            };
            if let Some(mut python) = followed.python.take() {
                let before = python.slot();
                self.examine_python(&followed, &mut python);
                let changed = python.slot() != before;
                followed.python = Some(python);
                if changed {
                    self.place_code(&followed, false);
                }
            }
            self.processes.insert(tgid, followed);
        }
    }

    fn examine_python(&mut self, followed: &Followed, python: &mut Python) {
        python.looked_at = Instant::now();
        let image = &python.file.image;
        let Some(layout) = &image.layout else {
            return;
        };
        let verdict = match Memory::open(&followed.target.proc_dir()) {
            Ok(memory) => live::examine(
                &memory,
                layout,
                image.runtime.address.wrapping_add(python.bias),
                image.type_of_code.wrapping_add(python.bias),
            ),
            Err(error) => {
                log::info!(
                    "the memory of process {} cannot be read: {error}",
                    followed.target.pid
                );
                Verdict::NotYet
            }
        };
        match verdict {
            Verdict::Fits(interpreter) => {
                python.settled = true;
                self.tell_interpreter(python, interpreter);
            }
            Verdict::NotYet => {}
            Verdict::Contradicted(_) if python.tries < TRIES => python.tries += 1,
            Verdict::Contradicted(reason) => {
                python.settled = true;
                python.slot = None;
                self.quality.note(format!(
                    "the Python frames of process {} ({}) cannot be read, so its stacks are native: {reason}",
                    followed.target.pid, followed.target.command
                ));
            }
        }
    }

    fn tell_interpreter(&mut self, python: &mut Python, interpreter: Interpreter) {
        if python.slot.is_some() && python.interpreter == interpreter {
            return;
        }
        python.interpreter = interpreter;
        let Some((slot, new)) = self.python.slots.take(interpreter) else {
            python.slot = None;
            self.quality
                .note("more Python interpreters at once than are told apart".to_owned());
            return;
        };
        python.slot = Some(slot);
        if new && let Err(error) = self.kernel.set_interpreter(python.slot(), interpreter) {
            python.slot = None;
            self.quality
                .note(format!("Python frames are not read: {error}"));
        }
    }

    /// A code object that frames of stacks to come run.
    pub(super) fn know_python_code(&mut self, definition: CodeDefinition) {
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
    pub(super) fn python_parts(
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
    pub(super) fn merge_python(
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

/// The name of a function that has none that we know.
const UNKNOWN: &str = "<unknown Python function>";

/// Versions whose layouts are known.
fn supported(version: Option<Version>) -> bool {
    version.is_some_and(|version| version.major == 3 && version.minor >= 9)
}

/// What to add to a file's addresses where a stretch of its code is mapped.
fn bias(code: &MappedCode, segments: &[CodeSegment]) -> Option<u64> {
    let mapping = code.mapping()?;
    let size = mapping.end.checked_sub(mapping.start)?;
    let address = segments
        .iter()
        .find_map(|segment| segment.address_of_mapping(mapping.file_offset, size))?;
    Some(mapping.start.wrapping_sub(address))
}

/// How an interpreter's frames are read, or why they are not.
fn readable(image: &Image) -> Result<Layout, &'static str> {
    match image.layout {
        Some(_) if image.evaluation.is_empty() => Err("whose evaluation loop cannot be found"),
        Some(layout) if supported(image.version) => Ok(layout),
        _ => Err("whose frames cannot be read"),
    }
}

/// Whether a file is, by its name, the program of an interpreter.
fn is_python_program(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.starts_with(b"python")
}
