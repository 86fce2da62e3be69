//! What chunks contain: the columns of events in one, and in the one before it the other entries, each with the number of events
//! that came before it. So both kinds lie among their like, the one can be left out without looking at the other, and still they
//! come out in the order in which they went in.

use super::Entry;
use super::damage::Damage;
use super::entries::read_body;
use super::events::{Column, EventPacker, EventUnpacker};
use super::format::MAX_EVENTS;
use super::older::{self, OlderEvents};
use super::stacks::StackUnpacker;
use super::varint::{Span, put, put_bytes, spans};
use crate::event::Event;

/// Bytes of what stands before the columns: the number of the first block, the lengths of the columns, and their number.
pub(super) const DIRECTORY: usize = 8 + 4 * (1 + Column::COUNT);

/// Most events that are given at once: decoded they are far larger than packed.
const BATCH: usize = 1 << 14;

/// Lays out the content of a chunk of events.
pub(super) fn assemble(content: &mut Vec<u8>, events: &EventPacker) {
    content.clear();
    content.extend(events.first_block().to_le_bytes());
    content.extend((Column::COUNT as u32).to_le_bytes());
    for column in events.columns() {
        // A chunk is far smaller than 4 GiB: see `MAX_CHUNK`.
        content.extend((column.len() as u32).to_le_bytes());
    }
    for column in events.columns() {
        content.extend(column);
    }
}

/// Appends an entry to the entries of a chunk; `events_before` came since the last one.
pub(super) fn put_entry(entries: &mut Vec<u8>, events_before: usize, kind: u8, body: &[u8]) {
    put(entries, events_before as u64);
    entries.push(kind);
    put_bytes(entries, body);
}

/// A chunk of entries and the chunk of events that belongs to it, given back entry by entry: what an entry takes up in memory may
/// be many times what it takes up here.
pub(super) struct Content {
    entry_bytes: Vec<u8>,
    entries: Span,
    event_bytes: Vec<u8>,
    events: Events,
    stacks: StackUnpacker,
    /// There are no events: how many of them come before an entry says nothing.
    lone: bool,
    /// Events that come before anything else.
    events_due: usize,
    /// Whether an entry comes after those.
    entry_due: bool,
    /// Which of both was read last.
    reads_events: bool,
}

/// Puts the content of a chunk into an empty buffer.
pub(super) type Fill<'f> = dyn FnMut(&mut Vec<u8>) -> Result<(), Damage> + 'f;

enum Events {
    Current(EventUnpacker),
    Older(Box<OlderEvents>),
}

impl Events {
    fn left(&self) -> usize {
        match self {
            Self::Current(events) => events.left(),
            Self::Older(events) => events.left(),
        }
    }

    fn is_left_over(&self) -> bool {
        match self {
            Self::Current(events) => events.is_left_over(),
            Self::Older(events) => events.is_left_over(),
        }
    }

    fn take(&mut self, count: usize, bytes: &[u8]) -> Result<Vec<Event>, Damage> {
        let mut taken = Vec::with_capacity(count);
        match self {
            Self::Current(events) => {
                for _ in 0..count {
                    taken.push(events.next(bytes)?);
                }
            }
            Self::Older(events) => {
                for _ in 0..count {
                    taken.push(events.next(bytes)?);
                }
            }
        }
        Ok(taken)
    }
}

impl Content {
    pub(super) fn new() -> Self {
        Self {
            entry_bytes: Vec::new(),
            entries: Span::default(),
            event_bytes: Vec::new(),
            events: Events::Current(EventUnpacker::new()),
            stacks: StackUnpacker::default(),
            lone: true,
            events_due: 0,
            entry_due: false,
            reads_events: false,
        }
    }

    /// Nothing is left of the chunks before.
    fn clear(&mut self) {
        self.entry_bytes.clear();
        self.entries = Span::default();
        self.event_bytes.clear();
        self.events = Events::Current(EventUnpacker::new());
        self.lone = true;
        self.events_due = 0;
        self.entry_due = false;
        self.reads_events = false;
    }

    /// Starts on entries, whose content `fill` puts into an empty buffer.
    pub(super) fn start(&mut self, fill: &mut Fill<'_>) -> Result<(), Damage> {
        self.clear();
        fill(&mut self.entry_bytes)?;
        self.entries = Span::all(&self.entry_bytes);
        Ok(())
    }

    /// These are the events among the entries that were started on, or `alone`: there are no such entries.
    pub(super) fn add_events(&mut self, alone: bool, fill: &mut Fill<'_>) -> Result<(), Damage> {
        if alone {
            self.clear();
        }
        self.event_bytes.clear();
        fill(&mut self.event_bytes)?;
        let (first_block, columns) = columns(&self.event_bytes)?;
        let mut events = EventUnpacker::new();
        events.start(columns, first_block);
        limit(events.left())?;
        self.events = Events::Current(events);
        self.lone = false;
        Ok(())
    }

    /// Starts on a chunk of versions 1 and 2, which holds both.
    pub(super) fn start_older(&mut self, fill: &mut Fill<'_>) -> Result<(), Damage> {
        self.clear();
        fill(&mut self.event_bytes)?;
        let (entries, events) = older::start(&self.event_bytes)?;
        limit(events.left())?;
        self.entry_bytes.extend_from_slice(entries);
        self.entries = Span::all(&self.entry_bytes);
        self.events = Events::Older(Box::new(events));
        self.lone = false;
        Ok(())
    }

    /// How much room was made, bytes.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.entry_bytes.capacity() + self.event_bytes.capacity()
    }

    /// Whether what was read last, or could not be read, was an event.
    pub(super) fn reads_events(&self) -> bool {
        self.reads_events
    }

    /// The next entry, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Damage> {
        loop {
            if self.events_due > 0 {
                self.reads_events = true;
                let count = self.events_due.min(BATCH);
                self.events_due -= count;
                let events = self.events.take(count, &self.event_bytes)?;
                return Ok(Some(Entry::Events(events)));
            }
            self.reads_events = false;
            if std::mem::take(&mut self.entry_due) {
                let kind = self.entries.byte(&self.entry_bytes)?;
                let body = self.entries.bytes(&self.entry_bytes)?;
                if let Some(entry) = read_body(kind, body, &mut self.stacks)? {
                    return Ok(Some(entry));
                }
            } else if self.entries.remaining() > 0 {
                let events = self.entries.unsigned(&self.entry_bytes)?;
                if !self.lone {
                    self.events_due = usize::try_from(events)
                        .ok()
                        .filter(|&events| events <= self.events.left())
                        .ok_or(Damage::Overrun)?;
                }
                self.entry_due = true;
            } else if self.events.left() > 0 {
                self.events_due = self.events.left();
            } else if self.events.is_left_over() {
                self.reads_events = true;
                return Err(Damage::LeftOver);
            } else {
                return Ok(None);
            }
        }
    }
}

fn limit(events: usize) -> Result<(), Damage> {
    if events > MAX_EVENTS {
        return Err(Damage::EventCount(events));
    }
    Ok(())
}

/// The number of the first block, and where the columns lie. Columns that this version does not know come after those that
/// it does, and are passed over.
fn columns(content: &[u8]) -> Result<(u64, [Span; Column::COUNT]), Damage> {
    let (first, parts) = content.split_first_chunk::<8>().ok_or(Damage::Overrun)?;
    let columns = spans::<{ Column::COUNT }>(parts)?;
    let columns = columns.map(|column| column.moved(first.len()));
    Ok((u64::from_le_bytes(*first), columns))
}
