//! What versions 1 and 2 held in their chunks: entries and events in one, with addresses and nanoseconds.

use super::damage::Damage;
use super::varint::spans;

mod events;
mod guesses;

pub(super) use events::OlderEvents;
use guesses::Column;

/// The entries, then the columns.
const PARTS: usize = 1 + Column::COUNT;

/// The entries of a chunk, and its events.
pub(super) fn start(content: &[u8]) -> Result<(&[u8], OlderEvents), Damage> {
    let [mut entries, columns @ ..] = spans::<PARTS>(content)?;
    let entries = entries.take(content, entries.remaining())?;
    Ok((entries, OlderEvents::start(columns)))
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
