//! Every frame of every stack, held against the unwinder of the C runtime: programs as distributions build them, without
//! frame pointers.

use highwater_tests::{privileged, record_stacks};

/// Holds every stack of a victim that does its work once against what it tells.
#[track_caller]
fn check(name: &str, command: &str) {
    let (report, told) = record_stacks(name, &[], &[command]);
    told.assert_shown_by(&report);
    report.assert_saw_all();
}

#[test]
fn frames_of_every_shape_are_walked_to_the_first_function() {
    privileged!();
    check("whole_stack", "go");
}

#[test]
fn a_recursion_900_deep_is_whole() {
    privileged!();
    let (report, told) = record_stacks("deep_stack", &[], &["go 900"]);
    assert!(told.deepest() > 900);
    told.assert_shown_by(&report);
    report.assert_saw_all();
}

#[test]
fn a_recursion_1500_deep_keeps_its_leaf_1024_and_is_counted() {
    privileged!();
    let (report, told) = record_stacks("deep_stack", &[], &["go 1500"]);
    assert!(told.deepest() > 1500);
    told.assert_shown_by(&report);
    report.assert_saw_all_but(&["truncated_stacks"]);
    assert_eq!(report.quality("truncated_stacks"), 1);
}
