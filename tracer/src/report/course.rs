//! The course of a recording, for a sink that tells it step by step: what came and went, in order, and what the kernel said
//! of it meanwhile. By the same live set as the replay, so both see the same peak.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io;

use super::replay::Threads;
use crate::event::{Call, Nanos, ProcessId};
use crate::live::{LiveSet, Movement, Totals};
use crate::model::Feed;
use crate::record::reader::ReadError;
use crate::record::{EndReason, Entry};

/// One change of what the traced processes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something came or went.
    Moved(Movement),
    /// What all processes have in memory together changed, bytes.
    Resident(u64),
}

/// Tells the steps of a recording, each with its moment, up to where it ends or cannot be read on, and returns the counts of
/// all. What the last process held as it ended does not go: that is the end of the recording.
///
/// # Errors
///
/// What `tell` says.
pub fn course(
    entries: impl Iterator<Item = Result<Entry, ReadError>>,
    threads: Threads,
    mut tell: impl FnMut(Nanos, Step) -> io::Result<()>,
) -> io::Result<Totals> {
    let live = LiveSet::new().with_movements();
    let mut course = Course {
        feed: Feed::new(match threads {
            Threads::Together => live,
            Threads::Apart => live.by_thread(),
        }),
        opened: HashMap::new(),
        last_end: Vec::new(),
    };
    for entry in entries.map_while(Result::ok) {
        course.take(entry, &mut tell)?;
    }
    if course.feed.live().is_tracing() {
        course.end_was_not_the_last(&mut tell)?;
    }
    Ok(course.feed.live().totals())
}

struct Course {
    feed: Feed,
    /// What each process that was ever traced has in memory now.
    opened: HashMap<ProcessId, u64>,
    /// What went as the last process ended that was traced then.
    last_end: Vec<(Nanos, Movement)>,
}

impl Course {
    fn take(
        &mut self,
        entry: Entry,
        tell: &mut impl FnMut(Nanos, Step) -> io::Result<()>,
    ) -> io::Result<()> {
        match entry {
            Entry::Process(process) => {
                // Only a damaged recording opens an identity twice.
                if let Slot::Vacant(slot) = self.opened.entry(process.id) {
                    slot.insert(0);
                    self.feed.open(&process);
                }
            }
            Entry::Events(events) => {
                for event in &events {
                    self.feed.event(event);
                    self.moved(event.at, tell)?;
                    if let Call::Exited { .. } | Call::Executed { .. } = event.call {
                        self.resident(event.at, event.process, 0, tell)?;
                    }
                }
            }
            Entry::Memory(sample) => {
                if let Some(rss) = sample.rss {
                    self.resident(sample.at, sample.process, rss, tell)?;
                }
            }
            Entry::End(end) => {
                self.feed.end(&end);
                self.moved(end.at, tell)?;
                if end.reason != EndReason::Detached {
                    self.resident(end.at, end.process, 0, tell)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn moved(
        &mut self,
        at: Nanos,
        tell: &mut impl FnMut(Nanos, Step) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.feed.live().is_tracing() {
            self.end_was_not_the_last(tell)?;
            for movement in self.feed.live_mut().movements() {
                tell(at, Step::Moved(movement))?;
            }
        } else {
            let went = self
                .feed
                .live_mut()
                .movements()
                .map(|movement| (at, movement));
            self.last_end.extend(went);
        }
        Ok(())
    }

    fn end_was_not_the_last(
        &mut self,
        tell: &mut impl FnMut(Nanos, Step) -> io::Result<()>,
    ) -> io::Result<()> {
        for (at, movement) in self.last_end.drain(..) {
            tell(at, Step::Moved(movement))?;
        }
        Ok(())
    }

    fn resident(
        &mut self,
        at: Nanos,
        process: ProcessId,
        rss: u64,
        tell: &mut impl FnMut(Nanos, Step) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(of_process) = self.opened.get_mut(&process) else {
            return Ok(());
        };
        *of_process = rss;
        let all = self.opened.values();
        let all = all.fold(0, |sum: u64, one| sum.saturating_add(*one));
        tell(at, Step::Resident(all))
    }
}
