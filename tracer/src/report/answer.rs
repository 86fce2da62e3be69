//! What a question comes to: the holders that it asks for, largest first.

use super::model::Profile;
use super::name::{self, NamedFrame};
use super::question::{Point, Question, When, Window};
use super::spans::{Span, Spans};
use crate::event::Nanos;
use crate::live::{Amount, Holder, Kind, Snapshot};
use crate::units::{size, time};
use crate::words;

/// The holders that a question asks for.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Which moment or window, in words: `at the peak`, `at +12.5s`.
    pub words: String,
    /// Which moment, if it is one.
    pub at: Option<Nanos>,
    /// What the holders' `bytes` are.
    pub unit: Unit,
    /// The holders, largest first.
    pub holders: Vec<Holder>,
    /// Sum of their bytes.
    pub bytes: u64,
    /// Sum of their blocks and ranges.
    pub blocks: u64,
    /// What was there before filters took their part, bytes.
    pub of_bytes: u64,
}

/// What of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// What was live when most of what came in it was.
    Peak,
    /// What was live at its end.
    End,
    /// All that was asked for.
    Allocated,
}

impl Within {
    /// The span that is the worst in this.
    pub fn worst(self, spans: &Spans) -> &Span {
        match self {
            Self::Peak => &spans.most_held,
            Self::End => &spans.most_left,
            Self::Allocated => &spans.most_asked,
        }
    }
}

/// What `bytes` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes at a moment, or in all.
    Bytes,
    /// Bytes more, every second.
    BytesPerSecond,
}

impl Unit {
    /// An amount as it reads: `381.5 MiB`, `1.0 MiB/s`.
    pub fn short(self, amount: u64) -> String {
        match self {
            Self::Bytes => size::short(amount),
            Self::BytesPerSecond => format!("{}/s", size::short(amount)),
        }
    }

    /// In both units of size, for headlines.
    pub fn headline(self, amount: u64) -> String {
        match self {
            Self::Bytes => size::headline(amount),
            Self::BytesPerSecond => format!("{} a second", size::headline(amount)),
        }
    }
}

impl Answer {
    /// What came within the span that is the worst in this, of a profile that was [replayed](Profile::replay_for) for the
    /// spans of a name.
    pub fn within(profile: &Profile, question: &Question, which: Within) -> Option<Self> {
        let spans = profile.spans.as_ref()?;
        let (holders, and) = match which {
            Within::Peak => (snapshot(&spans.most_held.peak), "live when most of it was"),
            Within::End => (snapshot(&spans.most_left.end), "live at its end"),
            Within::Allocated => {
                let allocated = spans.most_asked.allocated.clone();
                ((Unit::Bytes, None, allocated), "live or not")
            }
        };
        let words = match &question.when {
            When::Between(Window::Span(name)) => {
                format!("allocated within `{}`, {and}", words::printable(name))
            }
            when => words(profile, when),
        };
        Some(Self::listing(profile, question, holders, words))
    }

    /// Answers a question, of a profile that was [replayed](Profile::replay_for) for it.
    pub fn of(profile: &Profile, question: &Question) -> Self {
        let holders = match &question.when {
            When::Peak => snapshot(&profile.peak),
            When::End => snapshot(&profile.end),
            When::At(_) | When::Between(_) => {
                snapshot(profile.asked.as_ref().unwrap_or(&profile.end))
            }
            When::Growing => (Unit::BytesPerSecond, None, growing(profile)),
            When::Temporary(_) => (Unit::Bytes, None, profile.temporaries.clone()),
            When::Allocated => (Unit::Bytes, None, profile.allocated.clone()),
        };
        let words = words(profile, &question.when);
        Self::listing(profile, question, holders, words)
    }

    fn listing(
        profile: &Profile,
        question: &Question,
        (unit, at, mut holders): (Unit, Option<Nanos>, Vec<Holder>),
        words: String,
    ) -> Self {
        let listed = |holders: &[Holder]| {
            let bytes = holders.iter().map(|holder| holder.bytes);
            bytes.fold(0, u64::saturating_add)
        };
        holders.retain(|holder| question.kinds.contains(holder.kind));
        let of_bytes = listed(&holders);
        holders
            .retain(|holder| holder.bytes >= question.least && matches(profile, question, holder));
        holders.sort_by_key(|holder| std::cmp::Reverse((holder.bytes, holder.blocks)));
        let blocks = holders.iter().map(|holder| holder.blocks);
        Self {
            words,
            at,
            unit,
            bytes: listed(&holders),
            blocks: blocks.fold(0, u64::saturating_add),
            holders,
            of_bytes,
        }
    }
}

fn snapshot(snapshot: &Snapshot) -> (Unit, Option<Nanos>, Vec<Holder>) {
    (Unit::Bytes, Some(snapshot.at), snapshot.holders.clone())
}

/// Who grows, with the rate in the place of the bytes.
fn growing(profile: &Profile) -> Vec<Holder> {
    let live = profile.end.holders.iter();
    let live: std::collections::HashMap<_, _> =
        live.map(|holder| (holder.key(), holder.blocks)).collect();
    let growing = profile.growth.iter();
    growing
        .filter(|(key, _)| key.kind.makes_the_peak())
        .map(|(key, rate)| {
            let amount = Amount {
                bytes: rate.round() as u64,
                blocks: live.get(key).copied().unwrap_or(0),
            };
            Holder::of(*key, amount)
        })
        .collect()
}

/// Whether the filters of a question leave this holder. Its size and kind are not looked at.
pub(super) fn matches(profile: &Profile, question: &Question, holder: &Holder) -> bool {
    of_process(profile, question, holder)
        && of_thread(profile, question, holder)
        && (question.focus.is_none() && question.ignore.is_none() || {
            let frames = profile.frames(holder.stack).unwrap_or_default();
            let any = |regex: &regex::Regex| frames.iter().any(|frame| has(frame, regex));
            question.focus.as_ref().is_none_or(any) && !question.ignore.as_ref().is_some_and(any)
        })
}

fn of_process(profile: &Profile, question: &Question, holder: &Holder) -> bool {
    question.processes.is_empty()
        || profile.process(holder.process).is_some_and(|process| {
            let process = &process.process;
            let (pid, program) = (process.pid.to_string(), name::program(&process.command));
            question
                .processes
                .iter()
                .any(|wanted| *wanted == pid || *wanted == program)
        })
}

fn of_thread(profile: &Profile, question: &Question, holder: &Holder) -> bool {
    question.threads.is_empty()
        || holder.thread.is_some_and(|thread| {
            let tid = thread.0.to_string();
            let named = profile.thread_name(holder.process, thread);
            let mut wanted = question.threads.iter();
            wanted.any(|wanted| *wanted == tid || Some(wanted.as_str()) == named)
        })
}

fn has(frame: &NamedFrame<'_>, regex: &regex::Regex) -> bool {
    let module = frame.module.map(|module| module.path.to_string_lossy());
    [frame.function, frame.file, module.as_deref()]
        .into_iter()
        .flatten()
        .any(|text| regex.is_match(text))
}

fn words(profile: &Profile, when: &When) -> String {
    let point = |point: &Point| match point {
        Point::Offset(ns) => time::offset(ns.0),
        Point::Clock(unix_ns) => time::rfc3339(*unix_ns).unwrap_or_default(),
        Point::Mark(name) => format!("`{}`", words::printable(name)),
    };
    match when {
        When::Peak => "at the peak".to_owned(),
        When::End => "at the end".to_owned(),
        When::At(at @ Point::Mark(_)) => format!("live at {}", point(at)),
        When::At(_) => "live".to_owned(),
        When::Between(Window::Points(from, to)) => format!(
            "allocated from {} to {} and live then",
            from.as_ref().map_or_else(|| "the start".to_owned(), point),
            to.as_ref().map_or_else(|| "the end".to_owned(), point)
        ),
        When::Between(Window::Span(name)) => {
            format!(
                "allocated within `{}` and live at its end",
                words::printable(name)
            )
        }
        When::Growing => format!("growing, over {}", time::duration(profile.duration_ns())),
        When::Temporary(1) => "allocated and freed before the next allocation".to_owned(),
        When::Temporary(within) => {
            format!("allocated and freed before the next {within} allocations")
        }
        When::Allocated => "allocated in all".to_owned(),
    }
}

/// As programs are told; the members of `by_kind` in JSON.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Heap => "heap",
        Kind::Mapping => "mapping",
        Kind::ThreadStack => "thread_stack",
        Kind::Reserved => "reserved",
        Kind::File => "file",
        Kind::Shared => "shared",
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::ReplayError;
    use super::super::question::PointError;
    use super::super::replay::Threads;
    use super::super::script::{MIB, Script};
    use super::*;

    /// Two stacks; the first holds 3 MiB from 100 ms to 300 ms, the second 1 MiB more from 200 ms on.
    fn script() -> Script {
        let mut script = Script::launched("app");
        script.stack(1, &["row@src/table.c:12", "load@src/table.c:40"]);
        script.stack(2, &["log@src/log.c:1", "main@src/main.c:9"]);
        script.allocate(0, 100, 1, 3 * MIB);
        script.free_at(0, 300, |script| script.allocate(0, 200, 2, MIB));
        script.close(1000, "interrupted");
        script
    }

    fn ask(script: &Script, question: &Question) -> Answer {
        let entries = || script.entries.clone().into_iter().map(Ok);
        let profile = Profile::replay_for(entries(), question, Threads::Together).unwrap();
        let answer = Answer::of(&profile, question);
        let alone = Profile::replay_for_answer(entries(), question, Threads::Together).unwrap();
        let of_it = Answer::of(&alone, question);
        assert_eq!(
            (&of_it.holders, of_it.of_bytes, alone.totals),
            (&answer.holders, answer.of_bytes, profile.totals),
            "a view of this alone"
        );
        for (moment, all) in [(&alone.peak, &profile.peak), (&alone.end, &profile.end)] {
            assert_eq!(
                (moment.at, moment.bytes, moment.by_kind),
                (all.at, all.bytes, all.by_kind)
            );
        }
        answer
    }

    fn of(when: When) -> Question {
        Question {
            when,
            ..Question::default()
        }
    }

    fn at(text: &str) -> Result<Question, PointError> {
        Point::parse(text).map(|point| of(When::At(point)))
    }

    fn between(text: &str) -> Result<Question, PointError> {
        Window::parse(text).map(|window| of(When::Between(window)))
    }

    fn held(answer: &Answer) -> Vec<(u32, u64)> {
        let holders = answer.holders.iter();
        holders
            .map(|holder| (holder.stack.0, holder.bytes))
            .collect()
    }

    #[test]
    fn a_moment_shows_what_was_live_then() {
        let held = |text| held(&ask(&script(), &at(text).unwrap()));
        assert_eq!(held("+50ms"), []);
        assert_eq!(held("+150ms"), [(1, 3 * MIB)]);
        assert_eq!(held("+250ms"), [(1, 3 * MIB), (2, MIB)]);
        assert_eq!(held("+350ms"), [(2, MIB)]);
        // The script starts at 03:04:05.5.
        assert_eq!(held("2026-01-02T03:04:05.65Z"), [(1, 3 * MIB)]);
    }

    #[test]
    fn peak_end_and_all_that_was_allocated_have_their_holders() {
        let held = |when| held(&ask(&script(), &of(when)));
        assert_eq!(held(When::Peak), [(1, 3 * MIB), (2, MIB)]);
        assert_eq!(held(When::End), [(2, MIB)]);
        assert_eq!(held(When::Allocated), [(1, 3 * MIB), (2, MIB)]);
        assert_eq!(held(When::Temporary(9)), [(1, 3 * MIB)]);
    }

    #[test]
    fn a_moment_beyond_the_recording_is_refused() {
        for beyond in ["+1h", "2026-01-03T00:00:00Z"] {
            let entries = script().entries.into_iter().map(Ok);
            let asked = at(beyond).unwrap();
            let error = Profile::replay_for(entries, &asked, Threads::Together).unwrap_err();
            assert!(
                error.to_string().contains("goes from +0s to +1.0"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_window_shows_what_came_in_it_and_was_live_at_its_end() {
        let held = |text| held(&ask(&script(), &between(text).unwrap()));
        assert_eq!(held("..+250ms"), [(1, 3 * MIB), (2, MIB)]);
        assert_eq!(held("+150ms..+250ms"), [(2, MIB)]);
        assert_eq!(held("+50ms..+350ms"), [(2, MIB)]);
        assert_eq!(held("+50ms..+150ms"), [(1, 3 * MIB)]);
        assert_eq!(held("+250ms.."), []);
    }

    #[test]
    fn filters_leave_what_matches_and_say_of_how_much() {
        let regex = |text| Some(regex::Regex::new(text).unwrap());
        let focused = Question {
            focus: regex("^lo"),
            ignore: regex(r"log\.c$"),
            ..Question::default()
        };
        let answer = ask(&script(), &focused);
        assert_eq!(held(&answer), [(1, 3 * MIB)]);
        assert_eq!((answer.bytes, answer.of_bytes), (3 * MIB, 4 * MIB));
        let large = Question {
            least: 2 * MIB,
            ..Question::default()
        };
        assert_eq!(held(&ask(&script(), &large)), [(1, 3 * MIB)]);
        let other = Question {
            processes: vec!["other".into()],
            ..Question::default()
        };
        assert_eq!(held(&ask(&script(), &other)), []);
        let ours = Question {
            processes: vec!["app".into()],
            threads: vec!["4242".into()],
            ..Question::default()
        };
        assert_eq!(ask(&script(), &ours).bytes, 4 * MIB);
    }

    #[test]
    fn what_grows_is_told_with_its_rate_and_what_fills_and_stays_is_not() {
        let mut script = Script::launched("app");
        for second in 0..20 {
            script.allocate(0, second * 1000 + 1, 1, MIB);
            if second < 6 {
                script.allocate(0, second * 1000 + 2, 2, 50 * MIB);
            }
            for part in 0..20 {
                script.allocate(0, second * 1000 + 10 + part * 40, 3, 10 * MIB);
                script.free_last(0, second * 1000 + 40 + part * 40);
            }
        }
        script.close(20_000, "interrupted");
        let answer = ask(&script, &of(When::Growing));
        assert_eq!(answer.holders.len(), 1, "{answer:?}");
        assert_eq!(answer.holders[0].stack.0, 1);
        let rate = answer.bytes as f64 / MIB as f64;
        assert!((rate - 1.0).abs() < 0.1, "{rate} MiB/s");
    }

    #[test]
    fn a_mark_that_is_not_there_is_an_error_that_names_those_that_are() {
        let entries = script().entries.into_iter().map(Ok);
        let error = Profile::replay_for(entries, &at("warm").unwrap(), Threads::Together);
        assert!(
            matches!(&error, Err(ReplayError::NoMark { name, .. }) if name == "warm"),
            "{error:?}"
        );
    }
}
