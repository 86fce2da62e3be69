//! What the kernel says of the memory of the traced processes, and how it adds up with what was traced.
//!
//! For each moment: **traced + inherited + held before attach + unexplained = RSS + swap**. *Traced* are the live blocks.
//! *Inherited* is what forked processes hold together with others: it counts once among what is traced, and is in the RSS of each. *Held
//! before attach* is what a process that was running already had resident and swapped when it came under trace, less
//! what it has freed of that since. *Unexplained* is the rest: positive where there is memory that no traced call asked
//! for (allocator overhead, thread stacks, code and mapped files), negative where blocks were allocated but not touched.

use std::collections::VecDeque;

use super::makeup::Kept;
use super::thinned::Thinned;
use crate::event::Nanos;
use crate::record::{Makeup, MemorySample, Process};

/// Memory at three moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// When tracing began: the first sample.
    pub attach: Memory,
    /// At the peak: the sample nearest to it.
    pub peak: Memory,
    /// When tracing ended: the last sample.
    pub end: Memory,
    /// Some process holds what its parent held before attach.
    pub is_inherited: bool,
}

/// Memory at one moment, bytes. `None`: not known, which is not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// When the kernel was asked; of several processes, when the first of them was.
    pub at: Option<Nanos>,
    /// Resident memory, bytes.
    pub rss: Option<u64>,
    /// ... of it anonymous.
    pub anon: Option<u64>,
    /// ... of it mapped files.
    pub file: Option<u64>,
    /// ... of it shared memory.
    pub shmem: Option<u64>,
    /// Memory that was swapped out, bytes.
    pub swap: Option<u64>,
    /// The memory cgroup, if there is one for all of the processes.
    pub cgroup: Option<String>,
    /// Memory charged to that cgroup.
    pub cgroup_current: Option<u64>,
    /// Its limit; `None` also where there is none.
    pub cgroup_limit: Option<u64>,
    /// What malloc made of it; of several processes, of those of which it is known.
    pub malloc: Option<Kept>,
    /// What of the stacks of threads is resident; likewise.
    pub thread_stacks: Option<u64>,
    /// Page tables, which are not in RSS; likewise.
    pub page_tables: Option<u64>,
    /// Traced bytes live; of several processes, what they hold together once.
    pub live: u64,
    /// Of several processes, what each holds that counts for another one.
    pub inherited: u64,
    /// Held since before attach.
    pub before_attach: Option<u64>,
    /// What is left of RSS and swap.
    pub unexplained: Option<i64>,
}

impl Memory {
    /// One process: a sample of the kernel's, and the two lines of ours.
    pub(super) fn of_process(
        process: &Process,
        sample: Option<&MemorySample>,
        looked: Option<&Makeup>,
        live: u64,
        before_attach: Option<u64>,
    ) -> Self {
        let kernel = sample.map_or_else(Self::default, |sample| {
            let MemorySample {
                at,
                process: _,
                rss,
                anon,
                file,
                shmem,
                swap,
                cgroup_current,
                cgroup_limit,
            } = *sample;
            Self {
                at: Some(at),
                rss,
                anon,
                file,
                shmem,
                swap,
                cgroup_current,
                cgroup_limit,
                ..Self::default()
            }
        });
        let malloc = looked.and_then(|makeup| makeup.malloc.as_ref());
        Self {
            malloc: malloc.map(Kept::of),
            thread_stacks: looked.and_then(|makeup| makeup.thread_stacks),
            page_tables: looked.and_then(|makeup| makeup.page_tables),
            cgroup: process.cgroup.as_ref().map(|cgroup| cgroup.path.clone()),
            live,
            before_attach,
            ..kernel
        }
        .balanced()
    }

    /// All processes together. What is not known of one is not known of the sum.
    pub(super) fn sum(
        parts: &[&Self],
        live: u64,
        inherited: u64,
        before_attach: Option<u64>,
    ) -> Self {
        let sum = |field: fn(&Self) -> Option<u64>| -> Option<u64> {
            let fields = parts.iter().map(|part| field(part));
            fields
                .reduce(|sum, part| Some(sum?.saturating_add(part?)))
                .flatten()
        };
        let known = |field: fn(&Self) -> Option<u64>| -> Option<u64> {
            let fields = parts.iter().filter_map(|part| field(part));
            fields.reduce(u64::saturating_add)
        };
        let cgroup = parts.first().and_then(|first| first.cgroup.clone());
        let one_cgroup = cgroup.is_some() && parts.iter().all(|part| part.cgroup == cgroup);
        // Processes of one cgroup were asked one after the other: the latest answer stands for all.
        let latest = parts
            .iter()
            .filter(|_| one_cgroup)
            .max_by_key(|part| part.at);
        Self {
            at: parts.iter().filter_map(|part| part.at).min(),
            rss: sum(|part| part.rss),
            anon: sum(|part| part.anon),
            file: sum(|part| part.file),
            shmem: sum(|part| part.shmem),
            swap: sum(|part| part.swap),
            cgroup: cgroup.filter(|_| one_cgroup),
            cgroup_current: latest.and_then(|part| part.cgroup_current),
            cgroup_limit: latest.and_then(|part| part.cgroup_limit),
            malloc: parts
                .iter()
                .filter_map(|part| part.malloc)
                .reduce(Kept::plus),
            thread_stacks: known(|part| part.thread_stacks),
            page_tables: known(|part| part.page_tables),
            live,
            inherited,
            before_attach,
            unexplained: None,
        }
        .balanced()
    }

    /// RSS and swap together: what the books must add up to. Swap that is not known counts as none, because every
    /// kernel that swaps says how much.
    pub fn held(&self) -> Option<u64> {
        Some(self.rss?.saturating_add(self.swap.unwrap_or(0)))
    }

    fn balanced(mut self) -> Self {
        self.unexplained = self.held().zip(self.before_attach).map(|(held, before)| {
            let told = [self.live, self.inherited, before].map(i128::from);
            let rest = i128::from(held) - told.into_iter().sum::<i128>();
            i64::try_from(rest).unwrap_or(if rest < 0 { i64::MIN } else { i64::MAX })
        });
        self
    }
}

/// The samples of one process that a report needs, picked as they come, in constant memory.
///
/// The sample nearest to the peak is not known before the recording ends, and a long recording has millions. But the
/// peak only ever moves to a moment that has just been replayed, at most one drain of the ring before the newest
/// sample. So the nearest sample is always the one that was nearest before, or one of the last few.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) first: Option<MemorySample>,
    pub(super) last: Option<MemorySample>,
    nearest_to_peak: Option<MemorySample>,
    curve: Thinned<MemorySample>,
    recent: VecDeque<MemorySample>,
}

/// Samples kept to choose from: over half a second at the shortest interval (10 ms), several times a drain of the ring.
const RECENT: usize = 64;

impl Samples {
    pub(super) fn push(&mut self, sample: MemorySample, peak_at: Nanos) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.first.get_or_insert_with(|| sample.clone());
        self.recent.push_back(sample.clone());
        self.last = Some(sample.clone());
        self.choose(peak_at);
        self.curve.push(sample);
    }

    /// Samples of the whole time, the last one among them.
    pub(super) fn curve(&self) -> Vec<MemorySample> {
        let mut curve = self.curve.kept().to_vec();
        if let Some(last) = &self.last
            && curve.last() != Some(last)
        {
            curve.push(last.clone());
        }
        curve
    }

    /// The sample nearest to the peak; the earlier one of two that are equally near.
    pub(super) fn nearest(&mut self, peak_at: Nanos) -> Option<&MemorySample> {
        self.choose(peak_at);
        self.nearest_to_peak.as_ref()
    }

    fn choose(&mut self, peak_at: Nanos) {
        let candidates = self.nearest_to_peak.iter().chain(&self.recent);
        self.nearest_to_peak = candidates
            .min_by_key(|sample| sample.at.0.abs_diff(peak_at.0))
            .cloned();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::ProcessId;

    fn sample(at: u64) -> MemorySample {
        MemorySample {
            at: Nanos(at),
            process: ProcessId(0),
            rss: Some(at),
            anon: None,
            file: None,
            shmem: None,
            swap: None,
            cgroup_current: None,
            cgroup_limit: None,
        }
    }

    #[test]
    fn what_is_not_known_of_one_process_is_not_known_of_the_sum() {
        let known = Memory {
            rss: Some(10),
            anon: Some(4),
            cgroup: Some("/a".into()),
            cgroup_current: Some(9),
            ..Memory::default()
        };
        let other = Memory {
            rss: Some(5),
            anon: None,
            cgroup: Some("/b".into()),
            cgroup_current: Some(7),
            ..Memory::default()
        };
        let sum = Memory::sum(&[&known, &other], 3, 2, Some(20));
        assert_eq!(
            (sum.rss, sum.anon, sum.unexplained),
            (Some(15), None, Some(-10))
        );
        assert_eq!((sum.cgroup, sum.cgroup_current), (None, None));
        let none = Memory::sum(&[], 0, 0, None);
        assert_eq!((none.rss, none.unexplained), (None, None));
    }

    proptest! {
        /// The naive twin keeps every sample and searches once the last peak is known.
        #[test]
        fn the_nearest_sample_is_found_without_keeping_all(
            steps in prop::collection::vec((1_u64..50, prop::option::of(0_u64..400)), 1..300),
        ) {
            let (mut samples, mut all, mut now, mut peak_at) = (Samples::default(), Vec::new(), 0, 0);
            for (step, peak) in steps {
                now += step;
                // The ring is drained late: the newest peak may be some samples old.
                if let Some(age) = peak {
                    peak_at = peak_at.max(now.saturating_sub(age.min(RECENT as u64 - 2)));
                }
                samples.push(sample(now), Nanos(peak_at));
                all.push(now);
            }
            let nearest = all.iter().map(|at| at.abs_diff(peak_at)).min();
            let found = samples.nearest(Nanos(peak_at)).map(|sample| sample.at.0.abs_diff(peak_at));
            prop_assert_eq!(found, nearest);
            prop_assert_eq!(samples.first.map(|sample| sample.at.0), all.first().copied());
            prop_assert_eq!(samples.last.map(|sample| sample.at.0), all.last().copied());
        }
    }
}
