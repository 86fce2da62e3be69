//! What system calls do to an address space, to the byte: each kind of memory apart, and the allocator's own never
//! counted twice.

use std::process::Command;

use highwater_tests::{
    Report, Truth, Victim, alone, link_kinds, privileged, record_while, victim_program,
};

/// The kinds that are no heap, as truths and reports name them.
const KINDS: [&str; 5] = ["mapping", "thread_stack", "reserved", "file", "shared"];

/// Records one row of what system calls do, made by libc's functions or by the program's own instruction.
#[track_caller]
fn check_row(row: &str, how: &str) {
    eprintln!("{row} by {how}");
    let mut victim = Victim::start_with("mapping_calls", &[how, row]);
    let (report, truth) = record_while(&mut victim, &[], &["go"]);
    victim.quit();
    report.assert_saw_all();
    assert_mapping_totals(&report, &truth);
    let (peak, end) = (report.peak(), report.end());
    for kind in KINDS {
        assert_eq!(end.of(kind), truth.get(kind), "{kind} of {end:#?}");
    }
    assert_eq!(end.of("heap"), 0);
    // Only mappings are in the level.
    assert_eq!(end.bytes, truth.get("mapping"));
    assert_eq!(peak.bytes, truth.get("peak_mapping"));
    peak.assert_adds_up();
    end.assert_adds_up();
    // All of it was asked for by the function that is named like the row.
    assert_eq!(
        end.of_through("mapping", row),
        end.of("mapping"),
        "{end:#?}"
    );
    assert_eq!(report.quality("unpaired_resizes"), 0);
}

/// Panics unless what came and went is what a victim told.
#[track_caller]
fn assert_mapping_totals(report: &Report, truth: &Truth) {
    for name in [
        "mmaps",
        "mapped_bytes",
        "unmaps",
        "unmapped_bytes",
        "unmatched_unmaps",
        "unmatched_unmapped_bytes",
    ] {
        let totals = &report.json()["totals"];
        assert_eq!(report.total(name), truth.get(name), "{name}: {totals:#}");
    }
}

macro_rules! rows {
    ($($test:ident: $row:literal,)*) => {$(
        #[test]
        fn $test() {
            privileged!();
            for how in ["libc", "raw"] {
                check_row($row, how);
            }
        }
    )*};
}

rows! {
    a_range_lives_from_its_mmap_to_its_munmap: "whole_ranges",
    heads_tails_and_middles_can_be_unmapped: "parts_of_ranges",
    one_munmap_takes_several_ranges_and_the_holes_between_are_unmatched: "several_at_once",
    a_fixed_mapping_replaces_what_lay_there: "over_older_ones",
    mremap_grows_shrinks_moves_and_replaces: "moves",
    calls_that_fail_leave_all_as_it_is: "failures",
    reserved_space_becomes_a_mapping_as_it_is_committed: "reservations",
    files_and_shared_memory_are_not_in_the_level: "files_and_shared",
    an_mprotect_that_fails_has_changed_what_lies_before_the_place_at_which_it_failed: "partly_protected",
    segments_of_shared_memory_live_from_their_shmat_to_their_shmdt: "segments",
    stacks_are_told_from_their_guards: "thread_stacks",
    a_program_break_moved_by_the_program_is_a_mapping: "program_break",
}

#[test]
fn stacks_of_threads_are_no_mappings_and_their_guards_are_reserved() {
    privileged!();
    for commands in [
        &["start 20"][..],
        &["start 20", "join"],
        &["start 10", "large 5"],
    ] {
        eprintln!("{commands:?}");
        let mut victim = Victim::start("stacks_of_threads");
        let (report, truth) = record_while(&mut victim, &[], commands);
        victim.quit();
        // Starting threads allocates, in code without frame pointers.
        report.assert_saw_all_but(&["truncated_stacks"]);
        let (peak, end) = (report.peak(), report.end());
        assert_eq!(end.of("thread_stack"), truth.get("thread_stack"));
        assert_eq!(end.of("reserved"), truth.get("reserved"));
        assert_eq!(end.of("mapping"), 0, "{end:#?}");
        assert_eq!(peak.bytes, peak.of("heap"));
    }
}

#[test]
fn what_the_allocator_maps_for_blocks_counts_as_these_blocks_alone() {
    privileged!();
    let _alone = alone();
    for kind in link_kinds() {
        eprintln!("by {kind}");
        let mut victim = Victim::start("arenas");
        let options = ["--link", &kind];
        let (report, truth) = record_while(&mut victim, &options, &["threads", "threads"]);
        victim.quit();
        report.assert_saw_all();
        report.assert_totals(&truth);
        assert_eq!(report.total("unmatched_frees"), truth.get("early"));
        report.assert_end(&truth);
        let (peak, end) = (report.peak(), report.end());
        for kind in KINDS {
            assert_eq!((peak.of(kind), end.of(kind)), (0, 0), "{kind}: {end:#?}");
        }
        for name in ["mmaps", "mapped_bytes", "unmaps", "unmapped_bytes"] {
            assert_eq!(report.total(name), 0, "{name}");
        }
    }
}

#[test]
fn what_the_allocator_maps_is_no_mapping_where_calls_are_sampled() {
    privileged!();
    let _alone = alone();
    let mut victim = Victim::start("arenas");
    let options = ["--sample", "64KiB"];
    let (report, truth) = record_while(&mut victim, &options, &["threads", "rise"]);
    victim.quit();
    // Few of the calls that map are followed: the others are known by where they come from.
    let end = report.end();
    end.assert_adds_up();
    assert_eq!(end.of("mapping"), truth.get("own_break"), "{end:#?}");
    assert_eq!(end.of("reserved"), 0, "{end:#?}");
    assert_eq!(report.total("mapped_bytes"), truth.get("own_break"));
}

#[test]
fn a_program_break_that_malloc_and_the_program_move_is_counted_once() {
    privileged!();
    for commands in [&["rise"][..], &["rise", "fall"]] {
        let mut victim = Victim::start("arenas");
        let (report, truth) = record_while(&mut victim, &[], commands);
        victim.quit();
        report.assert_saw_all();
        report.assert_totals(&truth);
        let end = report.end();
        end.assert_adds_up();
        assert_eq!(
            end.heap(),
            (truth.get("live_bytes"), truth.get("live_blocks"))
        );
        assert_eq!(end.of("mapping"), truth.get("own_break"), "{end:#?}");
        assert_eq!(end.of_through("mapping", "rise"), truth.get("own_break"));
        assert_eq!(
            report.peak().bytes,
            truth.get("peak_bytes") + truth.get("own_break")
        );
    }
}

#[test]
fn threads_that_are_given_each_others_addresses_keep_their_ranges() {
    privileged!();
    let _alone = alone();
    let mut victim = Victim::start("mapping_races");
    let (report, truth) = record_while(&mut victim, &[], &["go", "go"]);
    victim.quit();
    report.assert_saw_all();
    for name in ["mmaps", "mapped_bytes", "unmaps", "unmapped_bytes"] {
        assert_eq!(report.total(name), truth.get(name), "{name}");
    }
    assert_eq!(report.total("unmatched_unmaps"), 0);
    assert_eq!(report.quality("unpaired_resizes"), 0);
    let end = report.end();
    end.assert_adds_up();
    assert_eq!(end.of("mapping"), truth.get("mapping"));
    assert_eq!(end.bytes, truth.get("mapping"));
}

#[test]
fn threads_that_resize_each_others_blocks_balance_their_books() {
    privileged!();
    let _alone = alone();
    for kind in link_kinds() {
        eprintln!("by {kind}");
        let mut victim = Victim::start("mapping_races");
        let (report, truth) = record_while(&mut victim, &["--link", &kind], &["realloc"]);
        victim.quit();
        report.assert_saw_all();
        report.assert_totals(&truth);
        assert_eq!(report.total("unmatched_frees"), 0);
        assert_eq!(report.quality("replaced_blocks"), 0);
        assert_eq!(report.quality("unpaired_resizes"), 0);
        report.assert_end(&truth);
        assert_eq!(report.total("mapped_bytes"), 0);
    }
}

#[test]
fn threads_that_end_inside_calloc_and_destructors_that_allocate_are_followed() {
    privileged!();
    for kind in link_kinds() {
        eprintln!("by {kind}");
        let mut victim = Victim::start("ends_of_threads");
        let (report, truth) = record_while(&mut victim, &["--link", &kind], &["go 200"]);
        victim.quit();
        assert_eq!(truth.get("ended_inside"), 100);
        // A thread that leaves calloc leaves its return unseen, which is counted where the thread is seen again.
        report.assert_saw_all_but(&["truncated_stacks", "missed_returns", "unsafe_returns"]);
        assert_eq!(report.total("unmatched_frees"), 0);
        let end = report.end();
        end.assert_adds_up();
        assert_eq!(
            end.through("keep"),
            (truth.get("live_bytes"), truth.get("live_blocks"))
        );
        assert_eq!(end.of("mapping"), 0, "{end:#?}");
    }
}

#[test]
fn memory_of_an_interposed_allocator_is_its_mappings() {
    privileged!();
    let mut victim = Victim::start_command(
        Command::new(victim_program("interposed"))
            .env("LD_PRELOAD", victim_program("interposer.so")),
    );
    let before = victim.tell("hold 1000").get("mapping");
    let commands = [
        "hold 20000",
        "large 50",
        "work 20000",
        "large 20",
        "aligned 7",
    ];
    let (report, truth) = record_while(&mut victim, &[], &commands);
    victim.quit();
    report.assert_saw_all();
    let end = report.end();
    end.assert_adds_up();
    // Of what goes round libc only the memory is seen; what goes to libc is seen as ever.
    assert_eq!(
        end.heap(),
        (truth.get("libc_bytes"), truth.get("libc_blocks"))
    );
    assert_eq!(end.of("mapping"), truth.get("mapping") - before, "{end:#?}");
    let notes = report.json()["quality"]["notes"].to_string();
    assert!(notes.contains("interposer.so"), "{notes}");
}
