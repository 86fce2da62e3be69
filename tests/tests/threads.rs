//! Several threads of one process, and one thread that is fast.

use highwater_tests::{Victim, alone, c_libraries, privileged, record_while, victim_program};

#[test]
fn blocks_that_one_thread_allocates_and_another_frees_are_all_accounted_for() {
    privileged!();
    let _alone = alone();
    let mut victim = Victim::start("threads");
    let (report, truth) = record_while(&mut victim, &[], &["go"]);
    victim.quit();
    report.assert_saw_all();
    assert_eq!(truth.get("allocations"), 1_000_000);
    report.assert_totals(&truth);
    assert_eq!(report.total("unmatched_frees"), 0);
    report.assert_end(&truth);
    assert!(report.peak().bytes >= report.end().bytes);
}

#[test]
fn a_thread_as_fast_as_it_can_be_loses_nothing() {
    privileged!();
    let _alone = alone();
    let mut victim = Victim::start("rate");
    let (report, truth) = record_while(&mut victim, &[], &["go 2000"]);
    victim.quit();
    let events = truth.get("allocations") + truth.get("frees");
    let nanoseconds = truth.get("elapsed_ns");
    eprintln!(
        "{} events/s of one thread, {events} in all",
        u128::from(events) * 1_000_000_000 / u128::from(nanoseconds)
    );
    report.assert_saw_all();
    assert_eq!(report.total("allocations"), truth.get("allocations"));
    assert_eq!(report.total("frees"), truth.get("frees"));
    assert_eq!((report.end().bytes, report.end().blocks), (0, 0));
    assert_eq!((report.peak().bytes, report.peak().blocks), (64, 1));
}

#[test]
fn a_threads_first_free_is_one_free_though_libc_begins_it_anew() {
    privileged!();
    let program = victim_program("short_threads");
    for library in c_libraries() {
        let mut victim = Victim::start_command(&mut library.command(&program));
        let (report, _) = record_while(&mut victim, &[], &["go 200"]);
        victim.quit();
        report.assert_saw_all_but(&["truncated_stacks"]);
        assert_eq!(report.total("unmatched_frees"), 0, "{}", library.name);
    }
}

#[test]
fn two_hundred_short_lived_threads_are_followed() {
    privileged!();
    let mut victim = Victim::start("short_threads");
    let (report, truth) = record_while(&mut victim, &[], &["go 200"]);
    victim.quit();
    // Starting threads allocates too, in code without frame pointers: the totals are more than the victim's own.
    report.assert_saw_all_but(&["truncated_stacks"]);
    assert!(report.total("allocations") >= truth.get("allocations"));
    let end = report.end();
    end.assert_adds_up();
    assert_eq!(
        end.through("allocate_briefly"),
        (truth.get("live_bytes"), truth.get("live_blocks"))
    );
}
