//! Handlers that allocate while their thread is inside the allocator, on every placement of their stack.
//!
//! A program of its own, whose tests run one at a time: a recorder of another process at the same moment would make a
//! return probe out of what is skipped here, and highwater would rightly let the target go.

use highwater_tests::{
    Recorder, Report, Truth, Victim, alone, link_kinds, privileged, record_while, scratch,
};

/// Whether return probes can be skipped, which is what a target with an alternate stack above its ordinary one takes.
fn returns_can_be_skipped() -> bool {
    link_kinds().iter().any(|kind| kind == "session")
}

/// Panics unless such a target is refused where it could be harmed, and lives on.
#[track_caller]
fn assert_refused(mut victim: Victim) {
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let outcome = Recorder::try_attach(victim.pid(), &file, &[])
        .expect_err("a target that could be harmed is refused");
    outcome.assert_says(1, &["alternate stack", "session links"]);
    victim.tell("go");
    victim.quit();
}

/// Panics unless a report has every block of a victim's truth, but for those of calls that it says it could not follow.
#[track_caller]
fn assert_exact_but_for_unsafe_returns(report: &Report, truth: &Truth) {
    // A handler's stack goes on into whatever code it interrupted, which need not keep frame pointers.
    report.assert_saw_all_but(&["unsafe_returns", "truncated_stacks"]);
    let left_out = report.quality("unsafe_returns");
    assert_eq!(
        report.total("allocations") + left_out,
        truth.get("allocations")
    );
    // Each block that was left out is freed unknown, if it is freed.
    let unmatched = report.total("unmatched_frees");
    assert!(
        unmatched <= left_out,
        "{unmatched} unmatched, {left_out} left out"
    );
    assert_eq!(report.total("frees") + unmatched, truth.get("frees"));
}

/// A handler that allocates each time its thread is inside calloc.
fn allocate_inside_calloc(placement: &str, alternate_above: Option<u64>) -> (Report, Truth) {
    let mut victim = Victim::start_with("signal_in_calloc", &[placement]);
    if let Some(above) = alternate_above {
        assert_eq!(victim.start_truth().get("alternate_above"), above);
    }
    let (report, truth) = record_while(&mut victim, &[], &["go"]);
    assert_eq!(truth.get("handled"), truth.get("rounds"));
    // And nothing of it is left behind that the next recording trips over.
    let (again, after) = record_while(&mut victim, &[], &["hold 50"]);
    victim.quit();
    again.assert_saw_all();
    assert_eq!(again.total("allocations"), 50);
    assert_eq!(again.end().blocks, 50);
    assert_eq!(after.get("live_blocks"), 50);
    (report, truth)
}

#[test]
fn a_handler_on_the_same_stack_allocates_inside_calloc() {
    privileged!();
    let _alone = alone();
    let (report, truth) = allocate_inside_calloc("same", None);
    assert_exact_but_for_unsafe_returns(&report, &truth);
}

#[test]
fn a_handler_on_an_alternate_stack_above_allocates_inside_calloc() {
    privileged!();
    let _alone = alone();
    if !returns_can_be_skipped() {
        return assert_refused(Victim::start_with("signal_in_calloc", &["above"]));
    }
    let (report, truth) = allocate_inside_calloc("above", Some(1));
    assert_exact_but_for_unsafe_returns(&report, &truth);
}

#[test]
fn a_handler_on_an_alternate_stack_below_allocates_inside_calloc() {
    privileged!();
    let _alone = alone();
    let (report, truth) = allocate_inside_calloc("below", Some(0));
    assert_exact_but_for_unsafe_returns(&report, &truth);
}

/// A handler that allocates wherever a timer finds its thread.
fn allocate_anywhere(placement: &str) {
    let _alone = alone();
    let mut victim = Victim::start_with("timer_in_malloc", &[placement]);
    let (report, truth) = record_while(&mut victim, &[], &["go"]);
    victim.quit();
    assert_eq!(truth.get("handled"), 1000);
    assert_exact_but_for_unsafe_returns(&report, &truth);
    assert_eq!((report.end().bytes, report.end().blocks), (0, 0));
}

#[test]
fn a_timers_handler_on_the_same_stack_allocates_anywhere() {
    privileged!();
    allocate_anywhere("same");
}

#[test]
fn a_timers_handler_on_an_alternate_stack_above_allocates_anywhere() {
    privileged!();
    if !returns_can_be_skipped() {
        return assert_refused(Victim::start_with("timer_in_malloc", &["above"]));
    }
    allocate_anywhere("above");
}

#[test]
fn a_timers_handler_on_an_alternate_stack_below_allocates_anywhere() {
    privileged!();
    allocate_anywhere("below");
}
