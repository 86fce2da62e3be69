//! Python in traced processes: whose interpreter the kernel side is told of, and what its frames mean.

mod frames;
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

use super::{Session, follow::Followed, mapped_code::MappedCode};
use crate::{
    event::Address,
    record::{ModuleIndex, PythonQuality},
    target::{
        elf::{CodeSegment, Elf},
        mapped_file::identity_of,
    },
    unwind::python::{
        Image, Layout, Version,
        live::{self, Memory, Verdict},
    },
};

use frames::Known;
use functions::Functions;
use kept::Kept;
use slots::{Slot, Slots};
use sources::Sources;

/// Code objects that were used last and are kept, of all processes together; four times as many as the kernel side knows to
/// be sent.
const MOST_CODE: usize = 1 << 17;
/// What they take at most, bytes; what was used before them takes as much again.
const MOST_CODE_BYTES: usize = 32 << 20;
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
}

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
