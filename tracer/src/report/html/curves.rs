//! The curves of the timeline.

use super::super::model::Profile;
use crate::event::Nanos;
use crate::live::Kind;

/// Points of the RSS curve.
const MOST_SAMPLES: usize = 500;

/// What was live of a kind at the end of each era, bytes.
pub(super) fn levels(profile: &Profile, kind: Kind) -> Vec<u64> {
    let timeline = &profile.timeline;
    let mut sums = vec![0_u64; timeline.eras.len()];
    for lives in timeline.lives.iter().filter(|lives| lives.kind == kind) {
        for (sum, level) in sums.iter_mut().zip(lives.levels(timeline.eras.len())) {
            *sum = sum.saturating_add(level);
        }
    }
    sums
}

/// What all processes had resident, each by its latest sample.
pub(super) fn rss(profile: &Profile) -> Vec<(u64, u64)> {
    let mut steps: Vec<(Nanos, usize, u64)> = Vec::new();
    for (number, process) in profile.processes.iter().enumerate() {
        let samples = process.samples.iter();
        steps.extend(samples.filter_map(|sample| Some((sample.at, number, sample.rss?))));
        if let Some(end) = &process.ended {
            steps.push((end.at, number, 0));
        }
    }
    steps.sort_unstable();
    let mut now = vec![0_u64; profile.processes.len()];
    let mut curve: Vec<(u64, u64)> = Vec::with_capacity(steps.len());
    for (at, process, rss) in steps {
        now[process] = rss;
        let sum = now.iter().fold(0, |sum: u64, rss| sum.saturating_add(*rss));
        curve.push((profile.since_start(at).0, sum));
    }
    // Of each group the highest, so that no peak is lost.
    let group = curve.len().div_ceil(MOST_SAMPLES).max(1);
    let groups = curve.chunks(group);
    groups
        .filter_map(|group| group.iter().copied().max_by_key(|(_, rss)| *rss))
        .collect()
}
