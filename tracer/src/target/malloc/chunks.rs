//! From one chunk to the next.
//!
//! A chunk begins with two words: how long the chunk before it is (told only where that is free), and how long it is
//! itself, with three flags. It ends where the next one begins.

use std::ops::Range;

use super::{Chunks, Memory};

const PREVIOUS_IN_USE: u64 = 1;
const MAPPED: u64 = 2;
const NOT_MAIN: u64 = 4;
const FLAGS: u64 = 7;
/// Words of a header, bytes. A chunk of just these stands where memory ends.
const HEADER: u64 = 16;
const LEAST: u64 = 32;

/// Read at once where chunks are small.
const BLOCK: usize = 16 << 10;
/// ... and where they are large.
const FEW: usize = 32;
/// Chunks this far from each other are small: a block costs about as much as four headers one by one.
const NEAR: u64 = 4 << 10;
/// Places that are tried as the first chunk behind memory that somebody else took.
const MOST_TRIES: usize = 4096;

/// Why a chain was not walked to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It does not end where it should: it changed as it was walked, or was none.
    Open,
    /// No more may be read.
    Spent,
}

/// A walk over the chains of one arena.
pub(super) struct Walk<'m, M> {
    window: Window<'m, M>,
    page: u64,
    is_main: bool,
    steps: &'m mut u64,
    pub(super) chunks: Chunks,
}

/// A chunk of which the next one will tell whether it is free.
#[derive(Clone, Copy)]
struct Chunk {
    at: u64,
    size: u64,
}

/// Where to go on if what looks like a chunk is none.
struct Resume {
    at: u64,
    chunks: Chunks,
}

impl<'m, M: Memory> Walk<'m, M> {
    pub(super) fn new(memory: &'m mut M, page: u64, is_main: bool, steps: &'m mut u64) -> Self {
        Self {
            window: Window {
                memory,
                start: 0,
                bytes: Vec::new(),
                last: 0,
            },
            page: page.max(1),
            is_main,
            steps,
            chunks: Chunks::default(),
        }
    }

    /// Walks one chain.
    pub(super) fn region(&mut self, region: &Range<u64>) -> Result<(), Failure> {
        let mut resume = None;
        let mut from = region.start;
        let mut tries = MOST_TRIES;
        loop {
            let walked = self.chain(from, region.end, &mut resume);
            let (Err(Failure::Open), Some(last)) = (walked, resume.take()) else {
                return walked;
            };
            tries = tries.checked_sub(1).ok_or(Failure::Open)?;
            self.chunks = last.chunks;
            from = self.behind_foreign(last.at, region.end)?;
            resume = Some(Resume {
                at: from + HEADER,
                chunks: self.chunks.clone(),
            });
        }
    }

    fn chain(&mut self, from: u64, end: u64, resume: &mut Option<Resume>) -> Result<(), Failure> {
        let mut at = from;
        let mut pending: Option<Chunk> = None;
        let (mut seen, mut doubtful) = (0_u64, 0_u64);
        while at < end {
            let (before, head) = self.header(at)?;
            seen += 1;
            if let Some(chunk) = pending.take() {
                if head & PREVIOUS_IN_USE != 0 {
                    self.chunks.use_one(chunk.size);
                } else {
                    self.free(chunk);
                    doubtful += u64::from(before != chunk.size);
                }
                // A few chunks may just be changing hands.
                if doubtful > 4 + seen / 256 {
                    return Err(Failure::Open);
                }
            }
            let size = head & !FLAGS;
            if size <= HEADER && head & MAPPED == 0 {
                at += HEADER;
                match size {
                    // Two such chunks stand at the end of a heap that others followed.
                    0 if at == end && !self.is_main => return Ok(()),
                    HEADER if !self.is_main => continue,
                    HEADER => {
                        // Two of them at the end of a page: somebody else moved the program break. What they took is between
                        // here and the next chunk.
                        let (_, second) = self.header(at)?;
                        let behind = at + HEADER;
                        if second & !FLAGS == HEADER
                            && behind.is_multiple_of(self.page)
                            && behind < end
                        {
                            let chunks = self.chunks.clone();
                            *resume = Some(Resume { at: behind, chunks });
                        }
                        return Err(Failure::Open);
                    }
                    _ => return Err(Failure::Open),
                }
            }
            let wrong = MAPPED | if self.is_main { NOT_MAIN } else { 0 };
            if head & wrong != 0 || size < LEAST || !size.is_multiple_of(16) || size > end - at {
                return Err(Failure::Open);
            }
            pending = Some(Chunk { at, size });
            at += size;
        }
        // Nothing follows the last one: it is what the arena serves from when nothing else fits.
        if let Some(top) = pending {
            self.top(top);
        }
        Ok(())
    }

    /// The next place that may be a chunk.
    fn behind_foreign(&mut self, from: u64, end: u64) -> Result<u64, Failure> {
        let mut at = from;
        while at < end {
            match self.header(at) {
                Ok((_, head)) => {
                    let size = head & !FLAGS;
                    let fits = size >= LEAST && size.is_multiple_of(16) && size <= end - at;
                    if fits && head & FLAGS == PREVIOUS_IN_USE {
                        return Ok(at);
                    }
                    at += HEADER;
                }
                Err(Failure::Spent) => return Err(Failure::Spent),
                // That page was never touched.
                Err(Failure::Open) => at = next_multiple(at + 1, self.page),
            }
        }
        Err(Failure::Open)
    }

    fn header(&mut self, at: u64) -> Result<(u64, u64), Failure> {
        *self.steps = self.steps.checked_sub(1).ok_or(Failure::Spent)?;
        self.window.pair(at).ok_or_else(|| self.window.failure())
    }

    fn free(&mut self, chunk: Chunk) {
        self.chunks.free.add(chunk.size);
        // What a free chunk keeps of itself: both words of the header, and its neighbours in its bin.
        let whole = self.whole_pages(chunk.at + 2 * HEADER, chunk.at + chunk.size);
        let resident = self.window.memory.resident(whole.clone());
        let ends = chunk.size - (whole.end - whole.start);
        self.chunks.kept = self.chunks.kept.saturating_add(ends + resident);
        self.chunks.trimmable = self.chunks.trimmable.saturating_add(resident);
    }

    fn top(&mut self, chunk: Chunk) {
        self.chunks.top.add(chunk.size);
        let whole = self.whole_pages(chunk.at + HEADER, chunk.at + chunk.size);
        let resident = self.window.memory.resident(whole.clone());
        let before = whole.start.min(chunk.at + chunk.size) - chunk.at;
        self.chunks.kept = self.chunks.kept.saturating_add(before + resident);
        if self.is_main {
            self.chunks.trimmable = self.chunks.trimmable.saturating_add(resident);
        }
    }

    /// The whole pages from an address to another.
    fn whole_pages(&self, from: u64, to: u64) -> Range<u64> {
        let start = next_multiple(from, self.page);
        let end = to / self.page * self.page;
        start..end.max(start)
    }

    /// Takes the chunks of these lists for free: nothing in their headers says so.
    pub(super) fn fast_chunks(&mut self, lists: &[u64], regions: &[Range<u64>]) {
        for (number, first) in lists.iter().enumerate() {
            let size = LEAST + 16 * number as u64;
            let mut at = *first;
            // No list has more chunks than there are.
            for _ in 0..self.chunks.used.chunks {
                let may_be = |at: u64| {
                    at.is_multiple_of(16) && regions.iter().any(|range| range.contains(&at))
                };
                if !may_be(at) {
                    break;
                }
                let (Ok((_, head)), Ok((next, _))) = (self.header(at), self.header(at + HEADER))
                else {
                    break;
                };
                if head & !FLAGS != size {
                    break;
                }
                self.chunks.free_one(size);
                // Since glibc 2.32 what it says is mixed with where it stands.
                let mixed = next ^ ((at + HEADER) >> 12);
                at = if may_be(mixed) { mixed } else { next };
            }
        }
    }
}

/// Counts blocks that are mappings of their own.
pub(super) fn mapped(memory: &mut impl Memory, mapping: Range<u64>, to: &mut Chunks) -> u64 {
    let mut at = mapping.start;
    while at < mapping.end {
        let mut header = [[0; 8]; 2];
        if memory.read(at, header.as_flattened_mut()) < HEADER as usize {
            break;
        }
        let [before, head] = header.map(u64::from_le_bytes);
        let size = head & !FLAGS;
        let fits = size > 0 && size.is_multiple_of(4096) && size <= mapping.end - at;
        if before != 0 || head & FLAGS != MAPPED || !fits {
            break;
        }
        to.use_one(size);
        at += size;
    }
    at - mapping.start
}

fn next_multiple(at: u64, of: u64) -> u64 {
    at.checked_next_multiple_of(of)
        .unwrap_or(u64::MAX / of * of)
}

/// What was read last: headers mostly lie close together.
struct Window<'m, M> {
    memory: &'m mut M,
    start: u64,
    bytes: Vec<u8>,
    last: u64,
}

impl<M: Memory> Window<'_, M> {
    /// The two words at this address: the previous chunk's size and this chunk's.
    fn pair(&mut self, at: u64) -> Option<(u64, u64)> {
        let near = at.abs_diff(self.last) <= NEAR;
        let forward = at >= self.last;
        self.last = at;
        if let Some(pair) = self.known(at) {
            return Some(pair);
        }
        let (start, length) = match (near, forward) {
            (true, true) => (at, BLOCK),
            // Down a list, from the beginning of the page: that it is there is known.
            (true, false) => (at & !4095, 4096 + FEW),
            (false, _) => (at, FEW),
        };
        self.bytes.resize(length, 0);
        let read = self.memory.read(start, &mut self.bytes);
        self.bytes.truncate(read);
        self.start = start;
        self.known(at)
    }

    fn known(&self, at: u64) -> Option<(u64, u64)> {
        let offset = usize::try_from(at.checked_sub(self.start)?).ok()?;
        let bytes = self
            .bytes
            .get(offset..offset.checked_add(HEADER as usize)?)?;
        let (words, _) = bytes.as_chunks();
        let [first, second] = words else { return None };
        Some((u64::from_le_bytes(*first), u64::from_le_bytes(*second)))
    }

    fn failure(&self) -> Failure {
        match self.memory.is_spent() {
            true => Failure::Spent,
            false => Failure::Open,
        }
    }
}
