//! What a question needs beside the peak and the end, gathered as the recording is replayed.

use std::collections::HashSet;

use super::error::{ReplayError, folded};
use super::mark::Mark;
use super::question::{Point, When, Window};
use super::spans::{Gathering, Spans};
use super::temporary::Temporaries;
use crate::event::{Event, Nanos};
use crate::live::{Holder, LiveSet, Moment, Scope, Snapshot, Timeline};
use crate::model::Feed;
use crate::record::{Opening, Process, ProcessEnd};

/// What is gathered.
pub(super) struct Asked {
    what: What,
    /// Of the spans of a name, all of them: `what` is the first.
    spans: Option<Gathering>,
    /// Temporary blocks, beside what was asked for.
    temporaries: Option<Temporaries>,
    /// Threads are told apart.
    by_thread: bool,
    /// Processes that are traced: a window may begin at any time.
    processes: Vec<Process>,
}

enum What {
    Nothing,
    /// The live set at a moment.
    Moment(Edge, Option<Snapshot>),
    /// What comes in a window: a live set that sees nothing before it. What is freed there that came before is unknown to
    /// it, and changes none of its holders.
    Window(Edge, Edge, Option<Box<Feed>>, Option<Snapshot>),
    Temporaries(Temporaries),
}

/// An end of a window, or a moment.
enum Edge {
    At(Nanos),
    /// Not known before the recording says so.
    Marked(Wanted, String),
    /// There is none.
    Open,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Begin,
    End,
}

/// What was gathered.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) snapshot: Option<Snapshot>,
    pub(super) temporaries: Vec<Holder>,
    pub(super) spans: Option<Spans>,
}

/// A moment is said with fewer digits than it is kept with: so far beyond the end it is taken for the end, nanoseconds.
const ROUNDED: u64 = 1_000_000_000;

impl Asked {
    /// Refuses a moment that a recording of this time does not reach to.
    pub(super) fn check_within(&self, started: Nanos, ended: Nanos) -> Result<(), ReplayError> {
        let What::Moment(Edge::At(at), _) = &self.what else {
            return Ok(());
        };
        if *at >= started && at.0 <= ended.0.saturating_add(ROUNDED) {
            return Ok(());
        }
        Err(ReplayError::Beyond {
            asked_ns: at.0.saturating_sub(started.0),
            lasts_ns: ended.0.saturating_sub(started.0),
        })
    }

    pub(super) fn new(when: &When, opening: &Opening, by_thread: bool) -> Self {
        let edge = |point: &Point| match point {
            Point::Offset(offset) => Edge::At(Nanos(opening.started_ns.saturating_add(offset.0))),
            Point::Clock(unix_ns) => {
                let offset = unix_ns.saturating_sub(opening.started_unix_ns);
                Edge::At(Nanos(opening.started_ns.saturating_add(offset)))
            }
            Point::Mark(name) => Edge::Marked(Wanted::Begin, name.clone()),
        };
        let end_of = |point: &Option<Point>| point.as_ref().map_or(Edge::Open, edge);
        let what = match when {
            When::Peak | When::End | When::Growing | When::Allocated => What::Nothing,
            When::At(point) => What::Moment(edge(point), None),
            When::Between(Window::Points(from, to)) => {
                What::Window(end_of(from), end_of(to), None, None)
            }
            When::Between(Window::Span(name)) => What::Window(
                Edge::Marked(Wanted::Begin, name.clone()),
                Edge::Marked(Wanted::End, name.clone()),
                None,
                None,
            ),
            When::Temporary(within) => What::Temporaries(Temporaries::new(*within, by_thread)),
        };
        let spans = match when {
            When::Between(Window::Span(name)) => Some(Gathering::new(name, by_thread)),
            _ => None,
        };
        Self {
            what,
            spans,
            temporaries: None,
            by_thread,
            processes: Vec::new(),
        }
    }

    /// Gathers temporary blocks too, if they were not asked for.
    pub(super) fn also_temporaries(&mut self) {
        if !matches!(self.what, What::Temporaries(_)) {
            self.temporaries = Some(Temporaries::new(1, self.by_thread));
        }
    }

    /// A process is traced from here on.
    pub(super) fn open(&mut self, process: &Process) {
        if let What::Window(_, _, window, _) = &mut self.what {
            if let Some(window) = window {
                window.open(process);
            }
            self.processes.push(process.clone());
        }
        if let Some(spans) = &mut self.spans {
            spans.open(process);
        }
    }

    /// A moment or span was named.
    pub(super) fn mark(&mut self, mark: &Mark) {
        let settle = |edge: &mut Edge| {
            if let Edge::Marked(wanted, name) = edge
                && *name == mark.name
            {
                match wanted {
                    Wanted::Begin => *edge = Edge::At(mark.at),
                    Wanted::End => {
                        if let Some(ended) = mark.ended {
                            *edge = Edge::At(ended);
                        }
                    }
                }
            }
        };
        match &mut self.what {
            What::Moment(at, _) => settle(at),
            What::Window(from, to, ..) => {
                settle(from);
                settle(to);
            }
            What::Nothing | What::Temporaries(_) => {}
        }
        if let Some(spans) = &mut self.spans {
            spans.mark(mark);
        }
    }

    /// Before an event goes into the live set.
    #[inline]
    pub(super) fn before(&mut self, event: &Event, live: &LiveSet) {
        if let Some(temporaries) = &mut self.temporaries {
            temporaries.apply(event);
        }
        match &mut self.what {
            What::Nothing => {}
            What::Temporaries(temporaries) => temporaries.apply(event),
            What::Moment(..) => self.until(event.at, live),
            What::Window(..) => {
                self.until(event.at, live);
                if let What::Window(_, _, Some(window), None) = &mut self.what {
                    window.event(event);
                }
                if let Some(spans) = &mut self.spans {
                    spans.apply(event);
                }
            }
        }
    }

    /// Before tracing of a process ends in the live set.
    pub(super) fn end(&mut self, end: &ProcessEnd, live: &LiveSet) {
        self.until(end.at, live);
        if let What::Window(_, _, window, taken) = &mut self.what {
            if let (Some(window), None) = (window, taken) {
                window.end(end);
            }
            self.processes.retain(|process| process.id != end.process);
        }
        if let Some(spans) = &mut self.spans {
            spans.end(end);
        }
    }

    /// Whatever comes next, it is at this moment or later.
    pub(super) fn until(&mut self, next: Nanos, live: &LiveSet) {
        match &mut self.what {
            What::Moment(Edge::At(at), taken @ None) if *at < next => {
                *taken = Some(taken_at(live, *at));
            }
            What::Window(from, to, window, taken @ None) => {
                let begun = match from {
                    Edge::At(from) => *from < next,
                    Edge::Open => true,
                    Edge::Marked(..) => false,
                };
                if begun && window.is_none() {
                    let mut begun = LiveSet::new();
                    if self.by_thread {
                        begun = begun.by_thread();
                    }
                    *window = Some(Box::new(Feed::from_now_on(begun, &self.processes)));
                }
                if let (Edge::At(to), Some(window)) = (to, &window)
                    && *to < next
                {
                    *taken = Some(taken_at(window.live(), *to));
                }
            }
            _ => {}
        }
        if let Some(spans) = &mut self.spans {
            spans.until(next, &self.processes);
        }
    }

    /// The recording ends here, and holds a fold: moments are known to the nearest of its eras, single events not at all.
    pub(super) fn finish_folded(
        &mut self,
        timeline: &Timeline,
        marks: &[Mark],
    ) -> Result<Gathered, ReplayError> {
        let mut gathered = Gathered::default();
        let nearest = |edge: &Edge| match edge {
            Edge::At(at) => timeline.nearest(*at),
            _ => None,
        };
        let last = timeline.eras.len().saturating_sub(1);
        gathered.snapshot = match &self.what {
            What::Nothing => None,
            What::Temporaries(_) => {
                return Err(folded("what was allocated and freed soon after"));
            }
            What::Moment(at, _) => {
                missing(at, marks)?;
                let at = nearest(at);
                Some(at.map_or_else(Snapshot::default, |era| timeline.snapshot(None, era)))
            }
            What::Window(from, to, ..) => {
                missing(from, marks)?;
                missing(to, marks)?;
                let to = match to {
                    Edge::At(_) => nearest(to),
                    _ => Some(last),
                };
                let window = to.map(|to| timeline.snapshot(nearest(from), to));
                Some(window.unwrap_or_default())
            }
        };
        Ok(gathered)
    }

    /// The recording ends here, or is cut off.
    pub(super) fn finish(
        &mut self,
        live: &LiveSet,
        marks: &[Mark],
        (latest, cut): (Nanos, bool),
    ) -> Result<Gathered, ReplayError> {
        let temporaries = self.temporaries.as_ref();
        let mut gathered = Gathered {
            temporaries: temporaries.map_or_else(Vec::new, Temporaries::holders),
            ..Gathered::default()
        };
        match &mut self.what {
            What::Nothing => {}
            What::Temporaries(temporaries) => gathered.temporaries = temporaries.holders(),
            What::Moment(at, taken) => {
                missing(at, marks)?;
                let end = || live.snapshot(Scope::All, Moment::End);
                gathered.snapshot = Some(taken.take().unwrap_or_else(end));
            }
            What::Window(from, to, window, taken) => {
                missing(from, marks)?;
                missing(to, marks)?;
                let end = || {
                    let window = window.as_ref();
                    window.map_or_else(Snapshot::default, |window| {
                        window.live().snapshot(Scope::All, Moment::End)
                    })
                };
                gathered.snapshot = Some(taken.take().unwrap_or_else(end));
            }
        }
        let spans = self.spans.take();
        gathered.spans = spans.map(|spans| spans.finish(latest, cut));
        Ok(gathered)
    }
}

/// An error if a mark was asked for that never came.
fn missing(edge: &Edge, marks: &[Mark]) -> Result<(), ReplayError> {
    match edge {
        Edge::Marked(Wanted::Begin, name) => Err(ReplayError::NoMark {
            name: name.clone(),
            marks: different_names(marks),
        }),
        // A span that never ended goes on to the end.
        _ => Ok(()),
    }
}

/// The names of the marks, each once, in the order of their first use.
fn different_names(marks: &[Mark]) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = marks.iter().map(|mark| mark.name.as_str());
    names
        .filter(|name| seen.insert(*name))
        .map(str::to_owned)
        .collect()
}

fn taken_at(live: &LiveSet, at: Nanos) -> Snapshot {
    let mut snapshot = live.snapshot(Scope::All, Moment::End);
    snapshot.at = at;
    snapshot
}
