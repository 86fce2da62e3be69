//! A list that grows without being moved.
//!
//! A million holders are some two hundred megabytes. A vector that outgrows its room needs twice as much for the moment in
//! which it is copied, and then has room for another million. So after the first chunk, which grows as a vector does, more chunks of
//! one size follow.

use std::ops::{Index, IndexMut};

/// Values of a chunk.
const CHUNK: usize = 4096;

/// Values by index.
#[derive(Clone, Debug)]
pub(super) struct Chunks<V> {
    chunks: Vec<Vec<V>>,
}

impl<V> Default for Chunks<V> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<V> Chunks<V> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self.chunks.split_last() {
            None => 0,
            Some((last, full)) => full.len() * CHUNK + last.len(),
        }
    }

    /// One more, with the next index.
    pub(super) fn push(&mut self, value: V) {
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            let room = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        if let Some(last) = self.chunks.last_mut() {
            last.push(value);
        }
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &V> {
        self.chunks.iter().flatten()
    }

    /// All of them, in order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.chunks.iter_mut().flatten()
    }
}

impl<V> Index<usize> for Chunks<V> {
    type Output = V;

    fn index(&self, index: usize) -> &V {
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl<V> IndexMut<usize> for Chunks<V> {
    fn index_mut(&mut self, index: usize) -> &mut V {
        &mut self.chunks[index / CHUNK][index % CHUNK]
    }
}

impl<V> FromIterator<V> for Chunks<V> {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        let mut chunks = Self::default();
        values.into_iter().for_each(|value| chunks.push(value));
        chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_vector_to_whoever_asks() {
        for count in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7] {
            let mut chunks: Chunks<usize> = (0..count).collect();
            assert_eq!(chunks.len(), count);
            assert!(chunks.iter().copied().eq(0..count));
            chunks.iter_mut().for_each(|value| *value *= 2);
            for index in 0..count {
                chunks[index] += 1;
                assert_eq!(chunks[index], 2 * index + 1);
            }
        }
    }
}
