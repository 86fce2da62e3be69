//! A module: files that are held open, and the ways in which they can be asked for names.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use blazesym::symbolize::source::Elf as ElfSource;
use rustix::fs::MemfdFlags;

use super::elf::{Elf, ElfError};
use super::{debug_file, dwarf, parents};
use crate::own_memory;
use crate::target::named_file::NamedFiles;

/// So many bytes of debug information and symbols are much, beside what the recorder holds otherwise.
const MUCH: u64 = 1 << 20;

/// Where a module's bytes are.
#[derive(Debug)]
pub enum ModuleSource {
    /// A file, held open.
    File(File),
    /// An image of it, such as the vdso, which no file system has.
    Memory(Vec<u8>),
}

/// A module that was opened. Opening it is quick; what takes time is [`Module::find_ways`].
pub(super) struct Module {
    /// How the target names it, for messages.
    pub(super) path: PathBuf,
    pub(super) elf: Elf,
    /// It is a file, not an image in memory.
    on_disk: bool,
    /// Held open: its file of debug information, if it has one, and the module itself.
    pub(super) files: Vec<HeldFile>,
    /// Best first; those that failed are taken out. `None`: not looked for yet.
    pub(super) ways: Option<Vec<Way>>,
    /// Bytes of what blazesym reads of it, decompressed.
    pub(super) bytes: u64,
    /// Some of its debug information could not be used.
    pub(super) debug_info_failed: bool,
}

/// A file of a module.
pub(super) struct HeldFile {
    file: File,
    elf: Elf,
}

/// One way to ask for a module's names.
pub(super) struct Way {
    pub(super) source: ElfSource,
    /// Index in [`Module::files`].
    file: usize,
    /// How long the file was when it was found bearable.
    length: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("keeping its image in memory: {0}")]
    Memory(#[from] io::Error),
    #[error("{0}")]
    Elf(#[from] ElfError),
}

impl Module {
    pub(super) fn open(
        path: &Path,
        source: ModuleSource,
        named: Option<&NamedFiles>,
    ) -> Result<Self, OpenError> {
        let on_disk = matches!(source, ModuleSource::File(_));
        let file = match source {
            ModuleSource::File(file) => file,
            ModuleSource::Memory(image) => memory_file(&image)?,
        };
        let elf = Elf::read(&file)?;
        let mut files = Vec::new();
        if elf.content(".debug_info").is_none()
            && let Some((file, elf)) = debug_file::find(&file, &elf, path, named)
        {
            files.push(HeldFile { file, elf });
        }
        files.push(HeldFile {
            file,
            elf: elf.clone(),
        });
        Ok(Self {
            path: path.to_owned(),
            elf,
            on_disk,
            files,
            ways: None,
            bytes: 0,
            debug_info_failed: false,
        })
    }

    /// The build id to ask debug information for by, if the module is a file without any.
    pub(super) fn lacks_debug_info(&self) -> Option<&[u8]> {
        let has_some = self
            .files
            .iter()
            .any(|file| file.elf.content(".debug_info").is_some());
        let build_id = self.elf.build_id.as_deref();
        build_id.filter(|id| self.on_disk && !has_some && !id.is_empty())
    }

    /// A file of debug information that came later, before the module was asked for names. Says whether it is the
    /// right one.
    pub(super) fn add_debug_file(&mut self, file: File) -> bool {
        let Ok(elf) = Elf::read(&file) else {
            return false;
        };
        let belongs = elf.build_id.is_some() && elf.build_id == self.elf.build_id;
        if belongs && self.ways.is_none() {
            self.files.insert(0, HeldFile { file, elf });
        }
        belongs
    }

    /// Finds out in which ways the files can be asked without harm, the first time.
    pub(super) fn find_ways(&mut self) -> &mut Vec<Way> {
        if self.ways.is_none() {
            let mut ways = Vec::new();
            for index in 0..self.files.len() {
                self.add_ways(index, &mut ways);
            }
            self.ways = Some(ways);
            if self.bytes >= MUCH {
                // What it took to check it, before blazesym takes as much.
                own_memory::give_back();
            }
        }
        self.ways.get_or_insert_default()
    }

    fn add_ways(&mut self, index: usize, ways: &mut Vec<Way>) {
        let HeldFile { file, elf } = &self.files[index];
        let has_debug_info = elf.content(".debug_info").is_some();
        let length = file.metadata().map(|meta| meta.len());
        let (Ok(length), Ok(symbols)) = (length, self.bearable(dwarf::check_symbols(file, elf)))
        else {
            self.debug_info_failed |= has_debug_info;
            return;
        };
        let debug_info = self.bearable(dwarf::check_debug_info(file, elf));
        let with_debug_info = (has_debug_info && debug_info.is_ok()).then_some(true);
        for debug_syms in with_debug_info.into_iter().chain([false]) {
            let mut source = ElfSource::new(self.files[index].path());
            source.debug_syms = debug_syms;
            ways.push(Way {
                source,
                file: index,
                length,
            });
        }
        self.debug_info_failed |= debug_info.is_err();
        self.bytes = self
            .bytes
            .saturating_add(symbols)
            .saturating_add(debug_info.unwrap_or(0));
    }

    /// What the functions at addresses stand in, where debug information alone tells that. See [`parents`].
    pub(super) fn parents_of(&mut self, addresses: &[u64]) -> Vec<Vec<Option<String>>> {
        let way = self.find_ways().iter().find(|way| way.source.debug_syms);
        let Some(file) = way.map(|way| way.file) else {
            return vec![Vec::new(); addresses.len()];
        };
        let HeldFile { file, elf } = &self.files[file];
        let qualified = parents::qualified(file, elf, addresses);
        if self.bytes >= MUCH {
            own_memory::give_back();
        }
        qualified
    }

    /// Says why something is left alone.
    fn bearable(&self, checked: Result<u64, dwarf::Refused>) -> Result<u64, dwarf::Refused> {
        checked.inspect_err(|refused| log::debug!("{}: {refused}", self.path.display()))
    }

    /// Whether the file of a way has become shorter: blazesym maps it, and touching a page that is gone would be a
    /// `SIGBUS`.
    pub(super) fn has_shrunk(&self, way: &Way) -> io::Result<bool> {
        Ok(self.files[way.file].file.metadata()?.len() < way.length)
    }
}

impl HeldFile {
    /// A path that names this very file, whatever happened to the name it had.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }
}

fn memory_file(image: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("module", MemfdFlags::CLOEXEC)?);
    file.write_all(image)?;
    Ok(file)
}
