//! What a free does.

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
