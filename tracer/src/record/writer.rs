//! Writing.
//!
//! Entries gather in memory until there is a chunk of them. What is in memory is lost when we are killed, so a session
//! calls [`Writer::flush`] as often as it is ready to lose what came since.

use std::io::{self, Write};

use thiserror::Error;
use zstd::bulk::Compressor;

use crate::event::Event;

use super::Entry;
use super::cgroups::Cgroups;
use super::content::{DIRECTORY, assemble, put_entry};
use super::entries::{Body, put_body};
use super::events::EventPacker;
use super::format::{
    ChunkHeader, ENTRIES, EVENTS, FILE_HEADER, MAX_CHUNK, MAX_ENTRY, MAX_EVENTS, file_header,
};
use super::stacks::StackPacker;

/// On events of real programs a twelfth smaller than level 3, for 10 ns an event more; level 9 would gain another twelfth for 30 ns.
pub(super) const LEVEL: i32 = 5;

/// Content of fewer bytes is stored as it is.
const LEAST_PACKED: usize = 128;

/// Entries that are not events make a chunk when they reach this many bytes.
pub(super) const ENTRIES_FULL: usize = 1 << 20;

/// Events make a chunk when their columns reach this many bytes, or when there are [`MAX_EVENTS`].
const EVENTS_FULL: usize = 8 << 20;

/// Most bytes of one event in all columns: tag and what it means, time, thread and pair, block or two addresses, header, size, stack,
/// slot.
const MAX_EVENT: usize = 3 + 1 + 5 + 10 + 3 + 10 + 20 + 10 + 10 + 5 + 5;

const _: () = assert!(
    ENTRIES_FULL + MAX_ENTRY + 32 <= MAX_CHUNK
        && DIRECTORY + EVENTS_FULL + MAX_EVENT * EVENTS_LOOK <= MAX_CHUNK,
    "whatever gathers fits a chunk"
);

/// So many events apart it is looked whether their columns are full.
const EVENTS_LOOK: usize = 1 << 12;

/// Writes a recording.
///
/// Dropping it loses what was not flushed: end with [`Writer::finish`].
pub struct Writer<W: Write> {
    sink: W,
    compressor: Compressor<'static>,
    events: EventPacker,
    entries: Vec<u8>,
    stacks: StackPacker,
    cgroups: Cgroups,
    /// How many of `events` came before the last of `entries`.
    events_before: usize,
    /// The entry, chunk content and chunks at hand; kept for their room.
    body: Vec<u8>,
    content: Vec<u8>,
    chunks: Vec<u8>,
    /// How much was written, bytes.
    written: u64,
    /// A write failed, so the file may end in the middle of a chunk, and nothing after it would be found.
    failed: bool,
}

impl<W: Write> Writer<W> {
    /// Begins a recording with its file header.
    ///
    /// # Errors
    ///
    /// [`WriteError::Io`] if the header cannot be written.
    pub fn new(mut sink: W) -> Result<Self, WriteError> {
        let compressor = Compressor::new(LEVEL).map_err(WriteError::Io)?;
        sink.write_all(&file_header()).map_err(WriteError::Io)?;
        Ok(Self {
            sink,
            compressor,
            events: EventPacker::new(),
            entries: Vec::new(),
            stacks: StackPacker::default(),
            cgroups: Cgroups::default(),
            events_before: 0,
            body: Vec::new(),
            content: Vec::new(),
            chunks: Vec::new(),
            written: FILE_HEADER as u64,
            failed: false,
        })
    }

    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`], [`WriteError::TooDeep`] and [`WriteError::Json`] concern this entry alone: it is left out, and others can follow.
    /// After [`WriteError::Io`] the recording ends with the last whole chunk, and every later call fails with
    /// [`WriteError::Failed`].
    pub fn write(&mut self, entry: &Entry) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        self.body.clear();
        let mut cgroup = None;
        if let Entry::Process(process) = entry
            && let Some(of) = &process.cgroup
        {
            cgroup = self.cgroups.number(of);
            if cgroup.is_none() {
                let kind = self.cgroups.put(&mut self.body, of);
                self.write_body(kind)?;
                cgroup = Some(self.cgroups.add(of));
                self.body.clear();
            }
        }
        let put = put_body(&mut self.body, entry, &mut self.stacks, cgroup);
        match put.map_err(WriteError::Json)? {
            Body::Events(events) => self.write_events(events),
            Body::Kind(kind) => self.write_body(kind),
            Body::TooLarge(frames) => Err(WriteError::TooDeep { frames }),
        }
    }

    fn write_events(&mut self, events: &[Event]) -> Result<(), WriteError> {
        for event in events {
            self.events.push(event);
            let count = self.events.count();
            let look = count.is_multiple_of(EVENTS_LOOK);
            if count == MAX_EVENTS || look && self.events.bytes() >= EVENTS_FULL {
                self.write_chunks()?;
            }
        }
        Ok(())
    }

    fn write_body(&mut self, kind: u8) -> Result<(), WriteError> {
        if self.body.len() > MAX_ENTRY {
            return Err(WriteError::TooLarge {
                bytes: self.body.len(),
            });
        }
        let events_before = self.events.count() - self.events_before;
        put_entry(&mut self.entries, events_before, kind, &self.body);
        self.events_before = self.events.count();
        if self.entries.len() >= ENTRIES_FULL {
            self.write_chunks()?;
        }
        Ok(())
    }

    /// Puts everything so far into the file, as whole chunks.
    ///
    /// # Errors
    ///
    /// As [`Writer::write`].
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.write_chunks()?;
        self.sink.flush().map_err(|error| self.fail(error))
    }

    /// Flushes, and goes on in another sink, of which so many bytes are written: a [compacted](super::compact) copy. Gives the
    /// old one back.
    ///
    /// # Errors
    ///
    /// As [`Writer::flush`].
    pub fn move_to(&mut self, sink: W, written: u64) -> Result<W, WriteError> {
        self.flush()?;
        self.written = written;
        Ok(std::mem::replace(&mut self.sink, sink))
    }

    /// Flushes, and gives the sink back.
    ///
    /// # Errors
    ///
    /// As [`Writer::flush`].
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.flush()?;
        Ok(self.sink)
    }

    /// Where it is written.
    pub fn sink(&self) -> &W {
        &self.sink
    }

    /// How much was written, bytes; what has gathered is not in it.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes what has gathered, if anything has, and begins anew: the entries, then the events among them, in one piece.
    fn write_chunks(&mut self) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        self.chunks.clear();
        if !self.entries.is_empty() {
            put_chunk(
                &mut self.chunks,
                &mut self.compressor,
                ENTRIES,
                &self.entries,
            )
            .map_err(|error| self.fail(error))?;
            self.entries.clear();
        }
        if self.events.count() > 0 {
            assemble(&mut self.content, &self.events);
            put_chunk(
                &mut self.chunks,
                &mut self.compressor,
                EVENTS,
                &self.content,
            )
            .map_err(|error| self.fail(error))?;
            self.events.clear();
        }
        self.events_before = 0;
        self.written += self.chunks.len() as u64;
        let written = self.sink.write_all(&self.chunks);
        written.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: io::Error) -> WriteError {
        self.failed = true;
        WriteError::Io(error)
    }
}

/// Appends a chunk with this content, packed if that makes it smaller.
pub(super) fn put_chunk(
    to: &mut Vec<u8>,
    compressor: &mut Compressor<'_>,
    kind: u8,
    content: &[u8],
) -> io::Result<()> {
    let packed = match content.len() {
        LEAST_PACKED.. => compressor.compress(content)?,
        _ => Vec::new(),
    };
    let is_packed = !packed.is_empty() && packed.len() < content.len();
    let payload = if is_packed { &packed[..] } else { content };
    let header = ChunkHeader {
        kind,
        packed: is_packed,
        stored: payload.len() as u32,
        unpacked: content.len() as u32,
        checksum: 0,
    };
    to.extend(header.encode(payload));
    to.extend(payload);
    Ok(())
}

/// Why something could not be recorded. The text tells the cause too, so there is no `source`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink failed.
    #[error(
        "cannot write to the recording: {0}. What was written before can be read; to record more, make room or record to \
         another place with `-o`"
    )]
    Io(io::Error),
    /// An earlier write failed, so that nothing written now would be found.
    #[error(
        "an earlier write to the recording failed, so it ends there; record anew to another place with `-o`"
    )]
    Failed,
    /// One entry is larger than any may be.
    #[error(
        "an entry of {bytes} bytes is left out of the recording: one may have {MAX_ENTRY}; please report this"
    )]
    TooLarge {
        /// Length of the entry, bytes.
        bytes: usize,
    },
    /// A stack is deeper than any may be.
    #[error("a stack of {frames} frames is left out of the recording; please report this")]
    TooDeep {
        /// How deep it is.
        frames: usize,
    },
    /// An entry could not be put as JSON.
    #[error(
        "an entry is left out of the recording, as it cannot be put as JSON: {0}; please report this"
    )]
    Json(serde_json::Error),
}
