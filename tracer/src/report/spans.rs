//! What came within each span of a name: all as if nothing had been there before it.
//!
//! A budget is for every span, so the worst of them are kept. Spans may lie within and across each other.

use super::joined::Joined;
use super::mark::Mark;
use crate::event::{Event, Nanos};
use crate::live::{Holder, LiveSet, Moment, Scope, Snapshot};
use crate::model::Feed;
use crate::record::{MarkKind, Process, ProcessEnd};

/// More than this are not followed at once: each takes a live set of its own.
const MOST_AT_ONCE: usize = 16;

/// The spans of a name.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// How many there are.
    pub count: u64,
    /// How many of them were not looked at, since too many others were under way.
    pub overlooked: u64,
    /// How many had not ended when the recording did.
    pub unfinished: u64,
    /// The one within which most was held at once.
    pub most_held: Span,
    /// The one that left most behind at its end. One that is cut off has none.
    pub most_left: Span,
    /// The one with most allocations.
    pub most_asked: Span,
}

impl Spans {
    /// Holders that read alike become one.
    pub(super) fn join(&mut self, joined: &Joined) {
        for span in [
            &mut self.most_held,
            &mut self.most_left,
            &mut self.most_asked,
        ] {
            joined.snapshot(&mut span.peak);
            joined.snapshot(&mut span.end);
            joined.holders(&mut span.allocated);
        }
    }
}

/// What came within one span.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// When it began.
    pub began: Nanos,
    /// When most of what came in it was held.
    pub peak: Snapshot,
    /// At its end.
    pub end: Snapshot,
    /// All that was asked for in it, by who asked.
    pub allocated: Vec<Holder>,
    /// In so many calls.
    pub allocations: u64,
}

/// Gathers them as the recording is replayed.
pub(super) struct Gathering {
    name: String,
    by_thread: bool,
    under_way: Vec<UnderWay>,
    spans: Spans,
}

struct UnderWay {
    began: Nanos,
    ended: Option<Nanos>,
    feed: Option<Box<Feed>>,
}

impl Gathering {
    pub(super) fn new(name: &str, by_thread: bool) -> Self {
        Self {
            name: name.to_owned(),
            by_thread,
            under_way: Vec::new(),
            spans: Spans::default(),
        }
    }

    /// A process is traced from here on.
    pub(super) fn open(&mut self, process: &Process) {
        for span in &mut self.under_way {
            if let Some(feed) = &mut span.feed {
                feed.open(process);
            }
        }
    }

    /// A moment or span was named. A moment of that name is a span that goes on to the end.
    pub(super) fn mark(&mut self, mark: &Mark) {
        if mark.name != self.name {
            return;
        }
        if mark.ended.is_some() {
            let began = |span: &&mut UnderWay| span.began == mark.at && span.ended.is_none();
            if let Some(span) = self.under_way.iter_mut().rev().find(began) {
                span.ended = mark.ended;
            }
            return;
        }
        if mark.kind != MarkKind::Begin && self.spans.count > 0 {
            return;
        }
        if self.under_way.len() < MOST_AT_ONCE {
            self.under_way.push(UnderWay {
                began: mark.at,
                ended: None,
                feed: None,
            });
        } else {
            self.spans.overlooked += 1;
        }
        self.spans.count += 1;
    }

    /// Something happens; [`until`](Self::until) has been told of its moment.
    pub(super) fn apply(&mut self, event: &Event) {
        for span in &mut self.under_way {
            if let Some(feed) = &mut span.feed {
                feed.event(event);
            }
        }
    }

    /// Tracing of a process ends; [`until`](Self::until) has been told of that moment.
    pub(super) fn end(&mut self, end: &ProcessEnd) {
        for span in &mut self.under_way {
            if let Some(feed) = &mut span.feed {
                feed.end(end);
            }
        }
    }

    /// Whatever comes next, it is at this moment or later.
    pub(super) fn until(&mut self, next: Nanos, processes: &[Process]) {
        for span in &mut self.under_way {
            if span.began < next && span.feed.is_none() {
                span.feed = Some(Box::new(begun(processes, self.by_thread)));
            }
        }
        let over = |span: &mut UnderWay| span.ended.is_some_and(|ended| ended < next);
        for span in self.under_way.extract_if(.., over).collect::<Vec<_>>() {
            self.take(&span, true);
        }
    }

    /// The recording ends here, or is cut off.
    pub(super) fn finish(mut self, latest: Nanos, cut: bool) -> Spans {
        for span in std::mem::take(&mut self.under_way) {
            let ended = span.ended.is_some_and(|ended| ended <= latest);
            self.spans.unfinished += u64::from(!ended);
            self.take(&span, ended || !cut);
        }
        self.spans
    }

    fn take(&mut self, under_way: &UnderWay, has_end: bool) {
        let nothing = LiveSet::new();
        let feed = under_way.feed.as_deref();
        let live = feed.map_or(&nothing, Feed::live);
        let mut end = live.snapshot(Scope::All, Moment::End);
        if let Some(ended) = under_way.ended {
            end.at = ended;
        }
        let span = Span {
            began: under_way.began,
            peak: live.snapshot(Scope::All, Moment::Peak),
            end,
            allocated: live.allocated(),
            allocations: live.totals().allocations,
        };
        let worst = |kept: &mut Span, of: fn(&Span) -> u64| {
            if kept.began == Nanos(0) || of(&span) > of(kept) {
                *kept = span.clone();
            }
        };
        worst(&mut self.spans.most_held, |span| span.peak.bytes);
        worst(&mut self.spans.most_asked, |span| span.allocations);
        if has_end {
            worst(&mut self.spans.most_left, |span| span.end.bytes);
        }
    }
}

fn begun(processes: &[Process], by_thread: bool) -> Feed {
    let live = match by_thread {
        true => LiveSet::new().by_thread(),
        false => LiveSet::new(),
    };
    Feed::from_now_on(live, processes)
}

#[cfg(test)]
mod tests {
    use super::super::model::Profile;
    use super::super::question::{Question, When, Window};
    use super::super::replay::Threads;
    use super::super::script::Script;
    use super::*;
    use crate::record::{self, Entry};

    fn mark(script: &mut Script, ms: u64, kind: MarkKind) {
        script.entries.push(Entry::Mark(record::Mark {
            at: Nanos(5_000_000_000 + ms * 1_000_000),
            process: None,
            kind,
            name: "request".to_owned(),
        }));
    }

    fn spans(script: Script) -> Spans {
        let question = Question {
            when: When::Between(Window::Span("request".to_owned())),
            ..Question::default()
        };
        let entries = script.entries.into_iter().map(Ok);
        let profile = Profile::replay_for(entries, &question, Threads::Together);
        profile.expect("it has the span").spans.expect("spans")
    }

    #[test]
    fn of_many_spans_the_worst_is_kept_for_each_figure() {
        let mut script = Script::launched("app");
        script.stack(1, &["keep", "main"]);
        script.allocate(0, 1, 1, 5000);
        // Holds most at once, and leaves nothing.
        mark(&mut script, 10, MarkKind::Begin);
        script.allocate(0, 11, 1, 300);
        script.free_last(0, 12);
        mark(&mut script, 13, MarkKind::End);
        // Leaves most.
        mark(&mut script, 20, MarkKind::Begin);
        script.allocate(0, 21, 1, 200);
        mark(&mut script, 22, MarkKind::End);
        // Asks most often.
        mark(&mut script, 30, MarkKind::Begin);
        for at in 31..34 {
            script.allocate(0, at, 1, 1);
        }
        mark(&mut script, 35, MarkKind::End);
        script.allocate(0, 40, 1, 9000);
        script.close(50, "interrupted");
        let spans = spans(script);
        assert_eq!((spans.count, spans.unfinished, spans.overlooked), (3, 0, 0));
        let began = |span: &Span| span.began.0 / 1_000_000 - 5000;
        assert_eq!(
            (began(&spans.most_held), spans.most_held.peak.bytes),
            (10, 300)
        );
        assert_eq!(
            (began(&spans.most_left), spans.most_left.end.bytes),
            (20, 200)
        );
        assert_eq!(
            (began(&spans.most_asked), spans.most_asked.allocations),
            (30, 3)
        );
    }

    #[test]
    fn spans_within_each_other_each_count_what_came_in_them() {
        let mut script = Script::launched("app");
        script.stack(1, &["keep", "main"]);
        mark(&mut script, 10, MarkKind::Begin);
        script.allocate(0, 11, 1, 100);
        mark(&mut script, 12, MarkKind::Begin);
        script.allocate(0, 13, 1, 20);
        mark(&mut script, 14, MarkKind::End);
        script.allocate(0, 15, 1, 3);
        mark(&mut script, 16, MarkKind::End);
        script.close(20, "interrupted");
        let spans = spans(script);
        assert_eq!(spans.count, 2);
        assert_eq!(spans.most_held.peak.bytes, 123);
    }

    #[test]
    fn too_many_at_once_are_counted() {
        let mut script = Script::launched("app");
        for at in 0..20 {
            mark(&mut script, 10 + at, MarkKind::Begin);
        }
        script.close(50, "interrupted");
        let spans = spans(script);
        assert_eq!(
            (spans.count, spans.unfinished, spans.overlooked),
            (20, 16, 4)
        );
    }
}
