//! What is kept of things that come without end, in bounded memory.

use std::{collections::HashMap, hash::Hash, mem};

/// Keeps what was used lately, in two generations: what is used in the old one comes to the young one; a young one that is full
/// becomes the old one, and what nobody has used since the last such moment goes. A generation is full with `most` entries, or
/// with `most_bytes`. So the last entries used stay, at least as many as fill one, and at most as many as fill two.
pub(crate) struct Kept<K, V> {
    young: HashMap<K, Held<V>>,
    old: HashMap<K, Held<V>>,
    /// What the young ones take, bytes.
    young_bytes: usize,
    most: usize,
    most_bytes: usize,
}

/// A value, and what it takes.
struct Held<V> {
    value: V,
    bytes: usize,
}

impl<K: Eq + Hash + Copy, V: Clone> Kept<K, V> {
    /// Keeps nothing yet.
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            most,
            most_bytes,
        }
    }

    /// Whether it is kept.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    /// What is kept of this, which is used hereby, and the keys that had to go for it.
    pub(crate) fn get(&mut self, key: &K) -> (Option<V>, Vec<K>) {
        if let Some(held) = self.young.get(key) {
            return (Some(held.value.clone()), Vec::new());
        }
        let Some(Held { value, bytes }) = self.old.remove(key) else {
            return (None, Vec::new());
        };
        (Some(value.clone()), self.insert(*key, value, bytes))
    }

    /// Keeps something that takes so many bytes. Returns the keys that had to go for it.
    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) -> Vec<K> {
        let mut gone = Vec::new();
        let is_full = self.young.len() >= self.most || self.young_bytes + bytes > self.most_bytes;
        // What is larger than all the room is the only one of its generation.
        if is_full && !self.young.is_empty() {
            let young = mem::take(&mut self.young);
            self.young_bytes = 0;
            gone = mem::replace(&mut self.old, young).into_keys().collect();
        }
        self.young_bytes += bytes;
        self.young.insert(key, Held { value, bytes });
        gone
    }

    /// Lets go of all others.
    pub(crate) fn retain(&mut self, stays: impl Fn(&K) -> bool) {
        self.young.retain(|key, _| stays(key));
        self.old.retain(|key, _| stays(key));
        self.young_bytes = self.young.values().map(|held| held.bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Held against a list of all keys in the order of their last use.
        #[test]
        fn what_was_used_lately_is_kept_and_what_goes_is_told(
            uses in prop::collection::vec((any::<bool>(), 0_u8..40), 1..400),
            most in 1_usize..12,
        ) {
            let mut kept = Kept::new(most, usize::MAX);
            let mut by_use: Vec<u8> = Vec::new();
            for (inserts, key) in uses {
                let there = kept.contains(&key);
                let gone = if inserts && !there {
                    kept.insert(key, key, 1)
                } else {
                    let (value, gone) = kept.get(&key);
                    prop_assert_eq!(value, there.then_some(key));
                    gone
                };
                for gone in &gone {
                    prop_assert!(!kept.contains(gone));
                }
                if inserts || there {
                    by_use.retain(|other| *other != key && !gone.contains(other));
                    by_use.push(key);
                }
                prop_assert!(by_use.iter().all(|key| kept.contains(key)));
                prop_assert!(by_use.len() <= 2 * most);
                prop_assert_eq!(kept.young.len() + kept.old.len(), by_use.len());
            }
        }

        #[test]
        fn the_last_ones_used_never_go(keys in prop::collection::vec(0_u16..1000, 1..300), most in 1_usize..12) {
            let mut kept = Kept::new(most, usize::MAX);
            for (at, key) in keys.iter().enumerate() {
                if !kept.contains(key) {
                    kept.insert(*key, (), 1);
                } else {
                    kept.get(key);
                }
                let mut last: Vec<u16> = keys[..=at].iter().rev().copied().collect();
                last.truncate(most);
                prop_assert!(last.iter().all(|key| kept.contains(key)));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_takes_no_more_than_two_generations_may(
            sizes in prop::collection::vec(0_usize..50, 1..200), most_bytes in 50_usize..300,
        ) {
            let mut kept = Kept::new(usize::MAX, most_bytes);
            for (key, &bytes) in sizes.iter().enumerate() {
                kept.insert(key, (), bytes);
                let all: usize = kept.young.values().chain(kept.old.values()).map(|held| held.bytes).sum();
                prop_assert!(all <= 2 * most_bytes);
                // The last ones that have room in one generation are there.
                let mut left = most_bytes;
                for (key, &bytes) in sizes[..=key].iter().enumerate().rev() {
                    let Some(rest) = left.checked_sub(bytes) else { break };
                    left = rest;
                    prop_assert!(kept.contains(&key));
                }
            }
        }
    }

    #[test]
    fn what_is_let_go_of_is_gone() {
        let mut kept = Kept::new(2, usize::MAX);
        for key in 0..4 {
            kept.insert(key, (), 1);
        }
        kept.retain(|key| key % 2 == 0);
        assert!(
            [(0, true), (1, false), (2, true), (3, false)]
                .iter()
                .all(|(key, there)| kept.contains(key) == *there)
        );
    }
}
