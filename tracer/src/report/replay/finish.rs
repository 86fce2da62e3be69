//! The end of a replay: what was tracked becomes a [`Profile`].

use std::collections::HashMap;

use super::super::arenas;
use super::super::error::{ReplayError, folded};
use super::super::growth;
use super::super::joined::Joined;
use super::super::memory::{Memory, Moments};
use super::super::model::{Completion, ProcessProfile, Profile};
use super::super::question::When;
use super::{Lists, Replay, Tracked};
use crate::event::{Nanos, ProcessId};
use crate::live::{Kind, LiveSet, Moment, Scope, Snapshot};
use crate::model::losses::{Account, losses};
use crate::record::{EndReason, Origin, ProcessEnd};

impl Replay {
    /// The profile of all that was replayed.
    pub(super) fn finish(mut self, completion: Completion) -> Result<Profile, ReplayError> {
        if let Some(statistics) = &mut self.statistics {
            statistics.end();
        }
        self.locations.stacks.close();
        let joined = Joined::of(&self.locations);
        let mut timeline = self.feed.live_mut().timeline().unwrap_or_default();
        timeline.lives = joined.lives(timeline.lives);
        let started = Nanos(self.opening.started_ns);
        self.asked.check_within(started, self.latest)?;
        let mut asked = match self.folded {
            true => self.asked.finish_folded(&timeline, &self.marks)?,
            false => {
                let cut = !matches!(completion, Completion::Closed(_));
                let end = (self.latest, cut);
                self.asked.finish(self.feed.live(), &self.marks, end)?
            }
        };
        if self.folded && self.for_page {
            self.statistics = None;
        }
        if self.folded && self.statistics.is_some() {
            return Err(folded("what single blocks were like"));
        }
        if self.folded && self.filters_threads {
            return Err(folded("what single threads held"));
        }
        if let Some(snapshot) = &mut asked.snapshot {
            joined.snapshot(snapshot);
        }
        joined.holders(&mut asked.temporaries);
        if let Some(spans) = &mut asked.spans {
            spans.join(&joined);
        }
        let mut allocated = self.feed.live().allocated();
        if !self.lists_of(&When::Allocated) {
            // Python's arenas are told by what was mapped in all.
            allocated.retain(|holder| holder.kind == Kind::Mapping);
            allocated.shrink_to_fit();
        }
        joined.holders(&mut allocated);
        let mut peak = self.moment(Scope::All, Moment::Peak);
        joined.snapshot(&mut peak);
        let mut end = self.moment(Scope::All, Moment::End);
        joined.snapshot(&mut end);
        let mut processes: Vec<ProcessProfile> = Vec::with_capacity(self.tracked.len());
        let mut nearest = Vec::with_capacity(self.tracked.len());
        let mut looked = Vec::with_capacity(self.tracked.len());
        let mut held = Vec::with_capacity(self.tracked.len());
        let (level_at_peak, level_at_end) = (peak.bytes, end.bytes);
        let live = self.feed.live();
        for tracked in &mut self.tracked {
            held.push(tracked.held_at_attach());
            nearest.push(tracked.samples.nearest(peak.at).cloned());
            // Of a folded recording it is not known how much was live as a look was taken.
            let look = tracked.makeups.nearest(peak.at).filter(|_| !self.folded);
            let look = look.zip(tracked.samples.nearest(peak.at));
            let look = look.filter(|(look, sample)| look.fits(sample, level_at_peak));
            looked.push(look.map(|(look, _)| look.clone()));
            let level = (!self.folded).then_some(level_at_end);
            let snapshot = |moment| {
                let scope = Scope::Process(tracked.process.id);
                let mut snapshot = match self.lists {
                    Lists::All => live.snapshot(scope, moment),
                    Lists::Asked => live.sums(scope, moment),
                };
                joined.snapshot(&mut snapshot);
                snapshot
            };
            let moments = (snapshot(Moment::Peak), snapshot(Moment::End));
            let process = tracked.profile(live, moments, level);
            processes.push(process);
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

        let live_at_peak: HashMap<ProcessId, u64> = self.feed.live().held_at_peak().collect();
        let freed = freed_by_process(&peak, &at_peak, &held);
        for &index in &at_peak {
            let process = &mut processes[index];
            let id = process.process.id;
            let live = live_at_peak.get(&id).copied().unwrap_or(0);
            // What it holds together with others is in its RSS, for whomever it counts.
            let live = live.saturating_add(self.feed.live().elsewhere_at_peak(id));
            let before = freed[&index].map(|freed| held[index].saturating_sub(freed));
            process.memory.peak = Memory::of_process(
                &process.process,
                nearest[index].as_ref(),
                looked[index].as_ref().map(|look| &look.makeup),
                live,
                before,
            );
        }

        let whole = |indexes: &[usize], moment: fn(&Moments) -> &Memory, of: &Snapshot| {
            let (live, freed) = (traced(of), of.freed_baseline_bytes);
            let parts = indexes
                .iter()
                .map(|&index| moment(&processes[index].memory));
            let held = indexes
                .iter()
                .fold(0_u64, |sum, &index| sum.saturating_add(held[index]));
            let before = (!indexes.is_empty()).then(|| held.saturating_sub(freed));
            Memory::sum(&parts.collect::<Vec<_>>(), live, of.inherited_bytes, before)
        };
        let inherits = |index: &usize| {
            let seen_from_its_start = at_attach.contains(index);
            !seen_from_its_start && held[*index] > 0
        };
        let is_inherited = (0..held.len()).any(|index| inherits(&index));
        let memory = Moments {
            is_inherited,
            attach: whole(&at_attach, |moments| &moments.attach, &Snapshot::default()),
            peak: whole(&at_peak, |moments| &moments.peak, &peak),
            end: whole(&at_end, |moments| &moments.end, &end),
        };
        let mut held_before: Vec<(Nanos, u64)> = Vec::new();
        for &(at, freed) in self.freed_before.kept() {
            let then = processes.iter().zip(&held);
            let then = then.filter(|(process, _)| single || process.is_traced_at(at));
            let held = then.fold(0_u64, |sum, (_, held)| sum.saturating_add(*held));
            held_before.push((at, held.saturating_sub(freed)));
        }
        let known = [(peak.at, &memory.peak), (end.at, &memory.end)];
        held_before.extend(
            known
                .into_iter()
                .filter_map(|(at, known)| Some((at, known.before_attach?))),
        );
        held_before.sort_by_key(|(at, _)| *at);
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
        let mut profile = Profile {
            losses,
            allocated,
            timeline,
            growth,
            growth_of_stacks,
            marks: self.marks,
            statistics: self.statistics,
            held_before,
            asked: asked.snapshot,
            folded: self.folded,
            spans: asked.spans,
            temporaries: asked.temporaries,
            threads: self.threads,
            loads: self.loads,
            same: joined.counts(),
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
            alike: joined.alike(),
            arenas: HashMap::new(),
        };
        profile.arenas = arenas::stacks(&profile, &self.alike);
        Ok(profile)
    }
}

impl Replay {
    /// Whether the holders of this are listed.
    fn lists_of(&self, when: &When) -> bool {
        self.lists == Lists::All || self.when == *when
    }

    /// A moment, with those who held it where they are listed.
    fn moment(&self, scope: Scope, moment: Moment) -> Snapshot {
        let listed = match moment {
            Moment::Peak => self.lists_of(&When::Peak),
            // Who grows is told with the number of blocks that he holds.
            Moment::End => self.lists_of(&When::End) || self.lists_of(&When::Growing),
        };
        match listed {
            true => self.feed.live().snapshot(scope, moment),
            false => self.feed.live().sums(scope, moment),
        }
    }
}

impl Tracked {
    /// What the process held when it came under trace and that was not seen allocated: what the kernel said then, or,
    /// of a recording without samples, the baseline that its writer wrote down.
    pub(super) fn held_at_attach(&self) -> u64 {
        self.inherited.unwrap_or_else(|| {
            let first = self.samples.first.as_ref();
            let held =
                first.and_then(|first| Some(first.rss?.saturating_add(first.swap.unwrap_or(0))));
            held.unwrap_or(self.process.baseline_bytes)
        })
    }

    /// With its own peak and end. `level`: how much of all that was traced is live at the end, if that is to be compared.
    fn profile(
        &self,
        live: &LiveSet,
        (peak, end): (Snapshot, Snapshot),
        level: Option<u64>,
    ) -> ProcessProfile {
        let held = self.held_at_attach();
        let left = held.saturating_sub(end.freed_baseline_bytes);
        let last = self.makeups.last.as_ref().zip(self.samples.last.as_ref());
        let last = last.filter(|(look, sample)| {
            let own_level = level.unwrap_or_else(|| look.level());
            look.fits(sample, own_level)
        });
        let first = self.makeups.first.as_ref().zip(self.samples.first.as_ref());
        let first = first.filter(|(look, sample)| look.fits_first(sample));
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
            before: self
                .makeups
                .first
                .as_ref()
                .map(|look| &look.makeup)
                .filter(|first| first.before.is_some())
                .cloned(),
            memory: Moments {
                is_inherited: self.inherited.is_some_and(|held| held > 0),
                attach: Memory::of_process(
                    &self.process,
                    self.samples.first.as_ref(),
                    first.map(|(look, _)| &look.makeup),
                    0,
                    Some(held),
                ),
                peak: Memory::default(),
                end: Memory::of_process(
                    &self.process,
                    self.samples.last.as_ref(),
                    last.map(|(look, _)| &look.makeup),
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
