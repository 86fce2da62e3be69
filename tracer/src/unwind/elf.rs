//! Where an ELF file keeps its call frame information, and the bytes of it.
//!
//! `.eh_frame` is found by its section or, where section headers are stripped, through the program header
//! `PT_GNU_EH_FRAME`, as the C++ runtime finds it. `.debug_frame` is only ever found by its section.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
};

use gimli::{BaseAddresses, EhFrameHdr, LittleEndian};
use object::{
    LittleEndian as LE,
    elf::{
        CompressionHeader64, ELFCLASS64, ELFCOMPRESS_ZLIB, ELFCOMPRESS_ZSTD, ELFDATA2LSB, ELFMAG,
        EM_X86_64, FileHeader64, PF_X, PT_GNU_EH_FRAME, PT_LOAD, ProgramHeader64, SHF_COMPRESSED,
        SHN_XINDEX, SHT_NOBITS, SectionHeader64,
    },
    pod,
};

use super::UnwindError;

/// Most bytes of one section of call frame information, decompressed. The largest libraries have some 30 MB.
pub(super) const MOST_FRAME_BYTES: u64 = 128 << 20;
/// Most program headers read. The kernel takes at most 64 KiB of them, which is 1170.
const MOST_SEGMENTS: u64 = 4096;
/// Most section headers read; linked files have fewer than a hundred.
const MOST_SECTIONS: u64 = 1 << 16;
/// Most bytes of section names read.
const MOST_NAMES: u64 = 1 << 22;
/// How much of `.eh_frame_hdr` says where `.eh_frame` is: four bytes, and at most two pointers.
const EH_FRAME_HEADER: u64 = 4 + 2 * 10;

/// An ELF file, or one in memory.
pub(super) trait Image {
    /// Its length, bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills the buffer from an offset on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Image for &File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl Image for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.get(at..));
        let bytes = from.and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// What matters of a file here.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// Content of `.eh_frame`.
    pub(super) eh_frame: Option<Section>,
    /// Content of `.debug_frame`, decompressed.
    pub(super) debug_frame: Option<Section>,
    /// What pointers in them may be relative to.
    pub(super) bases: BaseAddresses,
    /// The addresses of code by the program headers, sorted and apart from each other.
    pub(super) code: Vec<Range<u64>>,
    /// Where the file's first instruction is; 0: it has none.
    pub(super) entry: u64,
    /// Why a section could not be read, where there is another.
    pub(super) unreadable: Option<UnwindError>,
}

/// The content of a section.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) bytes: Vec<u8>,
    /// The section's own length is not known: a zero word ends it.
    pub(super) ends_at_zero: bool,
}

impl Sections {
    pub(super) fn read(image: &impl Image) -> Result<Self, UnwindError> {
        let header = read_header(image)?;
        let segments: Vec<ProgramHeader64<LE>> = read_table(
            image,
            "the program headers",
            header.e_phoff.get(LE),
            u64::from(header.e_phnum.get(LE)),
            MOST_SEGMENTS,
        )?;
        let mut sections = Self {
            code: code_of(&segments),
            entry: header.e_entry.get(LE),
            ..Self::default()
        };
        // A program runs without section headers, so broken ones are as good as none.
        for (name, section) in named_sections(image, &header).unwrap_or_default() {
            let added = sections.add(image, &name, &section);
            sections.unreadable = sections.unreadable.or(added.err());
        }
        if sections.eh_frame.is_none() {
            let found = sections.find_by_segment(image, &segments);
            sections.unreadable = sections.unreadable.or(found.err());
        }
        if sections.eh_frame.is_none() && sections.debug_frame.is_none() {
            return Err(sections
                .unreadable
                .unwrap_or(UnwindError::NoFrameInformation));
        }
        Ok(sections)
    }

    fn add(
        &mut self,
        image: &impl Image,
        name: &[u8],
        section: &SectionHeader64<LE>,
    ) -> Result<(), UnwindError> {
        let address = section.sh_addr.get(LE);
        let bases = self.bases.clone();
        let in_file = section.sh_type.get(LE) != SHT_NOBITS && section.sh_size.get(LE) > 0;
        match name {
            b".text" => self.bases = bases.set_text(address),
            b".got" => self.bases = bases.set_got(address),
            b".eh_frame" if in_file && self.eh_frame.is_none() => {
                self.bases = bases.set_eh_frame(address);
                self.eh_frame = Some(Section::read(image, ".eh_frame", section)?);
            }
            b".debug_frame" if in_file && self.debug_frame.is_none() => {
                self.debug_frame = Some(Section::read(image, ".debug_frame", section)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Follows `PT_GNU_EH_FRAME` to `.eh_frame_hdr`, and its first pointer to `.eh_frame`.
    fn find_by_segment(
        &mut self,
        image: &impl Image,
        segments: &[ProgramHeader64<LE>],
    ) -> Result<(), UnwindError> {
        let Some(segment) = segments
            .iter()
            .find(|segment| segment.p_type.get(LE) == PT_GNU_EH_FRAME)
        else {
            return Ok(());
        };
        let length = segment.p_filesz.get(LE).min(EH_FRAME_HEADER);
        let header = read(image, ".eh_frame_hdr", segment.p_offset.get(LE), length)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(segment.p_vaddr.get(LE));
        let parsed = EhFrameHdr::new(&header, LittleEndian).parse(&bases, 8);
        let Some(address) = parsed.ok().and_then(|hdr| hdr.eh_frame_ptr().direct().ok()) else {
            return Ok(());
        };
        let rest = segments
            .iter()
            .filter(|segment| segment.p_type.get(LE) == PT_LOAD)
            .find_map(|segment| {
                let into = address.checked_sub(segment.p_vaddr.get(LE))?;
                let left = segment.p_filesz.get(LE).checked_sub(into)?;
                let offset = segment.p_offset.get(LE).checked_add(into)?;
                (left > 0).then_some((offset, left))
            });
        let Some((offset, left)) = rest else {
            return Ok(());
        };
        self.bases = self.bases.clone().set_eh_frame(address);
        self.eh_frame = Some(Section {
            bytes: read(image, ".eh_frame", offset, left.min(MOST_FRAME_BYTES))?,
            ends_at_zero: true,
        });
        Ok(())
    }
}

impl Section {
    fn read(
        image: &impl Image,
        what: &'static str,
        section: &SectionHeader64<LE>,
    ) -> Result<Self, UnwindError> {
        let (offset, size) = (section.sh_offset.get(LE), section.sh_size.get(LE));
        let most = MOST_FRAME_BYTES;
        if size > most {
            return Err(UnwindError::TooLarge { what, most });
        }
        let mut bytes = read(image, what, offset, size)?;
        if section.sh_flags.get(LE).contains(SHF_COMPRESSED) {
            bytes = decompressed(what, &bytes)?;
        }
        Ok(Self {
            bytes,
            ends_at_zero: false,
        })
    }
}

/// Where the segments of code are, overlapping ones as one.
fn code_of(segments: &[ProgramHeader64<LE>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = segments
        .iter()
        .filter(|segment| segment.p_type.get(LE) == PT_LOAD)
        .filter(|segment| segment.p_flags.get(LE).contains(PF_X))
        .map(|segment| {
            let start = segment.p_vaddr.get(LE);
            start..start.saturating_add(segment.p_memsz.get(LE))
        })
        .collect();
    all.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::new();
    for range in all {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => apart.push(range),
        }
    }
    apart
}

/// The content of a compressed section, which begins with a header that says how long it is.
fn decompressed(what: &'static str, bytes: &[u8]) -> Result<Vec<u8>, UnwindError> {
    let unreadable = |error: io::Error| UnwindError::Unreadable { what, error };
    let (header, content) = pod::from_bytes::<CompressionHeader64<LE>>(bytes)
        .map_err(|()| unreadable(io::ErrorKind::UnexpectedEof.into()))?;
    let declared = header.ch_size.get(LE);
    if declared > MOST_FRAME_BYTES {
        let most = MOST_FRAME_BYTES;
        return Err(UnwindError::TooLarge { what, most });
    }
    let content: Box<dyn Read> = match header.ch_type.get(LE) {
        ELFCOMPRESS_ZLIB => Box::new(flate2::read::ZlibDecoder::new(content)),
        ELFCOMPRESS_ZSTD => {
            Box::new(zstd::stream::read::Decoder::new(content).map_err(unreadable)?)
        }
        _ => return Err(unreadable(io::ErrorKind::Unsupported.into())),
    };
    let mut bytes = Vec::new();
    content
        .take(declared + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > declared {
        return Err(UnwindError::TooLarge {
            what,
            most: declared,
        });
    }
    Ok(bytes)
}

fn read_header(image: &impl Image) -> Result<FileHeader64<LE>, UnwindError> {
    let what = "the ELF header";
    let length = size_of::<FileHeader64<LE>>() as u64;
    let available = image
        .length()
        .map_err(|error| UnwindError::Unreadable { what, error })?;
    if available < length {
        return Err(UnwindError::NotElf);
    }
    let bytes = read(image, what, 0, length)?;
    let (header, _) =
        pod::from_bytes::<FileHeader64<LE>>(&bytes).map_err(|()| UnwindError::NotElf)?;
    let supported = header.e_ident.magic == ELFMAG
        && header.e_ident.class == ELFCLASS64
        && header.e_ident.data == ELFDATA2LSB
        && header.e_machine.get(LE) == EM_X86_64;
    supported.then_some(*header).ok_or(UnwindError::NotElf)
}

type NamedSection = (Vec<u8>, SectionHeader64<LE>);

/// All sections with their names, in the order of the file.
fn named_sections(
    image: &impl Image,
    header: &FileHeader64<LE>,
) -> Result<Vec<NamedSection>, UnwindError> {
    let what = "the section headers";
    let offset = header.e_shoff.get(LE);
    if offset == 0 {
        return Ok(Vec::new());
    }
    // Counts that do not fit in 16 bits are in the first section header.
    let first = read_table::<SectionHeader64<LE>>(image, what, offset, 1, 1)?[0];
    let count = match header.e_shnum.get(LE) {
        0 => first.sh_size.get(LE),
        count => u64::from(count),
    };
    let headers = read_table::<SectionHeader64<LE>>(image, what, offset, count, MOST_SECTIONS)?;
    let names_index = match header.e_shstrndx.get(LE) {
        SHN_XINDEX => first.sh_link.get(LE) as usize,
        index => usize::from(index.0),
    };
    let Some(names) = headers.get(names_index) else {
        return Ok(Vec::new());
    };
    let names: Vec<u8> = read_table(
        image,
        "the names of sections",
        names.sh_offset.get(LE),
        names.sh_size.get(LE),
        MOST_NAMES,
    )?;
    let name_of = |section: &SectionHeader64<LE>| {
        let rest = names.get(section.sh_name.get(LE) as usize..)?;
        // A longer name is none of those looked for.
        let length = rest.iter().take(16).position(|&byte| byte == 0)?;
        Some(rest[..length].to_vec())
    };
    Ok(headers
        .iter()
        .filter_map(|section| Some((name_of(section)?, *section)))
        .collect())
}

/// `count` things, one after the other at `offset`; at most `most`.
fn read_table<T: pod::Pod>(
    image: &impl Image,
    what: &'static str,
    offset: u64,
    count: u64,
    most: u64,
) -> Result<Vec<T>, UnwindError> {
    if count > most {
        return Err(UnwindError::TooLarge { what, most });
    }
    // The product cannot overflow: `most` is at most 2^22 and a header takes 64 bytes.
    let bytes = read(image, what, offset, count * size_of::<T>() as u64)?;
    let (things, _) =
        pod::slice_from_bytes::<T>(&bytes, count as usize).map_err(|()| UnwindError::NotElf)?;
    Ok(things.to_vec())
}

/// `length` bytes, which the caller has bounded. Memory is taken only for bytes that are there.
fn read(
    image: &impl Image,
    what: &'static str,
    offset: u64,
    length: u64,
) -> Result<Vec<u8>, UnwindError> {
    let read = || {
        let available = image.length()?.saturating_sub(offset);
        if length > available {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        image.read_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    read().map_err(|error| UnwindError::Unreadable { what, error })
}
