//! What the page is told of two recordings.
//!
//! Stacks are found again by name, as [`difference`](super::super::difference) does. Of each there is what it held before and
//! after, and how much that differs, whether it grew or shrank: as wide as the difference, what changed most is largest.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::super::answer::{Answer, Unit, kind_name};
use super::super::flamegraph::Order;
use super::super::model::Profile;
use super::super::text;
use super::data::{Data, Holders, View, title};
use super::drafts::{MOST_HOLDERS, MOST_NODES};
use super::trie::{Leaf, Trie};
use crate::live::{Holder, Kind};
use crate::units::time;

/// Bytes and blocks.
type Amount = (u64, u64);

impl Data {
    pub(super) fn compared(
        before: (&Profile, &Answer),
        after: (&Profile, &Answer),
        order: Order,
    ) -> Self {
        let mut trie = Trie::new();
        let (mut rows, telling) = rows(&mut trie, before, after);
        let merged = rows.len().saturating_sub(MOST_HOLDERS);
        if merged > 0 {
            add_up(&mut trie, &mut rows);
        }
        let mut holders = Holders::default();
        for ((node, kind), _) in &rows {
            let telling = telling.get(node).copied().unwrap_or(0);
            holders.push(
                Leaf {
                    node: *node,
                    telling,
                },
                *kind,
            );
        }
        let rate = after.1.unit == Unit::BytesPerSecond;
        let view = |name, words: String, amount: &dyn Fn(&[Amount; 2]) -> Amount| {
            let amounts = rows.iter().map(|(_, amounts)| amount(amounts));
            let (bytes, blocks) = amounts.unzip();
            View {
                name,
                words,
                rate,
                at: None,
                bytes,
                blocks,
            }
        };
        let changed = |[before, after]: &[Amount; 2]| {
            (before.0.abs_diff(after.0), before.1.abs_diff(after.1))
        };
        let views = vec![
            view("after", format!("{}, after", after.1.words), &|row| row[1]),
            view("before", format!("{}, before", before.1.words), &|row| {
                row[0]
            }),
            view(
                "change",
                "changed: grown and shrunk, added up".to_owned(),
                &changed,
            ),
        ];
        let trust = [("Before", before.0), ("After", after.0)];
        let trust = trust.into_iter().flat_map(|(which, profile)| {
            let said = text::trust(profile).into_iter();
            let warnings = said.filter(|(is_warning, _)| *is_warning);
            warnings.map(move |(_, text)| (true, format!("{which}: {text}")))
        });
        Self {
            command: format!(
                "before: {}; after: {}",
                recorded(before.0),
                recorded(after.0)
            ),
            title: format!("{} → {}", title(before.0), title(after.0)),
            trie,
            kinds: Kind::ALL.map(kind_name).to_vec(),
            chosen: vec![true; Kind::ALL.len()],
            holders,
            views,
            inverted: order == Order::LeafFirst,
            // Their stacks have what was asked for already.
            looks_at: "telling",
            own: true,
            first: 2,
            difference: true,
            trust: trust.collect(),
            merged,
            ..Self::default()
        }
    }
}

/// `recorded 2026-01-02T03:04:05Z, over 12.5 s`
fn recorded(profile: &Profile) -> String {
    let over = time::duration(profile.duration_ns());
    match time::rfc3339_seconds(profile.opening.started_unix_ns) {
        Some(started) => format!("recorded {started}, over {over}"),
        None => format!("recorded over {over}"),
    }
}

/// What a stack held before and after.
type Row = ((u32, Kind), [Amount; 2]);

/// What each stack held before and after, largest first; which frame of it is the holder, by its node.
fn rows(
    trie: &mut Trie,
    before: (&Profile, &Answer),
    after: (&Profile, &Answer),
) -> (Vec<Row>, HashMap<u32, u32>) {
    let mut rows: HashMap<(u32, Kind), [Amount; 2]> = HashMap::new();
    let mut telling = HashMap::new();
    // The later one first: lines are those of its source.
    for (which, (profile, answer)) in [(1, after), (0, before)] {
        let mut holders: Vec<&Holder> = answer.holders.iter().collect();
        holders.sort_by_key(|holder| Reverse(holder.bytes));
        for holder in holders {
            let node = match trie.len() < MOST_NODES {
                true => {
                    let leaf = trie.compared(profile, holder.stack);
                    telling.entry(leaf.node).or_insert(leaf.telling);
                    leaf.node
                }
                false => trie.other_below(0),
            };
            let amount = &mut rows.entry((node, holder.kind)).or_default()[which];
            amount.0 = amount.0.saturating_add(holder.bytes);
            amount.1 = amount.1.saturating_add(holder.blocks);
        }
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(key, [before, after])| (Reverse(before.0.max(after.0)), *key));
    (rows, telling)
}

/// Adds up the stacks that there is no room for.
fn add_up(trie: &mut Trie, rows: &mut Vec<Row>) {
    let other = trie.other_below(0);
    for ((_, kind), amounts) in rows.split_off(MOST_HOLDERS) {
        let key = (other, kind);
        let at = match rows.iter().rposition(|(have, _)| *have == key) {
            Some(at) => at,
            None => {
                rows.push((key, Default::default()));
                rows.len() - 1
            }
        };
        for (sum, amount) in rows[at].1.iter_mut().zip(amounts) {
            sum.0 = sum.0.saturating_add(amount.0);
            sum.1 = sum.1.saturating_add(amount.1);
        }
    }
}
