//! What a chunk contains: the columns of its events, and beside them the other entries, each with the number of events
//! that came before it. So both kinds lie among their like, and still come out in the order in which they went in.

use super::Entry;
use super::damage::Damage;
use super::entries::read_body;
use super::events::{Column, EventPacker, EventUnpacker};
use super::format::MAX_EVENTS;
use super::varint::{Span, put, put_bytes};

/// The other entries, then the columns.
const PARTS: usize = 1 + Column::COUNT;

/// Bytes of the lengths of the parts, and of their number.
pub(super) const DIRECTORY: usize = 4 * (1 + PARTS);

/// Lays out the content of a chunk.
pub(super) fn assemble(content: &mut Vec<u8>, entries: &[u8], events: &EventPacker) {
    let parts = || std::iter::once(entries).chain(events.columns().iter().map(Vec::as_slice));
    content.clear();
    content.extend((PARTS as u32).to_le_bytes());
    for part in parts() {
        // A chunk is far smaller than 4 GiB: see `MAX_CHUNK`.
        content.extend((part.len() as u32).to_le_bytes());
    }
    for part in parts() {
        content.extend(part);
    }
}

/// Appends an entry to the entries of a chunk; `events_before` came since the last one.
pub(super) fn put_entry(entries: &mut Vec<u8>, events_before: usize, kind: u8, body: &[u8]) {
    put(entries, events_before as u64);
    entries.push(kind);
    put_bytes(entries, body);
}

/// The content of one chunk, given back entry by entry: what an entry takes up in memory may be many times what it takes
/// up here.
pub(super) struct Content {
    /// The content itself.
    bytes: Vec<u8>,
    entries: Span,
    events: EventUnpacker,
    /// Events that come before anything else.
    events_due: usize,
    /// Whether an entry comes after those.
    entry_due: bool,
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            entries: Span::default(),
            events: EventUnpacker::new(),
            events_due: 0,
            entry_due: false,
        }
    }

    /// Starts on the next chunk, whose content `fill` puts into an empty buffer.
    pub(super) fn start<E: From<Damage>>(
        &mut self,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.bytes.clear();
        fill(&mut self.bytes)?;
        let (entries, columns) = parts(&self.bytes)?;
        self.entries = entries;
        self.events.start(columns);
        let events = self.events.left();
        if events > MAX_EVENTS {
            return Err(Damage::EventCount(events).into());
        }
        Ok(())
    }

    /// How much room was made, bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// The next entry, `None` at the end of the chunk.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Damage> {
        loop {
            if self.events_due > 0 {
                let count = std::mem::take(&mut self.events_due);
                let mut events = Vec::with_capacity(count);
                for _ in 0..count {
                    events.push(self.events.next(&self.bytes)?);
                }
                return Ok(Some(Entry::Events(events)));
            }
            if std::mem::take(&mut self.entry_due) {
                let kind = self.entries.byte(&self.bytes)?;
                let body = self.entries.bytes(&self.bytes)?;
                if let Some(entry) = read_body(kind, body)? {
                    return Ok(Some(entry));
                }
            } else if self.entries.remaining() > 0 {
                let events = self.entries.unsigned(&self.bytes)?;
                self.events_due = usize::try_from(events)
                    .ok()
                    .filter(|&events| events <= self.events.left())
                    .ok_or(Damage::Overrun)?;
                self.entry_due = true;
            } else if self.events.left() > 0 {
                self.events_due = self.events.left();
            } else if self.events.is_left_over() {
                return Err(Damage::LeftOver);
            } else {
                return Ok(None);
            }
        }
    }
}

/// Where the parts lie. Parts that this version does not know come after those that it does, and are passed over.
fn parts(content: &[u8]) -> Result<(Span, [Span; Column::COUNT]), Damage> {
    let mut numbers = content
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes));
    let count = numbers.next().ok_or(Damage::Overrun)?;
    if (count as usize) < PARTS {
        return Err(Damage::ColumnCount(count));
    }
    let mut at = (count as usize)
        .checked_add(1)
        .and_then(|numbers| numbers.checked_mul(4))
        .ok_or(Damage::Overrun)?;
    let mut known = [Span::default(); PARTS];
    for index in 0..count as usize {
        let len = numbers.next().ok_or(Damage::Overrun)? as usize;
        let part = Span::new(at, len, content.len())?;
        if let Some(known) = known.get_mut(index) {
            *known = part;
        }
        at += len;
    }
    if at != content.len() {
        return Err(Damage::LeftOver);
    }
    let [entries, columns @ ..] = known;
    Ok((entries, columns))
}
