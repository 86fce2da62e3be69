//! What a fork does.

use super::*;

#[test]
fn gives_the_child_a_copy_of_the_live_set_that_counts_once_for_all() {
    let story = Story::new()
        .allocated(A, 100)
        .allocated_by(OTHER_STACK, B, 10);
    let story = story.freed(B, NO_HEADER).forked(CHILD);
    assert_eq!(story.held(), (100, 1));
    assert_eq!(story.peak().bytes, 110);
    assert_eq!(story.end().holders, [holder(P, STACK, 100, 1)]);
    assert_eq!(story.end().inherited_bytes, 100, "the child holds it too");
    let inherited = [holder(CHILD, STACK, 100, 1)];
    let end = story.of_process(CHILD, Moment::End);
    assert_eq!((end.holders, end.inherited_bytes), (inherited.into(), 100));
    let story = story.of(CHILD).freed(A, NO_HEADER);
    assert_eq!(story.of_process(P, Moment::End).bytes, 100);
    assert_eq!(story.of_process(CHILD, Moment::End).bytes, 0);
    let peak = story.of_process(CHILD, Moment::Peak);
    assert_eq!(
        (peak.at, peak.bytes, peak.inherited_bytes),
        (Nanos(4), 100, 100)
    );
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
fn leaves_such_a_block_to_the_first_of_several_children() {
    let story = Story::new().allocated(A, 100).resize_began(A).by(2);
    let story = story.forked(CHILD).forked(SECOND);
    assert_eq!(story.end().holders, [holder(CHILD, STACK, 100, 1)]);
    assert_eq!(story.of_process(SECOND, Moment::End).bytes, 100);
    let story = story.by(1).resized(B, 150);
    assert_eq!(story.held(), (250, 2));
}

const SECOND: ProcessId = ProcessId(3 << 10);

#[test]
fn of_a_prefork_server_counts_what_its_master_loaded_once() {
    let mut story = Story::new().allocated(A, 200);
    let workers = [3, 4, 5, 6].map(|number| ProcessId(number << 10));
    for worker in workers {
        story = story.of(P).forked(worker);
        // All get the same addresses.
        story = story.of(worker).allocated_by(OTHER_STACK, B, 10);
    }
    let peak = story.peak();
    assert_eq!((peak.bytes, peak.inherited_bytes), (240, 800));
    assert_eq!(peak.holders[0], holder(P, STACK, 200, 1));
    assert_eq!(peak.listed_bytes(), 240);
    for worker in workers {
        let of_worker = story.of_process(worker, Moment::Peak);
        assert_eq!((of_worker.bytes, of_worker.inherited_bytes), (210, 200));
        assert_eq!(story.live.elsewhere_at_peak(worker), 200);
    }
    assert_eq!(story.live.elsewhere_at_peak(P), 0);
}

#[test]
fn keeps_what_its_owner_frees_for_as_long_as_another_holds_it() {
    let story = Story::new().allocated(A, 100).forked(CHILD).forked(SECOND);
    let story = story.freed(A, NO_HEADER);
    assert_eq!(story.held(), (100, 1));
    assert_eq!(story.end().holders, [holder(CHILD, STACK, 100, 1)]);
    // Another block at the same address is another block.
    let story = story.allocated(A, 100);
    assert_eq!(story.held(), (200, 2));
    let story = story.of(CHILD).exited();
    let holders = [holder(P, STACK, 100, 1), holder(SECOND, STACK, 100, 1)];
    assert_eq!(story.end().holders, holders);
    let story = story.of(SECOND).call(Call::Executed { next: NEXT });
    assert_eq!(story.end().holders, [holder(P, STACK, 100, 1)]);
    assert_eq!(story.peak().bytes, 200);
}

#[test]
fn leaves_the_memory_of_a_parent_that_ends_to_its_children() {
    let story = Story::new().allocated(A, 100).allocated(B, 10);
    let story = story.forked(CHILD).allocated(Address(0x3000), 5);
    let story = story.of(CHILD).freed(B, NO_HEADER).of(P).exited();
    assert_eq!(story.held(), (100, 1));
    let end = story.end();
    assert_eq!(end.holders, [holder(CHILD, STACK, 100, 1)]);
    assert_eq!(end.inherited_bytes, 0);
    let of_child = story.of_process(CHILD, Moment::End);
    assert_eq!(of_child.inherited_bytes, 100, "it did not ask for it");
    assert_eq!(story.of(CHILD).exited().held(), (0, 0));
}

#[test]
fn a_process_that_is_let_go_of_holds_what_it_held() {
    let story = Story::new().allocated(A, 100).forked(CHILD).detached(CHILD);
    let story = story.freed(A, NO_HEADER);
    assert_eq!(story.end().holders, [holder(CHILD, STACK, 100, 1)]);
    assert_eq!(story.held(), (100, 1));
}

#[test]
fn when_a_family_has_forked_too_often_a_child_counts_as_a_stranger() {
    let mut story = Story::new().allocated(A, 100);
    let last = families::Stretch::LAST;
    story.live.processes[0].enter(last);
    let story = story.allocated(B, 10).forked(CHILD);
    assert_eq!(story.held(), (220, 4));
    let story = story.of(CHILD).freed(A, NO_HEADER).freed(B, NO_HEADER);
    assert_eq!(story.held(), (110, 2));
    assert_eq!(
        story.of(P).freed(A, NO_HEADER).freed(B, NO_HEADER).held(),
        (0, 0)
    );
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
