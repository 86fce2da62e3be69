//! ELF files as the dynamic linker sees them: through program headers and the dynamic segment, which a running
//! program cannot do without. Section headers are stripped by some and are believed only where nothing else says it.
//!
//! Only what is asked for is read, a few bytes at a time and every count bounded, so that a hostile file costs
//! neither memory nor time. Nothing is memory-mapped: a file cut short under a mapping is a SIGBUS.

mod bytes;
mod symbols;

use std::{ffi::OsString, fs::File, io, os::unix::ffi::OsStringExt, path::PathBuf};

use object::{
    LittleEndian as LE,
    elf::{
        self, DataEncoding, Dyn64, DynamicTag, FileClass, FileHeader64, Machine, ProgramHeader64,
        SectionHeader64,
    },
    read::elf::NoteIterator,
};

use self::bytes::{Records, read_bytes, read_one, read_string};
pub use self::symbols::Symbol;

/// Longest notes, dynamic segment, section name table that we read, bytes.
const TABLE_LIMIT: u64 = 1 << 20;
/// Most libraries that a file may ask for.
const NEEDED_LIMIT: usize = 1024;
/// Longest path or name that we read, bytes: `PATH_MAX`.
const NAME_LIMIT: usize = 4096;

/// What is wrong with an ELF file.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It is something else.
    #[error("it is not an ELF file")]
    NotElf,
    /// It is for another machine than x86-64, or for 32-bit pointers.
    #[error("it is not a 64-bit x86-64 ELF file")]
    Foreign(Kind),
    /// It contradicts itself.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// It cannot be read, or ends too early.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What kind of code a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// x86-64, the only one that can be traced.
    X86_64,
    /// 32-bit x86.
    I386,
    /// x86-64 instructions with 32-bit pointers.
    X32,
    /// Another machine's, by its `EM_*` number.
    Other(u16),
}

/// Tells what kind of code a file holds.
///
/// # Errors
///
/// [`ElfError::NotElf`], or it cannot be read.
pub fn kind(file: &File) -> Result<Kind, ElfError> {
    // The class, the byte order and the machine have the same places in both classes.
    let start = read_bytes(file, 0, 20).map_err(not_elf_if_short)?;
    if start[..4] != elf::ELFMAG {
        return Err(ElfError::NotElf);
    }
    let (class, order) = (FileClass(start[4]), DataEncoding(start[5]));
    let little_endian = order == elf::ELFDATA2LSB;
    let machine = if little_endian {
        u16::from_le_bytes([start[18], start[19]])
    } else {
        u16::from_be_bytes([start[18], start[19]])
    };
    Ok(match (class, Machine(machine), little_endian) {
        (elf::ELFCLASS64, elf::EM_X86_64, true) => Kind::X86_64,
        (elf::ELFCLASS32, elf::EM_X86_64, true) => Kind::X32,
        (elf::ELFCLASS32, elf::EM_386, true) => Kind::I386,
        _ => Kind::Other(machine),
    })
}

fn not_elf_if_short(error: io::Error) -> ElfError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ElfError::NotElf,
        _ => ElfError::Io(error),
    }
}

/// A 64-bit x86-64 ELF file.
#[derive(Debug)]
pub struct Elf<'file> {
    file: &'file File,
    header: FileHeader64<LE>,
    segments: Vec<ProgramHeader64<LE>>,
    dynamic: Vec<Dyn64<LE>>,
}

/// A loaded segment that holds code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSegment {
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// The address (as the file counts) of its first byte.
    pub address: u64,
}

impl CodeSegment {
    /// The address, as the file counts, of the first byte of a mapping that begins at `offset` in the file and is `size`
    /// bytes long, if this segment is mapped there. Mappings begin at a page, segments anywhere in one.
    pub fn address_of_mapping(&self, offset: u64, size: u64) -> Option<u64> {
        let overlaps = offset < self.offset.saturating_add(self.size)
            && self.offset < offset.saturating_add(size);
        overlaps.then(|| self.address.wrapping_sub(self.offset).wrapping_add(offset))
    }
}

impl<'file> Elf<'file> {
    /// Reads its headers.
    ///
    /// # Errors
    ///
    /// It is not such a file, or damaged.
    pub fn open(file: &'file File) -> Result<Self, ElfError> {
        match kind(file)? {
            Kind::X86_64 => {}
            other => return Err(ElfError::Foreign(other)),
        }
        let header: FileHeader64<LE> = read_one(file, 0)?;
        if usize::from(header.e_phentsize.get(LE)) != size_of::<ProgramHeader64<LE>>() {
            return Err(ElfError::Damaged("program headers of an unknown size"));
        }
        let count = usize::from(header.e_phnum.get(LE));
        let records = Records::read::<ProgramHeader64<LE>>(file, header.e_phoff.get(LE), count)?;
        let segments = records.get(count).to_vec();
        let mut elf = Self {
            file,
            header,
            segments,
            dynamic: Vec::new(),
        };
        elf.dynamic = elf.read_dynamic()?;
        Ok(elf)
    }

    fn read_dynamic(&self) -> Result<Vec<Dyn64<LE>>, ElfError> {
        let Some(segment) = self.segment(elf::PT_DYNAMIC) else {
            return Ok(Vec::new());
        };
        let size = segment.p_filesz.get(LE);
        if size > TABLE_LIMIT {
            return Err(ElfError::Damaged("an oversized dynamic segment"));
        }
        let count = bounded(size) / size_of::<Dyn64<LE>>();
        let records = Records::read::<Dyn64<LE>>(self.file, segment.p_offset.get(LE), count)?;
        let entries = records.get::<Dyn64<LE>>(count).iter();
        Ok(entries
            .take_while(|entry| entry.d_tag.get(LE) != elf::DT_NULL)
            .copied()
            .collect())
    }

    fn segment(&self, kind: elf::ProgramType) -> Option<&ProgramHeader64<LE>> {
        self.segments
            .iter()
            .find(|segment| segment.p_type.get(LE) == kind)
    }

    fn dynamic_value(&self, tag: DynamicTag) -> Option<u64> {
        let entry = self
            .dynamic
            .iter()
            .find(|entry| entry.d_tag.get(LE) == tag)?;
        Some(entry.d_val.get(LE))
    }

    /// Where in the file the byte is that is mapped at an address (as the file counts addresses).
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments
            .iter()
            .filter(|segment| segment.p_type.get(LE) == elf::PT_LOAD)
            .find_map(|segment| {
                let within = address.checked_sub(segment.p_vaddr.get(LE))?;
                let in_file = within < segment.p_filesz.get(LE);
                in_file.then(|| segment.p_offset.get(LE).checked_add(within))?
            })
    }

    /// At which address (as the file counts) the byte at a file offset is mapped.
    pub fn address(&self, file_offset: u64) -> Option<u64> {
        self.segments
            .iter()
            .filter(|segment| segment.p_type.get(LE) == elf::PT_LOAD)
            .find_map(|segment| {
                let within = file_offset.checked_sub(segment.p_offset.get(LE))?;
                let in_file = within < segment.p_filesz.get(LE);
                in_file.then(|| segment.p_vaddr.get(LE).checked_add(within))?
            })
    }

    /// Its loaded segments that hold code.
    pub fn code_segments(&self) -> Vec<CodeSegment> {
        self.segments
            .iter()
            .filter(|segment| {
                segment.p_type.get(LE) == elf::PT_LOAD
                    && segment.p_flags.get(LE).0 & elf::PF_X.0 != 0
            })
            .map(|segment| CodeSegment {
                offset: segment.p_offset.get(LE),
                size: segment.p_filesz.get(LE),
                address: segment.p_vaddr.get(LE),
            })
            .collect()
    }

    /// At most `limit` bytes that are mapped from an address on; fewer where the file ends.
    ///
    /// # Errors
    ///
    /// Nothing of the file is mapped there, or it cannot be read.
    pub fn bytes_at(&self, address: u64, limit: usize) -> Result<Vec<u8>, ElfError> {
        let offset = self
            .file_offset(address)
            .ok_or(ElfError::Damaged("an address outside of it"))?;
        let available = self.file.metadata()?.len().saturating_sub(offset);
        Ok(read_bytes(
            self.file,
            offset,
            limit.min(bounded(available)),
        )?)
    }

    /// The dynamic linker that the program asks for.
    pub fn interpreter(&self) -> Option<PathBuf> {
        let offset = self.segment(elf::PT_INTERP)?.p_offset.get(LE);
        let path = read_string(self.file, offset, NAME_LIMIT).ok()?;
        Some(PathBuf::from(OsString::from_vec(path)))
    }

    /// Whether, run as a program, it has everything within itself: it asks for no dynamic linker and no library.
    pub fn is_static(&self) -> bool {
        self.segment(elf::PT_INTERP).is_none() && self.dynamic_value(elf::DT_NEEDED).is_none()
    }

    /// The name that a library gives itself: `DT_SONAME`.
    pub fn soname(&self) -> Option<Vec<u8>> {
        self.dynamic_string(self.dynamic_value(elf::DT_SONAME)?)
    }

    /// The names of the libraries it asks for, and the directories it wants them looked for in: `DT_NEEDED`, `DT_RUNPATH`.
    pub fn needed(&self) -> (Vec<Vec<u8>>, Vec<u8>) {
        let names = self
            .dynamic
            .iter()
            .filter(|entry| entry.d_tag.get(LE) == elf::DT_NEEDED)
            .take(NEEDED_LIMIT)
            .filter_map(|entry| self.dynamic_string(entry.d_val.get(LE)))
            .collect();
        let path = self
            .dynamic_value(elf::DT_RUNPATH)
            .or_else(|| self.dynamic_value(elf::DT_RPATH))
            .and_then(|offset| self.dynamic_string(offset));
        (names, path.unwrap_or_default())
    }

    /// GNU build id, hexadecimal.
    pub fn build_id(&self) -> Option<String> {
        let id = self.note(elf::ELF_NOTE_GNU, elf::NT_GNU_BUILD_ID)?;
        // SHA-1 is 20 bytes; `--build-id=0x...` may be of any length.
        (!id.is_empty() && id.len() <= 64)
            .then(|| id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Whether it holds the Go runtime: by the note of Go's linker, or by the section that Go's own tools look for.
    pub fn is_go(&self) -> bool {
        self.note(elf::ELF_NOTE_GO, elf::NT_GO_BUILD_ID).is_some()
            || self.has_section(&[b".go.buildinfo", b".gopclntab", b".note.go.buildid"])
    }

    /// The content of the first such note of the program headers.
    fn note(&self, name: &[u8], kind: elf::NoteType) -> Option<Vec<u8>> {
        for segment in &self.segments {
            let size = segment.p_filesz.get(LE);
            if segment.p_type.get(LE) != elf::PT_NOTE || size > TABLE_LIMIT {
                continue;
            }
            let Ok(content) = read_bytes(self.file, segment.p_offset.get(LE), bounded(size)) else {
                continue;
            };
            let align = segment.p_align.get(LE);
            let Ok(mut notes) = NoteIterator::<FileHeader64<LE>>::new(LE, align, &content) else {
                continue;
            };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == name && note.n_type(LE) == kind {
                    return Some(note.desc().to_vec());
                }
            }
        }
        None
    }

    fn has_section(&self, names: &[&[u8]]) -> bool {
        self.read_section_names()
            .is_ok_and(|found| found.iter().any(|name| names.contains(&name.as_slice())))
    }

    fn read_section_names(&self) -> Result<Vec<Vec<u8>>, ElfError> {
        let count = usize::from(self.header.e_shnum.get(LE));
        if usize::from(self.header.e_shentsize.get(LE)) != size_of::<SectionHeader64<LE>>() {
            return Ok(Vec::new());
        }
        let records =
            Records::read::<SectionHeader64<LE>>(self.file, self.header.e_shoff.get(LE), count)?;
        let sections: &[SectionHeader64<LE>] = records.get(count);
        let names_index = usize::from(self.header.e_shstrndx.get(LE).0);
        let Some(names) = sections.get(names_index) else {
            return Ok(Vec::new());
        };
        let size = names.sh_size.get(LE);
        if size > TABLE_LIMIT {
            return Err(ElfError::Damaged("an oversized table of section names"));
        }
        let names = read_bytes(self.file, names.sh_offset.get(LE), bounded(size))?;
        let name_of = |section: &SectionHeader64<LE>| {
            let rest = names.get(section.sh_name.get(LE) as usize..)?;
            // Longer than any we look for is as good as another name.
            let end = rest.iter().take(64).position(|&byte| byte == 0)?;
            Some(rest[..end].to_vec())
        };
        Ok(sections.iter().filter_map(name_of).collect())
    }
}

/// A size that was compared with a limit, or is one to be cut by another.
fn bounded(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, process::Command};

    use proptest::prelude::*;

    use super::*;
    use crate::target::process::tests::compile;

    const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";

    /// A file with this content and no name.
    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    /// Asks an ELF file everything there is to ask.
    fn exercise(file: &File) {
        let _ = kind(file);
        let Ok(elf) = Elf::open(file) else { return };
        elf.interpreter();
        elf.soname();
        elf.build_id();
        elf.is_go();
        elf.is_static();
        for name in ["malloc", "free", "nothing"] {
            for symbol in elf.functions(name).unwrap_or_default() {
                let _ = elf.code(&symbol);
                elf.relocated_symbol(symbol.address);
            }
        }
    }

    #[test]
    fn the_libc_of_this_machine_is_understood() {
        let file = File::open(LIBC).unwrap();
        let elf = Elf::open(&file).unwrap();
        assert_eq!(elf.soname().unwrap(), b"libc.so.6");
        assert!(!elf.is_static());
        assert!(!elf.is_go());
        let readelf = Command::new("readelf")
            .args(["-n", LIBC])
            .output()
            .unwrap()
            .stdout;
        let build_id = elf.build_id().unwrap();
        assert!(
            String::from_utf8(readelf).unwrap().contains(&build_id),
            "{build_id}"
        );
        let malloc = &elf.functions("malloc").unwrap()[0];
        let offset = elf.file_offset(malloc.address).unwrap();
        assert_eq!(elf.address(offset), Some(malloc.address));
    }

    #[test]
    fn static_and_dynamic_programs_are_told_apart() {
        for (flags, is_static) in [
            (&["-static"][..], true),
            (&["-static-pie"], true),
            (&[], false),
        ] {
            let (_dir, program) = compile("int main(void) { return 0; }", flags);
            let file = File::open(program).unwrap();
            let elf = Elf::open(&file).unwrap();
            assert_eq!(elf.is_static(), is_static, "{flags:?}");
            assert_eq!(elf.interpreter().is_some(), !is_static);
        }
    }

    #[test]
    fn a_build_id_survives_stripped_section_headers() {
        let (dir, program) = compile(
            "int main(void) { return 0; }",
            &["-Wl,--build-id=0x0102030405"],
        );
        let mut content = fs::read(&program).unwrap();
        content[0x28..0x30].fill(0); // e_shoff
        content[0x3a..0x40].fill(0); // e_shentsize, e_shnum, e_shstrndx
        let stripped = dir.path().join("stripped");
        fs::write(&stripped, content).unwrap();
        let file = File::open(stripped).unwrap();
        assert_eq!(Elf::open(&file).unwrap().build_id().unwrap(), "0102030405");
    }

    #[test]
    fn go_programs_are_known_by_note_or_section() {
        let note = r#"__attribute__((section(".note.go.buildid"), aligned(4), used))
            static const struct { int n, d, t; char name[4]; char desc[4]; } note = { 4, 4, 4, "Go", "abc" };
            int main(void) { return 0; }"#;
        let section = r#"__attribute__((section(".go.buildinfo"), used)) static int info = 1;
            int main(void) { return 0; }"#;
        for source in [note, section] {
            let (_dir, program) = compile(source, &[]);
            let file = File::open(program).unwrap();
            assert!(Elf::open(&file).unwrap().is_go());
        }
    }

    #[test]
    fn other_machines_and_other_files_are_told_apart() {
        let mut header = [0; 64];
        header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        let with = |class: u8, machine: u8| {
            let mut header = header;
            header[4] = class;
            header[18] = machine;
            kind(&file_of(&header)).unwrap()
        };
        assert_eq!(with(2, 62), Kind::X86_64);
        assert_eq!(with(1, 62), Kind::X32);
        assert_eq!(with(1, 3), Kind::I386);
        assert_eq!(with(2, 183), Kind::Other(183));
        for content in [&b""[..], b"\x7fEL", b"#!/bin/sh\nexit 0\n and more text"] {
            assert!(matches!(kind(&file_of(content)), Err(ElfError::NotElf)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A small library with some bytes of its headers and tables overwritten.
        #[test]
        fn damaged_files_are_survived(damage in prop::collection::vec((0usize..0x2000, any::<u8>()), 1..40)) {
            thread_local! {
                static LIBRARY: Vec<u8> = {
                    let (_dir, library) = compile(
                        "#include <stdlib.h>\nvoid *malloc(size_t n) { return (void *)n; } void free(void *p) { (void)p; }",
                        &["-shared", "-fPIC", "-Wl,--hash-style=both"],
                    );
                    fs::read(library).unwrap()
                };
            }
            let mut content = LIBRARY.with(Clone::clone);
            for (at, byte) in damage {
                if let Some(place) = content.get_mut(at) {
                    *place = byte;
                }
            }
            exercise(&file_of(&content));
        }

        #[test]
        fn files_cut_short_are_survived(length in 0usize..0x3000) {
            let content = fs::read("/bin/cat").unwrap();
            exercise(&file_of(&content[..length.min(content.len())]));
        }
    }
}
