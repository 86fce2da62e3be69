//! One sentence for each rule.

use super::*;
use crate::event::{Address, Function, Tid};

const P: ProcessId = ProcessId(1 << 10);
const CHILD: ProcessId = ProcessId(2 << 10);
const NEXT: ProcessId = ProcessId((1 << 10) + 1);
const A: Address = Address(0x1000);
const B: Address = Address(0x2000);
const STACK: StackIndex = StackIndex(1);
const OTHER_STACK: StackIndex = StackIndex(2);
/// A chunk header that says nothing.
const NO_HEADER: u64 = 0;
/// A chunk header of 64 bytes, previous chunk in use.
const HEADER_OF_64: u64 = 64 | 1;

/// Tells a story: each step happens one nanosecond after the one before, in process `P` and thread 1 unless said.
struct Story {
    live: LiveSet,
    at: u64,
    process: ProcessId,
    thread: Tid,
}

impl Story {
    /// `P` is traced from moment 0, and held this much before.
    fn with_baseline(bytes: u64) -> Self {
        let mut live = LiveSet::new();
        live.open(P, Nanos(0), bytes);
        Self {
            live,
            at: 0,
            process: P,
            thread: Tid(1),
        }
    }

    fn new() -> Self {
        Self::with_baseline(0)
    }

    fn by(mut self, thread: u32) -> Self {
        self.thread = Tid(thread);
        self
    }

    fn of(mut self, process: ProcessId) -> Self {
        self.process = process;
        self
    }

    fn call(mut self, call: Call) -> Self {
        self.at += 1;
        self.live.apply(&Event {
            at: Nanos(self.at),
            process: self.process,
            thread: self.thread,
            call,
        });
        self
    }

    fn allocated(self, address: Address, size: u64) -> Self {
        self.allocated_by(STACK, address, size)
    }

    fn allocated_by(self, stack: StackIndex, address: Address, size: u64) -> Self {
        self.call(Call::Allocated {
            function: Function::Malloc,
            address,
            size,
            stack,
        })
    }

    fn freed(self, address: Address, header: u64) -> Self {
        self.call(Call::Freed { address, header })
    }

    fn resize_began(self, address: Address) -> Self {
        self.call(Call::ResizeBegan {
            address,
            header: HEADER_OF_64,
            slot: 0,
        })
    }

    fn resized(self, address: Address, size: u64) -> Self {
        self.call(Call::Resized {
            function: Function::Realloc,
            address,
            size,
            stack: OTHER_STACK,
            slot: 0,
        })
    }

    fn resize_failed(self, address: Address) -> Self {
        self.call(Call::ResizeFailed {
            address,
            size: 1 << 40,
            slot: 0,
        })
    }

    fn resize_freed(self, address: Address) -> Self {
        self.call(Call::ResizeFreed { address, slot: 0 })
    }

    fn forked(self, child: ProcessId) -> Self {
        self.call(Call::Forked { child })
    }

    fn exited(self) -> Self {
        self.call(Call::Exited { status: 0 })
    }

    fn opened(mut self, process: ProcessId, baseline: u64) -> Self {
        self.at += 1;
        self.live.open(process, Nanos(self.at), baseline);
        self
    }

    fn closed(mut self, process: ProcessId) -> Self {
        self.at += 1;
        self.live.close(process, Nanos(self.at));
        self
    }

    fn held(&self) -> (u64, u64) {
        (self.live.live_bytes(), self.live.live_blocks())
    }

    fn peak(&self) -> Snapshot {
        self.live.snapshot(Scope::All, Moment::Peak)
    }

    fn end(&self) -> Snapshot {
        self.live.snapshot(Scope::All, Moment::End)
    }

    fn of_process(&self, process: ProcessId, moment: Moment) -> Snapshot {
        self.live.snapshot(Scope::Process(process), moment)
    }

    fn totals(&self) -> Totals {
        self.live.totals()
    }
}

fn holder(process: ProcessId, stack: StackIndex, bytes: u64, blocks: u64) -> Holder {
    Holder {
        process,
        stack,
        bytes,
        blocks,
    }
}

mod allocation {
    use super::*;

    #[test]
    fn makes_one_block_of_the_requested_size() {
        let story = Story::new().allocated(A, 100);
        assert_eq!(story.held(), (100, 1));
        assert_eq!(story.peak().holders, [holder(P, STACK, 100, 1)]);
        let totals = story.totals();
        assert_eq!((totals.allocations, totals.allocated_bytes), (1, 100));
    }

    #[test]
    fn of_zero_bytes_is_a_block() {
        let story = Story::new().allocated(A, 0);
        assert_eq!(story.held(), (0, 1));
        assert_eq!(story.end().holders, [holder(P, STACK, 0, 1)]);
        assert_eq!(story.peak().holders, [holder(P, STACK, 0, 1)]);
    }

    #[test]
    fn that_failed_is_counted_and_makes_no_block() {
        let story = Story::new().call(Call::Failed {
            function: Function::Calloc,
            size: u64::MAX,
            stack: STACK,
        });
        assert_eq!(story.held(), (0, 0));
        assert_eq!(story.totals().failed_allocations, 1);
        assert_eq!(story.totals().allocations, 0);
    }

    #[test]
    fn at_a_live_address_retires_the_old_block_first() {
        let story = Story::new()
            .allocated(A, 100)
            .allocated_by(OTHER_STACK, A, 60);
        assert_eq!(story.held(), (60, 1));
        assert_eq!(story.end().holders, [holder(P, OTHER_STACK, 60, 1)]);
        assert_eq!(story.peak().bytes, 100, "the two never counted at once");
        assert_eq!(story.totals().replaced_blocks, 1);
        assert_eq!(story.totals().frees, 0);
    }

    #[test]
    fn without_a_stack_is_held_by_no_stack() {
        let story = Story::new().allocated_by(StackIndex::NONE, A, 8);
        assert_eq!(story.end().holders, [holder(P, StackIndex::NONE, 8, 1)]);
    }

    #[test]
    fn of_impossible_sizes_saturates() {
        let story = Story::new().allocated(A, u64::MAX).allocated(B, u64::MAX);
        assert_eq!(story.held(), (u64::MAX, 2));
        assert_eq!(story.peak().bytes, u64::MAX);
        assert_eq!(story.totals().allocated_bytes, u64::MAX);
        let story = story.freed(A, NO_HEADER).freed(B, NO_HEADER);
        assert_eq!(story.held(), (0, 0), "what was cut for show was kept whole");
        assert_eq!(story.peak().blocks, 2);
    }
}

mod free {
    use super::*;

    #[test]
    fn retires_the_block() {
        let story = Story::new().allocated(A, 100).by(2).freed(A, NO_HEADER);
        assert_eq!(story.held(), (0, 0));
        assert!(story.end().holders.is_empty());
        assert_eq!(story.totals().frees, 1);
        assert_eq!(story.totals().freed_bytes, 100);
    }

    #[test]
    fn of_a_block_from_before_attach_takes_its_chunk_from_the_baseline() {
        let story = Story::with_baseline(100).freed(A, HEADER_OF_64);
        let totals = story.totals();
        assert_eq!((totals.frees, totals.unmatched_frees), (0, 1));
        assert_eq!(totals.unmatched_freed_bytes, 64);
        assert_eq!(story.end().freed_baseline_bytes, 64);
        assert_eq!(story.peak().freed_baseline_bytes, 0);
    }

    #[test]
    fn takes_no_more_than_the_baseline_has_left() {
        let story = Story::with_baseline(100)
            .freed(A, HEADER_OF_64)
            .freed(B, HEADER_OF_64);
        assert_eq!(story.totals().unmatched_frees, 2);
        assert_eq!(story.end().freed_baseline_bytes, 64);
    }

    #[test]
    fn believes_only_headers_that_can_be() {
        for header in [0, 16, 24 | 1, 40 | 1, u64::MAX, 1 << 63] {
            let story = Story::with_baseline(1 << 20).freed(A, header);
            assert_eq!(story.totals().unmatched_frees, 1);
            assert_eq!(story.end().freed_baseline_bytes, 0, "{header:#x}");
        }
    }

    #[test]
    fn of_an_unknown_block_of_a_launched_process_is_only_counted() {
        let story = Story::new().freed(A, HEADER_OF_64);
        assert_eq!(story.totals().unmatched_frees, 1);
        assert_eq!(story.totals().unmatched_freed_bytes, 0);
        assert_eq!(story.end().freed_baseline_bytes, 0);
    }
}

mod resize {
    use super::*;

    #[test]
    fn that_moves_the_block_never_counts_both() {
        let story = Story::new().allocated(A, 100).resize_began(A);
        assert_eq!(story.held(), (0, 0));
        let story = story.resized(B, 150);
        assert_eq!(story.held(), (150, 1));
        assert_eq!(story.peak().bytes, 150);
        assert_eq!(story.end().holders, [holder(P, OTHER_STACK, 150, 1)]);
    }

    #[test]
    fn that_shrinks_in_place_leaves_the_peak_before_it() {
        let story = Story::new()
            .allocated(A, 100)
            .resize_began(A)
            .resized(A, 40);
        assert_eq!(story.held(), (40, 1));
        assert_eq!(story.peak().holders, [holder(P, STACK, 100, 1)]);
        assert_eq!(story.peak().at, Nanos(1));
    }

    #[test]
    fn counts_as_a_free_and_an_allocation() {
        let story = Story::new()
            .allocated(A, 100)
            .resize_began(A)
            .resized(B, 150);
        let expected = Totals {
            allocations: 2,
            allocated_bytes: 250,
            frees: 1,
            freed_bytes: 100,
            ..Totals::default()
        };
        assert_eq!(story.totals(), expected);
    }

    #[test]
    fn that_fails_gives_the_old_block_back_to_its_holder() {
        let story = Story::new()
            .allocated(A, 100)
            .resize_began(A)
            .resize_failed(A);
        assert_eq!(story.held(), (100, 1));
        assert_eq!(story.end().holders, [holder(P, STACK, 100, 1)]);
        let totals = story.totals();
        assert_eq!((totals.failed_allocations, totals.frees), (1, 0));
    }

    #[test]
    fn whose_address_another_thread_was_handed_keeps_the_newer_block() {
        let story = Story::new().allocated(A, 100).resize_began(A);
        let story = story.by(2).allocated_by(OTHER_STACK, A, 30);
        let story = story.by(1).resized(B, 150);
        assert_eq!(story.held(), (180, 2));
        assert_eq!(story.totals().replaced_blocks, 0);
    }

    #[test]
    fn that_fails_although_its_address_was_handed_out_keeps_the_newer_block() {
        let story = Story::new().allocated(A, 100).resize_began(A);
        let story = story.by(2).allocated_by(OTHER_STACK, A, 30);
        let story = story.by(1).resize_failed(A);
        assert_eq!(story.held(), (30, 1));
        assert_eq!(story.end().holders, [holder(P, OTHER_STACK, 30, 1)]);
        assert_eq!(story.totals().replaced_blocks, 1);
    }

    #[test]
    fn to_nothing_frees_the_block() {
        let story = Story::new()
            .allocated(A, 100)
            .resize_began(A)
            .resize_freed(A);
        assert_eq!(story.held(), (0, 0));
        assert_eq!((story.totals().frees, story.totals().allocations), (1, 1));
    }

    #[test]
    fn of_a_block_from_before_attach_takes_it_from_the_baseline() {
        let story = Story::with_baseline(100).resize_began(A).resized(B, 150);
        assert_eq!(story.held(), (150, 1));
        assert_eq!(story.end().freed_baseline_bytes, 64);
        assert_eq!(story.totals().unmatched_frees, 1);
        assert_eq!(story.totals().unmatched_freed_bytes, 64);
    }

    #[test]
    fn of_a_block_from_before_attach_that_fails_leaves_the_baseline_whole() {
        let story = Story::with_baseline(100).resize_began(A);
        assert_eq!(story.end().freed_baseline_bytes, 64);
        let story = story.resize_failed(A);
        assert_eq!(story.end().freed_baseline_bytes, 0);
        assert_eq!(story.totals().unmatched_frees, 0);
        let story = story.freed(A, HEADER_OF_64);
        assert_eq!(story.end().freed_baseline_bytes, 64);
    }

    #[test]
    fn whose_end_was_lost_is_settled_by_the_next_of_its_slot() {
        let story = Story::new().allocated(A, 100).allocated(B, 10);
        let story = story.resize_began(A).resize_began(B).resize_failed(B);
        assert_eq!(story.held(), (10, 1));
        let totals = story.totals();
        assert_eq!((totals.unpaired_resizes, totals.frees), (1, 1));
    }

    #[test]
    fn whose_beginning_was_lost_still_adds_its_block() {
        let story = Story::new().resized(B, 150);
        assert_eq!(story.held(), (150, 1));
        assert_eq!(story.totals().unpaired_resizes, 1);
    }

    #[test]
    fn to_nothing_whose_beginning_was_lost_still_frees_the_block() {
        let story = Story::new().allocated(A, 100).resize_freed(A);
        assert_eq!(story.held(), (0, 0));
        assert_eq!(story.totals().unpaired_resizes, 1);
    }

    #[test]
    fn does_not_end_one_of_another_address() {
        let story = Story::new().allocated(A, 100).allocated(B, 10);
        let story = story.resize_began(A).resize_failed(B);
        assert_eq!(
            story.held(),
            (10, 1),
            "B was never retired, A's end was lost"
        );
        assert_eq!(story.totals().unpaired_resizes, 2);
    }

    #[test]
    fn in_each_thread_and_slot_ends_its_own() {
        let story = Story::new().allocated(A, 100).allocated(B, 10);
        let story = story.by(1).resize_began(A).by(2).resize_began(B);
        let story = story.by(1).resize_failed(A).by(2).resize_freed(B);
        assert_eq!(story.held(), (100, 1));
        assert_eq!(story.totals().unpaired_resizes, 0);
    }
}

mod peak {
    use super::*;

    #[test]
    fn is_the_most_that_was_held_at_once_with_who_held_it_then() {
        let story = Story::new()
            .allocated(A, 100)
            .allocated_by(OTHER_STACK, B, 50);
        let story = story.freed(A, NO_HEADER).allocated(A, 99);
        let peak = story.peak();
        assert_eq!((peak.at, peak.bytes, peak.blocks), (Nanos(2), 150, 2));
        let holders = [holder(P, STACK, 100, 1), holder(P, OTHER_STACK, 50, 1)];
        assert_eq!(peak.holders, holders);
        assert_eq!(story.live.peak_bytes(), 150);
        assert_eq!(story.live.peak_at(), Nanos(2));
        assert_eq!(story.of_process(P, Moment::Peak), peak);
    }

    #[test]
    fn of_a_process_that_only_shrinks_is_when_it_was_attached() {
        let story = Story::with_baseline(1 << 20)
            .freed(A, HEADER_OF_64)
            .allocated(B, 40);
        assert_eq!(story.peak().at, Nanos(0));
        assert_eq!(story.peak().bytes, 0);
        assert_eq!(story.end().bytes, 40);
    }

    #[test]
    fn moves_on_once_more_was_allocated_than_freed_of_the_baseline() {
        let story = Story::with_baseline(1 << 20)
            .freed(A, HEADER_OF_64)
            .allocated(B, 65);
        let peak = story.peak();
        assert_eq!((peak.at, peak.bytes), (Nanos(2), 65));
        assert_eq!(peak.freed_baseline_bytes, 64);
    }

    #[test]
    fn of_equal_ones_is_the_latest() {
        let story = Story::new().allocated(A, 100).freed(A, NO_HEADER);
        let story = story.allocated_by(OTHER_STACK, B, 100).freed(B, NO_HEADER);
        assert_eq!(story.peak().at, Nanos(3));
        assert_eq!(story.peak().holders, [holder(P, OTHER_STACK, 100, 1)]);
    }

    #[test]
    fn of_all_is_not_the_sum_of_the_peaks_of_each() {
        let story = Story::new().allocated(A, 100).freed(A, NO_HEADER);
        let story = story.opened(CHILD, 0).of(CHILD).allocated(A, 80);
        assert_eq!(story.peak().bytes, 100);
        assert_eq!(story.of_process(P, Moment::Peak).bytes, 100);
        assert_eq!(story.of_process(CHILD, Moment::Peak).bytes, 80);
        let story = story.of(P).allocated(A, 30);
        let holders = [holder(CHILD, STACK, 80, 1), holder(P, STACK, 30, 1)];
        assert_eq!(story.peak().holders, holders);
    }

    #[test]
    fn lists_the_largest_holder_first_and_equal_ones_in_order() {
        let story = Story::new()
            .allocated_by(StackIndex(4), Address(0x10), 5)
            .allocated_by(StackIndex(3), Address(0x20), 5)
            .allocated_by(StackIndex(2), Address(0x30), 2)
            .allocated_by(StackIndex(2), Address(0x40), 3)
            .allocated_by(StackIndex(1), Address(0x50), 6);
        let holders = story.peak().holders;
        let stacks: Vec<u32> = holders.iter().map(|holder| holder.stack.0).collect();
        assert_eq!(stacks, [1, 2, 3, 4]);
    }
}

mod process {
    use super::*;

    #[test]
    fn that_exits_ends_with_what_was_live_just_before() {
        let story = Story::new().allocated(A, 100).exited();
        assert_eq!(story.held(), (0, 0));
        let end = story.of_process(P, Moment::End);
        assert_eq!((end.at, end.bytes), (Nanos(2), 100));
        assert_eq!(end.holders, [holder(P, STACK, 100, 1)]);
        assert_eq!(story.end(), end);
        assert_eq!(story.peak().holders, [holder(P, STACK, 100, 1)]);
    }

    #[test]
    fn that_becomes_another_program_ends_and_the_next_starts_with_nothing() {
        let story = Story::new()
            .allocated(A, 100)
            .call(Call::Executed { next: NEXT });
        let story = story.opened(NEXT, 0).of(NEXT).allocated(A, 30);
        assert_eq!(story.held(), (30, 1));
        assert_eq!(story.of_process(P, Moment::End).bytes, 100);
        assert_eq!(story.end().holders, [holder(NEXT, STACK, 30, 1)]);
        assert_eq!(story.peak().holders, [holder(P, STACK, 100, 1)]);
    }

    #[test]
    fn that_we_let_go_of_keeps_its_end_whatever_is_said_later() {
        let story = Story::new()
            .allocated(A, 100)
            .closed(P)
            .allocated(B, 50)
            .exited();
        let end = story.of_process(P, Moment::End);
        assert_eq!((end.at, end.bytes), (Nanos(2), 100));
        assert_eq!(story.totals().allocations, 1);
        assert_eq!(story.opened(P, 0).held(), (0, 0));
    }

    #[test]
    fn that_is_the_last_to_end_ends_all() {
        let story = Story::new().allocated(A, 100).opened(CHILD, 0);
        let story = story
            .of(CHILD)
            .allocated(A, 5)
            .of(P)
            .exited()
            .of(CHILD)
            .exited();
        let end = story.end();
        assert_eq!((end.at, end.bytes), (Nanos(5), 5));
        assert_eq!(end.holders, [holder(CHILD, STACK, 5, 1)]);
    }

    #[test]
    fn that_ends_gives_back_the_rest_of_its_baseline() {
        let story = Story::with_baseline(1000).opened(CHILD, 0).exited();
        let story = story.of(CHILD).allocated(A, 500);
        assert_eq!(
            story.peak().bytes,
            0,
            "1000 were held before, 500 are held now"
        );
        assert_eq!(story.end().freed_baseline_bytes, 1000);
        assert_eq!(story.allocated(B, 501).peak().bytes, 1001);
    }

    #[test]
    fn that_is_not_known_is_opened_by_its_first_event() {
        let story = Story::new()
            .of(CHILD)
            .freed(A, HEADER_OF_64)
            .allocated(A, 10);
        assert_eq!(story.of_process(CHILD, Moment::End).bytes, 10);
        assert_eq!(
            story.live.process_totals(CHILD).map(|t| t.unmatched_frees),
            Some(1)
        );
        let story = story.opened(CHILD, 64).freed(B, HEADER_OF_64);
        assert_eq!(
            story.of_process(CHILD, Moment::End).freed_baseline_bytes,
            64
        );
    }

    #[test]
    fn that_nobody_spoke_of_held_nothing() {
        let story = Story::new().closed(CHILD);
        assert_eq!(story.of_process(CHILD, Moment::Peak), Snapshot::default());
        assert_eq!(story.live.process_totals(CHILD), None);
        assert_eq!(
            LiveSet::new().snapshot(Scope::All, Moment::End),
            Snapshot::default()
        );
    }
}

mod fork {
    use super::*;

    #[test]
    fn gives_the_child_a_copy_of_the_live_set() {
        let story = Story::new()
            .allocated(A, 100)
            .allocated_by(OTHER_STACK, B, 10);
        let story = story.freed(B, NO_HEADER).forked(CHILD);
        assert_eq!(story.held(), (200, 2));
        let holders = [holder(P, STACK, 100, 1), holder(CHILD, STACK, 100, 1)];
        assert_eq!(story.peak().holders, holders);
        let story = story.of(CHILD).freed(A, NO_HEADER);
        assert_eq!(story.of_process(P, Moment::End).bytes, 100);
        assert_eq!(story.of_process(CHILD, Moment::End).bytes, 0);
        let peak = story.of_process(CHILD, Moment::Peak);
        assert_eq!((peak.at, peak.bytes), (Nanos(4), 100));
        assert_eq!(
            story.live.process_totals(CHILD).map(|t| t.allocations),
            Some(0)
        );
    }

    #[test]
    fn is_the_same_whether_the_child_is_opened_before_it_or_after() {
        let before = Story::with_baseline(64)
            .allocated(A, 100)
            .opened(CHILD, 7)
            .forked(CHILD);
        let after = Story::with_baseline(64)
            .allocated(A, 100)
            .forked(CHILD)
            .opened(CHILD, 7);
        for story in [before, after] {
            let story = story.of(CHILD).freed(B, HEADER_OF_64);
            let end = story.of_process(CHILD, Moment::End);
            assert_eq!((end.bytes, end.freed_baseline_bytes), (100, 64));
        }
    }

    #[test]
    fn shares_the_baseline_so_that_all_neither_gain_nor_lose_by_it() {
        let story = Story::with_baseline(1000).forked(CHILD);
        let story = story.of(CHILD).freed(A, HEADER_OF_64);
        assert_eq!(
            story.of_process(CHILD, Moment::End).freed_baseline_bytes,
            64
        );
        let story = story.exited();
        assert_eq!(
            story.end().freed_baseline_bytes,
            0,
            "the parent holds it still"
        );
        assert_eq!(story.of(P).allocated(B, 1).peak().bytes, 1);
    }

    #[test]
    fn leaves_the_child_the_blocks_that_other_threads_were_about_to_resize() {
        let story = Story::new()
            .allocated(A, 100)
            .resize_began(A)
            .by(2)
            .forked(CHILD);
        assert_eq!(story.of_process(CHILD, Moment::End).bytes, 100);
        assert_eq!(story.of_process(P, Moment::End).bytes, 0);
        let story = story.by(1).resized(B, 150);
        assert_eq!(story.held(), (250, 2));
    }

    #[test]
    fn of_a_child_that_has_begun_or_ended_gives_nothing() {
        let story = Story::new().allocated(A, 100);
        let story = story
            .of(CHILD)
            .allocated(B, 1)
            .of(P)
            .forked(CHILD)
            .forked(P);
        assert_eq!(story.of_process(CHILD, Moment::End).bytes, 1);
        assert_eq!(story.closed(CHILD).forked(CHILD).held(), (100, 1));
    }
}
