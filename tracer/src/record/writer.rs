//! Writing.
//!
//! Entries gather in memory until there is a chunk of them. What is in memory is lost when we are killed, so a session
//! calls [`Writer::flush`] as often as it is ready to lose what came since.

use std::io::{self, Write};

use thiserror::Error;
use zstd::bulk::Compressor;

use crate::event::Event;

use super::Entry;
use super::content::{DIRECTORY, assemble, put_entry};
use super::entries::{Body, put_body};
use super::events::EventPacker;
use super::format::{ChunkHeader, ENTRIES, MAX_CHUNK, MAX_ENTRY, MAX_EVENTS, file_header};

/// zstd's fastest regular level: events are coded against good guesses before, and higher levels gain little.
const LEVEL: i32 = 1;

/// Content of fewer bytes is stored as it is.
const LEAST_PACKED: usize = 128;

/// Entries that are not events make a chunk when they reach this many bytes.
const ENTRIES_FULL: usize = 1 << 20;

/// Most bytes of one event in all columns: tag, time, thread and pair, address, header or size, stack, slot.
const MAX_EVENT: usize = 1 + 10 + 3 + 10 + 3 + 10 + 10 + 5 + 5;

const _: () = assert!(
    DIRECTORY + ENTRIES_FULL + MAX_ENTRY + 32 + MAX_EVENTS * MAX_EVENT <= MAX_CHUNK,
    "whatever gathers fits a chunk"
);

/// Writes a recording.
///
/// Dropping it loses what was not flushed: end with [`Writer::finish`].
pub struct Writer<W: Write> {
    sink: W,
    compressor: Compressor<'static>,
    events: EventPacker,
    entries: Vec<u8>,
    /// How many of `events` came before the last of `entries`.
    events_before: usize,
    /// The entry, chunk content and packed content at hand; kept for their room.
    body: Vec<u8>,
    content: Vec<u8>,
    packed: Vec<u8>,
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
            events_before: 0,
            body: Vec::new(),
            content: Vec::new(),
            packed: Vec::new(),
            failed: false,
        })
    }

    /// Adds an entry.
    ///
    /// # Errors
    ///
    /// [`WriteError::TooLarge`] and [`WriteError::Json`] concern this entry alone: it is left out, and others can follow.
    /// After [`WriteError::Io`] the recording ends with the last whole chunk, and every later call fails with
    /// [`WriteError::Failed`].
    pub fn write(&mut self, entry: &Entry) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        self.body.clear();
        match put_body(&mut self.body, entry).map_err(WriteError::Json)? {
            Body::Events(events) => self.write_events(events),
            Body::Kind(kind) => self.write_body(kind),
        }
    }

    fn write_events(&mut self, events: &[Event]) -> Result<(), WriteError> {
        for event in events {
            self.events.push(event);
            if self.events.count() == MAX_EVENTS {
                self.write_chunk()?;
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
            self.write_chunk()?;
        }
        Ok(())
    }

    /// Puts everything so far into the file, as whole chunks.
    ///
    /// # Errors
    ///
    /// As [`Writer::write`].
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.write_chunk()?;
        self.sink.flush().map_err(|error| self.fail(error))
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

    /// Writes what has gathered, if anything has, and begins a new chunk.
    fn write_chunk(&mut self) -> Result<(), WriteError> {
        if self.failed {
            return Err(WriteError::Failed);
        }
        if self.entries.is_empty() && self.events.count() == 0 {
            return Ok(());
        }
        assemble(&mut self.content, &self.entries, &self.events);
        self.entries.clear();
        self.events.clear();
        self.events_before = 0;

        self.packed.clear();
        if self.content.len() >= LEAST_PACKED {
            self.packed
                .reserve(zstd::zstd_safe::compress_bound(self.content.len()));
            self.compressor
                .compress_to_buffer(&self.content, &mut self.packed)
                .map_err(|error| self.fail(error))?;
        }
        let packed = !self.packed.is_empty() && self.packed.len() < self.content.len();
        let payload = if packed { &self.packed } else { &self.content };
        let header = ChunkHeader {
            kind: ENTRIES,
            packed,
            stored: payload.len() as u32,
            unpacked: self.content.len() as u32,
        };
        let written = self
            .sink
            .write_all(&header.encode(payload))
            .and_then(|()| self.sink.write_all(payload));
        written.map_err(|error| self.fail(error))
    }

    fn fail(&mut self, error: io::Error) -> WriteError {
        self.failed = true;
        WriteError::Io(error)
    }
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
        /// Its size.
        bytes: usize,
    },
    /// An entry could not be put as JSON.
    #[error(
        "an entry is left out of the recording, as it cannot be put as JSON: {0}; please report this"
    )]
    Json(serde_json::Error),
}
