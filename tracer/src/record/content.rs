//! What chunks contain: the columns of events in one, and in the one before it the other entries, each with the number of events
//! that came before it. So both kinds lie among their like, the one can be left out without looking at the other, and still they
//! come out in the order in which they went in.

use std::collections::VecDeque;

use super::damage::Damage;
use super::entries::{Defined, read_body};
use super::events::{Column, EventPacker, EventUnpacker, Unpacked};
use super::format::{MAX_EVENTS, Unknown, unknown};
use super::older::{self, OlderEvents};
use super::varint::{Span, parts, put, put_bytes};
use super::{Entry, Loss, LossKind};
use crate::event::{Event, Nanos};

/// Most bytes of what stands before the columns: the number of events and of the first block, the number of columns and their lengths.
pub(super) const DIRECTORY: usize = 10 + 10 + 5 * (1 + Column::COUNT);

/// Most events that are given at once: decoded they are far larger than packed.
const BATCH: usize = 1 << 14;

/// Lays out the content of a chunk of events.
pub(super) fn assemble(content: &mut Vec<u8>, events: &EventPacker) {
    let count = events.count() as u64;
    lay_out(content, count, events.first_block(), events.columns());
}

/// The same of columns, which are so many events that begin with that block.
pub(super) fn lay_out(
    content: &mut Vec<u8>,
    count: u64,
    first_block: u64,
    columns: &[impl AsRef<[u8]>],
) {
    content.clear();
    put(content, count);
    put(content, first_block);
    put(content, columns.len() as u64);
    for column in columns {
        put(content, column.as_ref().len() as u64);
    }
    for column in columns {
        content.extend(column.as_ref());
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
    /// What entries so far defined.
    defined: Defined,
    /// There are no events: how many of them come before an entry says nothing.
    lone: bool,
    /// Events that come before anything else.
    events_due: usize,
    /// Whether an entry comes after those.
    entry_due: bool,
    /// Which of both was read last.
    reads_events: bool,
    /// Entries that come before all others, though none of them stands here.
    pending: VecDeque<Entry>,
    /// The recording defines no functions, as those were always the same.
    lacks_functions: bool,
    /// What was passed over and told of, by what it is: a bit for each kind that is told of.
    told: [u64; 3],
    /// The latest moment that an event told.
    latest: Nanos,
}

/// Something that is passed over if it is of a kind that is not known here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Passed {
    Chunk,
    Entry,
    Event,
}

/// Puts the content of a chunk into an empty buffer.
pub(super) type Fill<'f> = dyn FnMut(&mut Vec<u8>) -> Result<(), Damage> + 'f;

enum Events {
    Current(Box<EventUnpacker>),
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

    fn next(&mut self, bytes: &[u8]) -> Result<Unpacked, Damage> {
        match self {
            Self::Current(events) => events.next(bytes),
            Self::Older(events) => events.next(bytes).map(Unpacked::Event),
        }
    }
}

impl Content {
    pub(super) fn of_version(version: u16) -> Self {
        Self {
            entry_bytes: Vec::new(),
            entries: Span::default(),
            event_bytes: Vec::new(),
            events: Events::Current(Box::new(EventUnpacker::empty())),
            defined: Defined::default(),
            lone: true,
            events_due: 0,
            entry_due: false,
            reads_events: false,
            pending: VecDeque::new(),
            lacks_functions: version < older::DEFINES_FUNCTIONS,
            told: [0; 3],
            latest: Nanos::default(),
        }
    }

    /// Nothing is left of the chunks before.
    fn clear(&mut self) {
        self.entry_bytes.clear();
        self.entries = Span::default();
        self.event_bytes.clear();
        self.events = Events::Current(Box::new(EventUnpacker::empty()));
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

    /// These are the events among the entries that were started on, or `alone`: there are no such entries. `third`: they are of
    /// version 3.
    pub(super) fn add_events(
        &mut self,
        alone: bool,
        third: bool,
        fill: &mut Fill<'_>,
    ) -> Result<(), Damage> {
        if alone {
            self.clear();
        }
        self.event_bytes.clear();
        fill(&mut self.event_bytes)?;
        let events = match third {
            true => older::start_third(&self.event_bytes)?,
            false => start(&self.event_bytes)?,
        };
        limit(events.left())?;
        self.events = Events::Current(Box::new(events));
        self.lone = false;
        Ok(())
    }

    /// A chunk of a type that is not known here.
    pub(super) fn pass_chunk(&mut self, kind: u8) {
        self.clear();
        self.tell(Passed::Chunk, kind, self.latest);
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
            if let Some(entry) = self.pending.pop_front() {
                return Ok(Some(entry));
            }
            if self.events_due > 0 {
                self.reads_events = true;
                let count = self.events_due.min(BATCH);
                self.events_due -= count;
                let events = self.take(count)?;
                if events.is_empty() {
                    continue;
                }
                return Ok(Some(Entry::Events(events)));
            }
            self.reads_events = false;
            if std::mem::take(&mut self.entry_due) {
                let kind = self.entries.byte(&self.entry_bytes)?;
                let body = self.entries.bytes(&self.entry_bytes)?;
                match read_body(kind, body, &mut self.defined)? {
                    Some(entry) => {
                        if matches!(entry, Entry::Opening(_)) && self.lacks_functions {
                            self.pending.extend(older::definitions());
                        }
                        return Ok(Some(entry));
                    }
                    None if unknown(kind) == Unknown::Tell => {
                        self.tell(Passed::Entry, kind, self.latest);
                    }
                    None => {}
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

impl Content {
    /// The next events, fewer than `count` where some are passed over.
    fn take(&mut self, count: usize) -> Result<Vec<Event>, Damage> {
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            match self.events.next(&self.event_bytes)? {
                Unpacked::Event(event) => taken.push(event),
                Unpacked::Passed {
                    at,
                    kind,
                    unknown: Unknown::Tell,
                } => self.tell(Passed::Event, kind, at),
                Unpacked::Passed { .. } => {}
            }
        }
        if let Some(last) = taken.last() {
            self.latest = last.at;
        }
        Ok(taken)
    }

    /// Something was passed over without which the rest may be wrong. It is told once of each kind.
    fn tell(&mut self, passed: Passed, kind: u8, at: Nanos) {
        let bit = 1 << (kind % 64);
        let told = &mut self.told[passed as usize];
        if *told & bit != 0 {
            return;
        }
        *told |= bit;
        let what = match passed {
            Passed::Chunk => "chunks of type",
            Passed::Entry => "entries of kind",
            Passed::Event => "events of kind",
        };
        self.pending.push_back(Entry::Loss(Loss {
            at_ns: at.0,
            pid: None,
            command: String::new(),
            kind: LossKind::Unknown,
            why: format!("a later one wrote {what} {kind} into the recording"),
        }));
    }
}

fn limit(events: usize) -> Result<(), Damage> {
    if events > MAX_EVENTS {
        return Err(Damage::EventCount(events));
    }
    Ok(())
}

/// Starts on the content of a chunk of events. Columns that this version does not know come after those that it does, and are passed
/// over.
fn start(content: &[u8]) -> Result<EventUnpacker, Damage> {
    let mut head = Span::all(content);
    let count = head.unsigned(content)?;
    let first_block = head.unsigned(content)?;
    let columns = parts::<{ Column::COUNT }>(content, head)?;
    // Each event has a tag of at least one byte.
    let count = usize::try_from(count)
        .ok()
        .filter(|&count| count <= columns[Column::Tags as usize].remaining())
        .ok_or(Damage::Overrun)?;
    Ok(EventUnpacker::start(columns, first_block, count))
}
