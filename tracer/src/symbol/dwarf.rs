//! Whether a file can be handed to blazesym without harm to us.
//!
//! blazesym returns an error for most of what can be wrong with a file, and panics for some (which is caught). Three
//! things would end the whole program, and are looked for here:
//!
//! - It decompresses sections whole, into memory. A few kilobytes can stand for terabytes.
//! - It copies and indexes symbol tables, which in a sparse file cost nothing to make enormous.
//! - It recurses for each level at which functions are inlined into each other, and a megabyte of zeroes and ones
//!   makes a million levels: a stack overflow, which nothing catches.
//!
//! So compressed sections are decompressed once to count, and the entries of `.debug_info` are walked once to see how
//! deep they nest, unit by unit, in the very order in which blazesym would. This costs about as much as reading the
//! sections.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Take};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use gimli::{Abbreviations, DebugAbbrev, DebugInfo, LittleEndian};
use object::LittleEndian as LE;
use object::elf::{CompressionHeader64, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD};
use object::pod;

use super::debug_file::{DEBUG_DIR, open_regular};
use super::elf::{Elf, Section};

/// Most bytes of debug information, decompressed, that a file may have for us to read it.
pub const MOST_DEBUG_BYTES: u64 = 2 << 30;
/// Most bytes of `.debug_abbrev`, which is read whole.
const MOST_ABBREVIATION_BYTES: u64 = 128 << 20;
/// Most bytes of a symbol table or of symbol names.
const MOST_SYMBOL_BYTES: u64 = 512 << 20;
/// Most bytes read of a section that names another file.
const MOST_LINK_BYTES: u64 = 8192;
/// Deepest nesting of debugging entries. Compilers stay below a hundred.
const DEEPEST: isize = 1024;

/// Why blazesym does not get to see a file, or its DWARF.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A section could not be read or decompressed.
    #[error("reading {section}: {error}")]
    Unreadable {
        /// Name of the section.
        section: String,
        /// What the system or the decompressor said.
        error: io::Error,
    },
    /// A section is larger than we read, or than it says.
    #[error("{section} is larger than the {most} bytes we read of it")]
    TooLarge {
        /// Name of the section.
        section: String,
        /// Most bytes that are read of it.
        most: u64,
    },
    /// It leads to a file that we do not follow it to.
    #[error("{section} leads to {}, which is not followed", path.display())]
    Link {
        /// Name of the section that leads there.
        section: &'static str,
        /// Path that it leads to.
        path: PathBuf,
    },
    /// Entries of `.debug_info` nest deeper than any compiler nests them.
    #[error("entries of .debug_info nest deeper than {DEEPEST} levels")]
    TooDeep,
}

/// Checks the symbol tables. Returns how many bytes blazesym will keep of them.
pub fn check_symbols(file: &File, elf: &Elf) -> Result<u64, Refused> {
    let mut total = 0;
    for name in [".symtab", ".strtab", ".dynsym", ".dynstr"] {
        if let Some(section) = elf.content(name) {
            if section.size > MOST_SYMBOL_BYTES {
                return Err(too_large(section, MOST_SYMBOL_BYTES));
            }
            // A table is indexed, a third of its own size.
            total += section.size / 3;
        }
    }
    // Fedora's "MiniDebugInfo": an xz-compressed ELF file with a symbol table.
    if let Some(section) = elf.content(".gnu_debugdata") {
        let raw = Raw::new(file, section);
        total += count(section, xz2::read::XzDecoder::new(raw), MOST_SYMBOL_BYTES)?;
    }
    Ok(total)
}

/// Checks the debug information. Returns its size, decompressed; 0: the file has none.
pub fn check_debug_info(file: &File, elf: &Elf) -> Result<u64, Refused> {
    if elf.content(".debug_info").is_none() {
        return Ok(0);
    }
    let size = check_sizes(file, elf)?;
    check_links(file, elf)?;
    check_nesting(file, elf)?;
    Ok(size)
}

/// A section, decompressed; empty where there is none. More than `most` bytes are refused.
pub(super) fn content(file: &File, elf: &Elf, name: &str, most: u64) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    if let Some(section) = elf.content(name) {
        decompressed(file, section, most)?
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(section, error))?;
        if bytes.len() as u64 > most {
            return Err(too_large(section, most));
        }
    }
    Ok(bytes)
}

/// Adds up the sections of debug information, decompressed.
fn check_sizes(file: &File, elf: &Elf) -> Result<u64, Refused> {
    let mut left = MOST_DEBUG_BYTES;
    for section in &elf.sections {
        if !section.in_file || !section.name.starts_with(".debug_") {
            continue;
        }
        let size = if section.compressed {
            let header = compression_header(file, section)?;
            let declared = header.ch_size.get(LE);
            let content = decompressed(file, section, declared.min(left))?;
            if count(section, content, declared.min(left))? != declared {
                return Err(too_large(section, declared));
            }
            declared
        } else {
            section.size
        };
        left = left
            .checked_sub(size)
            .ok_or_else(|| too_large(section, MOST_DEBUG_BYTES))?;
    }
    Ok(MOST_DEBUG_BYTES - left)
}

/// Checks the files that blazesym would open on behalf of this one. It does so by path, beside this file, and a path
/// may lead to a FIFO, or a file that we would not hand to it.
///
/// A second file of debug information (`.gnu_debuglink`) is of no use to a file that has its own, and is not followed.
/// What `dwz` moved to a file that several share is (`.gnu_debugaltlink`, `.debug_sup`).
fn check_links(file: &File, elf: &Elf) -> Result<(), Refused> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    let own = Path::new(&own);
    let canonical = own.canonicalize().unwrap_or_else(|_| own.to_owned());
    for (name, path_at) in [
        (".gnu_debuglink", 0),
        (".gnu_debugaltlink", 0),
        (".debug_sup", 3),
    ] {
        let Some(section) = elf.content(name) else {
            continue;
        };
        let mut bytes = Vec::new();
        Raw::new(file, section)
            .take(MOST_LINK_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(section, error))?;
        let path = bytes.get(path_at..).unwrap_or_default();
        let length = path.iter().position(|&byte| byte == 0).unwrap_or(0);
        let path = canonical.with_file_name(OsStr::from_bytes(&path[..length]));
        if path == canonical || !path.exists() {
            continue;
        }
        let followed = (name != ".gnu_debuglink" && is_public_debug_file(&path))
            .then(|| open_regular(&path).ok())
            .flatten()
            .and_then(|file| Elf::read(&file).ok().map(|elf| (file, elf)));
        let Some((shared, shared_elf)) = followed else {
            return Err(Refused::Link {
                section: name,
                path,
            });
        };
        check_symbols(&shared, &shared_elf)?;
        check_sizes(&shared, &shared_elf)?;
    }
    Ok(())
}

/// Whether it is one of our own files of debug information, which everybody may read. blazesym opens it by its name, with our rights: what
/// else a target's file names is not followed.
fn is_public_debug_file(path: &Path) -> bool {
    const READABLE_BY_ALL: u32 = 0o004;
    path.canonicalize().is_ok_and(|path| {
        path.starts_with(DEBUG_DIR)
            && fs::metadata(path).is_ok_and(|meta| meta.mode() & READABLE_BY_ALL != 0)
    })
}

/// Walks all entries of `.debug_info`, one unit in memory at a time.
///
/// Units and entries that make no sense end the walk of the file or the unit, as they do in blazesym.
fn check_nesting(file: &File, elf: &Elf) -> Result<(), Refused> {
    let (Some(info), Some(abbrev)) = (elf.content(".debug_info"), elf.content(".debug_abbrev"))
    else {
        return Ok(());
    };
    let mut abbreviations = Vec::new();
    decompressed(file, abbrev, MOST_ABBREVIATION_BYTES + 1)?
        .read_to_end(&mut abbreviations)
        .map_err(|error| unreadable(abbrev, error))?;
    if abbreviations.len() as u64 > MOST_ABBREVIATION_BYTES {
        return Err(too_large(abbrev, MOST_ABBREVIATION_BYTES));
    }
    let abbreviations = DebugAbbrev::new(&abbreviations, LittleEndian);
    // Units share abbreviations, by the offset at which these begin.
    let mut parsed: HashMap<usize, Abbreviations> = HashMap::new();

    let mut content = BufReader::new(decompressed(file, info, MOST_DEBUG_BYTES)?);
    let mut unit = Vec::new();
    while next_unit(&mut content, &mut unit).map_err(|error| unreadable(info, error))? {
        let Ok(Some(header)) = DebugInfo::new(&unit, LittleEndian).units().next() else {
            continue;
        };
        let offset = header.debug_abbrev_offset();
        if parsed.len() > 4096 {
            parsed.clear();
        }
        let abbreviations = match parsed.entry(offset.0) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(new) => {
                let Ok(these) = abbreviations.abbreviations(offset) else {
                    continue;
                };
                new.insert(these)
            }
        };
        let Ok(mut entries) = header.entries_raw(abbreviations, None) else {
            continue;
        };
        while !entries.is_empty() {
            match entries.read_abbreviation() {
                Ok(Some(entry)) => {
                    if entries.next_depth() > DEEPEST {
                        return Err(Refused::TooDeep);
                    }
                    if entries.skip_attributes(entry.attributes()).is_err() {
                        break;
                    }
                }
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }
    Ok(())
}

/// Reads the next unit of `.debug_info`, its length field included. `false`: there is none left.
fn next_unit(content: &mut impl Read, unit: &mut Vec<u8>) -> io::Result<bool> {
    unit.clear();
    content.take(4).read_to_end(unit)?;
    let Ok(short) = <[u8; 4]>::try_from(&unit[..]) else {
        return Ok(false);
    };
    let mut length = u64::from(u32::from_le_bytes(short));
    if length == 0xffff_ffff {
        let mut long = [0; 8];
        content.read_exact(&mut long)?;
        unit.extend_from_slice(&long);
        length = u64::from_le_bytes(long);
    }
    // Reads no more than is there, whatever the length says.
    content.take(length).read_to_end(unit)?;
    Ok(true)
}

fn unreadable(section: &Section, error: io::Error) -> Refused {
    Refused::Unreadable {
        section: section.name.clone(),
        error,
    }
}

fn too_large(section: &Section, most: u64) -> Refused {
    Refused::TooLarge {
        section: section.name.clone(),
        most,
    }
}

/// Reads to the end and counts; more than `most` is refused.
fn count(section: &Section, content: impl Read, most: u64) -> Result<u64, Refused> {
    let mut content = content.take(most.saturating_add(1));
    let size =
        io::copy(&mut content, &mut io::sink()).map_err(|error| unreadable(section, error))?;
    if size > most {
        return Err(too_large(section, most));
    }
    Ok(size)
}

fn compression_header(file: &File, section: &Section) -> Result<CompressionHeader64<LE>, Refused> {
    let mut bytes = [0; size_of::<CompressionHeader64<LE>>()];
    file.read_exact_at(&mut bytes, section.file_offset)
        .map_err(|error| unreadable(section, error))?;
    let (header, _) = pod::from_bytes::<CompressionHeader64<LE>>(&bytes)
        .map_err(|()| unreadable(section, io::ErrorKind::InvalidData.into()))?;
    Ok(*header)
}

/// A section's content, decompressed as it is read, and cut after one byte more than `most`.
fn decompressed<'file>(
    file: &'file File,
    section: &Section,
    most: u64,
) -> Result<Take<Box<dyn Read + 'file>>, Refused> {
    let raw = Raw::new(file, section);
    let content: Box<dyn Read> = if section.compressed {
        let header = compression_header(file, section)?;
        let raw = raw.after(size_of::<CompressionHeader64<LE>>() as u64);
        match header.ch_type.get(LE) {
            ELFCOMPRESS_ZLIB => Box::new(flate2::read::ZlibDecoder::new(raw)),
            ELFCOMPRESS_ZSTD => Box::new(
                zstd::stream::read::Decoder::new(raw)
                    .map_err(|error| unreadable(section, error))?,
            ),
            _ => return Err(unreadable(section, io::ErrorKind::Unsupported.into())),
        }
    } else {
        Box::new(raw)
    };
    Ok(content.take(most.saturating_add(1)))
}

/// The bytes of a section as they are in the file.
struct Raw<'file> {
    file: &'file File,
    at: u64,
    left: u64,
}

impl<'file> Raw<'file> {
    fn new(file: &'file File, section: &Section) -> Self {
        Self {
            file,
            at: section.file_offset,
            left: section.size,
        }
    }

    fn after(self, bytes: u64) -> Self {
        Self {
            at: self.at.saturating_add(bytes),
            left: self.left.saturating_sub(bytes),
            ..self
        }
    }
}

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

#[cfg(test)]
mod tests;
