//! Whether a figure keeps a limit, where not all of it may be known.
//!
//! Of a recording that stops early, what was seen is the least that there was: it can go over a limit, but it cannot keep one. What
//! was live where it stops says nothing of the end. Lost events leave a range: the blocks whose allocations were lost may
//! have been live too, those whose frees were lost may not have been. Of other losses it depends on what they
//! [affect](crate::model::Affects).

use super::model::Profile;
use crate::model::Affects;

/// A figure, and the range that its true value lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What was seen.
    pub is: u64,
    /// No less than this.
    pub least: u64,
    /// No more than this; `None`: it may be anything above.
    pub most: Option<u64>,
}

/// Whether a limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The figure keeps the limit, whatever was not seen.
    Holds,
    /// It is not.
    Over,
    /// Not enough is known of the figure, or of the limit.
    Unknown,
}

impl Known {
    /// A figure of which all is known.
    pub fn exactly(is: u64) -> Self {
        Self {
            is,
            least: is,
            most: Some(is),
        }
    }

    /// Whether it is no more than a limit.
    pub fn against(self, limit: Self) -> Verdict {
        let over = limit.most.is_some_and(|limit| self.least > limit);
        match self.most {
            _ if over => Verdict::Over,
            Some(most) if most <= limit.least => Verdict::Holds,
            _ => Verdict::Unknown,
        }
    }

    /// What a function that rises makes of it.
    pub fn map(self, rising: impl Fn(u64) -> u64) -> Self {
        Self {
            is: rising(self.is),
            least: rising(self.least),
            most: self.most.map(rising),
        }
    }
}

/// The figures that a budget is made of: of a recording, or of the spans that it was replayed for, the worst of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// The recording stops before what is asked about ends.
    pub stops_early: bool,
    /// Not all spans were looked at.
    pub overlooks: bool,
    /// The most that was held, bytes.
    pub peak: Known,
    /// What was live at the end, bytes.
    pub end: Known,
    /// How many blocks were asked for.
    pub allocations: Known,
}

impl Figures {
    /// Of the spans if these were asked for, else of the whole.
    pub fn of(profile: &Profile) -> Self {
        let cut = profile.completion.cut_reason().is_some();
        let (stops_early, overlooks, peak, end, allocations) = match &profile.spans {
            None => (
                cut,
                false,
                profile.peak.bytes,
                profile.end.bytes,
                profile.totals.allocations,
            ),
            Some(spans) => (
                cut && spans.unfinished > 0,
                spans.overlooked > 0,
                spans.most_held.peak.bytes,
                spans.most_left.end.bytes,
                spans.most_asked.allocations,
            ),
        };
        let overlooks = overlooks || profile.spans.is_some() && profile.quality.dropped_marks > 0;
        let peak_at = match &profile.spans {
            None => profile.peak.at,
            Some(spans) => spans.most_held.peak.at,
        };
        let mut range = (0_u64, 0_u64);
        // Whether all that was held was seen, and whether what was seen was held: at the peak, and at the end.
        let mut all_seen = !stops_early && !overlooks;
        let (mut peak_was, mut end_was) = (true, true);
        let mut all_calls_seen = all_seen;
        for loss in &profile.losses {
            if let Some((more, less)) = loss.off() {
                range.0 = range.0.saturating_add(more);
                range.1 = range.1.saturating_add(less);
                continue;
            }
            if !loss.is_grave() {
                continue;
            }
            (all_seen, all_calls_seen) = (false, false);
            if loss.affects() == Affects::Everything {
                end_was = false;
                // What was seen before it is certain.
                peak_was &= loss.since().is_some_and(|since| since >= peak_at);
            }
        }
        let (more, less) = range;
        let known = |is: u64, less: Option<u64>| Known {
            is,
            least: less.map_or(0, |less| is.saturating_sub(less)),
            most: all_seen.then_some(is.saturating_add(more)),
        };
        // Where the recording stops is the end of nothing; spans that ended before it do have an end.
        let has_end = profile.spans.is_some() || !stops_early;
        Self {
            stops_early,
            overlooks,
            peak: known(peak, peak_was.then_some(less)),
            end: known(end, (end_was && has_end).then_some(less)),
            allocations: Known {
                is: allocations,
                least: allocations,
                most: all_calls_seen
                    .then_some(allocations.saturating_add(profile.quality.lost_allocations)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::question::{Question, When, Window};
    use super::super::replay::Threads;
    use super::super::script::Script;
    use super::*;
    use crate::event::Nanos;
    use crate::record::{Entry, Mark, MarkKind, ProcessLosses, Quality};

    const LIMIT: u64 = 100;

    fn against(known: Known) -> Verdict {
        known.against(Known::exactly(LIMIT))
    }

    #[test]
    fn a_range_that_a_limit_lies_in_tells_nothing() {
        let known = |least, most| Known {
            is: least,
            least,
            most,
        };
        assert_eq!(against(known(90, Some(100))), Verdict::Holds);
        assert_eq!(against(known(90, Some(101))), Verdict::Unknown);
        assert_eq!(against(known(101, Some(110))), Verdict::Over);
        assert_eq!(against(known(90, None)), Verdict::Unknown);
        assert_eq!(against(known(101, None)), Verdict::Over);
        // Of a limit that may be more than it seems, only what it is at least can be kept.
        let figure = Known::exactly(100);
        assert_eq!(figure.against(known(100, None)), Verdict::Holds);
        assert_eq!(figure.against(known(99, None)), Verdict::Unknown);
        assert_eq!(figure.against(known(90, Some(99))), Verdict::Over);
    }

    /// 150 bytes at the peak, 70 at the end, in three calls.
    fn script() -> Script {
        let mut script = Script::launched("app");
        script.stack(1, &["keep", "main"]);
        script.allocate(0, 1, 1, 50);
        script.allocate(0, 2, 1, 100);
        script.free_last(0, 3);
        script.allocate(0, 4, 1, 20);
        script
    }

    #[test]
    fn what_stops_early_can_go_over_but_not_keep_and_says_nothing_of_the_end() {
        let figures = Figures::of(&script().unfinished());
        assert!(figures.stops_early);
        assert_eq!((figures.peak.is, figures.end.is), (150, 70));
        assert_eq!(against(figures.peak), Verdict::Over);
        for limit in [10, 70, 1000].map(Known::exactly) {
            assert_eq!(figures.end.against(limit), Verdict::Unknown);
        }
        let limit = Known::exactly;
        assert_eq!(figures.peak.against(limit(150)), Verdict::Unknown);
        assert_eq!(figures.allocations.against(limit(2)), Verdict::Over);
        assert_eq!(figures.allocations.against(limit(3)), Verdict::Unknown);
    }

    #[test]
    fn lost_events_leave_a_range() {
        let mut script = script();
        let losses = ProcessLosses {
            process: crate::event::ProcessId(0),
            allocations: 2,
            allocated_bytes: 30,
            frees: 1,
            freed_bytes: 10,
            over_share: 0,
            spilled: 0,
        };
        script.quality(Quality {
            lost_allocations: 2,
            lost_frees: 1,
            losses: vec![losses],
            ..Quality::default()
        });
        let figures = Figures::of(&script.closed());
        let range = |known: Known| (known.least, known.is, known.most);
        assert_eq!(range(figures.peak), (140, 150, Some(180)));
        assert_eq!(range(figures.end), (60, 70, Some(100)));
        assert_eq!(range(figures.allocations), (3, 3, Some(5)));
    }

    #[test]
    fn where_the_probes_were_out_nothing_is_certain_but_what_was_asked_for() {
        let mut script = script();
        script.quality(Quality {
            pauses: vec![crate::record::Pause {
                from_ns: 5_001_500_000,
                to_ns: 5_002_500_000,
            }],
            ..Quality::default()
        });
        let profile = script.closed();
        assert!(!profile.is_complete());
        let figures = Figures::of(&profile);
        for limit in [1, 10_000].map(Known::exactly) {
            assert_eq!(figures.peak.against(limit), Verdict::Unknown);
            assert_eq!(figures.end.against(limit), Verdict::Unknown);
        }
        assert_eq!(
            figures.allocations.against(Known::exactly(2)),
            Verdict::Over
        );
        assert_eq!(
            figures.allocations.against(Known::exactly(10_000)),
            Verdict::Unknown
        );
    }

    #[test]
    fn where_marks_were_left_out_no_span_keeps_a_budget() {
        let mut script = script();
        script.quality(Quality {
            dropped_marks: 1,
            ..Quality::default()
        });
        let figures = Figures::of(&script.closed());
        assert!(!figures.overlooks, "the whole is not concerned");
        let mut script = self::script();
        script.quality(Quality {
            dropped_marks: 1,
            ..Quality::default()
        });
        assert!(of_span(script, true, true).overlooks);
    }

    /// The figures of a span that begins after the first allocation.
    fn of_span(mut script: Script, ends: bool, closed: bool) -> Figures {
        let mark = |ms: u64, kind| {
            Entry::Mark(Mark {
                at: Nanos(5_000_000_000 + ms * 1_000_000 - 500_000),
                process: None,
                kind,
                name: "request".to_owned(),
            })
        };
        let second = script.entries.len() - 3;
        script.entries.insert(second, mark(2, MarkKind::Begin));
        if ends {
            script.entries.push(mark(5, MarkKind::End));
            script.allocate(0, 6, 1, 4000);
        }
        if closed {
            script.close(9, "interrupted");
        }
        let question = Question {
            when: When::Between(Window::Span("request".to_owned())),
            ..Question::default()
        };
        let entries = script.entries.into_iter().map(Ok);
        let profile = Profile::replay_for(entries, &question, Threads::Together);
        Figures::of(&profile.expect("it has the span"))
    }

    #[test]
    fn a_span_has_figures_of_its_own_and_is_whole_once_it_has_ended() {
        for closed in [true, false] {
            let figures = of_span(script(), true, closed);
            assert!(!figures.stops_early);
            let told = [figures.peak, figures.end, figures.allocations];
            assert_eq!(told, [100, 20, 2].map(Known::exactly));
        }
        assert!(of_span(script(), false, false).stops_early);
        assert!(!of_span(script(), false, true).stops_early);
    }
}
