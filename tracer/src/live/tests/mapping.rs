//! Ranges of addresses.

use super::*;
use crate::event::mapping::{Mapping, Range, Traits};

const PAGE: u64 = 4096;

const PRIVATE: Traits = Traits {
    committed: true,
    file: false,
    shared: false,
    stack: false,
    by_allocator: false,
};
const RESERVED: Traits = Traits {
    committed: false,
    ..PRIVATE
};
const OF_THREAD: Traits = Traits {
    committed: false,
    stack: true,
    ..PRIVATE
};
const OF_ALLOCATOR: Traits = Traits {
    by_allocator: true,
    ..PRIVATE
};

/// `count` pages from page `first` on.
fn pages(first: u64, count: u64) -> Range {
    Range {
        start: Address(first * PAGE),
        length: count * PAGE,
    }
}

impl Story {
    fn mapping(self, mapping: Mapping) -> Self {
        self.call(Call::Mapping(mapping))
    }

    fn mapped_by(self, stack: StackIndex, range: Range, traits: Traits) -> Self {
        self.mapping(Mapping::Mapped {
            range,
            traits,
            stack,
        })
    }

    fn mapped(self, range: Range, traits: Traits) -> Self {
        self.mapped_by(STACK, range, traits)
    }

    fn unmap_began(self, range: Range) -> Self {
        self.mapping(Mapping::UnmapBegan { range })
    }

    fn protected(self, range: Range, committed: bool) -> Self {
        self.mapping(Mapping::Protected {
            range,
            committed,
            stack: OTHER_STACK,
        })
    }

    fn remapped(self, old: Range, range: Range) -> Self {
        self.mapping(Mapping::RemapBegan { range: old })
            .mapping(Mapping::Remapped {
                range,
                keeps_old: false,
                by_allocator: false,
                stack: OTHER_STACK,
            })
    }

    fn break_moved(self, old: u64, new: u64) -> Self {
        self.mapping(Mapping::BreakMoved {
            old: Address(old),
            new: Address(new),
            by_allocator: false,
            stack: STACK,
        })
    }

    /// Bytes and ranges of a kind that are live now.
    fn of_kind(&self, kind: Kind) -> (u64, u64) {
        let Amount { bytes, blocks } = self.end().of(kind);
        (bytes, blocks)
    }
}

#[test]
fn a_mapping_counts_beside_the_blocks_of_the_same_stack() {
    let story = Story::new().allocated(A, 100).mapped(pages(8, 2), PRIVATE);
    let (heap, mapping) = (holder(P, STACK, 100, 1), holder(P, STACK, 2 * PAGE, 1));
    let mapping = Holder {
        kind: Kind::Mapping,
        ..mapping
    };
    assert_eq!(story.peak().holders, [mapping, heap]);
    assert_eq!(story.held(), (2 * PAGE + 100, 2));
}

#[test]
fn munmap_takes_heads_tails_middles_and_several_ranges_at_once() {
    let mapped = || Story::new().mapped(pages(10, 10), PRIVATE);
    let left = |story: Story| story.of_kind(Kind::Mapping);
    assert_eq!(left(mapped().unmap_began(pages(8, 4))), (8 * PAGE, 1));
    assert_eq!(left(mapped().unmap_began(pages(18, 4))), (8 * PAGE, 1));
    assert_eq!(left(mapped().unmap_began(pages(12, 4))), (6 * PAGE, 2));
    let several = mapped()
        .mapped(pages(30, 10), RESERVED)
        .unmap_began(pages(15, 20));
    assert_eq!(several.of_kind(Kind::Reserved), (5 * PAGE, 1));
    assert_eq!(left(several), (5 * PAGE, 1));
}

#[test]
fn a_fixed_mapping_replaces_what_lay_there_and_never_counts_beside_it() {
    let story =
        Story::new()
            .mapped(pages(10, 10), PRIVATE)
            .mapped_by(OTHER_STACK, pages(12, 4), PRIVATE);
    assert_eq!(story.of_kind(Kind::Mapping), (10 * PAGE, 3));
    assert_eq!(story.peak().bytes, 10 * PAGE);
    assert_eq!(story.totals().unmapped_bytes, 4 * PAGE);
}

#[test]
fn a_failed_munmap_leaves_all_as_it_was() {
    let story = Story::new()
        .mapped(pages(10, 4), PRIVATE)
        .unmap_began(pages(8, 4))
        .mapping(Mapping::UnmapFailed);
    assert_eq!(story.of_kind(Kind::Mapping), (4 * PAGE, 1));
    let totals = story.totals();
    let unmapped = (totals.unmaps, totals.unmapped_bytes);
    assert_eq!(unmapped, (0, 0));
    let unmatched = (totals.unmatched_unmaps, totals.unmatched_unmapped_bytes);
    assert_eq!(unmatched, (0, 0));
}

#[test]
fn what_another_thread_was_given_meanwhile_survives_a_failed_munmap() {
    let story = Story::new()
        .mapped(pages(10, 4), PRIVATE)
        .unmap_began(pages(10, 4))
        .by(2)
        .mapped_by(OTHER_STACK, pages(11, 1), PRIVATE)
        .by(1)
        .mapping(Mapping::UnmapFailed);
    let held: Vec<_> = story.end().holders;
    let held: Vec<_> = held.iter().map(|h| (h.stack, h.bytes, h.blocks)).collect();
    assert_eq!(held, [(STACK, 3 * PAGE, 2), (OTHER_STACK, PAGE, 1)]);
}

#[test]
fn a_later_call_of_the_thread_makes_its_munmap_final() {
    let story = Story::new()
        .mapped(pages(10, 4), PRIVATE)
        .unmap_began(pages(10, 4))
        .mapped(pages(30, 1), PRIVATE)
        .mapping(Mapping::UnmapFailed);
    assert_eq!(story.of_kind(Kind::Mapping), (PAGE, 1));
}

#[test]
fn a_moved_range_stays_what_it_was_and_is_held_by_who_moved_it() {
    let story = Story::new()
        .mapped(pages(10, 4), OF_THREAD)
        .remapped(pages(10, 4), pages(50, 6));
    let holders = story.end().holders;
    let [holder] = holders.as_slice() else {
        panic!("{holders:?}");
    };
    assert_eq!((holder.stack, holder.kind), (OTHER_STACK, Kind::Reserved));
    assert_eq!((holder.bytes, holder.blocks), (6 * PAGE, 1));
}

#[test]
fn a_failed_mremap_leaves_the_old_range() {
    let story = Story::new()
        .mapped(pages(10, 4), PRIVATE)
        .mapping(Mapping::RemapBegan {
            range: pages(10, 4),
        })
        .mapping(Mapping::RemapFailed);
    assert_eq!(story.of_kind(Kind::Mapping), (4 * PAGE, 1));
    assert_eq!(story.totals().unpaired_resizes, 0);
}

#[test]
fn a_moved_range_from_before_attach_counts_only_what_it_grew_by() {
    let story = Story::with_baseline(100 * PAGE).remapped(pages(10, 4), pages(50, 6));
    assert_eq!(story.of_kind(Kind::Mapping), (2 * PAGE, 1));
}

#[test]
fn a_remap_of_which_the_beginning_was_lost_counts_its_range() {
    let story = Story::new().mapping(Mapping::Remapped {
        range: pages(10, 4),
        keeps_old: false,
        by_allocator: false,
        stack: STACK,
    });
    assert_eq!(story.of_kind(Kind::Mapping), (4 * PAGE, 1));
    assert_eq!(story.totals().unpaired_resizes, 1);
}

#[test]
fn the_stack_of_a_thread_is_what_was_committed_and_its_guard_stays_reserved() {
    let story = Story::new()
        .mapped(pages(10, 9), OF_THREAD)
        .protected(pages(11, 8), true);
    assert_eq!(story.of_kind(Kind::ThreadStack), (8 * PAGE, 1));
    assert_eq!(story.of_kind(Kind::Reserved), (PAGE, 1));
    assert_eq!(story.held(), (0, 0));
}

#[test]
fn a_reservation_counts_as_it_is_committed_for_who_commits_it_and_not_after() {
    let reserved = || Story::new().mapped(pages(10, 1000), RESERVED);
    assert_eq!(reserved().held(), (0, 0));
    let committed = reserved().protected(pages(20, 10), true);
    assert_eq!(committed.held(), (10 * PAGE, 1));
    assert_eq!(committed.of_kind(Kind::Reserved), (990 * PAGE, 2));
    let by: Vec<_> = committed.peak().holders;
    assert!(
        by.iter()
            .any(|h| (h.stack, h.kind) == (OTHER_STACK, Kind::Mapping))
    );
    let back = committed.protected(pages(20, 10), false);
    assert_eq!(back.held(), (0, 0));
    assert_eq!(back.peak().bytes, 10 * PAGE);
}

#[test]
fn what_the_allocator_maps_is_followed_and_counts_nowhere() {
    let arena = Traits {
        committed: false,
        ..OF_ALLOCATOR
    };
    let story = Story::new()
        .mapped(pages(10, 100), arena)
        .protected(pages(10, 50), true)
        .allocated(Address(10 * PAGE), 64);
    assert_eq!(story.held(), (64, 1));
    let unmapped = story.unmap_began(pages(10, 100));
    let totals = unmapped.totals();
    assert_eq!(
        (totals.mmaps, totals.unmaps, totals.unmatched_unmaps),
        (0, 0, 0)
    );
}

#[test]
fn files_and_shared_memory_are_kinds_of_their_own() {
    let file = Traits {
        file: true,
        ..PRIVATE
    };
    let shared = Traits {
        shared: true,
        ..PRIVATE
    };
    let shared_file = Traits {
        file: true,
        ..shared
    };
    let story = Story::new()
        .mapped(pages(10, 1), file)
        .mapped(pages(20, 2), shared)
        .mapped(pages(30, 4), shared_file);
    assert_eq!(story.of_kind(Kind::File), (5 * PAGE, 2));
    assert_eq!(story.of_kind(Kind::Shared), (2 * PAGE, 1));
    assert_eq!(story.held(), (0, 0));
}

#[test]
fn the_break_counts_by_whole_pages_as_it_grows_and_shrinks() {
    let grown = Story::new().break_moved(10 * PAGE + 1, 14 * PAGE + 1);
    assert_eq!(grown.of_kind(Kind::Mapping), (4 * PAGE, 1));
    let shrunk = grown.break_moved(14 * PAGE + 1, 12 * PAGE);
    assert_eq!(shrunk.of_kind(Kind::Mapping), (PAGE, 1));
    // From a break that was never there: what is unknown is no loss.
    let astray = shrunk.break_moved(900 * PAGE, 5 * PAGE);
    assert_eq!(astray.of_kind(Kind::Mapping), (0, 0));
}

#[test]
fn munmap_of_what_was_there_before_is_counted_and_leaves_the_baseline() {
    let story = Story::with_baseline(100 * PAGE).unmap_began(pages(10, 4));
    let totals = story.totals();
    let unmatched = (totals.unmatched_unmaps, totals.unmatched_unmapped_bytes);
    assert_eq!(unmatched, (1, 4 * PAGE));
    assert_eq!(story.end().freed_baseline_bytes, 0);
}

#[test]
fn pages_that_are_discarded_stay_mapped() {
    let story = Story::new()
        .mapped(pages(10, 4), PRIVATE)
        .mapping(Mapping::Discarded {
            range: pages(10, 4),
        });
    assert_eq!(story.of_kind(Kind::Mapping), (4 * PAGE, 1));
    assert_eq!(story.totals().discarded_bytes, 4 * PAGE);
}

#[test]
fn the_other_kinds_are_those_of_the_moment_of_the_peak() {
    let story = Story::new()
        .mapped(pages(100, 3), RESERVED)
        .allocated(A, 1000)
        .freed(A, NO_HEADER)
        .mapped(pages(200, 5), RESERVED)
        .unmap_began(pages(100, 3));
    let peak = story.peak();
    assert_eq!((peak.at, peak.bytes), (Nanos(2), 1000));
    assert_eq!(peak.of(Kind::Reserved).bytes, 3 * PAGE);
    assert_eq!(story.of_kind(Kind::Reserved), (5 * PAGE, 1));
}

#[test]
fn a_forked_child_has_its_parents_ranges_and_loses_its_own_only() {
    let story = Story::new()
        .mapped(pages(10, 4), PRIVATE)
        .forked(CHILD)
        .of(CHILD)
        .unmap_began(pages(10, 1));
    assert_eq!(story.of_process(P, Moment::End).bytes, 4 * PAGE);
    assert_eq!(story.of_process(CHILD, Moment::End).bytes, 3 * PAGE);
    assert_eq!(story.exited().end().bytes, 4 * PAGE);
}

#[test]
fn ranges_that_cannot_be_do_no_harm() {
    let range = |start, length| Range {
        start: Address(start),
        length,
    };
    let whole = range(0, u64::MAX);
    let story = Story::new()
        .mapped(range(u64::MAX, u64::MAX), PRIVATE)
        .mapped(range(5, 0), PRIVATE)
        .mapped(whole, PRIVATE)
        .mapped(range(u64::MAX - 3, 100), RESERVED)
        .protected(whole, false)
        .protected(range(1, u64::MAX), true)
        .remapped(whole, range(u64::MAX - 10, u64::MAX))
        .remapped(range(u64::MAX - 10, 0), range(7, u64::MAX))
        .break_moved(u64::MAX, 0)
        .break_moved(0, u64::MAX)
        .unmap_began(range(1, u64::MAX))
        .mapping(Mapping::UnmapFailed)
        .mapping(Mapping::Discarded { range: whole });
    assert_eq!(story.of_kind(Kind::Mapping).0, u64::MAX);
}
