//! Reading.
//!
//! A recording may come from anywhere, so nothing in it is believed: lengths are checked before room is made for what they
//! promise, and room is made as bytes arrive. At any time a reader holds a chunk as stored and two unpacked, one of entries and the
//! one of their events (48 MiB at most), one entry of them, and the trie of all stacks so far.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zstd::bulk::Decompressor;

use super::Entry;
use super::content::{Content, Fill};
use super::damage::Damage;
use super::format::{
    CHUNK_HEADER, ChunkHeader, ENTRIES, EVENTS, FILE_HEADER, MAGIC, OLDER, OLDEST_VERSION,
    THIRD_EVENTS, Unknown, VERSION, checksum, unknown,
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
    /// The chunk whose payload is at hand, if nothing was made of it yet.
    loaded: Option<Chunk>,
    payload: Vec<u8>,
    content: Content,
    /// Where the chunk of the entries at hand begins, and that of the events.
    entries_at: u64,
    events_at: u64,
    /// Why nothing can be read after what is at hand.
    failure: Option<ReadError>,
    state: State,
}

/// A chunk that is whole.
#[derive(Clone, Copy)]
struct Chunk {
    header: ChunkHeader,
    /// Where it begins.
    at: u64,
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
pub fn open(path: &Path) -> Result<Reader<Box<dyn Read + Send>>, ReadError> {
    if path.as_os_str() == "-" {
        return Reader::new(Box::new(io::stdin()));
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
        let version = check_file_header(&header, read)?;
        Ok(Self {
            source,
            decompressor,
            offset: FILE_HEADER as u64,
            loaded: None,
            payload: Vec::new(),
            content: Content::of_version(version),
            entries_at: 0,
            events_at: 0,
            failure: None,
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
                State::Between => self.state = self.begin()?,
                State::Within => match self.content.next() {
                    Ok(Some(entry)) => return Ok(Some(entry)),
                    Ok(None) => self.state = State::Between,
                    Err(damage) => {
                        let at = match self.content.reads_events() {
                            true => self.events_at,
                            false => self.entries_at,
                        };
                        return Err(damaged(at, damage));
                    }
                },
            }
        }
    }

    /// Goes on to the next chunks that hold something: entries and the events among them, or either.
    fn begin(&mut self) -> Result<State, ReadError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let Some(chunk) = self.load()? else {
            return Ok(State::Ended);
        };
        self.loaded = None;
        self.entries_at = chunk.at;
        self.events_at = chunk.at;
        match chunk.header.kind {
            OLDER => self.unpack(chunk, |content, fill| content.start_older(fill))?,
            EVENTS | THIRD_EVENTS => self.unpack_events(chunk, true)?,
            ENTRIES => {
                self.unpack(chunk, |content, fill| content.start(fill))?;
                // What is wrong with the next chunk is no harm to this one.
                if let Err(failure) = self.add_events() {
                    self.failure = Some(failure);
                }
            }
            kind => match unknown(kind) {
                Unknown::Refuse => return Err(damaged(chunk.at, Damage::ChunkType(kind))),
                Unknown::Tell => self.content.pass_chunk(kind),
                Unknown::Skip => return Ok(State::Between),
            },
        }
        Ok(State::Within)
    }

    /// Adds the events among the entries at hand, if that is what the next chunk holds.
    fn add_events(&mut self) -> Result<(), ReadError> {
        match self.load()? {
            Some(chunk) if matches!(chunk.header.kind, EVENTS | THIRD_EVENTS) => {
                self.loaded = None;
                self.events_at = chunk.at;
                self.unpack_events(chunk, false)
            }
            _ => Ok(()),
        }
    }

    fn unpack_events(&mut self, chunk: Chunk, alone: bool) -> Result<(), ReadError> {
        let third = chunk.header.kind == THIRD_EVENTS;
        self.unpack(chunk, |content, fill| {
            content.add_events(alone, third, fill)
        })
    }

    /// Has the content of the chunk at hand made of its payload.
    fn unpack(
        &mut self,
        chunk: Chunk,
        start: impl FnOnce(&mut Content, &mut Fill<'_>) -> Result<(), Damage>,
    ) -> Result<(), ReadError> {
        let Self {
            payload,
            decompressor,
            content,
            ..
        } = self;
        let mut fill = |to: &mut Vec<u8>| unpack(chunk.header, payload, decompressor, to);
        start(content, &mut fill).map_err(|damage| damaged(chunk.at, damage))
    }

    /// The next chunk, `None` at the end: its payload is at hand.
    fn load(&mut self) -> Result<Option<Chunk>, ReadError> {
        if self.loaded.is_some() {
            return Ok(self.loaded);
        }
        let at = self.offset;
        let mut bytes = [0; CHUNK_HEADER];
        match fill(&mut self.source, &mut bytes)? {
            0 => return Ok(None),
            CHUNK_HEADER => self.offset += CHUNK_HEADER as u64,
            read => return Err(self.cut_short(read)),
        }
        let header = ChunkHeader::decode(&bytes).map_err(|damage| damaged(at, damage))?;

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

        if checksum(&bytes, &self.payload) != header.checksum {
            return Err(damaged(at, Damage::Checksum));
        }
        self.loaded = Some(Chunk { header, at });
        Ok(self.loaded)
    }

    fn cut_short(&self, read: usize) -> ReadError {
        ReadError::CutShort {
            offset: self.offset + read as u64,
        }
    }
}

fn damaged(offset: u64, damage: Damage) -> ReadError {
    ReadError::Damaged { offset, damage }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.read_entry();
        if !matches!(entry, Ok(Some(_))) {
            self.state = State::Ended;
            self.failure = None;
        }
        entry.transpose()
    }
}

impl<R: Read> std::iter::FusedIterator for Reader<R> {}

/// Reads until `buffer` is full or the source ends, and returns how much there was.
pub(super) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, ReadError> {
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

/// Checks a file header of which `read` bytes were there, and gives the version that it tells.
pub(super) fn check_file_header(header: &[u8; FILE_HEADER], read: usize) -> Result<u16, ReadError> {
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
    let damaged = |damage| damaged(0, damage);
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
        0 => Ok(version),
        flags => Err(damaged(Damage::FileFlags(flags))),
    }
}

/// Unpacks a payload into `content`, which is empty.
pub(super) fn unpack(
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
        /// Path of the recording.
        path: PathBuf,
        /// What the system said.
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
        /// Format version of the recording.
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
