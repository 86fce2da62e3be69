//! A table that a process and its forked children share, until one of them changes something.

use std::hash::{BuildHasher, Hash};
use std::mem;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

#[cfg(test)]
mod tests;

/// A layer stays apart from the one above it if it has at least so many times its entries.
const RATIO: usize = 4;

/// A layer of fewer entries counts as one of so many. In tests few, so that short histories have many layers.
const SMALLEST: usize = if cfg!(test) { 2 } else { 64 };

/// A hash table of which [`fork`](Self::fork) makes a second one without copying it.
///
/// Before the first fork it is one hash table, `own`. A fork freezes that table as a layer, which nobody changes any more, and
/// gives parent and child an empty one each. From then on `own` holds what changed since: a new value, or `None` where
/// the value of the layers below is not valid here. What is not in `own` is looked up in the layers, from the latest to
/// the oldest. A layer is freed with the last table that can reach it.
///
/// # Why this stays cheap, however many generations fork
///
/// *A fork* copies no value that did not change: it moves `own` into a new layer. Without changes since the last fork not even a
/// layer is made.
///
/// *A lookup* passes few layers. As a layer is made, the one below is joined with it, unless it is [`RATIO`] times as large or more
/// (the smaller one counting as [`SMALLEST`] entries at least). So in any chain each layer has four times the entries of the one
/// above, whoever forked: with n entries in the lowest, there are at most 1 + log₄(n / 64) layers: 9 for four
/// million, 12 for a thousand million.
///
/// *Joining* costs what changed. A layer that others use is copied for it only if it has less than four times the entries that
/// are put on it, so each change pays for at most four copies in each of those few layers. One that nobody else uses any more
/// (the children have ended) is not copied: what changed is written into it.
///
/// *After the fork* a table comes back to being one hash table as soon as that is cheap: when `own` has as many entries as all
/// layers below it together (they are joined, at a cost that the changes have paid), or when the children have ended, which is
/// looked at whenever `own` is full and before each fork. The copies that are made are thus at most as large as
/// what the process itself changed, times the number of layers.
///
/// # What always holds
///
/// A `None`, in `own` or in a layer, lies above a value: what is removed and was never shared leaves nothing behind.
/// In the lowest layer, and in a table without layers, there is none.
#[derive(Debug)]
pub(crate) struct ForkMap<K, V, S> {
    own: HashMap<K, Option<V>, S>,
    below: Option<Arc<Layer<K, V, S>>>,
    /// [`fork`](Self::fork) made it, and `own` has been what changed since, and nothing else.
    is_as_forked: bool,
}

/// What one process changed between two forks; frozen.
#[derive(Debug)]
struct Layer<K, V, S> {
    changed: HashMap<K, Option<V>, S>,
    below: Option<Arc<Self>>,
    /// Entries of it and of all layers below.
    entries: usize,
}

impl<K, V, S: Default> Default for ForkMap<K, V, S> {
    fn default() -> Self {
        Self {
            own: HashMap::default(),
            below: None,
            is_as_forked: false,
        }
    }
}

impl<K: Copy + Eq + Hash, V: Copy, S: BuildHasher + Clone + Default> ForkMap<K, V, S> {
    /// The value of this key.
    #[inline]
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        match self.own.get(key) {
            Some(value) => *value,
            None => self.below.as_ref()?.get(key),
        }
    }

    /// Sets the value of a key, and gives the one it had.
    #[inline]
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.own.insert(key, Some(value)) {
            Some(old) => old,
            None if self.below.is_none() => None,
            None => {
                let old = self.inherited(&key);
                self.settle();
                old
            }
        }
    }

    /// Removes a key, and gives the value it had.
    #[inline]
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        match self.below {
            None => self.own.remove(key).flatten(),
            Some(_) => self.remove_above_layers(*key),
        }
    }

    #[cold]
    fn remove_above_layers(&mut self, key: K) -> Option<V> {
        let Some(inherited) = self.inherited(&key) else {
            return self.own.remove(&key).flatten();
        };
        match self.own.insert(key, None) {
            Some(old) => old,
            None => {
                self.settle();
                Some(inherited)
            }
        }
    }

    /// Lets `change` look at the value of a key and set, change or remove it.
    #[inline]
    pub(crate) fn update<R>(&mut self, key: K, change: impl FnOnce(&mut Option<V>) -> R) -> R {
        match self.own.entry(key) {
            Entry::Occupied(mut entry) => {
                let result = change(entry.get_mut());
                let is_inherited = |below: &Arc<Layer<K, V, S>>| below.get(&key).is_some();
                if entry.get().is_none() && !self.below.as_ref().is_some_and(is_inherited) {
                    entry.remove();
                }
                result
            }
            Entry::Vacant(entry) => {
                let inherited = self.below.as_ref().and_then(|below| below.get(&key));
                let mut value = inherited;
                let result = change(&mut value);
                if value.is_some() || inherited.is_some() {
                    entry.insert(value);
                    self.settle();
                }
                result
            }
        }
    }

    /// All keys with their values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, V)> {
        let own = self.own.iter();
        let own = own.filter_map(|(key, value)| Some((*key, (*value)?)));
        let layers = Layer::chain(self.below.as_deref());
        let inherited = layers.flat_map(move |layer| {
            layer.changed.iter().filter_map(move |(key, value)| {
                let value = (*value)?;
                let above = Layer::chain(self.below.as_deref());
                let mut above = above.take_while(|above| !std::ptr::eq(*above, layer));
                let is_hidden = self.own.contains_key(key)
                    || above.any(|above| above.changed.contains_key(key));
                (!is_hidden).then_some((*key, value))
            })
        });
        own.chain(inherited)
    }

    /// What was set since [`fork`](Self::fork) made this table, as far as it was not removed again: all else that is in it was in
    /// it then. `None` where that cannot be told any more, or the table was not made so.
    pub(crate) fn set_since_fork(&self) -> Option<impl Iterator<Item = (K, V)>> {
        let own = self.own.iter();
        let own = own.filter_map(|(key, value)| Some((*key, (*value)?)));
        self.is_as_forked.then_some(own)
    }

    /// A second table with the same keys and values; what is changed in one of them does not show in the other.
    pub(crate) fn fork(&mut self) -> Self {
        self.freeze();
        Self {
            own: HashMap::default(),
            below: self.below.clone(),
            is_as_forked: true,
        }
    }

    /// Makes a layer of what changed.
    fn freeze(&mut self) {
        let goes_in = |layer: &Arc<Layer<K, V, S>>, own: usize| {
            Arc::strong_count(layer) == 1 || layer.changed.len() < RATIO * own.max(SMALLEST)
        };
        while !self.own.is_empty()
            && self
                .below
                .as_ref()
                .is_some_and(|layer| goes_in(layer, self.own.len()))
        {
            self.join();
        }
        if !self.own.is_empty() {
            self.is_as_forked = false;
            let below = self.below.take();
            let entries = self.own.len() + below.as_ref().map_or(0, |below| below.entries);
            self.below = Some(Arc::new(Layer {
                changed: mem::take(&mut self.own),
                below,
                entries,
            }));
        }
    }

    /// Goes back to one table where that is cheap. Called whenever `own` got another entry.
    #[inline]
    fn settle(&mut self) {
        if let Some(below) = &self.below {
            let has_outgrown = self.own.len() >= below.entries;
            let is_full = self.own.len() == self.own.capacity();
            if has_outgrown || is_full && Arc::strong_count(below) == 1 {
                self.settle_now(has_outgrown);
            }
        }
    }

    #[cold]
    fn settle_now(&mut self, has_outgrown: bool) {
        while let Some(below) = &self.below
            && (has_outgrown || Arc::strong_count(below) == 1)
        {
            self.join();
        }
    }

    /// Makes the topmost layer and `own` one table, which is `own` from then on.
    fn join(&mut self) {
        let Some(layer) = self.below.take() else {
            return;
        };
        self.is_as_forked = false;
        let (mut joined, below) = match Arc::try_unwrap(layer) {
            Ok(layer) => (layer.changed, layer.below),
            Err(shared) => (shared.changed.clone(), shared.below.clone()),
        };
        self.below = below;
        for (key, value) in mem::take(&mut self.own) {
            if value.is_some() || self.inherited(&key).is_some() {
                joined.insert(key, value);
            } else {
                joined.remove(&key);
            }
        }
        self.own = joined;
    }

    /// The value that the layers have for this key.
    fn inherited(&self, key: &K) -> Option<V> {
        self.below.as_ref()?.get(key)
    }
}

impl<K: Eq + Hash, V: Copy, S: BuildHasher> Layer<K, V, S> {
    /// These layers, from the latest to the oldest.
    fn chain(first: Option<&Self>) -> impl Iterator<Item = &Self> {
        std::iter::successors(first, |layer| layer.below.as_deref())
    }

    #[inline(never)]
    fn get(&self, key: &K) -> Option<V> {
        let found = Self::chain(Some(self)).find_map(|layer| layer.changed.get(key));
        found.copied().flatten()
    }
}
