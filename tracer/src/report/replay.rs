//! From a recording's entries to a [`Profile`]: the same live set and peak that watch a process live, fed from a file.

use std::collections::HashMap;

use super::asked::Asked;
use super::error::{ReplayError, folded};
use super::growth;
use super::mark::Mark;
use super::memory::{Memory, Moments, Samples};
use super::model::{Completion, Locations, ProcessProfile, Profile};
use super::question::Question;
use super::statistics::Statistics;
use super::view::Alike;
use crate::event::{Call, Event, Nanos, ProcessId, Tid};
use crate::live::{Fold, Kind, Kinds, LiveSet, Moment, Scope, Snapshot};
use crate::model::Feed;
use crate::model::losses::{Account, losses};
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
        Self::replay_with(entries, question, threads, None)
    }

    /// Replays a recording and counts what all blocks were like.
    ///
    /// # Errors
    ///
    /// As [`replay_for`](Self::replay_for).
    pub fn replay_with_statistics(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
        question: &Question,
    ) -> Result<Self, ReplayError> {
        let statistics = Some(Statistics::default());
        Self::replay_with(entries, question, Threads::Apart, statistics)
    }

    fn replay_with(
        entries: impl Iterator<Item = Result<Entry, ReadError>>,
        question: &Question,
        threads: Threads,
        statistics: Option<Statistics>,
    ) -> Result<Self, ReplayError> {
        let mut entries = entries;
        let opening = match entries.next() {
            Some(Ok(Entry::Opening(opening))) => opening,
            Some(Ok(_)) | None => return Err(ReplayError::NoOpening),
            Some(Err(error)) => return Err(ReplayError::Unreadable(error)),
        };
        let mut replay = Replay::new(opening, question, threads);
        replay.statistics = statistics;
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
    /// Memory held before attach, where it is not what the first sample says.
    inherited: Option<u64>,
    ended: Option<ProcessEnd>,
    oom_at: Option<Nanos>,
}

struct Replay {
    opening: Opening,
    kinds: Kinds,
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
    asked: Asked,
    statistics: Option<Statistics>,
    marks: Vec<Mark>,
    /// Spans that have not ended, by name: their places in `marks`, the last begun last.
    open_spans: HashMap<String, Vec<usize>>,
    threads: HashMap<(ProcessId, Tid), String>,
}

impl Replay {
    fn new(opening: Opening, question: &Question, threads: Threads) -> Self {
        let apart = threads == Threads::Apart || !question.threads.is_empty();
        let live = LiveSet::new().with_timeline();
        let live = live.with_peak_of(question.kinds.level());
        Self {
            kinds: question.kinds,
            latest: Nanos(opening.started_ns),
            asked: Asked::new(&question.when, &opening, apart),
            statistics: None,
            marks: Vec::new(),
            open_spans: HashMap::new(),
            threads: HashMap::new(),
            opening,
            feed: Feed::new(if apart { live.by_thread() } else { live }),
            filters_threads: !question.threads.is_empty(),
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
                self.locations.frames.insert(frame.index, frame);
            }
            Entry::Names(names) => {
                if let Some(source) = names.source {
                    self.locations.sources.insert(names.frame, source);
                }
                self.locations.names.insert(names.frame, names.functions);
            }
            Entry::Stack(stack) => {
                let stack = self.alike.take(stack, &self.locations);
                self.locations.stacks.insert(stack.index, stack);
            }
            Entry::Events(events) => events.iter().for_each(|event| self.apply(event)),
            Entry::Memory(sample) => {
                self.latest = self.latest.max(sample.at);
                let peak_at = self.feed.live().peak_at();
                if let Some(tracked) = self.tracked(sample.process) {
                    tracked.samples.push(sample, peak_at);
                }
            }
            Entry::ThreadName(name) => {
                self.threads.insert((name.process, name.thread), name.name);
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

    fn finish(mut self, completion: Completion) -> Result<Profile, ReplayError> {
        let timeline = self.feed.live_mut().timeline().unwrap_or_default();
        let asked = match self.folded {
            true => self.asked.finish_folded(&timeline, &self.marks)?,
            false => {
                let cut = !matches!(completion, Completion::Closed(_));
                let end = (self.latest, cut);
                self.asked.finish(self.feed.live(), &self.marks, end)?
            }
        };
        if self.folded && self.statistics.is_some() {
            return Err(folded("what single blocks were like"));
        }
        if self.folded && self.filters_threads {
            return Err(folded("what single threads held"));
        }
        let peak = self.feed.live().snapshot(Scope::All, Moment::Peak);
        let end = self.feed.live().snapshot(Scope::All, Moment::End);
        let mut processes: Vec<ProcessProfile> = Vec::with_capacity(self.tracked.len());
        let mut nearest = Vec::with_capacity(self.tracked.len());
        let mut held = Vec::with_capacity(self.tracked.len());
        for tracked in &mut self.tracked {
            held.push(tracked.held_at_attach());
            nearest.push(tracked.samples.nearest(peak.at).cloned());
            processes.push(tracked.profile(self.feed.live()));
        }
        // A single process is the whole at each moment, whatever its clock says.
        let single = processes.len() == 1;
        let among = |at: Nanos| -> Vec<usize> {
            (0..processes.len())
                .filter(|&index| single || processes[index].is_traced_at(at))
                .collect()
        };
        let at_peak = among(peak.at);
        let at_end = among(end.at);
        let at_attach: Vec<usize> = (0..processes.len())
            .filter(|&index| {
                matches!(
                    processes[index].process.origin,
                    Origin::Attached | Origin::Launched
                )
            })
            .collect();

        let mut live_at_peak: HashMap<ProcessId, u64> = HashMap::new();
        let of_the_peak = peak.holders.iter();
        for holder in of_the_peak.filter(|holder| holder.kind.makes_the_peak()) {
            let live = live_at_peak.entry(holder.process).or_default();
            *live = live.saturating_add(holder.bytes);
        }
        let freed = freed_by_process(&peak, &at_peak, &held);
        for &index in &at_peak {
            let process = &mut processes[index];
            let live = live_at_peak.get(&process.process.id).copied().unwrap_or(0);
            let before = freed[&index].map(|freed| held[index].saturating_sub(freed));
            process.memory.peak =
                Memory::of_process(&process.process, nearest[index].as_ref(), live, before);
        }

        let whole = |indexes: &[usize], moment: fn(&Moments) -> &Memory, live, freed: u64| {
            let parts = indexes
                .iter()
                .map(|&index| moment(&processes[index].memory));
            let held = indexes
                .iter()
                .fold(0_u64, |sum, &index| sum.saturating_add(held[index]));
            let before = (!indexes.is_empty()).then(|| held.saturating_sub(freed));
            Memory::sum(&parts.collect::<Vec<_>>(), live, before)
        };
        let memory = Moments {
            attach: whole(&at_attach, |moments| &moments.attach, 0, 0),
            peak: whole(
                &at_peak,
                |moments| &moments.peak,
                traced(&peak),
                peak.freed_baseline_bytes,
            ),
            end: whole(
                &at_end,
                |moments| &moments.end,
                traced(&end),
                end.freed_baseline_bytes,
            ),
        };
        let rates = |lives: &[_]| growth::rates(&timeline, lives, &processes, self.latest);
        let growth = rates(&timeline.lives);
        let growth_of_stacks = match timeline.lives.iter().any(|lives| lives.thread.is_some()) {
            true => rates(&growth::together(&timeline.lives)),
            false => growth.clone(),
        };
        let totals = self.feed.live().totals();
        let ring = self.opening.options.get("ring_bytes");
        let account = Account {
            ring_bytes: ring.and_then(|bytes| bytes.parse().ok()),
            quality: self.quality.as_ref(),
            is_closed: matches!(completion, Completion::Closed(_)),
            told: &self.losses,
            started_ns: self.opening.started_ns,
            average_bytes: totals.allocated_bytes.checked_div(totals.allocations),
        };
        let losses = losses(&account, processes.iter().map(|process| &process.process));
        Ok(Profile {
            losses,
            allocated: self.feed.live().allocated(),
            timeline,
            growth,
            growth_of_stacks,
            marks: self.marks,
            statistics: self.statistics,
            asked: asked.snapshot,
            folded: self.folded,
            spans: asked.spans,
            temporaries: asked.temporaries,
            threads: self.threads,
            opening: self.opening,
            mappings: self.mappings,
            sampling: self.sampling,
            totals: self.feed.live().totals(),
            peak_of: self.feed.live().peak_of(),
            kinds: self.kinds,
            processes,
            peak,
            end,
            memory,
            quality: self.quality.unwrap_or_default(),
            completion,
            ended: self.latest,
            locations: self.locations,
        })
    }
}

impl Tracked {
    /// What the process held when it came under trace and that was not seen allocated: what the kernel said then, or,
    /// of a recording without samples, the baseline that its writer wrote down.
    fn held_at_attach(&self) -> u64 {
        self.inherited.unwrap_or_else(|| {
            let first = self.samples.first.as_ref();
            let held =
                first.and_then(|first| Some(first.rss?.saturating_add(first.swap.unwrap_or(0))));
            held.unwrap_or(self.process.baseline_bytes)
        })
    }

    fn profile(&self, live: &LiveSet) -> ProcessProfile {
        let scope = Scope::Process(self.process.id);
        let peak = live.snapshot(scope, Moment::Peak);
        let end = live.snapshot(scope, Moment::End);
        let held = self.held_at_attach();
        let left = held.saturating_sub(end.freed_baseline_bytes);
        let killed = matches!(
            self.ended,
            Some(ProcessEnd {
                reason: EndReason::Signal { signal: 9 } | EndReason::Vanished,
                ..
            })
        );
        let mut ended = self.ended.clone();
        if let Some(ended) = ended.as_mut().filter(|_| killed && self.oom_at.is_some()) {
            ended.reason = EndReason::OomKilled;
        }
        ProcessProfile {
            process: self.process.clone(),
            ended,
            oom_at: self.oom_at,
            totals: live.process_totals(self.process.id).unwrap_or_default(),
            memory: Moments {
                attach: Memory::of_process(
                    &self.process,
                    self.samples.first.as_ref(),
                    0,
                    Some(held),
                ),
                peak: Memory::default(),
                end: Memory::of_process(
                    &self.process,
                    self.samples.last.as_ref(),
                    traced(&end),
                    Some(left),
                ),
            },
            peak,
            end,
            samples: self.samples.curve(),
        }
    }
}

/// Of what was held, that which was seen asked for, whichever kinds the peak is one of.
fn traced(snapshot: &Snapshot) -> u64 {
    let of = |kind| snapshot.of(kind).bytes;
    of(Kind::Heap).saturating_add(of(Kind::Mapping))
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

/// Of the baseline freed by the peak, each process's part: known where nothing was freed, or where only one of them
/// had any baseline to free.
fn freed_by_process(
    peak: &Snapshot,
    at_peak: &[usize],
    held: &[u64],
) -> HashMap<usize, Option<u64>> {
    let freed = peak.freed_baseline_bytes;
    let with_baseline = at_peak.iter().filter(|&&index| held[index] > 0).count();
    at_peak
        .iter()
        .map(|&index| {
            let part = match held[index] {
                0 => Some(0),
                _ if freed == 0 => Some(0),
                _ => (with_baseline == 1).then_some(freed),
            };
            (index, part)
        })
        .collect()
}

#[cfg(test)]
mod tests;
