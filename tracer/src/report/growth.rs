//! Who holds more and more.
//!
//! A holder grows if what it never falls below rises all the time. The last three fifths of the time that its process was
//! traced are cut into eight windows, and of each the *lowest* level counts: churn of any size goes up and comes down again within a
//! window, a leak does not come down. Whether these eight values rise is told by how many pairs of them rise less how many
//! fall (Mann, Nonparametric Tests Against Trend, 1945): 24 of the 28 pairs at least. Of eight values in random order that
//! happens once in some 900 times, so as many holders may be named by chance unless they also rise by more than a noise: a
//! sixteenth of the level, and a page. A cache that fills and stays is flat in its last windows, so it has too few pairs
//! that rise.
//!
//! The rate is the median of the slopes of all pairs (Theil, Sen 1968), which a few odd windows do not move.

use std::collections::HashMap;

use super::model::ProcessProfile;
use crate::event::{Nanos, ProcessId};
use crate::live::{HolderKey, Lives, Timeline};

/// Windows of equal length that the recording is divided into.
const WINDOWS: usize = 8;
/// Rising pairs less falling ones, at least.
const LEAST_TREND: i32 = 24;
/// Nothing is said of less time than this.
const LEAST_TIME: u64 = 2_000_000_000;
/// Nor of a rise of less, bytes.
const LEAST_RISE: u64 = 4096;

/// Who holds more and more while its process is traced, bytes a second.
pub(super) fn rates(
    timeline: &Timeline,
    lives: &[Lives],
    processes: &[ProcessProfile],
    latest: Nanos,
) -> HashMap<HolderKey, f64> {
    let traced: HashMap<ProcessId, (Nanos, Nanos)> = processes
        .iter()
        .map(|process| {
            let to = process.ended.as_ref().map_or(latest, |end| end.at);
            (process.process.id, (Nanos(process.process.from_ns), to))
        })
        .collect();
    lives
        .iter()
        .filter_map(|lives| {
            let &(from, to) = traced.get(&lives.process)?;
            let rate = rate(timeline, lives, from, to)?;
            Some((lives.key(), rate))
        })
        .collect()
}

/// What all threads together hold of each stack: many that live briefly grow as little as one that does not grow.
pub(super) fn together(lives: &[Lives]) -> Vec<Lives> {
    let mut stacks: HashMap<HolderKey, Lives> = HashMap::new();
    for lives in lives {
        let key = HolderKey {
            thread: None,
            ..lives.key()
        };
        let all = stacks.entry(key).or_insert_with(|| Lives {
            process: key.process,
            stack: key.stack,
            thread: None,
            kind: key.kind,
            lives: Vec::new(),
        });
        all.lives.extend_from_slice(&lives.lives);
    }
    stacks.into_values().collect()
}

/// How fast the holder grows, bytes a second; `None` if it does not. Its process was traced from `from` to `to`.
fn rate(timeline: &Timeline, lives: &Lives, from: Nanos, to: Nanos) -> Option<f64> {
    let era_at = |at: Nanos| (at.0.saturating_sub(timeline.begins.0) / timeline.width) as usize;
    // The era in which the process ended is not whole.
    let end = era_at(to).min(timeline.eras.len());
    let begin = era_at(from).min(end);
    let traced = end - begin;
    let begin = begin + traced * 2 / 5;
    let used = end - begin;
    if used < WINDOWS || used as u64 * timeline.width < LEAST_TIME * 3 / 5 {
        return None;
    }
    let levels = lives.levels(end);
    let lowest: Vec<u64> = (0..WINDOWS)
        .map(|window| {
            let range = begin + used * window / WINDOWS..begin + used * (window + 1) / WINDOWS;
            levels[range].iter().copied().min().unwrap_or(0)
        })
        .collect();
    let per_window = timeline.width as f64 / 1e9 * used as f64 / WINDOWS as f64;
    slope(&lowest).map(|slope| slope / per_window)
}

/// Bytes a window, if the values rise all the time.
fn slope(lowest: &[u64]) -> Option<f64> {
    let mut trend = 0;
    let mut slopes = Vec::new();
    for (earlier, low) in lowest.iter().enumerate() {
        for (later, high) in lowest.iter().enumerate().skip(earlier + 1) {
            trend += high.cmp(low) as i32;
            let rise = *high as f64 - *low as f64;
            slopes.push(rise / (later - earlier) as f64);
        }
    }
    let (first, last) = (*lowest.first()?, *lowest.last()?);
    let rise = last.saturating_sub(first);
    if trend < LEAST_TREND || rise < LEAST_RISE.max(last / 16) {
        return None;
    }
    slopes.sort_unstable_by(f64::total_cmp);
    Some(slopes[slopes.len() / 2])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;

    #[test]
    fn a_steady_rise_is_told_with_its_rate() {
        let lowest: Vec<u64> = (0..8).map(|window| (window + 3) * 100 * KIB).collect();
        assert_eq!(slope(&lowest), Some((100 * KIB) as f64));
    }

    #[test]
    fn one_odd_window_does_not_matter() {
        let mut lowest: Vec<u64> = (0..8).map(|window| (window + 3) * 100 * KIB).collect();
        lowest[4] = lowest[3] - 1;
        let slope = slope(&lowest).expect("it grows");
        assert!((slope / (100 * KIB) as f64 - 1.0).abs() < 0.1, "{slope}");
    }

    #[test]
    fn what_many_threads_leave_behind_grows_together_and_not_by_itself() {
        let lives = |thread: u16| Lives {
            process: ProcessId(1),
            stack: crate::event::StackIndex(1),
            thread: Some(crate::event::Tid(thread.into())),
            kind: crate::live::Kind::Heap,
            lives: vec![crate::live::Life {
                born: thread,
                gone: None,
                bytes: 100 * KIB,
                blocks: 1,
            }],
        };
        let timeline = Timeline {
            begins: Nanos(0),
            width: 1_000_000_000,
            eras: vec![crate::live::Era::default(); 40],
            lives: (0..40).map(lives).collect(),
        };
        let rate = |lives: &Lives| rate(&timeline, lives, Nanos(0), Nanos(40_000_000_000));
        assert!(timeline.lives.iter().all(|lives| rate(lives).is_none()));
        let together = together(&timeline.lives);
        assert_eq!(together.len(), 1);
        assert_eq!(together[0].thread, None);
        let rate = rate(&together[0]).expect("it grows");
        assert!((rate / (100 * KIB) as f64 - 1.0).abs() < 0.05, "{rate}");
    }

    #[test]
    fn what_fills_and_stays_does_not_grow() {
        let lowest = [100, 200, 300, 300, 300, 300, 300, 300].map(|level| level * KIB);
        assert_eq!(slope(&lowest), None);
    }

    #[test]
    fn what_comes_and_goes_does_not_grow() {
        let lowest = [100, 300, 50, 200, 400, 120, 90, 310].map(|level| level * KIB);
        assert_eq!(slope(&lowest), None);
    }

    proptest! {
        #[test]
        fn nothing_that_only_shrinks_grows(mut lowest in prop::collection::vec(any::<u64>(), 8)) {
            lowest.sort_unstable();
            lowest.reverse();
            prop_assert_eq!(slope(&lowest), None);
        }
    }
}
