//! What a module's ELF headers say, read with bounds.
//!
//! Only 64-bit little-endian executables and shared objects are read. Nothing is mapped, so a file that shrinks while
//! it is read is an error and not a `SIGBUS`. The format: <https://gabi.xinuos.com/elf/index.html>.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::LittleEndian as LE;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, ELFMAG, ET_DYN, ET_EXEC, FileHeader64, PF_X, PT_LOAD, PT_NOTE,
    ProgramHeader64, SHF_COMPRESSED, SHF_EXECINSTR, SHN_XINDEX, SHT_NOBITS, SectionHeader64,
};
use object::pod;

/// Most program headers read. The kernel takes at most 64 KiB of them, which is 1170.
const MOST_SEGMENTS: u64 = 4096;
/// Most section headers read; linked files have fewer than a hundred.
const MOST_SECTIONS: u64 = 1 << 16;
/// Most bytes of section names read.
const MOST_NAMES: u64 = 1 << 22;
/// Most bytes read of a section that holds a note or a debug link.
const MOST_NOTE: u64 = 1 << 16;

/// Why the headers could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file could not be read.
    #[error("reading the ELF headers: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a 64-bit little-endian ELF executable or shared object")]
    NotSupported,
    /// It has more of something than any linker makes.
    #[error("{count} {what}, more than the {most} we read")]
    TooMany {
        /// What there are too many of: segments, sections.
        what: &'static str,
        /// Number that the file says it has.
        count: u64,
        /// Most that are read.
        most: u64,
    },
}

/// The headers of one ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    segments: Vec<Segment>,
    /// Where the file has notes, as (offset, size).
    notes: Vec<(u64, u64)>,
    /// Its sections, in the order of the file; empty where the headers are stripped.
    pub sections: Vec<Section>,
    /// GNU build id, up to 64 bytes.
    pub build_id: Option<Vec<u8>>,
    /// Where its debug information went, by `objcopy --add-gnu-debuglink`.
    pub debug_link: Option<DebugLink>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    file_offset: u64,
    file_size: u64,
    address: u64,
    executable: bool,
}

/// A section of an ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, such as `.text`.
    pub name: String,
    /// Where it is in memory, before relocation.
    pub address: u64,
    /// Where it is in the file.
    pub file_offset: u64,
    /// How long it is, in the file and (unless compressed) in memory.
    pub size: u64,
    /// It holds machine code.
    pub executable: bool,
    /// Its bytes begin with a compression header.
    pub compressed: bool,
    /// The file has its bytes; a file of debug information leaves out those that the program itself has.
    pub in_file: bool,
}

/// The section `.gnu_debuglink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// A bare file name.
    pub file_name: String,
    /// CRC-32 of the whole file of debug information.
    pub crc: u32,
}

impl Elf {
    /// Reads the headers.
    pub fn read(file: &File) -> Result<Self, ElfError> {
        let mut bytes = [0; size_of::<FileHeader64<LE>>()];
        file.read_exact_at(&mut bytes, 0)?;
        let (header, _) =
            pod::from_bytes::<FileHeader64<LE>>(&bytes).map_err(|()| ElfError::NotSupported)?;
        let kind = header.e_type.get(LE);
        if header.e_ident.magic != ELFMAG
            || header.e_ident.class != ELFCLASS64
            || header.e_ident.data != ELFDATA2LSB
            || !(kind == ET_EXEC || kind == ET_DYN)
        {
            return Err(ElfError::NotSupported);
        }

        let mut elf = Self::default();
        elf.read_segments(file, header)?;
        elf.read_sections(file, header)?;
        elf.build_id = elf.find_build_id(file);
        elf.debug_link = elf.find_debug_link(file);
        Ok(elf)
    }

    /// The address, before relocation, of a byte of the file; of its code where two segments share a page of it.
    pub fn address_of(&self, file_offset: u64) -> Option<u64> {
        let holds = |segment: &&Segment| {
            file_offset
                .checked_sub(segment.file_offset)
                .is_some_and(|into| into < segment.file_size)
        };
        let code = self.segments.iter().filter(|segment| segment.executable);
        let segment = code
            .into_iter()
            .find(holds)
            .or_else(|| self.segments.iter().find(holds))?;
        segment
            .address
            .checked_add(file_offset - segment.file_offset)
    }

    /// The first section of that name, which is the one that everyone reads.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The section of that name if the file has bytes for it.
    pub fn content(&self, name: &str) -> Option<&Section> {
        self.section(name)
            .filter(|section| section.in_file && section.size > 0)
    }

    /// Whether both addresses lie in one section of code.
    pub fn in_one_code_section(&self, one: u64, other: u64) -> bool {
        self.sections.iter().any(|section| {
            section.executable
                && [one, other].iter().all(|address| {
                    address
                        .checked_sub(section.address)
                        .is_some_and(|into| into < section.size)
                })
        })
    }

    fn read_segments(&mut self, file: &File, header: &FileHeader64<LE>) -> Result<(), ElfError> {
        let count = u64::from(header.e_phnum.get(LE));
        let headers = read_table::<ProgramHeader64<LE>>(
            file,
            header.e_phoff.get(LE),
            ("program headers", count, MOST_SEGMENTS),
        )?;
        self.segments = headers
            .iter()
            .filter(|header| header.p_type.get(LE) == PT_LOAD)
            .map(|header| Segment {
                file_offset: header.p_offset.get(LE),
                file_size: header.p_filesz.get(LE),
                address: header.p_vaddr.get(LE),
                executable: header.p_flags.get(LE).contains(PF_X),
            })
            .collect();
        self.notes = headers
            .iter()
            .filter(|header| header.p_type.get(LE) == PT_NOTE)
            .map(|header| (header.p_offset.get(LE), header.p_filesz.get(LE)))
            .collect();
        Ok(())
    }

    fn read_sections(&mut self, file: &File, header: &FileHeader64<LE>) -> Result<(), ElfError> {
        let offset = header.e_shoff.get(LE);
        if offset == 0 {
            return Ok(());
        }
        // Counts that do not fit in 16 bits are in the first section header.
        let first = read_table::<SectionHeader64<LE>>(file, offset, ("", 1, 1))?[0];
        let mut count = u64::from(header.e_shnum.get(LE));
        if count == 0 {
            count = first.sh_size.get(LE);
        }
        let mut names_index = u32::from(header.e_shstrndx.get(LE).0);
        if names_index == u32::from(SHN_XINDEX.0) {
            names_index = first.sh_link.get(LE);
        }
        let headers = read_table::<SectionHeader64<LE>>(
            file,
            offset,
            ("section headers", count, MOST_SECTIONS),
        )?;
        let names = match headers.get(names_index as usize) {
            Some(names) => read_table::<u8>(
                file,
                names.sh_offset.get(LE),
                ("bytes of section names", names.sh_size.get(LE), MOST_NAMES),
            )?,
            None => Vec::new(),
        };
        self.sections = headers
            .iter()
            .skip(1)
            .map(|header| Section {
                name: text_at(&names, header.sh_name.get(LE) as usize),
                address: header.sh_addr.get(LE),
                file_offset: header.sh_offset.get(LE),
                size: header.sh_size.get(LE),
                executable: header.sh_flags.get(LE).contains(SHF_EXECINSTR),
                compressed: header.sh_flags.get(LE).contains(SHF_COMPRESSED),
                in_file: header.sh_type.get(LE) != SHT_NOBITS,
            })
            .collect();
        Ok(())
    }
}

impl Elf {
    /// The description of the note `GNU` of type 3. The section is asked first: a file of debug information has it,
    /// but its program headers may still point to where the program had it.
    fn find_build_id(&self, file: &File) -> Option<Vec<u8>> {
        let section = self
            .content(".note.gnu.build-id")
            .map(|section| (section.file_offset, section.size));
        section
            .into_iter()
            .chain(self.notes.iter().copied())
            .find_map(|(offset, size)| {
                let notes =
                    read_table::<u8>(file, offset, ("bytes of notes", size, MOST_NOTE)).ok()?;
                build_id_among(&notes)
            })
    }

    fn find_debug_link(&self, file: &File) -> Option<DebugLink> {
        let section = self.content(".gnu_debuglink")?;
        let bytes = read_table::<u8>(
            file,
            section.file_offset,
            ("bytes of debug link", section.size, MOST_NOTE),
        )
        .ok()?;
        let length = bytes.iter().position(|&byte| byte == 0)?;
        let crc_at = (length + 1).next_multiple_of(4);
        let crc = bytes.get(crc_at..crc_at + 4)?;
        let file_name = str::from_utf8(&bytes[..length]).ok()?;
        // Anything but a bare name would lead out of the directories that are searched.
        let bare = !file_name.is_empty() && !file_name.contains('/') && file_name != "..";
        bare.then(|| DebugLink {
            file_name: file_name.to_owned(),
            crc: u32::from_le_bytes(crc.try_into().unwrap_or_default()),
        })
    }
}

/// The GNU build id in a run of notes. Each is: length of name, length of description, type (4 bytes each), name and
/// description (each padded to 4 bytes).
fn build_id_among(mut notes: &[u8]) -> Option<Vec<u8>> {
    const GNU: u32 = 3;
    loop {
        let word = |at: usize| {
            let bytes = notes.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let (name_size, size, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let name = notes.get(12..)?.get(..name_size)?;
        let at = 12_usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let description = notes.get(at..)?.get(..size)?;
        if kind == GNU && name == b"GNU\0" && (2..=64).contains(&size) {
            return Some(description.to_vec());
        }
        notes = notes.get(at.checked_add(size.checked_next_multiple_of(4)?)?..)?;
    }
}

/// `count` things, one after the other at `offset`; `(what, count, most)`.
fn read_table<T: pod::Pod>(
    file: &File,
    offset: u64,
    (what, count, most): (&'static str, u64, u64),
) -> Result<Vec<T>, ElfError> {
    if count > most {
        return Err(ElfError::TooMany { what, count, most });
    }
    // The products cannot overflow: `most` is at most 2^22 and a header takes 64 bytes.
    let mut bytes = vec![0; count as usize * size_of::<T>()];
    file.read_exact_at(&mut bytes, offset)?;
    let (things, _) =
        pod::slice_from_bytes::<T>(&bytes, count as usize).map_err(|()| ElfError::NotSupported)?;
    Ok(things.to_vec())
}

/// The text that begins at `at` and ends before the next zero; empty where there is none, or it is not UTF-8.
fn text_at(names: &[u8], at: usize) -> String {
    let name = names.get(at..).unwrap_or_default();
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(0);
    // Every section could name the same 4 MiB: names that matter are short.
    str::from_utf8(&name[..length.min(64)])
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests;
