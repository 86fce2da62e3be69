//! What the kernel says of the traced processes' memory.

use std::time::Duration;

use highwater_common::counter::Counter;
use tokio::time::Instant;

use super::{
    OVER_LIMIT, Session, clock,
    follow::Followed,
    governor::{Seen, Verdict},
};
use crate::{
    record::{Entry, LossKind, MemorySample},
    target::cgroup::MemoryCgroup,
};

/// A folded recording has samples of one process at most this often, however its peak rises.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// ... and at least this often, however long it gets.
const MOST_INTERVAL: Duration = Duration::from_secs(60);

/// Samples of new highs are at least this far apart, and take at most this part of the time.
const HIGHS_APART: Duration = Duration::from_millis(5);
const SHARE_OF_TIME: u32 = 20;

/// The highest level at which memory was sampled.
#[derive(Debug)]
pub(super) struct SampledHigh {
    /// Bytes that were seen asked for and live.
    bytes: u64,
    /// When a higher one may be sampled.
    due: Instant,
}

impl SampledHigh {
    /// Nothing was sampled yet.
    pub(super) fn none() -> Self {
        Self {
            bytes: 0,
            due: Instant::now(),
        }
    }
}

impl Followed {
    /// What the kernel says of its memory now; `None` if it has ended.
    pub(super) fn read_memory(&mut self) -> Option<MemorySample> {
        let memory = self.sampler.as_mut()?.sample().ok()?;
        let cgroup = self.cgroup.as_ref();
        self.rss = memory.rss;
        Some(MemorySample {
            at: clock::monotonic(),
            process: self.id,
            rss: memory.rss,
            anon: memory.anon,
            file: memory.file,
            shmem: memory.shmem,
            swap: memory.swap,
            cgroup_current: cgroup.and_then(MemoryCgroup::charge),
            cgroup_limit: cgroup.and_then(MemoryCgroup::limit),
        })
    }
}

impl Session {
    /// Samples every followed process if more is held than ever before, by a hundredth: so that what the kernel says of the
    /// peak is from near it, however short a burst it was. A folded recording gets the last of these, with its next sample.
    pub(super) fn sample_new_high(&mut self) {
        let bytes = self.feed.live().peak_bytes();
        let highest = self.sampled_high.bytes;
        let began = Instant::now();
        if bytes <= highest.saturating_add(highest / 100) || began < self.sampled_high.due {
            return;
        }
        let all: Vec<u32> = self.processes.keys().copied().collect();
        for tgid in all {
            match self.recording.is_folded() {
                false => self.sample(tgid),
                true => {
                    let followed = self.processes.get_mut(&tgid);
                    if let Some(followed) = followed
                        && let Some(sample) = followed.read_memory()
                    {
                        followed.high = Some(sample);
                    }
                }
            }
        }
        let pause = HIGHS_APART.max(began.elapsed() * SHARE_OF_TIME);
        let due = Instant::now() + pause;
        self.sampled_high = SampledHigh { bytes, due };
    }

    /// Samples every followed process.
    pub(super) fn sample_all(&mut self) {
        let all: Vec<u32> = self.processes.keys().copied().collect();
        for tgid in all {
            if !self.recording.is_folded() || self.is_sample_due(tgid) {
                self.sample(tgid);
            }
            self.check_end(tgid);
        }
    }

    /// A folded recording may go on for days: it has a sample a second while the peak rises, and fewer and fewer otherwise.
    fn is_sample_due(&mut self, tgid: u32) -> bool {
        let (elapsed, peak) = (self.started.elapsed(), self.feed.live().peak_at());
        let Some(followed) = self.processes.get_mut(&tgid) else {
            return false;
        };
        let due = followed.sampled.is_none_or(|(at, of_peak)| {
            let since = at.elapsed();
            let interval = (elapsed / 3600).clamp(LEAST_INTERVAL, MOST_INTERVAL);
            since >= interval || since >= LEAST_INTERVAL && of_peak != peak
        });
        if due {
            followed.sampled = Some((Instant::now(), peak));
        }
        due
    }

    /// Keeps tracing within what it may cost; gives a reason to end it.
    pub(super) fn govern(&mut self) -> Option<&'static str> {
        let mut governor = self.governor.take()?;
        let seen = self.seen();
        let verdict = governor.look(seen);
        let limit = governor.limit() * 100.0;
        self.governor = Some(governor);
        let at = crate::units::time::offset(self.started.elapsed().as_nanos() as u64);
        match verdict {
            Verdict::GoOn => None,
            Verdict::Sample { sampling, slowdown } => {
                if let Err(error) = self.kernel.set_sampling(sampling) {
                    let why = format!(
                        "sampling could not be set ({error}), and the probes were taken out"
                    );
                    self.lose(LossKind::ProbesRemoved, None, why);
                    return Some(OVER_LIMIT);
                }
                self.quality.note(format!(
                    "at {at} tracing slowed the target by {:.0} %, more than the {limit:.0} % allowed: from then on one allocation in {} was followed",
                    slowdown * 100.0,
                    crate::units::size::short(1 << sampling.exponent),
                ));
                None
            }
            Verdict::Stop { slowdown } => {
                let why = format!(
                    "tracing slowed the target by {:.0} %, more than the {limit:.0} % allowed, and sampling would not have helped, so the probes were taken out",
                    slowdown * 100.0,
                );
                self.lose(LossKind::ProbesRemoved, None, why);
                Some(OVER_LIMIT)
            }
        }
    }

    fn seen(&mut self) -> Seen {
        let now = self.processes.iter();
        let now = now.map(|(tgid, followed)| (*tgid, followed.target.cpu_ns()));
        let cpu = self.processor_time.advance(now);
        Seen {
            hits: self.kernel.counter(Counter::Hits),
            allocations: self.sent.allocations,
            frees: self.sent.frees,
            cpu,
            at: self.started.elapsed(),
        }
    }

    /// Samples one process, and looks now and then whether its code has moved.
    pub(super) fn sample(&mut self, tgid: u32) {
        let Some(mut followed) = self.processes.remove(&tgid) else {
            return;
        };
        self.write_high(&mut followed);
        if self.images.is_announced(followed.id)
            && let Some(sample) = followed.read_memory()
        {
            self.write_pending();
            self.write(&Entry::Memory(sample));
            if self.sideband.is_none() && followed.is_due_for_reading() {
                self.read_code(&mut followed);
            }
        }
        self.processes.insert(tgid, followed);
    }

    /// Writes down what was read near the peak, before anything later is said of the process.
    pub(super) fn write_high(&mut self, followed: &mut Followed) {
        if let Some(sample) = followed.high.take()
            && self.images.is_announced(followed.id)
        {
            self.write_pending();
            self.write(&Entry::Memory(sample));
        }
    }

    /// Resident memory of the process that was asked for, or of all of them, at the last sample, bytes.
    pub(super) fn root_rss(&self) -> Option<u64> {
        let rss = |root| self.processes.get(root)?.rss;
        self.roots
            .iter()
            .filter_map(rss)
            .reduce(u64::saturating_add)
    }
}
