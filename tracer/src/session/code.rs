//! Where a traced process keeps its code: files held open and named once, addresses turned into locations.

use std::collections::HashMap;

use super::{
    Session,
    follow::Followed,
    unwind::{self, Code, Unwinding},
};
use crate::{
    event::{Address, ProcessId, decode::StackDefinition},
    record::{Entry, Frame, FrameIndex, Module, ModuleIndex},
    symbol::{CodeMap, CodeMapping, ModuleSource, Symbols},
    target::{
        Target, elf, mapped_file,
        maps::{self, Mapping, MappingName},
    },
};

/// Files of the recording, by device and inode (and by name, for what is no file).
#[derive(Default)]
pub(super) struct Modules {
    known: HashMap<(u32, u32, u64, String), ModuleIndex>,
}

impl Modules {
    /// The module of a mapping; a new one is written, and its file held open for the symbol thread.
    fn index(
        &mut self,
        target: &Target,
        mapping: &Mapping,
        symbols: Option<&Symbols>,
        unwinding: &mut Unwinding,
        written: &mut Vec<Module>,
    ) -> Option<ModuleIndex> {
        let (path, special) = match &mapping.path {
            MappingName::File(path, _) => (path.clone(), String::new()),
            MappingName::Special(name) => (name.into(), name.clone()),
            MappingName::Anonymous => return None,
        };
        let key = (mapping.device.0, mapping.device.1, mapping.inode, special);
        if let Some(index) = self.known.get(&key) {
            return Some(*index);
        }
        let index = ModuleIndex(self.known.len() as u32);
        self.known.insert(key, index);
        let mut build_id = None;
        if matches!(mapping.path, MappingName::File(..)) {
            match mapped_file::open(target, mapping) {
                Ok(mapped) => {
                    build_id = elf::Elf::open(&mapped.file)
                        .ok()
                        .and_then(|elf| elf.build_id());
                    unwinding.want(index, &mapped.file, build_id.as_deref());
                    let root = target.proc_dir().join("root");
                    let debug_dirs =
                        vec![root.join("usr/lib/debug"), root, "/usr/lib/debug".into()];
                    if let Some(symbols) = symbols {
                        let source = ModuleSource::File(mapped.file);
                        symbols.add_module(index, path.clone(), source, debug_dirs);
                    }
                }
                Err(error) => log::debug!("no names for {}: {error}", path.display()),
            }
        }
        if path.as_os_str() == "[vdso]" {
            unwinding.want_vdso(index);
        }
        written.push(Module {
            index: index.0,
            path,
            build_id,
        });
        Some(index)
    }
}

impl Session {
    /// Reads where a process's code lies now. Says whether addresses changed their meaning: what was mapped before is
    /// gone or replaced.
    pub(super) fn read_code(&mut self, followed: &mut Followed) -> bool {
        let Ok(mappings) = maps::read(&followed.target.proc_dir()) else {
            return false;
        };
        let mut written = Vec::new();
        let unwound = unwind::code(&mappings, |mapping| {
            self.modules.index(
                &followed.target,
                mapping,
                self.symbols.as_ref(),
                &mut self.unwinding,
                &mut written,
            )
        });
        let code: Vec<CodeMapping> = unwound.iter().filter_map(Code::mapping).collect();
        for module in written {
            self.write(&Entry::Module(module));
        }
        let changed = followed.mappings.iter().any(|old| !code.contains(old));
        followed.mappings.clone_from(&code);
        followed.code = CodeMap::new(code);
        let moved = followed.unwound != unwound;
        if moved {
            followed.unwound = unwound;
            self.place_code(followed);
        }
        changed
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
            let unknown = definition
                .frames
                .iter()
                .any(|&Address(at)| followed.code.locate(at).is_none());
            if unknown && followed.may_reread() {
                self.refresh_code(followed);
            }
        }
        let mut wanted = Vec::new();
        let mut indices = Vec::with_capacity(definition.frames.len());
        for &Address(address) in &definition.frames {
            let found = followed
                .as_ref()
                .and_then(|followed| followed.code.locate(address));
            let (module, offset) = match found {
                Some((module, offset)) => (Some(module), offset),
                None => (None, address),
            };
            let interned = self.frames.intern(module, offset);
            if interned.new {
                let (module, offset) = interned.location;
                self.write(&Entry::Frame(Frame {
                    index: interned.index,
                    module,
                    offset,
                }));
                if let Some(module) = module {
                    wanted.push((interned.index, module, offset));
                }
            }
            indices.push(interned.index);
        }
        if !wanted.is_empty()
            && let Some(symbols) = &self.symbols
        {
            symbols.resolve(wanted);
        }
        if let (Some(tgid), Some(followed)) = (tgid, followed) {
            self.processes.insert(tgid, followed);
        }
        indices
    }

    /// Reads the code again; where addresses changed their meaning, a new epoch begins, so that stacks of before and
    /// after differ.
    pub(super) fn refresh_code(&mut self, followed: &mut Followed) {
        if self.read_code(followed) {
            let tgid = followed.target.pid;
            if let Some(mut process) = self.kernel.process(tgid) {
                process.epoch += 1;
                if let Err(error) = self.kernel.set_process(tgid, process) {
                    log::warn!("the mapping epoch of process {tgid} could not be raised: {error}");
                }
            }
        }
    }
}
