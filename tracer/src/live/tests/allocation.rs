//! What an allocation does.

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
        function: Function::Calloc.into(),
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
