//! What else than traced blocks is resident: freed and kept by malloc, thread stacks, files, shared memory.
//!
//! A recording has what malloc and the page tables said at some moments ([`record::Makeup`]). It stands for a sample of the kernel's
//! that is near in time, as RSS and what was traced were about the same, and for no other.

use std::collections::VecDeque;

use super::memory::{Memory, Moments};
use crate::event::Nanos;
use crate::record::{self, Makeup, MemorySample};

/// How far from a sample it may have been looked at, nanoseconds.
const NEAR: u64 = 2_000_000_000;
/// By how much RSS may differ, bytes, and as a part of it.
const ALIKE: u64 = 1 << 20;
const ALIKE_PART: u64 = 20;

/// Looks kept to choose from: they are some hundred milliseconds apart at least, so this is more than a drain of the ring.
const RECENT: usize = 16;

/// By how much what was traced may have changed meanwhile, bytes, and as a part of RSS.
const LEVEL: u64 = 1 << 20;

/// A look, and how much of all that was traced was live as it began and as it was over, bytes. Freed memory stays resident, so
/// that RSS alone does not tell a moment from another.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) makeup: Makeup,
    levels: [u64; 2],
}

impl Look {
    /// How much of all that was traced was live as it was over.
    pub(super) fn level(&self) -> u64 {
        self.levels[1]
    }

    /// Whether it stands for this sample, as so much of all was live.
    pub(super) fn fits(&self, sample: &MemorySample, level: u64) -> bool {
        let may_differ = LEVEL.max(sample.rss.unwrap_or(0) / ALIKE_PART);
        let is_level = |then: &u64| then.abs_diff(level) <= may_differ;
        self.is_alike(sample) && self.levels.iter().all(is_level)
    }

    /// Whether it stands for the sample that was taken as the process came under trace. Nothing of it had been traced by then: what
    /// came before the look was over is not asked.
    pub(super) fn fits_first(&self, sample: &MemorySample) -> bool {
        self.makeup.at_ns >= sample.at.0 && self.is_alike(sample)
    }

    fn is_alike(&self, sample: &MemorySample) -> bool {
        let (Some(then), Some(rss)) = (self.makeup.rss, sample.rss) else {
            return false;
        };
        self.makeup.at_ns.abs_diff(sample.at.0) <= NEAR
            && then.abs_diff(rss) <= ALIKE.max(rss / ALIKE_PART)
    }
}

/// How much was live at the latest samples.
#[derive(Debug, Default)]
pub(super) struct Levels(VecDeque<(Nanos, u64)>);

/// Levels that are kept: of three seconds in a process that is sampled every 50 ms.
const MOST_LEVELS: usize = 64;

impl Levels {
    pub(super) fn push(&mut self, at: Nanos, live: u64) {
        if self.0.len() == MOST_LEVELS {
            self.0.pop_front();
        }
        self.0.push_back((at, live));
    }

    /// The look that has just come to be known, as so much is live.
    pub(super) fn look(&self, makeup: Makeup, live: u64) -> Look {
        let before = self.0.iter().rfind(|(at, _)| at.0 <= makeup.at_ns);
        let before = before.or(self.0.front());
        let levels = [before.map_or(live, |(_, level)| *level), live];
        Look { makeup, levels }
    }
}

/// Looks at one process, those that a report needs.
#[derive(Debug, Default)]
pub(super) struct Makeups {
    /// As it came under trace.
    pub(super) first: Option<Look>,
    pub(super) last: Option<Look>,
    nearest_to_peak: Option<Look>,
    recent: VecDeque<Look>,
}

impl Makeups {
    pub(super) fn push(&mut self, look: Look, peak_at: Nanos) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.first.get_or_insert_with(|| look.clone());
        self.recent.push_back(look.clone());
        self.last = Some(look);
        self.choose(peak_at);
    }

    /// The one nearest to the peak, found as [`Samples`](super::memory::Samples) finds the sample.
    pub(super) fn nearest(&mut self, peak_at: Nanos) -> Option<&Look> {
        self.choose(peak_at);
        self.nearest_to_peak.as_ref()
    }

    fn choose(&mut self, peak_at: Nanos) {
        let candidates = self.nearest_to_peak.iter().chain(&self.recent);
        self.nearest_to_peak = candidates
            .min_by_key(|look| look.makeup.at_ns.abs_diff(peak_at.0))
            .cloned();
    }
}

/// What malloc made of the memory of a process, or of several, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Arenas that had memory.
    pub arenas: u64,
    /// ... of these, those that were not read to their end.
    pub unread_arenas: u64,
    /// How much memory of arenas was not read.
    pub unread: u64,
    /// Free and resident.
    pub bytes: u64,
    /// ... of that, what `malloc_trim` would give back.
    pub trimmable: u64,
    /// Free, resident or not.
    pub free: u64,
}

impl Kept {
    pub(super) fn of(malloc: &record::Malloc) -> Self {
        Self {
            arenas: malloc.arenas.into(),
            unread_arenas: malloc.unread_arenas.into(),
            unread: malloc.unread,
            bytes: malloc.kept,
            trimmable: malloc.trimmable,
            free: malloc.free,
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            arenas: self.arenas.saturating_add(other.arenas),
            unread_arenas: self.unread_arenas.saturating_add(other.unread_arenas),
            unread: self.unread.saturating_add(other.unread),
            bytes: self.bytes.saturating_add(other.bytes),
            trimmable: self.trimmable.saturating_add(other.trimmable),
            free: self.free.saturating_add(other.free),
        }
    }
}

/// What the unexplained is made of, bytes: of a process that was attached to, what has changed since then. `None`: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explained {
    /// Freed and kept by malloc.
    pub kept: Option<i64>,
    /// Stacks of threads.
    pub thread_stacks: Option<i64>,
    /// Pages of mapped files.
    pub file: Option<i64>,
    /// Resident pages of shared memory, bytes.
    pub shmem: Option<i64>,
    /// What is left.
    pub rest: Option<i64>,
}

impl Moments {
    /// What the unexplained of a moment is made of.
    pub fn explained(&self, moment: &Memory) -> Explained {
        // What was there at attach is in what was held before.
        let base = match self.attach.before_attach {
            Some(0) | None => None,
            Some(_) => Some(&self.attach),
        };
        let since = |part: fn(&Memory) -> Option<u64>| {
            let before = match base {
                None => 0,
                Some(base) => part(base)?,
            };
            let part = i64::try_from(part(moment)?).ok()?;
            part.checked_sub(i64::try_from(before).ok()?)
        };
        if self.is_inherited {
            return Explained::default();
        }
        let kept = since(|memory| memory.malloc.map(|malloc| malloc.bytes));
        let thread_stacks = since(|memory| memory.thread_stacks);
        let file = since(|memory| memory.file);
        let shmem = since(|memory| memory.shmem);
        let mut known = [kept, thread_stacks, file, shmem].into_iter().flatten();
        let rest = moment
            .unexplained
            .and_then(|whole| known.try_fold(whole, |rest: i64, part| rest.checked_sub(part)));
        Explained {
            kept,
            thread_stacks,
            file,
            shmem,
            rest,
        }
    }
}
