//! Heaps laid out by hand, real ones, and what is none.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::makeup::{Depth, look};
use super::super::process::tests::{Running, compile};
use super::*;

const PAGE: u64 = 4096;
const DATA: u64 = 0x7f00_0000_0000;
const STATE: u64 = DATA + 0xc60;
/// Of glibc 2.36.
const BINS: u64 = 112;
const BREAK: u64 = 0x5555_0000_0000;
const HEAP: u64 = 64 << 20;

/// Memory in which every page that was written to is resident.
#[derive(Clone, Default)]
struct Image {
    pages: BTreeMap<u64, Vec<u8>>,
    reads: u64,
    most_reads: u64,
}

impl Image {
    fn new() -> Self {
        Self {
            most_reads: u64::MAX,
            ..Self::default()
        }
    }

    fn put(&mut self, at: u64, word: u64) {
        for (at, byte) in (at..).zip(word.to_le_bytes()) {
            let page = self
                .pages
                .entry(at / PAGE)
                .or_insert_with(|| vec![0; PAGE as usize]);
            page[(at % PAGE) as usize] = byte;
        }
    }

    /// The state of an arena, all its bins empty.
    fn arena(&mut self, state: u64, top: u64, next: u64, system: u64) {
        let bins = state + BINS;
        self.put(bins - 16, top);
        for bin in 0..127 {
            let at = bins + 16 * bin;
            self.put(at, at - 16);
            self.put(at + 8, at - 16);
        }
        self.put(bins + 2048, next);
        self.put(bins + 2072, system);
    }

    /// Chunks one behind another, each in use or free; no two free ones are neighbours.
    fn chunks(&mut self, from: u64, chunks: &[(u64, bool)], flags: u64) -> u64 {
        let mut at = from;
        let mut before = (0, true);
        for &(size, used) in chunks {
            if !before.1 {
                self.put(at, before.0);
            }
            self.put(at + 8, size | u64::from(before.1) | flags);
            before = (size, used);
            at += size;
        }
        at
    }
}

impl Memory for Image {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> usize {
        self.reads += 1;
        for (index, byte) in buffer.iter_mut().enumerate() {
            let Some(at) = at.checked_add(index as u64) else {
                return index;
            };
            match self.pages.get(&(at / PAGE)) {
                Some(page) if !self.is_spent() => *byte = page[(at % PAGE) as usize],
                _ => return index,
            }
        }
        buffer.len()
    }

    fn resident(&mut self, range: Range<u64>) -> u64 {
        let pages = self.pages.range(range.start / PAGE..range.end / PAGE);
        pages.count() as u64 * PAGE
    }

    fn is_spent(&self) -> bool {
        self.reads > self.most_reads
    }
}

fn places(heap: u64) -> Places {
    Places {
        data: std::iter::once(DATA..DATA + 0x2000).collect(),
        below_break: Some(BREAK..BREAK + heap),
        page: PAGE,
    }
}

/// A main arena with these chunks, the last of which is its top.
fn main_arena(chunks: &[(u64, bool)]) -> (Image, Places) {
    let mut image = Image::new();
    let length: u64 = chunks.iter().map(|(size, _)| size).sum();
    let top = BREAK + length - chunks.last().unwrap().0;
    image.arena(STATE, top, STATE, length);
    image.chunks(BREAK, chunks, 0);
    (image, places(length))
}

fn amount(chunks: u64, bytes: u64) -> Amount {
    Amount { chunks, bytes }
}

#[test]
fn every_chunk_of_the_main_arena_is_counted() {
    let chunks = [
        (0x290, true),
        (0x20, true),
        (0x1_0000, false),
        (0x410, true),
        (0x30, false),
        (0x20, true),
        (0x1_0000 - 0x290 - 0x20 - 0x410 - 0x30 - 0x20, true),
    ];
    let (mut image, places) = main_arena(&chunks);
    let heaps = read(&mut image, &places).unwrap();
    assert_eq!((heaps.arenas, heaps.unread), (1, 0));
    assert_eq!(heaps.chunks.used, amount(4, 0x290 + 0x20 + 0x410 + 0x20));
    assert_eq!(heaps.chunks.used_by_size[5], amount(2, 0x40));
    assert_eq!(heaps.chunks.free, amount(2, 0x1_0030));
    assert_eq!(heaps.chunks.top.chunks, 1);
    // Of the large one, only the pages with headers were ever written to.
    assert!(heaps.chunks.kept < 0x1_0000, "{heaps:?}");
    assert_eq!(heaps.chunks.trimmable, 0);
}

#[test]
fn what_somebody_else_took_by_moving_the_break_is_passed_over() {
    let mut image = Image::new();
    let first = image.chunks(
        BREAK,
        &[(0x290, true), (0x2000 - 0x290 - 0x20, false), (0x10, true)],
        0,
    );
    image.put(first + 8, 0x11);
    // Theirs: something that looks like a chunk and is none, and pages that were never touched.
    image.put(BREAK + 0x2008, 0x101);
    image.put(BREAK + 0x2108, 0x1234_5678);
    let rest = BREAK + 0x10_2000;
    image.put(rest + 8, 0x1000 | 1);
    image.put(rest + 0x1008, 0x2000 | 1);
    image.arena(STATE, rest + 0x1000, STATE, 0x5000);
    let heaps = read(&mut image, &places(0x10_5000)).unwrap();
    assert_eq!(heaps.unread, 0, "{heaps:?}");
    // The first of the two chunks that close the memory before counts as one in use.
    assert_eq!(heaps.chunks.used.bytes, 0x290 + 0x1000);
    assert_eq!(heaps.chunks.free, amount(1, 0x2000 - 0x290 - 0x20));
    assert_eq!(heaps.chunks.top, amount(1, 0x2000));
}

#[test]
fn arenas_of_threads_are_read_heap_by_heap() {
    let mut image = Image::new();
    let (first, second) = (0x7e00_0000_0000, 0x7e00_0000_0000 + HEAP);
    let state = first + 0x30;
    image.arena(STATE, BREAK + 0x290, state, 0x1000);
    image.chunks(BREAK, &[(0x290, true), (0x1000 - 0x290, true)], 0);
    let start = first + 0x8d0;
    image.arena(state, second + 0x1030, STATE, 0x5000);
    for (heap, previous, size) in [(first, 0, 0x3000), (second, first, 0x2000)] {
        image.put(heap, state);
        image.put(heap + 8, previous);
        image.put(heap + 16, size);
    }
    let free = 0x3000 - 0x8d0 - 0x290 - 0x20;
    image.chunks(
        start,
        &[(0x290, true), (free, false), (0x10, true), (0, true)],
        4,
    );
    image.chunks(second + 0x30, &[(0x1000, true), (0xfd0, true)], 4);
    let heaps = read(&mut image, &places(0x1000)).unwrap();
    assert_eq!((heaps.arenas, heaps.unread), (2, 0), "{heaps:?}");
    assert_eq!(heaps.chunks.free, amount(1, free));
    assert_eq!(heaps.chunks.used, amount(3, 2 * 0x290 + 0x1000));
    assert_eq!(heaps.chunks.top, amount(2, 0x1000 - 0x290 + 0xfd0));
    assert_eq!(heaps.ranges.len(), 3);
}

#[test]
fn fast_chunks_are_free_although_they_look_used() {
    for mixes in [false, true] {
        let chunks = [
            (0x290, true),
            (0x30, true),
            (0x30, true),
            (0x30, true),
            (0x1000 - 0x320, true),
        ];
        let (mut image, places) = main_arena(&chunks);
        let (first, second) = (BREAK + 0x2c0, BREAK + 0x290);
        image.put(STATE + BINS - 96 + 8, first);
        for (at, next) in [(first, second), (second, 0)] {
            let mix = if mixes { (at + 16) >> 12 } else { 0 };
            image.put(at + 16, next ^ mix);
        }
        let heaps = read(&mut image, &places).unwrap();
        assert_eq!(heaps.chunks.free, amount(2, 0x60), "mixes: {mixes}");
        assert_eq!(heaps.chunks.used, amount(2, 0x290 + 0x30));
    }
}

#[test]
fn a_chain_that_does_not_close_is_told_and_left() {
    let chunks = [(0x290, true), (0x20, true), (0x1000 - 0x2b0, true)];
    for wrong in [0x28, 0x1000, 0x33, 0x21 | 4, 0x21 | 2, 0] {
        let (mut image, places) = main_arena(&chunks);
        image.put(BREAK + 0x298, wrong);
        let heaps = read(&mut image, &places).unwrap();
        assert_eq!(
            (heaps.unread, heaps.unread_bytes),
            (1, 0x1000),
            "{wrong:#x}"
        );
        assert_eq!(heaps.chunks, Chunks::default());
    }
}

#[test]
fn what_was_read_until_there_was_no_more_time_counts() {
    let mut chunks = vec![(0x2000, true); 100];
    chunks.push((0x1000, true));
    let (mut image, places) = main_arena(&chunks);
    image.most_reads = 120;
    let heaps = read(&mut image, &places).unwrap();
    assert_eq!(heaps.unread, 1);
    let read = heaps.chunks.used.bytes;
    assert!(read > 0, "{heaps:?}");
    assert_eq!(heaps.unread_bytes, 100 * 0x2000 + 0x1000 - read);
}

#[test]
fn without_an_arena_nothing_is_told() {
    let mut image = Image::new();
    assert_eq!(read(&mut image, &places(0x1000)), None);
    for at in (DATA..DATA + 0x2000).step_by(8) {
        image.put(at, at.wrapping_sub(16));
    }
    assert_eq!(read(&mut image, &places(0x1000)), None);
}

#[test]
fn large_blocks_are_told_by_their_own_headers() {
    let mut image = Image::new();
    image.put(0x10_0008, 0x2_1002);
    image.put(0x12_1008, 0x4_0002);
    image.put(0x16_1008, 0x1234);
    let mut chunks = Chunks::default();
    let taken = mapped_blocks(&mut image, 0x10_0000..0x20_0000, &mut chunks);
    assert_eq!((taken, chunks.used), (0x6_1000, amount(2, 0x6_1000)));
}

const KEEPS: &str = r#"
    #include <malloc.h>
    #include <pthread.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    enum { THREADS = 3, BLOCKS = 6000 };
    static pthread_barrier_t barrier;
    static void *burst(void *size)
    {
        static __thread void *blocks[BLOCKS];
        for (int i = 0; i < BLOCKS; i++) {
            blocks[i] = malloc((size_t)size);
            memset(blocks[i], 1, (size_t)size);
            if (i % 100 == 0)
                memset(malloc(40), 1, 40);
        }
        for (int i = 0; i < BLOCKS; i++)
            free(blocks[i]);
        pthread_barrier_wait(&barrier);
        if ((size_t)size != 64)
            pause();
        return 0;
    }
    int main(void)
    {
        pthread_t thread;
        pthread_barrier_init(&barrier, 0, THREADS + 1);
        size_t sizes[] = { 4000, 20000, 300 };
        for (int i = 0; i < THREADS; i++)
            pthread_create(&thread, 0, burst, (void *)sizes[i]);
        pthread_barrier_wait(&barrier);
        pthread_barrier_init(&barrier, 0, 1);
        burst((void *)64);
        void *large = malloc(40 << 20);
        memset(large, 1, 40 << 20);
        struct mallinfo2 info = mallinfo2();
        printf("%zu %zu %zu %zu\n", info.fordblks, info.uordblks, info.hblkhd, info.arena);
        fflush(stdout);
        getchar();
        malloc_trim(0);
        puts("trimmed");
        fflush(stdout);
        getchar();
        return ((char *)large)[1] - 1;
    }"#;

#[test]
fn a_real_process_keeps_what_mallinfo_says() {
    let (_directory, program) = compile(KEEPS, &["-pthread"]);
    let mut running = Running::start(&mut std::process::Command::new(program));
    let line = running.line();
    let told: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    let [free, used, mapped, system] = told[..] else {
        panic!("{line}")
    };
    let looked = look(&running.target(), Depth::All, Duration::from_secs(10)).unwrap();
    let heaps = looked.heaps.as_ref().unwrap();
    assert_eq!((heaps.arenas, heaps.unread), (4, 0), "{heaps:?}");
    let sum = |of: &Chunks| of.free.bytes + of.top.bytes;
    let chunks = &heaps.chunks;
    // In use are the states of arenas and the heads of heaps too, which are no chunks.
    let in_use = used + free - sum(chunks);
    assert!(in_use - chunks.used.bytes < 4 * 4096, "{in_use} {chunks:?}");
    assert!(
        sum(chunks).abs_diff(free) < free / 1000,
        "{} {free}",
        sum(chunks)
    );
    assert!(sum(chunks) + chunks.used.bytes <= system, "{system}");
    assert!(
        chunks.kept <= sum(chunks) && chunks.kept > sum(chunks) / 10 * 9,
        "{chunks:?}"
    );
    let large = looked.mapped.as_ref().unwrap().used;
    assert_eq!((large.chunks, large.bytes), (1, mapped));
    assert_eq!(looked.stacks.unwrap().count, 4, "{looked:?}");

    running.say("");
    assert_eq!(running.line(), "trimmed");
    let after = look(&running.target(), Depth::Shallow, Duration::from_secs(10)).unwrap();
    let after = after.heaps.unwrap().chunks;
    let given_back = chunks.kept - after.kept;
    assert!(
        given_back.abs_diff(chunks.trimmable) <= chunks.trimmable / 20,
        "{given_back} of {chunks:?}"
    );
    assert!(after.trimmable < chunks.trimmable / 20, "{after:?}");
}

proptest! {
    #[test]
    fn what_was_laid_out_comes_back(
        sizes in prop::collection::vec((2_u64..300, any::<bool>()), 1..200),
        top in 2_u64..5000,
    ) {
        let mut chunks = vec![(0x290, true)];
        for (units, used) in sizes {
            // Two free neighbours would have been made one.
            let used = used || !chunks.last().unwrap().1;
            chunks.push((16 * units, used));
        }
        chunks.push((32, true));
        let expected = |used: bool| {
            let of = chunks.iter().filter(|chunk| chunk.1 == used);
            of.fold(Amount::default(), |sum, chunk| amount(sum.chunks + 1, sum.bytes + chunk.0))
        };
        let (used, free) = (expected(true), expected(false));
        chunks.push((16 * top, true));
        let (mut image, places) = main_arena(&chunks);
        let heaps = read(&mut image, &places).unwrap();
        prop_assert_eq!(heaps.unread, 0);
        prop_assert_eq!(heaps.chunks.used, used);
        prop_assert_eq!(heaps.chunks.free, free);
        prop_assert_eq!(heaps.chunks.top, amount(1, 16 * top));
        let by_size = heaps.chunks.used_by_size.iter();
        prop_assert_eq!(by_size.map(|of| of.bytes).sum::<u64>(), used.bytes);
    }

    /// Words of a heap, and of the arena's state, are replaced by others: whatever that makes of them, the walk ends, and counts
    /// no more than there is.
    #[test]
    fn hostile_heaps_are_left_in_the_end(
        changes in prop::collection::vec((0_u64..0x4000 / 8, hostile_word()), 0..60),
        states in prop::collection::vec((0_u64..2200 / 8, hostile_word()), 0..3),
        most_reads in prop_oneof![Just(u64::MAX), 0_u64..2000],
    ) {
        let mut chunks = vec![(0x290, true)];
        for index in 0..40 {
            chunks.push((0x20 + 0x40 * (index % 5), index % 3 != 1));
        }
        chunks.push((0x4000 - chunks.iter().map(|chunk| chunk.0).sum::<u64>(), true));
        let (mut image, places) = main_arena(&chunks);
        for (at, word) in changes {
            image.put(BREAK + 8 * at, word);
        }
        for (at, word) in states {
            image.put(STATE + 8 * at, word);
        }
        image.most_reads = most_reads;
        if let Some(heaps) = read(&mut image, &places) {
            let chunks = &heaps.chunks;
            let counted = chunks.used.bytes + chunks.free.bytes + chunks.top.bytes;
            prop_assert!(counted <= 0x4000 + HEAP, "{heaps:?}");
        }
        prop_assert!(image.reads < 200_000, "{} reads", image.reads);
    }
}

fn hostile_word() -> impl Strategy<Value = u64> {
    let near = (0_u64..0x4000).prop_map(|offset| BREAK + offset);
    prop_oneof![
        any::<u64>(),
        near,
        0_u64..0x4100,
        Just(0x11),
        Just(0x21),
        Just(u64::MAX),
        Just(STATE),
        Just(BREAK),
        (1_u64..64).prop_map(|shift| 1 << shift),
    ]
}
