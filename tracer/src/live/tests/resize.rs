//! What a `realloc` does.

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
