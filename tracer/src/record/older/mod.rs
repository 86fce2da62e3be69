//! What older versions had in another way. Versions 1 and 2: entries and events in one chunk, with addresses and nanoseconds. Up to
//! version 3: tags that held a call and a function in four bits each, and functions without entries.

use super::damage::Damage;
use super::events::EventUnpacker;
use super::varint::{Span, spans};

mod calls;
mod events;
mod functions;
mod guesses;

pub(super) use calls::tag;
pub(super) use events::OlderEvents;
use functions::FUNCTIONS;
pub(super) use functions::definitions;
use guesses::Column;

/// The first version whose recordings define their functions.
pub(super) const DEFINES_FUNCTIONS: u16 = 4;

/// The entries, then the columns.
const PARTS: usize = 1 + Column::COUNT;

/// The entries of a chunk, and its events.
pub(super) fn start(content: &[u8]) -> Result<(&[u8], OlderEvents), Damage> {
    let [mut entries, columns @ ..] = spans::<PARTS>(content)?;
    let entries = entries.take(content, entries.remaining())?;
    Ok((entries, OlderEvents::start(columns)))
}

/// Columns of events in version 3: all but the one of new tags, which is the last one.
const THIRD_COLUMNS: usize = super::events::Column::COUNT - 1;

/// Starts on the events of a chunk of version 3. Columns that it did not have are empty.
pub(super) fn start_third(content: &[u8]) -> Result<EventUnpacker, Damage> {
    let (first, parts) = content.split_first_chunk::<8>().ok_or(Damage::Overrun)?;
    let known = spans::<THIRD_COLUMNS>(parts)?;
    let mut columns = [Span::default(); THIRD_COLUMNS + 1];
    for (column, known) in columns.iter_mut().zip(known) {
        *column = known.moved(first.len());
    }
    Ok(EventUnpacker::start_third(
        columns,
        u64::from_le_bytes(*first),
    ))
}

const _: () = assert!(PARTS == 11, "as the format page says");

/// As a writer of version 2 would lay it out.
#[cfg(test)]
pub(super) fn laid_out(parts: &[&[u8]; PARTS]) -> Vec<u8> {
    let lengths = parts
        .iter()
        .flat_map(|part| (part.len() as u32).to_le_bytes());
    let head: Vec<u8> = (PARTS as u32)
        .to_le_bytes()
        .into_iter()
        .chain(lengths)
        .collect();
    [&head[..], &parts.concat()].concat()
}

/// As a writer of version 3 would lay out a chunk of events.
#[cfg(test)]
pub(super) fn third_laid_out(first_block: [u8; 8], columns: &[&[u8]]) -> Vec<u8> {
    let lengths = columns
        .iter()
        .flat_map(|column| (column.len() as u32).to_le_bytes());
    let count = (columns.len() as u32).to_le_bytes();
    let head = first_block.into_iter().chain(count).chain(lengths);
    head.chain(columns.concat()).collect()
}
