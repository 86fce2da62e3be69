//! When the peak is, and who held it.

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
