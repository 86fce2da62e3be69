//! Leaving the events out of a recording: everything else is copied, and nothing of it decoded but how entries follow one another.

use std::io::{self, Read, Seek, SeekFrom, Write};

use thiserror::Error;
use zstd::bulk::{Compressor, Decompressor};

use super::content::put_entry;
use super::entries::FOLD;
use super::format::{CHUNK_HEADER, ChunkHeader, ENTRIES, EVENTS, FILE_HEADER};
use super::reader::{ReadError, check_file_header, fill, unpack};
use super::varint::Span;
use super::writer::{ENTRIES_FULL, put_chunk};
use super::{Damage, format};

/// Why a recording could not be copied without its events.
#[derive(Debug, Error)]
pub enum CompactError {
    /// It could not be read.
    #[error("it could not be read: {0}")]
    Read(#[from] ReadError),
    /// The copy could not be written.
    #[error("the copy could not be written: {0}")]
    Write(io::Error),
}

/// Copies a recording of this version without its events and folds, chunks of entries joined, and returns how long the copy is,
/// bytes.
///
/// # Errors
///
/// See [`CompactError`]; the copy is of no use then.
pub fn compact(mut from: impl Read + Seek, mut to: impl Write) -> Result<u64, CompactError> {
    let mut start = [0; FILE_HEADER];
    let read = fill(&mut from, &mut start)?;
    check_file_header(&start, read)?;
    let mut written = 0;
    let mut put = |bytes: &[u8]| {
        written += bytes.len() as u64;
        to.write_all(bytes).map_err(CompactError::Write)
    };
    put(&format::file_header())?;
    let mut compressor = Compressor::new(super::writer::LEVEL).map_err(ReadError::Io)?;
    let mut decompressor = Decompressor::new().map_err(ReadError::Io)?;
    let (mut payload, mut content) = (Vec::new(), Vec::new());
    let (mut joined, mut packed) = (Vec::new(), Vec::new());
    let mut offset = FILE_HEADER as u64;
    loop {
        let at = offset;
        let damaged = |damage| ReadError::Damaged { offset: at, damage };
        let mut header = [0; CHUNK_HEADER];
        match fill(&mut from, &mut header)? {
            0 => break,
            CHUNK_HEADER => {}
            read => {
                let offset = at + read as u64;
                return Err(ReadError::CutShort { offset }.into());
            }
        }
        let known = ChunkHeader::decode(&header).map_err(damaged)?;
        offset += CHUNK_HEADER as u64 + u64::from(known.stored);
        match known.kind {
            EVENTS => {
                let stored = i64::from(known.stored);
                from.seek(SeekFrom::Current(stored))
                    .map_err(ReadError::Io)?;
                continue;
            }
            ENTRIES => {}
            kind => return Err(damaged(Damage::ChunkType(kind)).into()),
        }
        payload.resize(known.stored as usize, 0);
        let read = fill(&mut from, &mut payload)?;
        if read < payload.len() {
            let offset = at + (CHUNK_HEADER + read) as u64;
            return Err(ReadError::CutShort { offset }.into());
        }
        if format::checksum(&header, &payload) != known.checksum {
            return Err(damaged(Damage::Checksum).into());
        }
        content.clear();
        unpack(known, &payload, &mut decompressor, &mut content).map_err(damaged)?;
        keep(&content, &mut joined).map_err(damaged)?;
        if joined.len() >= ENTRIES_FULL {
            packed.clear();
            put_chunk(&mut packed, &mut compressor, ENTRIES, &joined).map_err(ReadError::Io)?;
            put(&packed)?;
            joined.clear();
        }
    }
    if !joined.is_empty() {
        packed.clear();
        put_chunk(&mut packed, &mut compressor, ENTRIES, &joined).map_err(ReadError::Io)?;
        put(&packed)?;
    }
    Ok(written)
}

/// Appends the entries of a chunk that stay. No events come before them any more.
fn keep(content: &[u8], joined: &mut Vec<u8>) -> Result<(), Damage> {
    let mut entries = Span::all(content);
    while entries.remaining() > 0 {
        entries.unsigned(content)?;
        let kind = entries.byte(content)?;
        let body = entries.bytes(content)?;
        if kind != FOLD {
            put_entry(joined, 0, kind, body);
        }
    }
    Ok(())
}
