//! What the page is told, as JSON.
//!
//! Holders are columns, one entry a holder. A *view* has what each of them held at a moment that the recording knows to
//! the byte: the peak, the end, what was asked for; `lives` have what was live at the end of each era, as
//! [`Timeline`](crate::live::Timeline) says. Moments are nanoseconds since the start of the recording.
//!
//! A page of a hundred thousand stacks must still open at once. The holders that never held much come last, and those
//! beyond `MOST_HOLDERS`, or beyond the stacks that `MOST_NODES` leave room for, are added up into one `(other)` for
//! each process and kind: sums stay what they are. Lives beyond `MOST_LIVES` make eras longer, as in
//! the recording itself.

use std::collections::HashMap;

use serde::Serialize;

use super::super::answer::{Answer, Unit, kind_name};
use super::super::flamegraph::Order;
use super::super::model::Profile;
use super::super::name;
use super::super::question::{Question, When};
use super::super::statistics::{OfLifetime, OfSize, Statistics};
use super::super::text;
use super::super::view::View as Looked;
use super::curves;
use super::drafts::{drafts, flat, prune, step};
use super::trie::{Leaf, Trie, process_name};
use crate::event::ProcessId;
use crate::live::{Kind, Kinds};
use crate::units::{size, time};
use crate::words;

#[derive(Debug, Default, Serialize)]
pub(super) struct Data {
    pub(super) title: String,
    pub(super) command: String,
    pub(super) started: Option<String>,
    /// The same, milliseconds since 1970-01-01 UTC.
    pub(super) started_unix_ms: u64,
    pub(super) duration: u64,
    pub(super) trie: Trie,
    pub(super) processes: Vec<OfProcess>,
    pub(super) threads: Vec<String>,
    pub(super) kinds: Vec<&'static str>,
    /// Those that are shown at first.
    pub(super) chosen: Vec<bool>,
    pub(super) holders: Holders,
    pub(super) views: Vec<View>,
    /// Whether it starts with who asked.
    pub(super) inverted: bool,
    /// Whether the program's own code alone is looked at, at first.
    pub(super) own: bool,
    /// Frames of which languages are looked at, at first: a key of the page's `isLookedAt`.
    pub(super) looks_at: &'static str,
    /// Which view is shown at first.
    pub(super) first: usize,
    /// A difference has none.
    pub(super) timeline: Option<Eras>,
    /// Whether two recordings are compared: the first two views are after and before.
    pub(super) difference: bool,
    pub(super) rss: Vec<(u64, u64)>,
    /// What the memory cgroup was charged, if all processes are in one.
    pub(super) cgroup: Vec<(u64, u64)>,
    /// What was left of what was held before attach.
    pub(super) before: Vec<(u64, u64)>,
    pub(super) limit: Option<u64>,
    pub(super) marks: Vec<(String, u64, Option<u64>)>,
    pub(super) growth: f64,
    pub(super) seconds_to_limit: Option<f64>,
    /// Whether it makes sizes wrong, and what is said.
    pub(super) trust: Vec<(bool, String)>,
    /// What all blocks were like; not known of a folded recording.
    pub(super) blocks: Option<Blocks>,
    /// How many holders `(other)` stands for.
    pub(super) merged: usize,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Holders {
    node: Vec<u32>,
    /// Which frame of the stack is the holder, counted from the leaf.
    telling: Vec<u32>,
    process: Vec<u32>,
    /// Of `threads`; -1 where it is not known, or several are one holder.
    thread: Vec<i64>,
    kind: Vec<u8>,
    /// Of the whole stack, told by one of its holders.
    growth: Vec<f64>,
    thread_growth: Vec<f64>,
    /// Era born, era gone (-1: never), bytes, blocks; and so on.
    lives: Vec<Vec<i64>>,
}

#[derive(Debug, Serialize)]
pub(super) struct OfProcess {
    name: String,
    /// At its own high-water mark, bytes.
    peak: u64,
    peak_at: u64,
    /// Of its peak, what it had from its parent as it was forked.
    inherited: u64,
    /// At its end.
    end: u64,
    /// At its end, as far as the kernel said.
    rss: Option<u64>,
    /// What it had resident; of a process alone that is the curve of all.
    curve: Vec<(u64, u64)>,
}

impl OfProcess {
    fn of(profile: &Profile, process: ProcessId) -> Self {
        let known = profile.process(process);
        let peak = known.map(|known| &known.peak);
        Self {
            name: process_name(profile, process),
            peak: peak.map_or(0, |peak| peak.bytes),
            peak_at: peak.map_or(0, |peak| profile.since_start(peak.at).0),
            inherited: peak.map_or(0, |peak| peak.inherited_bytes),
            end: known.map_or(0, |known| known.end.bytes),
            rss: known.and_then(|known| known.memory.end.rss),
            curve: known.map_or_else(Vec::new, |known| curves::rss_of(profile, known)),
        }
    }
}

/// What all blocks were like, whoever asked for them and when.
#[derive(Debug, Serialize)]
pub(super) struct Blocks {
    allocations: u64,
    allocated_bytes: u64,
    temporary: u64,
    sizes: Vec<OfSize>,
    lifetimes: Vec<OfLifetime>,
}

impl Blocks {
    fn of(statistics: &Statistics) -> Self {
        let all = statistics.all();
        Self {
            allocations: all.blocks,
            allocated_bytes: all.bytes,
            temporary: statistics.temporary(),
            sizes: statistics.sizes(),
            lifetimes: statistics.lifetimes(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct View {
    pub(super) name: &'static str,
    pub(super) words: String,
    pub(super) rate: bool,
    pub(super) at: Option<u64>,
    pub(super) bytes: Vec<u64>,
    pub(super) blocks: Vec<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Eras {
    begins: u64,
    width: u64,
    /// How many of them are one in `lives`.
    step: u64,
    highest: Vec<u64>,
    end: Vec<u64>,
}

impl Holders {
    /// One of no process, of no thread, without a history.
    pub(super) fn push(&mut self, leaf: Leaf, kind: Kind) {
        self.node.push(leaf.node);
        self.telling.push(leaf.telling);
        self.process.push(0);
        self.thread.push(-1);
        self.kind.push(kind as u8);
        self.growth.push(0.0);
        self.thread_growth.push(0.0);
        self.lives.push(Vec::new());
    }
}

impl Data {
    pub(super) fn of(profile: &Profile, question: &Question, order: Order) -> Self {
        let (views, first) = views(profile, question);
        let drafts = drafts(profile, question, &views);
        let (drafts, trie, leaves, merged) = prune(profile, drafts);
        let step = step(&drafts);
        let mut threads: Names<_, String> = Names::default();
        let mut processes: Names<ProcessId, OfProcess> = Names::default();
        let mut holders = Holders::default();
        for (draft, leaf) in drafts.iter().zip(leaves) {
            let key = draft.key;
            let thread = key.thread.map(|thread| {
                let label = match profile.thread_name(key.process, thread) {
                    Some(named) => format!("{} (tid {})", words::printable(named), thread.0),
                    None => format!("tid {}", thread.0),
                };
                i64::from(threads.number((key.process, thread.0), || label))
            });
            let process = processes.number(key.process, || OfProcess::of(profile, key.process));
            holders.node.push(leaf.node);
            holders.telling.push(leaf.telling);
            holders.process.push(process);
            holders.thread.push(thread.unwrap_or(-1));
            holders.kind.push(key.kind as u8);
            holders.growth.push(draft.growth.round());
            holders.thread_growth.push(draft.thread_growth.round());
            holders.lives.push(flat(&draft.lives, step));
        }
        let column = |view: usize, part: fn(&(u64, u64)) -> u64| -> Vec<u64> {
            drafts
                .iter()
                .map(|draft| part(&draft.amounts[view]))
                .collect()
        };
        let views = views
            .iter()
            .enumerate()
            .map(|(number, (name, answer))| View {
                name,
                words: answer.words.clone(),
                rate: answer.unit == Unit::BytesPerSecond,
                at: answer.at.map(|at| profile.since_start(at).0),
                bytes: column(number, |amount| amount.0),
                blocks: column(number, |amount| amount.1),
            });
        let timeline = &profile.timeline;
        let main = profile.main_process();
        Self {
            title: title(profile),
            command: main.map_or_else(String::new, |main| {
                words::printable(&main.process.command).into_owned()
            }),
            started: time::rfc3339_seconds(profile.opening.started_unix_ns),
            started_unix_ms: profile.opening.started_unix_ns / 1_000_000,
            duration: profile.duration_ns(),
            views: views.collect(),
            first,
            inverted: order == Order::LeafFirst,
            own: question.view != Looked::All,
            looks_at: match question.view {
                Looked::Python => "python",
                Looked::Native => "native",
                Looked::Telling | Looked::All => "telling",
            },
            trie,
            processes: processes.list,
            threads: threads.list,
            kinds: Kind::ALL.map(kind_name).to_vec(),
            chosen: Kind::ALL.map(|kind| question.kinds.contains(kind)).to_vec(),
            holders,
            timeline: Some(Eras {
                begins: profile.since_start(timeline.begins).0,
                width: timeline.width,
                step,
                highest: timeline.eras.iter().map(|era| era.highest).collect(),
                end: timeline.eras.iter().map(|era| era.end).collect(),
            }),
            difference: false,
            rss: curves::rss(profile),
            cgroup: curves::cgroup(profile),
            before: curves::before(profile),
            limit: profile
                .memory
                .end
                .cgroup_limit
                .or(profile.memory.peak.cgroup_limit),
            marks: profile
                .marks
                .iter()
                .map(|mark| {
                    let since = |at| profile.since_start(at).0;
                    let name = words::printable(&mark.name).into_owned();
                    (name, since(mark.at), mark.ended.map(since))
                })
                .collect(),
            growth: profile.growth_bytes_per_s(),
            seconds_to_limit: profile.seconds_to_limit(),
            trust: trust(profile, question),
            blocks: profile.statistics.as_ref().map(Blocks::of),
            merged,
        }
    }
}

pub(super) fn title(profile: &Profile) -> String {
    let Some(main) = profile.main_process() else {
        return "nothing".to_owned();
    };
    let program = name::program(&main.process.command);
    match profile.processes.len() {
        1 => format!("{program} (pid {})", main.process.pid),
        more => format!("{program} and {} more", more - 1),
    }
}

/// What the recording knows to the byte, and which of it was asked for.
fn views(profile: &Profile, question: &Question) -> (Vec<(&'static str, Answer)>, usize) {
    let mut asked = vec![
        ("peak", When::Peak),
        ("end", When::End),
        ("growing", When::Growing),
        ("allocated", When::Allocated),
    ];
    // Of a folded recording it is not known.
    if !profile.folded {
        let within = match question.when {
            When::Temporary(within) => within,
            _ => 1,
        };
        asked.push(("temporary", When::Temporary(within)));
    }
    let first = asked.iter().position(|(_, when)| *when == question.when);
    let first = first.unwrap_or_else(|| {
        asked.push(("asked", question.when.clone()));
        asked.len() - 1
    });
    let views = asked.into_iter().map(|(name, when)| {
        let question = Question {
            when,
            kinds: Kinds::ALL,
            least: 0,
            ..question.clone()
        };
        (name, Answer::of(profile, &question))
    });
    (views.collect(), first)
}

/// What is said of others, numbered by who they are of.
struct Names<K, T> {
    list: Vec<T>,
    numbers: HashMap<K, u32>,
}

impl<K, T> Default for Names<K, T> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<K: std::hash::Hash + Eq, T> Names<K, T> {
    fn number(&mut self, key: K, label: impl FnOnce() -> T) -> u32 {
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.list.push(label());
        }
        number
    }
}

/// What may be unexplained of a small process without a warning, bytes.
const SMALL: u64 = 16 << 20;

/// What must be known of the figures.
fn trust(profile: &Profile, question: &Question) -> Vec<(bool, String)> {
    let mut said = Vec::new();
    if let Some(reason) = profile.completion.cut_reason() {
        let at = time::offset(profile.since_start(profile.ended).0);
        said.push((
            true,
            format!("This recording stops early, at {at}: {reason}."),
        ));
    }
    if profile.sample_bytes().is_some() {
        let text = "Allocations were sampled: the sizes and counts here are estimates.";
        said.push((true, text.to_owned()));
    }
    said.extend(text::trust(profile));
    said.extend(books(profile));
    let asked = question.focus.is_some() || question.ignore.is_some() || question.least > 0;
    if asked || !question.threads.is_empty() || !question.processes.is_empty() {
        let text = "Filters were given on the command line: this page has only what they leave.";
        said.push((false, text.to_owned()));
    }
    said
}

/// How what was traced and what the kernel says add up at the peak; whether they do not.
fn books(profile: &Profile) -> Option<(bool, String)> {
    let peak = &profile.memory.peak;
    let resident = peak.rss?.saturating_add(peak.swap.unwrap_or(0));
    let (before, unexplained) = (peak.before_attach?, peak.unexplained?);
    let kept = profile.memory.explained(peak).kept;
    let kept = kept.and_then(|kept| u64::try_from(kept).ok());
    let kept = kept.filter(|kept| *kept > 0);
    let of_it = kept.map(|kept| format!(", of it {} freed and kept by malloc", size::short(kept)));
    let sign = if unexplained < 0 { "-" } else { "" };
    let text = format!(
        "At the peak the kernel counted {} resident and swapped: {} traced, {} held before attach, {sign}{} unexplained{}.",
        size::short(resident),
        size::short(peak.live),
        size::short(before),
        size::short(unexplained.unsigned_abs()),
        of_it.unwrap_or_default()
    );
    // Code, thread stacks and what the allocator keeps are some MiB, and a part of what is held.
    let much = (resident / 4).max(SMALL);
    let is_much = u64::try_from(unexplained)
        .is_ok_and(|bytes| bytes.saturating_sub(kept.unwrap_or(0)) > much);
    Some(match is_much {
        true => (true, format!("This does not add up. {text}")),
        false => (false, text),
    })
}
