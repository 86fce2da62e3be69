//! The curves of the timeline.

use std::collections::HashMap;

use super::super::model::{ProcessProfile, Profile};
use crate::event::{Nanos, ProcessId};
use crate::record::{EndReason, Origin};

/// Points of a curve.
const MOST_POINTS: usize = 500;

/// What all processes had resident, each by its latest sample. One that runs on as its trace ends keeps what it had.
pub(super) fn rss(profile: &Profile) -> Vec<(u64, u64)> {
    let executed = first_samples_after_exec(profile);
    let mut steps: Vec<(Nanos, usize, u64)> = Vec::new();
    for (number, process) in profile.processes.iter().enumerate() {
        let samples = process.samples.iter();
        steps.extend(samples.filter_map(|sample| Some((sample.at, number, sample.rss?))));
        let gone = process.ended.as_ref().and_then(|end| match end.reason {
            EndReason::Detached => None,
            // It is the same process, which had no memory for a moment at most.
            EndReason::Executed => Some(executed.get(&process.process.id).map_or(end.at, |at| *at)),
            _ => Some(end.at),
        });
        steps.extend(gone.map(|at| (at, number, 0)));
    }
    steps.sort_unstable();
    let mut now = vec![0_u64; profile.processes.len()];
    let mut curve: Vec<(u64, u64)> = Vec::with_capacity(steps.len());
    for (at, process, rss) in steps {
        now[process] = rss;
        let sum = now.iter().fold(0, |sum: u64, rss| sum.saturating_add(*rss));
        let at = profile.since_start(at).0;
        match curve.last_mut() {
            Some(last) if last.0 == at => last.1 = sum,
            _ => curve.push((at, sum)),
        }
    }
    let end = profile.duration_ns();
    if let Some((last, sum)) = curve.last().copied()
        && last < end
    {
        curve.push((end, sum));
    }
    highest_of_each(&curve, MOST_POINTS)
}

/// Processes that have curves of their own, at most.
const MOST_PROCESSES: usize = 64;
/// Points of such a curve.
const MOST_POINTS_EACH: usize = 100;

/// What a process had resident, if it is one of several, and of few; it ends at 0 where the process did.
pub(super) fn rss_of(profile: &Profile, process: &ProcessProfile) -> Vec<(u64, u64)> {
    if !(2..=MOST_PROCESSES).contains(&profile.processes.len()) {
        return Vec::new();
    }
    let samples = process.samples.iter();
    let mut curve: Vec<(u64, u64)> = samples
        .filter_map(|sample| Some((profile.since_start(sample.at).0, sample.rss?)))
        .collect();
    curve = highest_of_each(&curve, MOST_POINTS_EACH);
    let ended = process.ended.as_ref();
    let ended = ended.filter(|end| end.reason != EndReason::Detached);
    curve.extend(ended.map(|end| (profile.since_start(end.at).0, 0)));
    curve
}

/// Of a process that became another by exec, when that was looked at first.
fn first_samples_after_exec(profile: &Profile) -> HashMap<ProcessId, Nanos> {
    let became = profile.processes.iter().filter_map(|next| {
        let is_same = matches!(next.process.origin, Origin::Executed { .. });
        let before = next.process.parent.filter(|_| is_same)?;
        Some((before, next.samples.first()?.at))
    });
    became.collect()
}

/// What the memory cgroup was charged, where all processes are in one.
pub(super) fn cgroup(profile: &Profile) -> Vec<(u64, u64)> {
    let mut paths = profile.processes.iter().map(|process| {
        let cgroup = process.process.cgroup.as_ref();
        cgroup.map(|cgroup| &cgroup.path)
    });
    let first = paths.next().flatten();
    if first.is_none() || paths.any(|path| path != first) {
        return Vec::new();
    }
    let samples = profile
        .processes
        .iter()
        .flat_map(|process| &process.samples);
    let mut curve: Vec<(u64, u64)> = samples
        .filter_map(|sample| Some((profile.since_start(sample.at).0, sample.cgroup_current?)))
        .collect();
    curve.sort_unstable();
    curve.dedup_by_key(|(at, _)| *at);
    highest_of_each(&curve, MOST_POINTS)
}

/// What was left of what was held before attach; nothing where there was none.
pub(super) fn before(profile: &Profile) -> Vec<(u64, u64)> {
    let held = profile.held_before.iter();
    let mut curve: Vec<(u64, u64)> = held
        .map(|(at, bytes)| (profile.since_start(*at).0, *bytes))
        .collect();
    if curve.iter().all(|(_, bytes)| *bytes == 0) {
        return Vec::new();
    }
    // Between two changes of it one point is enough.
    curve.dedup_by_key(|(_, bytes)| *bytes);
    curve
}

/// Few points: of each group the highest, so that no peak is lost, and the last of all.
fn highest_of_each(curve: &[(u64, u64)], most: usize) -> Vec<(u64, u64)> {
    let group = curve.len().div_ceil(most).max(1);
    let groups = curve.chunks(group);
    let mut points: Vec<(u64, u64)> = groups
        .filter_map(|group| group.iter().copied().max_by_key(|(_, bytes)| *bytes))
        .collect();
    if let Some(last) = curve.last()
        && points.last() != Some(last)
    {
        points.push(*last);
    }
    points
}
