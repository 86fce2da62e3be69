//! How processes begin and end.

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
fn that_we_let_go_of_holds_what_it_held_beside_the_others() {
    let story = Story::new().allocated(A, 100).of(CHILD).allocated(B, 5);
    let story = story.detached(P).allocated(A, 7);
    assert_eq!(story.held(), (112, 3));
    let story = story.detached(CHILD);
    let end = story.end();
    assert_eq!((end.at, end.bytes, end.blocks), (Nanos(5), 112, 3));
    assert_eq!(story.of(P).freed(A, 0).exited().end(), end);
}

#[test]
fn that_is_gone_keeps_its_end_whatever_is_said_later() {
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
