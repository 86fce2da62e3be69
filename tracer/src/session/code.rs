//! Where a traced process keeps its code: files held open and named once, addresses turned into locations.

use std::{collections::HashMap, path::Path, sync::Arc};

use tokio::time::Instant;

use super::{
    Session, descriptors,
    follow::{Followed, perf_map_of},
    mapped_code::{self, MappedCode},
    opening::PYTHON,
    python::Pythons,
    unwind::Unwinding,
};
use crate::{
    event::{Address, ProcessId, decode::StackDefinition},
    record::{Entry, Frame, FrameIndex, FrameKind, Module, ModuleIndex},
    symbol::{CodeMap, CodeMapping, Interned, ModuleSource, Symbols},
    target::{
        Target, elf, mapped_file,
        maps::{self, Mapping, MappingName},
        named_file::NamedFiles,
        vdso,
    },
};

/// Modules of the recording.
#[derive(Default)]
pub(super) struct Modules {
    /// By device and inode (and by name, for what is no file). `None`: its code is named like that of anonymous memory.
    known: HashMap<(u32, u32, u64, String), Option<ModuleIndex>>,
    /// What is in no file, of each process: the same address means something else in another one.
    anonymous: HashMap<ProcessId, ModuleIndex>,
    /// Mapped files that could not be opened because we have as many open as we may.
    pub(super) beyond_limit: u64,
    count: u32,
}

impl Modules {
    /// The module of a mapping; a new one is written, and its file held open for the symbol thread.
    fn index(
        &mut self,
        (target, files): (&Target, Option<&Arc<NamedFiles>>),
        mapping: &Mapping,
        symbols: Option<&Symbols>,
        unwinding: &mut Unwinding,
        pythons: &mut Pythons,
        written: &mut Vec<Module>,
    ) -> Option<ModuleIndex> {
        let (path, special) = match &mapping.path {
            MappingName::File(path, _) => (path.clone(), String::new()),
            MappingName::Special(name) if is_memory(name) => return None,
            MappingName::Special(name) => (name.into(), name.clone()),
            MappingName::Anonymous => return None,
        };
        let key = (mapping.device.0, mapping.device.1, mapping.inode, special);
        if let Some(index) = self.known.get(&key) {
            return *index;
        }
        let (source, build_id) = match &mapping.path {
            MappingName::File(..) => match mapped_file::open(target, mapping) {
                Ok(mapped) => {
                    let elf = elf::Elf::open(&mapped.file);
                    if elf.is_err() && is_memory_file(&path) {
                        // A JIT compiler's memory, mapped twice: once to write, once to run.
                        self.known.insert(key, None);
                        return None;
                    }
                    let build_id = elf.ok().and_then(|elf| elf.build_id());
                    (Some(ModuleSource::File(mapped.file)), build_id)
                }
                Err(error) => {
                    log::debug!("no names for {}: {error}", path.display());
                    self.beyond_limit += u64::from(descriptors::are_used_up(&error));
                    (None, None)
                }
            },
            MappingName::Special(name) if name == "[vdso]" => match vdso::image() {
                Ok(image) => (Some(ModuleSource::Memory(image)), None),
                Err(error) => {
                    log::debug!("no names for the vdso: {error}");
                    (None, None)
                }
            },
            _ => (None, None),
        };
        let index = self.next();
        self.known.insert(key, Some(index));
        match &source {
            Some(ModuleSource::File(file)) => {
                unwinding.want_file(index, file, build_id.as_deref());
                pythons.add_file(index, file, &path);
            }
            Some(ModuleSource::Memory(image)) => unwinding.want_image(index, image.clone()),
            None => {}
        }
        if let (Some(symbols), Some(source)) = (symbols, source) {
            symbols.add_module(index, path.clone(), source, files.cloned());
        }
        written.push(Module {
            index: index.0,
            path,
            build_id,
        });
        Some(index)
    }

    /// The module of a file, by its device and inode, if one is known.
    pub(super) fn of_file(&self, device: (u32, u32), inode: u64) -> Option<ModuleIndex> {
        let key = (device.0, device.1, inode, String::new());
        self.known.get(&key).copied().flatten()
    }

    /// The module of a process's code that is in no file, in which offsets are addresses.
    fn anonymous(
        &mut self,
        followed: &mut Followed,
        symbols: Option<&Symbols>,
        written: &mut Vec<Module>,
    ) -> ModuleIndex {
        if let Some(index) = self.anonymous.get(&followed.id) {
            return *index;
        }
        let index = self.next();
        self.anonymous.insert(followed.id, index);
        if let Some(symbols) = symbols {
            // It may have another user by now.
            let now = perf_map_of(&followed.target, followed.files.clone());
            if let Some(source) = now.or_else(|| followed.perf_map.take()) {
                symbols.add_perf_map(index, source);
            }
        }
        written.push(Module {
            index: index.0,
            path: Module::ANONYMOUS.into(),
            build_id: None,
        });
        index
    }

    /// A process has ended, or become another program. Gives the module of its code that is in no file.
    pub(super) fn end(
        &mut self,
        process: ProcessId,
        symbols: Option<&Symbols>,
    ) -> Option<ModuleIndex> {
        let index = self.anonymous.remove(&process)?;
        if let Some(symbols) = symbols {
            symbols.end_perf_map(index);
        }
        Some(index)
    }

    fn next(&mut self) -> ModuleIndex {
        let index = ModuleIndex(self.count);
        self.count += 1;
        index
    }
}

/// Whether the kernel's name is one of ordinary memory: a program may have made its stack or heap executable.
fn is_memory(name: &str) -> bool {
    name == "[heap]" || name.starts_with("[stack") || name.starts_with("[anon")
}

/// Whether it is memory that only looks like a file.
fn is_memory_file(path: &Path) -> bool {
    ["/memfd:", "/dev/zero", "/SYSV", "/anon_hugepage"]
        .iter()
        .any(|name| {
            path.as_os_str()
                .as_encoded_bytes()
                .starts_with(name.as_bytes())
        })
}

impl Session {
    /// Reads where a process's code lies now, and tells the kernel side. Where addresses have changed their meaning (what
    /// was mapped before is gone or replaced) a new epoch begins with it, so that stacks of before and after differ.
    pub(super) fn read_code(&mut self, followed: &mut Followed) {
        // Before the mappings are: what changes meanwhile belongs to a later epoch.
        let tgid = followed.target.pid;
        let epoch = self.kernel.process(tgid).map_or(0, |process| process.epoch);
        let Ok(mappings) = maps::read(&followed.target.proc_dir()) else {
            return;
        };
        self.note_patcher(followed, &mappings);
        let mut written = Vec::new();
        let unwound = mapped_code::of(&mappings, |mapping| {
            self.modules.index(
                (&followed.target, followed.files.as_ref()),
                mapping,
                self.symbols.as_ref(),
                &mut self.unwinding,
                &mut self.python,
                &mut written,
            )
        });
        let code: Vec<CodeMapping> = unwound.iter().filter_map(MappedCode::mapping).collect();
        for module in written {
            self.write(&Entry::Module(module));
        }
        let changed = followed.mappings.iter().any(|old| !code.contains(old));
        followed.mappings.clone_from(&code);
        if changed {
            followed.code.replace(CodeMap::new(code), epoch + 1);
        } else {
            followed.code.extend(CodeMap::new(code), epoch);
        }
        // Told even if it looks the same: the kernel side has seen off what was unmapped, the same file at the same place
        // included.
        followed.unwound = unwound;
        self.find_python(followed);
        self.place_code(followed, changed);
    }

    /// Writes down a location that is new.
    pub(super) fn write_frame(&mut self, interned: &Interned) {
        let (kind, module, offset) = interned.location;
        self.write(&Entry::Frame(Frame {
            index: interned.index,
            module,
            offset,
            kind,
        }));
    }

    /// The locations of a stack's return addresses.
    pub(super) fn locate(
        &mut self,
        process: ProcessId,
        definition: &StackDefinition,
    ) -> Vec<FrameIndex> {
        let tgid = self.tgid_of(process);
        let mut followed = tgid.and_then(|tgid| self.processes.remove(&tgid));
        if let Some(followed) = &mut followed {
            let behind = followed.code.is_behind(definition.epoch);
            let code = followed.code.at(definition.epoch);
            let unknown = definition
                .frames
                .iter()
                .any(|&Address(at)| code.locate(at).is_none());
            if behind
                || definition.met_new_code && followed.is_due_for_new_code()
                || unknown && followed.may_reread()
            {
                self.read_code(followed);
            }
        }
        // Where nothing is known to be mapped: code made since the mappings were read, most likely.
        let mut written = Vec::new();
        let anonymous = followed.as_mut().and_then(|followed| {
            let code = followed.code.at(definition.epoch);
            let is_unknown = |&Address(at): &Address| code.locate(at).is_none();
            let symbols = self.symbols.as_ref();
            definition
                .frames
                .iter()
                .any(is_unknown)
                .then(|| self.modules.anonymous(followed, symbols, &mut written))
        });
        for module in written {
            self.write(&Entry::Module(module));
        }
        let mut wanted = Vec::new();
        let mut indices = Vec::with_capacity(definition.frames.len());
        for &Address(address) in &definition.frames {
            let found = followed
                .as_ref()
                .and_then(|followed| followed.code.at(definition.epoch).locate(address));
            let (module, offset) = match found {
                Some((module, offset)) => (Some(module), offset),
                None => (anonymous, address),
            };
            let kind = module.map_or(FrameKind::Native, |module| self.kind_of(module));
            let interned = self.frames.intern(kind, module, offset);
            if interned.new {
                self.write_frame(&interned);
                if let (_, Some(module), offset) = interned.location {
                    wanted.push((interned.index, module, offset));
                }
            }
            let evaluates = followed
                .as_ref()
                .and_then(|followed| followed.python.as_ref())
                .is_some_and(|python| python.evaluates(Address(address)));
            indices.push((interned.index, evaluates));
        }
        if !wanted.is_empty()
            && let Some(symbols) = &self.symbols
        {
            symbols.resolve(wanted);
        }
        let parts = self.python_parts(followed.as_ref(), definition);
        if let (Some(tgid), Some(followed)) = (tgid, followed) {
            self.processes.insert(tgid, followed);
        }
        self.merge_python(&indices, &parts, definition)
    }

    fn kind_of(&self, module: ModuleIndex) -> FrameKind {
        if self.python.is_interpreter(module) {
            FrameKind::Interpreter(PYTHON)
        } else {
            FrameKind::Native
        }
    }

    /// The kernel told of processes that have mapped code.
    pub(super) fn hear_of_new_code(&mut self) {
        self.hear();
        self.look_at_new_code();
    }

    /// Takes in what processes have mapped up to now, those too that have ended since.
    pub(super) fn hear(&mut self) {
        let Some(sideband) = &self.sideband else {
            return;
        };
        let (mapped, lost) = sideband.take();
        if mapped.is_empty() && !lost {
            return;
        }
        for (tgid, files) in &mapped {
            self.mapped_files.add(*tgid, files);
        }
        for (tgid, followed) in &mut self.processes {
            let mapped = mapped.get(tgid);
            followed.has_new_code |= lost || mapped.is_some();
            followed.has_mapped(mapped.map_or(&[], Vec::as_slice));
        }
        self.code_due = self.processes.values().filter_map(Followed::look_due).min();
    }

    /// Looks at the processes that have mapped code, each not too often.
    pub(super) fn look_at_new_code(&mut self) {
        let now = Instant::now();
        let due: Vec<u32> = self
            .processes
            .iter()
            .filter(|(_, followed)| followed.look_due().is_some_and(|due| due <= now))
            .map(|(tgid, _)| *tgid)
            .collect();
        for tgid in due {
            if let Some(mut followed) = self.processes.remove(&tgid) {
                followed.has_new_code = false;
                followed.read_at = now;
                self.read_code(&mut followed);
                self.processes.insert(tgid, followed);
            }
        }
        self.code_due = self.processes.values().filter_map(Followed::look_due).min();
    }
}
