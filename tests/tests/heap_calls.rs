//! What each call of the allocator does to the live set, to the byte.

use highwater_tests::{Report, Truth, Victim, link_kinds, privileged, record_while};

/// Records one row of the table "What each call means".
fn record_row(row: &str, options: &[&str]) -> (Report, Truth) {
    let mut victim = Victim::start_with("heap_calls", &[row]);
    let recorded = record_while(&mut victim, options, &["go"]);
    victim.quit();
    recorded
}

/// Holds everything that is said of one row against the victim's truth.
fn check_row(row: &str, options: &[&str]) {
    let (report, truth) = record_row(row, options);
    report.assert_saw_all();
    report.assert_totals(&truth);
    assert_eq!(report.total("failed_allocations"), truth.get("failed"));
    assert_eq!(report.total("unmatched_frees"), truth.get("unmatched"));
    report.assert_end(&truth);
    report.assert_peak(&truth);
    // All of it was done by the function that is named like the row.
    let end = report.end();
    assert_eq!(end.through(row), (end.bytes, end.blocks), "{end:#?}");
}

macro_rules! rows {
    ($($test:ident: $row:literal,)*) => {$(
        #[test]
        fn $test() {
            privileged!();
            check_row($row, &[]);
        }
    )*};
}

rows! {
    malloc_of_zero_bytes_is_a_block: "malloc_zero",
    calloc_counts_the_product: "calloc_multiplies",
    calloc_that_overflows_is_a_failed_allocation: "calloc_overflows",
    malloc_that_fails_leaves_no_block: "malloc_fails",
    realloc_that_grows_replaces_the_block: "realloc_grows",
    realloc_that_shrinks_replaces_the_block: "realloc_shrinks",
    realloc_of_null_is_an_allocation: "realloc_null",
    realloc_to_zero_bytes_frees_the_block: "realloc_zero",
    realloc_that_fails_leaves_the_block: "realloc_fails",
    reallocarray_counts_the_product: "reallocarray_multiplies",
    reallocarray_that_overflows_leaves_the_block: "reallocarray_overflows",
    aligned_blocks_count_as_requested: "memalign_family",
    aligned_allocations_that_fail_leave_no_block: "memalign_fails",
    free_of_null_is_nothing: "free_null",
}

/// What was freed of what was held before attach: what was once requested and no more than the allocator's chunks. For
/// a block that is a mapping of its own only the pages are known, and half of the last is taken off: that may be less.
fn check_unmatched_bytes(report: &Report, truth: &Truth) {
    const HALF_A_PAGE: u64 = 2048;
    assert_eq!(report.total("unmatched_frees"), truth.get("unmatched"));
    let bytes = report.total("unmatched_freed_bytes");
    assert!(
        (truth.get("unmatched_requested_bytes") - HALF_A_PAGE..=truth.get("unmatched_chunk_bytes"))
            .contains(&bytes),
        "{bytes} freed of what was there before, against {truth:?}"
    );
}

#[test]
fn a_free_of_a_block_from_before_attach_is_unmatched() {
    privileged!();
    let (report, truth) = record_row("free_early", &[]);
    report.assert_saw_all();
    report.assert_totals(&truth);
    report.assert_end(&truth);
    check_unmatched_bytes(&report, &truth);
}

#[test]
fn a_realloc_of_a_block_from_before_attach_is_an_allocation_and_an_unmatched_free() {
    privileged!();
    let (report, truth) = record_row("realloc_early", &[]);
    report.assert_saw_all();
    report.assert_totals(&truth);
    assert_eq!(report.total("failed_allocations"), truth.get("failed"));
    report.assert_end(&truth);
    check_unmatched_bytes(&report, &truth);
}

#[test]
fn every_kind_of_link_sees_the_calls_that_call_each_other() {
    privileged!();
    for kind in link_kinds() {
        for row in [
            "realloc_grows",
            "realloc_null",
            "reallocarray_multiplies",
            "memalign_family",
        ] {
            eprintln!("{row} by {kind}");
            check_row(row, &["--link", &kind]);
        }
    }
}

#[test]
fn what_cxx_and_libc_allocate_is_seen_through_malloc() {
    privileged!();
    let mut victim = Victim::start("through_libc");
    let (report, truth) = record_while(&mut victim, &[], &["go"]);
    victim.quit();
    // Their libraries keep no frame pointers.
    report.assert_saw_all_but(&["truncated_stacks"]);
    report.assert_totals(&truth);
    report.assert_end(&truth);
    report.assert_peak(&truth);
}

#[test]
fn eight_call_sites_hold_at_the_peak_and_at_the_end_what_they_say() {
    privileged!();
    for kind in link_kinds() {
        eprintln!("by {kind}");
        check_eight_sites(&["--link", &kind]);
    }
}

fn check_eight_sites(options: &[&str]) {
    let mut victim = Victim::start("eight_sites");
    let (report, truth) = record_while(&mut victim, options, &["rise", "fall"]);
    victim.quit();
    report.assert_saw_all();

    let (peak, end) = (report.peak(), report.end());
    assert_eq!(truth.sum("peak_blocks"), 10_000);
    assert_eq!((peak.bytes, peak.blocks), (truth.sum("peak_bytes"), 10_000));
    assert_eq!(
        (end.bytes, end.blocks),
        (truth.sum("live_bytes"), truth.sum("live_blocks"))
    );
    peak.assert_adds_up();
    end.assert_adds_up();
    for site in 0..8 {
        let of_site = |key| truth.get_where("site", site, key);
        let function = format!("site_{site}");
        assert_eq!(
            peak.through(&function),
            (of_site("peak_bytes"), of_site("peak_blocks")),
            "{function} at the peak"
        );
        assert_eq!(
            end.through(&function),
            (of_site("live_bytes"), of_site("live_blocks")),
            "{function} at the end"
        );
    }

    // Each stack is whole: the site, as many steps down as its number says (and one), and main at the root.
    for holder in &peak.holders {
        let names = &holder.functions;
        let site = names[0]
            .strip_prefix("site_")
            .and_then(|number| number.parse::<usize>().ok())
            .unwrap_or_else(|| panic!("the leaf of {names:?} is no site"));
        let steps = names.iter().filter(|name| *name == "descend").count();
        assert_eq!(steps, 2 * site + 1, "{names:?}");
        for caller in ["rise", "serve", "main"] {
            assert!(
                names.iter().any(|name| name == caller),
                "no {caller} in {names:?}"
            );
        }
    }
    let process_peak = report.process_peak(report.only_process().id);
    assert_eq!(
        (process_peak.bytes, process_peak.blocks),
        (peak.bytes, peak.blocks)
    );
}
