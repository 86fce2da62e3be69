//! What the page is told, as JSON.
//!
//! Holders are columns, one entry a holder. A *view* has what each of them held at a moment that the recording knows to
//! the byte: the peak, the end, what was asked for; `lives` have what was live at the end of each era, as
//! [`Timeline`](crate::live::Timeline) says. Moments are nanoseconds since the start of the recording.
//!
//! A page of a hundred thousand stacks must still open at once. The holders that never held much come last, and those
//! beyond [`MOST_HOLDERS`], or beyond the stacks that [`MOST_NODES`] leave room for, are added up into one `(other)` for
//! each process and kind: sums stay what they are. Lives beyond [`MOST_LIVES`] make eras longer, as in
//! the recording itself.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::super::answer::{self, Answer, Unit, kind_name};
use super::super::flamegraph::Order;
use super::super::model::Profile;
use super::super::name;
use super::super::question::{Question, When};
use super::super::size;
use super::super::text;
use super::super::time;
use super::trie::{Trie, process_name};
use crate::event::{Nanos, ProcessId};
use crate::live::{Holder, HolderKey, Kind, Kinds, Life};

/// Holders that are told apart.
const MOST_HOLDERS: usize = 20_000;
/// Nodes of the trie after which no more holders are told apart.
const MOST_NODES: usize = 150_000;
/// Lives.
const MOST_LIVES: usize = 120_000;
/// Points of the RSS curve.
const MOST_SAMPLES: usize = 500;

#[derive(Debug, Serialize)]
pub(super) struct Data {
    title: String,
    command: String,
    started: Option<String>,
    duration: u64,
    trie: Trie,
    processes: Vec<String>,
    threads: Vec<String>,
    kinds: Vec<&'static str>,
    /// Those that are shown at first.
    chosen: Vec<bool>,
    holders: Holders,
    views: Vec<View>,
    /// Whether it starts with who asked.
    inverted: bool,
    /// Which view is shown at first.
    first: usize,
    timeline: Eras,
    rss: Vec<(u64, u64)>,
    limit: Option<u64>,
    marks: Vec<(String, u64, Option<u64>)>,
    growth: f64,
    seconds_to_limit: Option<f64>,
    /// Whether it makes sizes wrong, and what is said.
    trust: Vec<(bool, String)>,
    /// How many holders `(other)` stands for.
    merged: usize,
}

#[derive(Debug, Default, Serialize)]
struct Holders {
    node: Vec<u32>,
    process: Vec<u32>,
    /// Of `threads`; -1 where it is not known, or several are one holder.
    thread: Vec<i64>,
    kind: Vec<u8>,
    growth: Vec<f64>,
    /// Era born, era gone (-1: never), bytes, blocks; and so on.
    lives: Vec<Vec<i64>>,
}

#[derive(Debug, Serialize)]
struct View {
    name: &'static str,
    words: String,
    rate: bool,
    at: Option<u64>,
    bytes: Vec<u64>,
    blocks: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Eras {
    begins: u64,
    width: u64,
    /// How many of them are one in `lives`.
    step: u64,
    highest: Vec<u64>,
    end: Vec<u64>,
}

/// A holder before it is known whether it is told apart.
struct Draft {
    key: HolderKey,
    amounts: Vec<(u64, u64)>,
    growth: f64,
    lives: Vec<Life>,
    /// The most that it ever held, as far as is known.
    most: u64,
}

impl Data {
    pub(super) fn of(profile: &Profile, question: &Question, order: Order) -> Self {
        let (views, first) = views(profile, question);
        let drafts = drafts(profile, question, &views);
        let (drafts, trie, nodes, merged) = prune(profile, drafts);
        let step = step(&drafts);
        let mut threads = Names::default();
        let mut processes = Names::default();
        let mut holders = Holders::default();
        for (draft, node) in drafts.iter().zip(nodes) {
            let key = draft.key;
            let thread = key.thread.map(|thread| {
                let label = match profile.thread_name(key.process, thread) {
                    Some(named) => format!("{} (tid {})", name::printable(named), thread.0),
                    None => format!("tid {}", thread.0),
                };
                i64::from(threads.number((key.process, thread.0), || label))
            });
            let process = processes.number(key.process, || process_name(profile, key.process));
            holders.node.push(node);
            holders.process.push(process);
            holders.thread.push(thread.unwrap_or(-1));
            holders.kind.push(key.kind as u8);
            holders.growth.push(draft.growth.round());
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
                name::printable(&main.process.command).into_owned()
            }),
            started: time::rfc3339_seconds(profile.opening.started_unix_ns),
            duration: profile.duration_ns(),
            views: views.collect(),
            first,
            inverted: order == Order::LeafFirst,
            trie,
            processes: processes.list,
            threads: threads.list,
            kinds: Kind::ALL.map(kind_name).to_vec(),
            chosen: Kind::ALL.map(|kind| question.kinds.contains(kind)).to_vec(),
            holders,
            timeline: Eras {
                begins: profile.since_start(timeline.begins).0,
                width: timeline.width,
                step,
                highest: timeline.eras.iter().map(|era| era.highest).collect(),
                end: timeline.eras.iter().map(|era| era.end).collect(),
            },
            rss: rss(profile),
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
                    let name = name::printable(&mark.name).into_owned();
                    (name, since(mark.at), mark.ended.map(since))
                })
                .collect(),
            growth: profile.growth_bytes_per_s(),
            seconds_to_limit: profile.seconds_to_limit(),
            trust: trust(profile, question),
            merged,
        }
    }
}

fn title(profile: &Profile) -> String {
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

/// Everybody that holds anything at any time, who held most first.
fn drafts(profile: &Profile, question: &Question, views: &[(&'static str, Answer)]) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut numbers: HashMap<HolderKey, usize> = HashMap::new();
    let mut number = |drafts: &mut Vec<Draft>, key: HolderKey| {
        *numbers.entry(key).or_insert_with(|| {
            drafts.push(Draft {
                key,
                amounts: vec![(0, 0); views.len()],
                growth: profile.growth.get(&key).copied().unwrap_or(0.0),
                lives: Vec::new(),
                most: 0,
            });
            drafts.len() - 1
        })
    };
    for (view, (name, answer)) in views.iter().enumerate() {
        for holder in &answer.holders {
            let at = number(&mut drafts, holder.key());
            drafts[at].amounts[view] = (holder.bytes, holder.blocks);
            if *name != "allocated" {
                drafts[at].most = drafts[at].most.max(holder.bytes);
            }
        }
    }
    for lives in &profile.timeline.lives {
        let key = lives.key();
        let holder = Holder {
            process: key.process,
            stack: key.stack,
            thread: key.thread,
            kind: key.kind,
            bytes: 0,
            error_bytes: 0,
            blocks: 0,
        };
        if lives.lives.is_empty() || !answer::matches(profile, question, &holder) {
            continue;
        }
        let at = number(&mut drafts, key);
        let levels = lives.levels(profile.timeline.eras.len());
        let most = levels.into_iter().max().unwrap_or(0);
        drafts[at].most = drafts[at].most.max(most);
        drafts[at].lives.clone_from(&lives.lives);
    }
    drafts.retain(|draft| draft.most >= question.least);
    let whole = |draft: &Draft| draft.amounts.iter().map(|amount| amount.0).max();
    drafts.sort_by_key(|draft| (Reverse((draft.most, whole(draft))), draft.key));
    drafts
}

/// Adds up the holders that there is no room for. Tells how many they were.
fn prune(profile: &Profile, drafts: Vec<Draft>) -> (Vec<Draft>, Trie, Vec<u32>, usize) {
    let mut trie = Trie::new();
    let mut nodes = Vec::new();
    let mut kept = Vec::new();
    let mut others: BTreeMap<(ProcessId, Kind), Draft> = BTreeMap::new();
    let mut merged = 0;
    for draft in drafts {
        if kept.len() < MOST_HOLDERS && trie.len() < MOST_NODES {
            nodes.push(trie.stack(profile, draft.key.process, draft.key.stack));
            kept.push(draft);
            continue;
        }
        merged += 1;
        match others.entry((draft.key.process, draft.key.kind)) {
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let mut draft = draft;
                draft.key.thread = None;
                vacant.insert(draft);
            }
            std::collections::btree_map::Entry::Occupied(mut other) => other.get_mut().add(draft),
        }
    }
    for ((process, _), mut other) in others {
        nodes.push(trie.other(profile, process));
        other.lives = coarser(&other.lives, 1);
        kept.push(other);
    }
    (kept, trie, nodes, merged)
}

impl Draft {
    fn add(&mut self, other: Self) {
        for (sum, amount) in self.amounts.iter_mut().zip(other.amounts) {
            sum.0 = sum.0.saturating_add(amount.0);
            sum.1 = sum.1.saturating_add(amount.1);
        }
        self.growth += other.growth;
        self.lives.extend(other.lives);
    }
}

/// How many eras must be one for the lives to be few enough.
fn step(drafts: &[Draft]) -> u64 {
    let mut step = 1;
    loop {
        let lives = drafts.iter().map(|draft| coarser(&draft.lives, step).len());
        if step >= 128 || lives.sum::<usize>() <= MOST_LIVES {
            return step;
        }
        step *= 2;
    }
}

/// Lives with `step` eras made one; of the same eras there is one.
fn coarser(lives: &[Life], step: u64) -> Vec<Life> {
    let era = |era: u16| (u64::from(era) / step) as u16;
    let mut sums: BTreeMap<(u16, Option<u16>), (u64, u64)> = BTreeMap::new();
    for life in lives {
        let (born, gone) = (era(life.born), life.gone.map(era));
        if gone != Some(born) {
            let sum = sums.entry((born, gone)).or_default();
            sum.0 = sum.0.saturating_add(life.bytes);
            sum.1 = sum.1.saturating_add(life.blocks);
        }
    }
    let sums = sums.into_iter();
    sums.map(|((born, gone), (bytes, blocks))| Life {
        born,
        gone,
        bytes,
        blocks,
    })
    .collect()
}

fn flat(lives: &[Life], step: u64) -> Vec<i64> {
    let number = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let lives = coarser(lives, step).into_iter();
    lives
        .flat_map(|life| {
            let gone = life.gone.map_or(-1, i64::from);
            [
                life.born.into(),
                gone,
                number(life.bytes),
                number(life.blocks),
            ]
        })
        .collect()
}

/// Labels, numbered by who they are of.
struct Names<K> {
    list: Vec<String>,
    numbers: HashMap<K, u32>,
}

impl<K> Default for Names<K> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            numbers: HashMap::new(),
        }
    }
}

impl<K: std::hash::Hash + Eq> Names<K> {
    fn number(&mut self, key: K, label: impl FnOnce() -> String) -> u32 {
        let next = self.list.len() as u32;
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.list.push(label());
        }
        number
    }
}

/// What all processes had resident, each by its latest sample.
fn rss(profile: &Profile) -> Vec<(u64, u64)> {
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

/// What must be known of the figures.
fn trust(profile: &Profile, question: &Question) -> Vec<(bool, String)> {
    let mut said = Vec::new();
    if let Some(reason) = profile.completion.cut_reason() {
        let at = time::offset(profile.since_start(profile.ended));
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
    said.extend(books(profile).map(|text| (false, text)));
    let asked = question.focus.is_some() || question.ignore.is_some() || question.least > 0;
    if asked || !question.threads.is_empty() || !question.processes.is_empty() {
        let text = "Filters were given on the command line: this page has only what they leave.";
        said.push((false, text.to_owned()));
    }
    said
}

/// How what was traced and what the kernel says add up at the peak.
fn books(profile: &Profile) -> Option<String> {
    let peak = &profile.memory.peak;
    let resident = peak.rss?.saturating_add(peak.swap.unwrap_or(0));
    let (before, unexplained) = (peak.before_attach?, peak.unexplained?);
    let sign = if unexplained < 0 { "-" } else { "" };
    Some(format!(
        "At the peak the kernel counted {} resident and swapped: {} traced, {} held before attach, {sign}{} unexplained.",
        size::short(resident),
        size::short(peak.live),
        size::short(before),
        size::short(unexplained.unsigned_abs())
    ))
}
