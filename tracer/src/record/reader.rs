//! Reading.
//!
//! A recording may come from anywhere, so nothing in it is believed: lengths are checked before room is made for what they
//! promise, and room is made as bytes arrive. At any time a reader holds one chunk, as stored and unpacked (32 MiB at
//! most), and one entry of it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zstd::bulk::Decompressor;

use super::Entry;
use super::content::Content;
use super::damage::Damage;
use super::format::{
    CHUNK_HEADER, ChunkHeader, ENTRIES, FILE_HEADER, MAGIC, OLDEST_VERSION, OPTIONAL, VERSION,
    checksum,
};

/// Reads a recording, entry by entry, in the order in which they were written. Only the grouping of events may differ:
/// neighbouring [`Entry::Events`] may come as one, one may come in parts, and one without events does not come at all.
///
/// A recording that was cut short or damaged gives every entry of the chunks before that place, then one error, then
/// nothing more. Where it was cut exactly between two chunks, it just ends; what is missing then is [`Entry::Closing`].
pub struct Reader<R: Read> {
    source: R,
    decompressor: Decompressor<'static>,
    /// How many bytes were read.
    offset: u64,
    /// Where the chunk at hand begins.
    chunk: u64,
    payload: Vec<u8>,
    content: Content,
    state: State,
}

/// What a reader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Begin a chunk.
    Between,
    /// Go on with a chunk.
    Within,
    /// Nothing: the recording ended, or could not be read on.
    Ended,
}

/// Opens the recording at `path`; `-` is standard input.
///
/// # Errors
///
/// As [`Reader::new`], and [`ReadError::Open`].
pub fn open(path: &Path) -> Result<Reader<Box<dyn Read>>, ReadError> {
    if path.as_os_str() == "-" {
        return Reader::new(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| ReadError::Open {
        path: path.to_owned(),
        error,
    })?;
    Reader::new(Box::new(BufReader::new(file)))
}

impl<R: Read> Reader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    ///
    /// Every [`ReadError`] but [`ReadError::Open`].
    pub fn new(mut source: R) -> Result<Self, ReadError> {
        let decompressor = Decompressor::new().map_err(ReadError::Io)?;
        let mut header = [0; FILE_HEADER];
        let read = fill(&mut source, &mut header)?;
        check_file_header(&header, read)?;
        Ok(Self {
            source,
            decompressor,
            offset: FILE_HEADER as u64,
            chunk: FILE_HEADER as u64,
            payload: Vec::new(),
            content: Content::new(),
            state: State::Between,
        })
    }

    /// How much room was made for what the source holds, bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.payload.capacity() + self.content.room()
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            match self.state {
                State::Ended => return Ok(None),
                State::Between => self.state = self.begin_chunk()?,
                State::Within => match self.content.next() {
                    Ok(Some(entry)) => return Ok(Some(entry)),
                    Ok(None) => self.state = State::Between,
                    Err(damage) => return Err(self.damaged(damage)),
                },
            }
        }
    }

    /// Reads a chunk up to where its entries can be read.
    fn begin_chunk(&mut self) -> Result<State, ReadError> {
        self.chunk = self.offset;
        let mut bytes = [0; CHUNK_HEADER];
        match fill(&mut self.source, &mut bytes)? {
            0 => return Ok(State::Ended),
            CHUNK_HEADER => self.offset += CHUNK_HEADER as u64,
            read => return Err(self.cut_short(read)),
        }
        let header = ChunkHeader::decode(&bytes).map_err(|damage| self.damaged(damage))?;

        // `read_to_end` makes room as bytes arrive, whatever length the header tells.
        let length = u64::from(header.stored);
        self.payload.clear();
        let read = self
            .source
            .by_ref()
            .take(length)
            .read_to_end(&mut self.payload)
            .map_err(ReadError::Io)?;
        if (read as u64) < length {
            return Err(self.cut_short(read));
        }
        self.offset += length;

        let [.., c0, c1, c2, c3] = bytes;
        if checksum(&bytes, &self.payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(self.damaged(Damage::Checksum));
        }
        match header.kind {
            ENTRIES => {}
            OPTIONAL.. => return Ok(State::Between),
            kind => return Err(self.damaged(Damage::ChunkType(kind))),
        }
        let Self {
            payload,
            decompressor,
            ..
        } = self;
        self.content
            .start(|content| unpack(header, payload, decompressor, content))
            .map_err(|damage| self.damaged(damage))?;
        Ok(State::Within)
    }

    fn cut_short(&self, read: usize) -> ReadError {
        ReadError::CutShort {
            offset: self.offset + read as u64,
        }
    }

    fn damaged(&self, damage: Damage) -> ReadError {
        ReadError::Damaged {
            offset: self.chunk,
            damage,
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.read_entry();
        if !matches!(entry, Ok(Some(_))) {
            self.state = State::Ended;
        }
        entry.transpose()
    }
}

impl<R: Read> std::iter::FusedIterator for Reader<R> {}

/// Reads until `buffer` is full or the source ends, and returns how much there was.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ReadError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ReadError::Io(error)),
        }
    }
    Ok(filled)
}

/// Checks a file header of which `read` bytes were there.
fn check_file_header(header: &[u8; FILE_HEADER], read: usize) -> Result<(), ReadError> {
    if read == 0 {
        return Err(ReadError::Empty);
    }
    let start = &header[..read.min(MAGIC.len())];
    if !MAGIC.starts_with(start) {
        return Err(ReadError::NotARecording {
            start: start.to_owned(),
        });
    }
    if read < FILE_HEADER {
        return Err(ReadError::CutShort {
            offset: read as u64,
        });
    }
    let damaged = |damage| ReadError::Damaged { offset: 0, damage };
    let [_, _, _, _, _, _, _, _, v0, v1, f0, f1, c0, c1, c2, c3] = *header;
    if crc32fast::hash(&header[..12]) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(damaged(Damage::FileHeader));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if !(OLDEST_VERSION..=VERSION).contains(&version) {
        return Err(ReadError::OtherVersion {
            found: version,
            supported: VERSION,
        });
    }
    match u16::from_le_bytes([f0, f1]) {
        0 => Ok(()),
        flags => Err(damaged(Damage::FileFlags(flags))),
    }
}

/// Unpacks a payload into `content`, which is empty.
fn unpack(
    header: ChunkHeader,
    payload: &[u8],
    decompressor: &mut Decompressor,
    content: &mut Vec<u8>,
) -> Result<(), Damage> {
    let unpacked = header.unpacked as usize;
    if header.packed {
        // zstd's own header tells the length too. Room is made (at most `MAX_CHUNK`) only where both agree.
        let told = zstd::zstd_safe::get_frame_content_size(payload);
        if !matches!(told, Ok(Some(told)) if told == unpacked as u64) {
            return Err(Damage::Compression);
        }
        content.reserve(unpacked);
        decompressor
            .decompress_to_buffer(payload, content)
            .map_err(|_| Damage::Compression)?;
    } else {
        content.extend_from_slice(payload);
    }
    if content.len() == unpacked {
        Ok(())
    } else {
        Err(Damage::Compression)
    }
}

/// Why a recording cannot be read, or not any further. The text tells the cause too, so there is no `source`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened.
    #[error("cannot open the recording {}: {error}; check the path, and that you may read it", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The source failed.
    #[error(
        "cannot read on in the recording: {0}; copy the file to a disk that works and try that"
    )]
    Io(io::Error),
    /// There is nothing in it.
    #[error(
        "the recording is empty: whatever was to write it did not get that far; record again with `highwater record`"
    )]
    Empty,
    /// It is something else.
    #[error(
        "this is not a highwater recording (it starts with \"{}\"); expected the file that `highwater record` wrote",
        start.escape_ascii()
    )]
    NotARecording {
        /// Its first bytes, eight at most.
        start: Vec<u8>,
    },
    /// A highwater of another version wrote it.
    #[error(
        "the recording has format version {found}, this highwater reads versions up to {supported}; read it with the version of \
         highwater that wrote it, or {}",
        if found > supported { "a newer one" } else { "record again" }
    )]
    OtherVersion {
        /// Its version.
        found: u16,
        /// The newest one that is read here.
        supported: u16,
    },
    /// It ends inside a chunk.
    #[error(
        "the recording was cut short: it ends at byte {offset}, in the middle of a chunk (the recorder was killed, the disk \
         full, or a copy is incomplete). What comes before that can be read; if it was copied, copy it again"
    )]
    CutShort {
        /// How long it is.
        offset: u64,
    },
    /// It is not what a writer wrote.
    #[error(
        "the recording is damaged in the chunk at byte {offset}: {damage}. What comes before that can be read; if it was \
         copied, copy it again"
    )]
    Damaged {
        /// Where the chunk begins; 0 for the file header.
        offset: u64,
        /// What was found there.
        damage: Damage,
    },
}
