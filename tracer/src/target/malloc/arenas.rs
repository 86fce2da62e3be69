//! Where chains of chunks begin and end.
//!
//! An arena's state (`struct malloc_state`) is told by what stands in it, relative to `bins`, which has not changed since
//! glibc 2.26 (<https://elixir.bootlin.com/glibc/glibc-2.36/source/malloc/malloc.c#L1817>):
//!
//! | from `bins` | |
//! |---|---|
//! | -96 | the lists of fast chunks |
//! | -16 | the top chunk |
//! | 0 | 127 bins, two words each: both name the place 16 bytes before where a bin is empty |
//! | 2048 | the next arena, in a ring |
//! | 2072 | how much memory it has |

use std::ops::Range;

use super::{Memory, Places};

const BINS: usize = 127;
/// Bins that are empty in any arena.
const LEAST_EMPTY: usize = 24;
const FAST_LISTS: usize = 10;
/// From `bins`, bytes.
const FAST_BEFORE: u64 = 96;
const TOP_BEFORE: u64 = 16;
const NEXT: u64 = 2048;
const SYSTEM: u64 = 2072;
const STATE_END: u64 = 2088;
/// How far into the state `bins` may be.
const BINS_IN_STATE: std::ops::RangeInclusive<u64> = 24..=128;

/// Heaps of threads begin at multiples of this, and are no longer.
pub(super) const HEAP: u64 = 64 << 20;
/// How long the head of a heap (`heap_info`) may be: 32 bytes, 48 since glibc 2.35.
const HEAP_HEADS: std::ops::RangeInclusive<u64> = 32..=64;

/// No address of a process is beyond this.
const HIGHEST: u64 = 1 << 57;
/// Most bytes of libc's data that are looked through.
const MOST_DATA: u64 = 1 << 20;
/// Most arenas of a process, and heaps of one.
const MOST_ARENAS: usize = 1 << 14;
const MOST_HEAPS: usize = 1 << 16;

/// One of glibc's arenas, as its `malloc_state` in the target's memory describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arena {
    state: u64,
    /// How far into its state `bins` is.
    bins: u64,
    top: u64,
    /// How much memory it has, bytes.
    pub(super) system: u64,
    /// The first chunks of the lists of fast chunks: those of 32 bytes, of 48, ...
    pub(super) fast: [u64; FAST_LISTS],
    next: u64,
    pub(super) is_main: bool,
}

/// All arenas of the malloc whose variables are in this mapping.
pub(super) fn ring(memory: &mut impl Memory, data: Range<u64>) -> Option<Vec<Arena>> {
    if data.start > HIGHEST {
        return None;
    }
    let length = data.end.checked_sub(data.start)?.min(MOST_DATA);
    let mut bytes = vec![0; length as usize];
    let mut words = vec![0_u64; bytes.len() / 8];
    // Page by page: some of them may never have been touched.
    for (number, (page, words)) in bytes
        .chunks_mut(4096)
        .zip(words.chunks_mut(512))
        .enumerate()
    {
        let read = memory.read(data.start + 4096 * number as u64, page);
        for (word, bytes) in words.iter_mut().zip(page[..read].as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
    }
    let last = words.len().checked_sub(STATE_END as usize / 8)?;
    (0..=last).find_map(|index| {
        let bins = data.start + 8 * index as u64;
        let next = words[index + NEXT as usize / 8];
        // The ring leads back to the state that these are the bins of, at once or by way of a heap.
        let is_next = BINS_IN_STATE.contains(&bins.wrapping_sub(next)) || in_heap(next).is_some();
        if !is_next || !are_bins(&words[index..index + 2 * BINS], bins) {
            return None;
        }
        BINS_IN_STATE
            .step_by(8)
            .find_map(|offset| follow(memory, bins.checked_sub(offset)?, offset))
    })
}

/// Whether these words are bins: some are empty, and the others have chunks.
fn are_bins(words: &[u64], at: u64) -> bool {
    let mut empty = 0;
    for (number, pair) in words.chunks_exact(2).enumerate() {
        let own = at.wrapping_add(16 * number as u64).wrapping_sub(16);
        match pair {
            [first, last] if *first == own && *last == own => empty += 1,
            [first, last]
                if first.is_multiple_of(16)
                    && last.is_multiple_of(16)
                    && *first > 0
                    && *last > 0 => {}
            _ => return false,
        }
    }
    empty >= LEAST_EMPTY
}

/// The arenas from this one around to it again.
fn follow(memory: &mut impl Memory, main: u64, bins: u64) -> Option<Vec<Arena>> {
    let mut arenas = Vec::new();
    let mut at = main;
    while arenas.len() < MOST_ARENAS {
        let arena = Arena::at(memory, at, bins, at == main)?;
        at = arena.next;
        arenas.push(arena);
        if at == main {
            return Some(arenas);
        }
        // The first heap of an arena names it.
        if word(memory, in_heap(at)?)? != at {
            return None;
        }
    }
    None
}

/// The heap that an arena of a thread is in, if it may be one.
fn in_heap(state: u64) -> Option<u64> {
    let heap = state & !(HEAP - 1);
    (heap > 0 && HEAP_HEADS.contains(&(state - heap))).then_some(heap)
}

fn words<const N: usize>(memory: &mut impl Memory, at: u64) -> Option<[u64; N]> {
    let mut bytes = [[0; 8]; N];
    let buffer = bytes.as_flattened_mut();
    let whole = memory.read(at, buffer) == buffer.len();
    whole.then(|| bytes.map(u64::from_le_bytes))
}

fn word(memory: &mut impl Memory, at: u64) -> Option<u64> {
    words::<1>(memory, at).map(|[word]| word)
}

impl Arena {
    fn at(memory: &mut impl Memory, state: u64, bins: u64, is_main: bool) -> Option<Self> {
        let at = state.checked_add(bins)?;
        if at > HIGHEST {
            return None;
        }
        let lists = at.checked_sub(FAST_BEFORE)?;
        let lists = words::<FAST_LISTS>(memory, lists)?;
        let has_lists = bins >= FAST_BEFORE + 8;
        Some(Self {
            state,
            bins,
            top: word(memory, at - TOP_BEFORE)?,
            system: word(memory, at + SYSTEM)?,
            fast: if has_lists { lists } else { [0; FAST_LISTS] },
            next: word(memory, at + NEXT)?,
            is_main,
        })
    }

    /// The arena as it is now, and its chains: from their first chunk to where the last one ends.
    pub(super) fn again(
        &self,
        memory: &mut impl Memory,
        places: &Places,
    ) -> Option<(Self, Vec<Range<u64>>)> {
        let now = Self::at(memory, self.state, self.bins, self.is_main)?;
        let regions = match self.is_main {
            true => vec![now.below_break(memory, places.below_break.clone()?)?],
            false => now.heaps(memory)?,
        };
        let possible = regions.iter().all(|region| region.end <= HIGHEST);
        possible.then_some((now, regions))
    }

    /// The memory of the main arena ends with its top chunk.
    fn below_break(&self, memory: &mut impl Memory, heap: Range<u64>) -> Option<Range<u64>> {
        let start = heap.start.checked_next_multiple_of(16)?;
        let header = word(memory, self.top.checked_add(8)?)?;
        let end = self.top.checked_add(header & !7)?;
        // It may have grown since its mapping was looked at, but not by this much.
        let most = heap.end.saturating_add(HEAP);
        (start <= self.top && end <= most).then_some(start..end)
    }

    /// The heaps of a thread's arena, the one with its top chunk first.
    fn heaps(&self, memory: &mut impl Memory) -> Option<Vec<Range<u64>>> {
        let first = in_heap(self.state)?;
        let head = self.state - first;
        let mut regions = Vec::new();
        let mut at = self.top & !(HEAP - 1);
        while regions.len() < MOST_HEAPS {
            let [arena, previous, size] = words::<3>(memory, at)?;
            if arena != self.state || size > HEAP || !size.is_multiple_of(4096) {
                return None;
            }
            let start = match at == first {
                true => (self.state + self.bins + STATE_END).next_multiple_of(16),
                false => at + head,
            };
            let end = at.checked_add(size).filter(|end| *end > start)?;
            regions.push(start..end);
            if previous == 0 {
                return Some(regions);
            }
            at = previous;
            if !at.is_multiple_of(HEAP) {
                return None;
            }
        }
        None
    }
}
