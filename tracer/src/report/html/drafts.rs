//! The holders of the page before it is known which are told apart.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::super::answer::{self, Answer};
use super::super::model::Profile;
use super::super::question::Question;
use super::trie::{Leaf, Trie};
use crate::event::ProcessId;
use crate::live::{Amount, Holder, HolderKey, Kind, Life};

/// Holders that are told apart.
pub(super) const MOST_HOLDERS: usize = 20_000;
/// Nodes of the trie after which no more holders are told apart.
pub(super) const MOST_NODES: usize = 150_000;
/// Which view is the end of the recording.
pub(super) const END: usize = 1;
/// Most lives of holders that a page carries; where there are more, time is told in coarser steps.
const MOST_LIVES: usize = 120_000;

/// A holder before it is known whether it is told apart.
pub(super) struct Draft {
    pub(super) key: HolderKey,
    /// Bytes and blocks in each view.
    pub(super) amounts: Vec<(u64, u64)>,
    /// Of the whole stack, told by the first of its holders; bytes a second.
    pub(super) growth: f64,
    /// Of this holder alone.
    pub(super) thread_growth: f64,
    pub(super) lives: Vec<Life>,
    /// The most that it ever held, as far as is known.
    most: u64,
}

/// Everybody that holds anything at any time, who held most first.
pub(super) fn drafts(
    profile: &Profile,
    question: &Question,
    views: &[(&'static str, Answer)],
) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut numbers: HashMap<HolderKey, usize> = HashMap::new();
    let mut number = |drafts: &mut Vec<Draft>, key: HolderKey| {
        *numbers.entry(key).or_insert_with(|| {
            drafts.push(Draft {
                key,
                amounts: vec![(0, 0); views.len()],
                growth: 0.0,
                thread_growth: 0.0,
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
            if *name == "growing" {
                drafts[at].thread_growth = holder.bytes as f64;
            } else if !matches!(*name, "allocated" | "temporary") {
                drafts[at].most = drafts[at].most.max(holder.bytes);
            }
        }
    }
    for lives in &profile.timeline.lives {
        let key = lives.key();
        let holder = Holder::of(key, Amount::default());
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
    if let Some(view) = views.iter().position(|(name, _)| *name == "growing") {
        tell_growth(profile, question, view, &mut drafts);
    }
    drafts
}

/// Threads that live briefly do not grow, yet what they leave behind may: so the growth of a stack is told once, by the
/// first of its holders.
fn tell_growth(profile: &Profile, question: &Question, view: usize, drafts: &mut [Draft]) {
    let mut stacks: HashMap<HolderKey, (usize, u64)> = HashMap::new();
    for at in 0..drafts.len() {
        let draft = &mut drafts[at];
        draft.amounts[view] = (0, 0);
        let stack = HolderKey {
            thread: None,
            ..draft.key
        };
        let (_, live_blocks) = draft.amounts[END];
        let of_thread = draft.thread_growth;
        let of_stack = profile.growth_of_stacks.get(&stack);
        let of_stack = of_stack.filter(|_| stack.kind.makes_the_peak());
        let is_first = !stacks.contains_key(&stack);
        let (first, blocks) = stacks.entry(stack).or_insert((at, 0));
        *blocks += live_blocks;
        // With some threads left out, what is known is how each of the others grows.
        if !question.threads.is_empty() {
            drafts[*first].growth += of_thread;
        } else if is_first {
            drafts[*first].growth = of_stack.map_or(0.0, |rate| rate.round());
        }
    }
    for (first, blocks) in stacks.into_values() {
        let draft = &mut drafts[first];
        if draft.growth > 0.0 {
            draft.amounts[view] = (draft.growth as u64, blocks);
        }
    }
}

/// Adds up the holders that there is no room for. Tells how many they were.
pub(super) fn prune(profile: &Profile, drafts: Vec<Draft>) -> (Vec<Draft>, Trie, Vec<Leaf>, usize) {
    let mut trie = Trie::new();
    let mut leaves = Vec::new();
    let mut kept = Vec::new();
    let mut others: BTreeMap<(ProcessId, Kind), Draft> = BTreeMap::new();
    let mut merged = 0;
    for draft in drafts {
        if kept.len() < MOST_HOLDERS && trie.len() < MOST_NODES {
            leaves.push(trie.stack(profile, draft.key));
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
        leaves.push(Leaf {
            node: trie.other(profile, process),
            telling: 0,
        });
        other.lives = coarser(&other.lives, 1);
        kept.push(other);
    }
    (kept, trie, leaves, merged)
}

impl Draft {
    fn add(&mut self, other: Self) {
        for (sum, amount) in self.amounts.iter_mut().zip(other.amounts) {
            sum.0 = sum.0.saturating_add(amount.0);
            sum.1 = sum.1.saturating_add(amount.1);
        }
        self.growth += other.growth;
        self.thread_growth += other.thread_growth;
        self.lives.extend(other.lives);
    }
}

/// How many eras must be one for the lives to be few enough.
pub(super) fn step(drafts: &[Draft]) -> u64 {
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

pub(super) fn flat(lives: &[Life], step: u64) -> Vec<i64> {
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
