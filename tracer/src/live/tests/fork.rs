//! What a fork does.

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
