//! From a recording's entries to a [`Profile`]: the same live set and peak that watch a process live, fed from a file.

mod finish;

use std::collections::HashMap;

use super::asked::Asked;
use super::error::ReplayError;
use super::makeup::{Levels, Makeups};
use super::mark::Mark;
use super::memory::Samples;
use super::model::{Completion, Locations, Profile};
use super::question::{Question, When};
use super::statistics::Statistics;
use super::thinned::Thinned;
use super::view::Alike;
use crate::event::{Call, Event, Nanos, ProcessId, Tid};
use crate::live::{Fold, Kinds, LiveSet};
use crate::model::Feed;
use crate::record::reader::ReadError;
use crate::record::{
    self, Closing, EndReason, Entry, FoldPart, MarkKind, ModuleIndex, Opening, Origin, Process,
    ProcessEnd, Quality,
};

/// Whether the holders of threads are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// A holder is a stack, whichever threads were on it.
    Together,
    /// A holder is a stack in one thread.
    Apart,
}

/// What a view lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// Who held what at each moment, and when that came and went.
    All,
    /// What the question asks for. Of other moments only the sums are known, which spares a view of a million stacks half of the time
    /// and room that these take.
    Asked,
}

impl Profile {
    /// Replays a recording.
    ///
    /// One that is cut short or damaged gives a profile of everything before the damage; [`Profile::completion`] says
    /// why it stops there.
    ///
    /// # Errors
    ///
    /// Only if there is not even an [`Entry::Opening`] at its start.
    pub fn replay(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
    ) -> Result<Self, ReplayError> {
        Self::replay_for(entries, &Question::default(), Threads::Together)
    }

    /// Replays a recording with what it takes to answer this question.
    ///
    /// # Errors
    ///
    /// As [`replay`](Self::replay), and if the question names a mark that is not there.
    pub fn replay_for(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
        question: &Question,
        threads: Threads,
    ) -> Result<Self, ReplayError> {
        Self::replay_as(entries, |opening| {
            Replay::new(opening, question, threads, Lists::All)
        })
    }

    /// Replays a recording with what it takes to answer this question, and no other list of holders.
    ///
    /// # Errors
    ///
    /// As [`replay_for`](Self::replay_for).
    pub fn replay_for_answer(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
        question: &Question,
        threads: Threads,
    ) -> Result<Self, ReplayError> {
        Self::replay_as(entries, |opening| {
            Replay::new(opening, question, threads, Lists::Asked)
        })
    }

    /// Replays a recording with what it takes to answer this question, and counts what all blocks were like.
    ///
    /// # Errors
    ///
    /// As [`replay_for`](Self::replay_for).
    pub fn replay_with_statistics(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
        question: &Question,
    ) -> Result<Self, ReplayError> {
        Self::replay_as(entries, |opening| {
            let mut replay = Replay::new(opening, question, Threads::Apart, Lists::Asked);
            replay.statistics = Some(Statistics::default());
            replay
        })
    }

    /// Replays a recording with all that the page shows: threads apart, temporary blocks, and, of a recording that has single
    /// events, what all blocks were like.
    ///
    /// # Errors
    ///
    /// As [`replay_for`](Self::replay_for).
    pub fn replay_for_page(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
        question: &Question,
    ) -> Result<Self, ReplayError> {
        Self::replay_as(entries, |opening| {
            let mut replay = Replay::new(opening, question, Threads::Apart, Lists::All);
            replay.statistics = Some(Statistics::default());
            replay.asked.also_temporaries();
            replay.for_page = true;
            replay
        })
    }

    /// Replays what a recording defines and when its processes began and ended, for a sink that follows allocations and frees
    /// itself: of these nothing is known afterwards but how many events there were.
    ///
    /// # Errors
    ///
    /// As [`replay_for`](Self::replay_for).
    pub fn replay_definitions(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
        question: &Question,
    ) -> Result<(Self, u64), ReplayError> {
        let mut happened = 0;
        let defining = entries.map(|entry| {
            let mut entry = entry?;
            if let Entry::Events(events) = &mut entry {
                happened += events.len() as u64;
                events.retain(|event| event.call.is_of_process());
            }
            Ok(entry)
        });
        let profile = Self::replay_for_answer(defining, question, Threads::Together)?;
        Ok((profile, happened))
    }

    fn replay_as(
        mut entries: impl Iterator<Item = Result<Entry, ReadError>>,
        replay: impl FnOnce(Opening) -> Replay,
    ) -> Result<Self, ReplayError> {
        let opening = match entries.next() {
            Some(Ok(Entry::Opening(opening))) => opening,
            Some(Ok(_)) | None => return Err(ReplayError::NoOpening),
            Some(Err(error)) => return Err(ReplayError::Unreadable(error)),
        };
        let mut replay = replay(opening);
        for entry in entries {
            match entry {
                Ok(entry) => replay.take(entry),
                Err(error) => return replay.finish(Completion::Cut(error)),
            }
        }
        let completion = replay
            .closing
            .take()
            .map_or(Completion::Unfinished, Completion::Closed);
        replay.finish(completion)
    }
}

/// What is known of one process while the recording is replayed.
struct Tracked {
    process: Process,
    samples: Samples,
    makeups: Makeups,
    /// Memory held before attach, where it is not what the first sample says.
    inherited: Option<u64>,
    ended: Option<ProcessEnd>,
    oom_at: Option<Nanos>,
}

struct Replay {
    opening: Opening,
    kinds: Kinds,
    when: When,
    lists: Lists,
    feed: Feed,
    /// One thread, or some, were asked for.
    filters_threads: bool,
    /// The live set is a fold.
    folded: bool,
    mappings: bool,
    sampling: Option<u8>,
    tracked: Vec<Tracked>,
    by_id: HashMap<ProcessId, usize>,
    locations: Locations,
    alike: Alike,
    quality: Option<Quality>,
    losses: Vec<record::Loss>,
    closing: Option<Closing>,
    latest: Nanos,
    levels: Levels,
    asked: Asked,
    statistics: Option<Statistics>,
    /// Shows what there is, and does without the rest.
    for_page: bool,
    /// What had been freed of what was held before attach, at samples of the kernel's.
    freed_before: Thinned<(Nanos, u64)>,
    marks: Vec<Mark>,
    /// Spans that have not ended, by name: their places in `marks`, the last begun last.
    open_spans: HashMap<String, Vec<usize>>,
    threads: HashMap<(ProcessId, Tid), String>,
    loads: HashMap<(ProcessId, ModuleIndex), u64>,
}

impl Replay {
    fn new(opening: Opening, question: &Question, threads: Threads, lists: Lists) -> Self {
        let apart = threads == Threads::Apart || !question.threads.is_empty();
        let live = match lists == Lists::All || question.when == When::Growing {
            true => LiveSet::new().with_timeline(),
            false => LiveSet::new().with_eras(),
        };
        let live = live.with_peak_of(question.kinds.level());
        Self {
            kinds: question.kinds,
            when: question.when.clone(),
            lists,
            latest: Nanos(opening.started_ns),
            asked: Asked::new(&question.when, &opening, apart),
            statistics: None,
            for_page: false,
            freed_before: Thinned::default(),
            marks: Vec::new(),
            open_spans: HashMap::new(),
            threads: HashMap::new(),
            loads: HashMap::new(),
            opening,
            feed: Feed::new(if apart { live.by_thread() } else { live }),
            filters_threads: !question.threads.is_empty(),
            levels: Levels::default(),
            folded: false,
            mappings: false,
            sampling: None,
            tracked: Vec::new(),
            by_id: HashMap::new(),
            locations: Locations::default(),
            alike: Alike::new(question.view),
            quality: None,
            losses: Vec::new(),
            closing: None,
        }
    }

    fn take(&mut self, entry: Entry) {
        match entry {
            Entry::Opening(_) => {}
            Entry::Process(process) => self.open(process),
            Entry::Function(function) => {
                if let Some(statistics) = &mut self.statistics {
                    statistics.define(function);
                }
            }
            Entry::Runtime(runtime) => {
                self.locations.runtimes.insert(runtime.index, runtime.name);
            }
            Entry::Module(module) => {
                self.locations
                    .modules
                    .insert(ModuleIndex(module.index), module);
            }
            Entry::Frame(frame) => {
                self.locations.has_managed |= frame.kind.is_managed();
                self.locations.frames.insert(frame.index, frame);
            }
            Entry::Names(names) => {
                if let Some(source) = names.source {
                    self.locations.sources.insert(names.frame, source);
                }
                self.locations.names.insert(names.frame, names.functions);
            }
            Entry::Stack(stack) => self.alike.take(stack, &mut self.locations),
            Entry::Events(events) => events.iter().for_each(|event| self.apply(event)),
            Entry::Memory(sample) => {
                self.latest = self.latest.max(sample.at);
                let live = self.feed.live();
                self.levels.push(sample.at, live.live_bytes());
                let freed = live.freed_baseline_bytes();
                self.freed_before.push((sample.at, freed));
                let peak_at = self.feed.live().peak_at();
                if let Some(tracked) = self.tracked(sample.process) {
                    tracked.samples.push(sample, peak_at);
                }
            }
            Entry::Makeup(makeup) => {
                let live = self.feed.live();
                let (peak_at, live) = (live.peak_at(), live.live_bytes());
                let look = self.levels.look(makeup, live);
                if let Some(tracked) = self.tracked(look.makeup.process) {
                    tracked.makeups.push(look, peak_at);
                }
            }
            Entry::ThreadName(name) => {
                self.threads.insert((name.process, name.thread), name.name);
            }
            Entry::Loads(loads) => {
                self.loads
                    .insert((loads.process, loads.module), loads.count);
            }
            Entry::Mark(mark) => self.mark(&mark),
            Entry::Fold(part) => self.fold(part),
            remains @ Entry::Remains(_) => self.feed.take(&remains),
            Entry::End(end) => self.end(end),
            Entry::Quality(quality) => self.quality = Some(quality),
            Entry::Loss(loss) => self.losses.push(loss),
            Entry::Closing(closing) => {
                self.latest = self.latest.max(Nanos(closing.ended_ns));
                self.closing = Some(closing);
            }
        }
    }

    /// A span is known from its beginning on; an end without one is a moment.
    fn mark(&mut self, mark: &record::Mark) {
        self.latest = self.latest.max(mark.at);
        if mark.kind == MarkKind::End
            && let Some(open) = self.close_span(&mark.name)
        {
            let open = &mut self.marks[open];
            open.ended = Some(mark.at);
            self.asked.mark(open);
            return;
        }
        let mark = Mark {
            name: mark.name.clone(),
            kind: mark.kind,
            at: mark.at,
            ended: None,
        };
        self.asked.mark(&mark);
        if mark.kind == MarkKind::Begin {
            let open = self.open_spans.entry(mark.name.clone()).or_default();
            open.push(self.marks.len());
        }
        self.marks.push(mark);
    }

    /// The place of the span of this name that was begun last and has not ended; it counts as ended from here on.
    fn close_span(&mut self, name: &str) -> Option<usize> {
        let open = self.open_spans.get_mut(name)?;
        let last = open.pop();
        if open.is_empty() {
            self.open_spans.remove(name);
        }
        last
    }

    /// What was seen so far is what the fold says, whatever was replayed of it.
    fn fold(&mut self, part: FoldPart) {
        let alike = &self.alike;
        let join = |fold: &mut Fold| fold.join(|stack| alike.first_of(stack));
        if let Some(folded) = self.feed.fold(part, join) {
            self.folded = true;
            self.mappings |= folded.mappings;
            self.sampling = self.sampling.max(folded.sampling);
            self.latest = self.latest.max(self.feed.live().now());
        }
    }

    fn tracked(&mut self, id: ProcessId) -> Option<&mut Tracked> {
        self.by_id.get(&id).map(|&index| &mut self.tracked[index])
    }

    fn open(&mut self, process: Process) {
        if let Some(known) = self.tracked(process.id) {
            // Its probes were late, which was not known as it was announced.
            known.process.origin = process.origin;
            return;
        }
        let inherited = match process.origin {
            Origin::Attached => None,
            Origin::Launched => Some(0),
            Origin::Executed { .. } => Some(process.baseline_bytes),
            Origin::Forked { .. } => Some(
                self.left_of_baseline(process.parent)
                    .unwrap_or(process.baseline_bytes),
            ),
        };
        self.latest = self.latest.max(Nanos(process.from_ns));
        self.feed.open(&process);
        self.asked.open(&process);
        self.by_id.insert(process.id, self.tracked.len());
        self.tracked.push(Tracked {
            process,
            samples: Samples::default(),
            makeups: Makeups::default(),
            inherited,
            ended: None,
            oom_at: None,
        });
    }

    /// What a process still holds of what it held before attach: a child starts with a copy of that too.
    fn left_of_baseline(&self, parent: Option<ProcessId>) -> Option<u64> {
        let parent = parent?;
        let held = self
            .tracked
            .get(*self.by_id.get(&parent)?)?
            .held_at_attach();
        let freed = self
            .feed
            .live()
            .process_totals(parent)?
            .unmatched_freed_bytes;
        Some(held.saturating_sub(freed))
    }

    fn apply(&mut self, event: &Event) {
        let event = &Event {
            call: self.alike.as_first(event.call),
            ..*event
        };
        self.latest = self.latest.max(event.at);
        self.asked.before(event, self.feed.live());
        if let Some(statistics) = &mut self.statistics {
            statistics.apply(event);
        }
        self.feed.event(event);
        let (reason, at) = match event.call {
            Call::Exited { status } => (exit_reason(status), event.at),
            Call::Executed { .. } => (EndReason::Executed, event.at),
            Call::Mapping(_) => {
                self.mappings = true;
                return;
            }
            Call::Sampling {
                exponent: exponent @ 1..,
            } => {
                self.sampling = self.sampling.max(Some(exponent));
                return;
            }
            Call::OomVictim => {
                if let Some(tracked) = self.tracked(event.process) {
                    tracked.oom_at = Some(event.at);
                }
                return;
            }
            _ => return,
        };
        if let Some(tracked) = self.tracked(event.process) {
            tracked.ended.get_or_insert(ProcessEnd {
                at,
                process: event.process,
                reason,
            });
        }
    }

    fn end(&mut self, end: ProcessEnd) {
        self.latest = self.latest.max(end.at);
        self.asked.end(&end, self.feed.live());
        self.feed.end(&end);
        let Some(tracked) = self.tracked(end.process) else {
            return;
        };
        match &mut tracked.ended {
            None => tracked.ended = Some(end),
            // The event has the right moment; the entry may know better how.
            Some(seen) if !matches!(end.reason, EndReason::Vanished | EndReason::Detached) => {
                seen.reason = end.reason;
            }
            Some(_) => {}
        }
    }
}

/// How a wait status says that a process ended.
fn exit_reason(status: u32) -> EndReason {
    match status & 0x7f {
        0 => EndReason::Exited {
            code: (status >> 8) as u8,
        },
        signal => EndReason::Signal {
            signal: signal as u8,
        },
    }
}

#[cfg(test)]
mod tests;
