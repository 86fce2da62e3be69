//! Every frame of every stack, held against the unwinder of the C runtime: programs as distributions build them, without
//! frame pointers.
//!
//! One test runs at a time: threads of Rust have an alternate signal stack, which may lie above their own, and highwater
//! lets such a process go when another one is traced at the same moment.

use highwater_tests::{
    Recorder, Report, ToldStacks, Truth, Victim, alone, link_kinds, privileged, record_stacks,
    scratch, victim_program,
};

/// Records a stack victim while no other test does.
#[track_caller]
fn record(name: &str, arguments: &[&str], command: &str) -> (Report, ToldStacks, Truth) {
    let _alone = alone();
    record_stacks(name, arguments, command)
}

/// Holds every stack of a victim against what it tells.
#[track_caller]
fn check(name: &str, command: &str) -> (Report, ToldStacks) {
    let (report, told, _) = record(name, &[], command);
    told.assert_shown_by(&report);
    report.assert_saw_all();
    (report, told)
}

#[test]
fn frames_of_every_shape_are_walked_to_the_first_function() {
    privileged!();
    let (_, told) = check("whole_stack", "go");
    assert!(told.deepest() > 20);
}

#[test]
fn frames_whose_size_is_known_only_at_run_time_are_walked() {
    privileged!();
    let (_, told) = check("moving_frames", "go 500");
    assert!(told.count() > 400);
}

#[test]
fn stacks_of_exceptions_under_way_are_whole() {
    privileged!();
    check("unwound_stacks", "go 60");
}

#[test]
fn stacks_of_signal_handlers_go_on_into_what_they_interrupted() {
    privileged!();
    let mut placements = vec!["same", "below"];
    // Above its own, other links refuse the target: `alternate_stacks.rs` holds them to that.
    if link_kinds().iter().any(|kind| kind == "session") {
        placements.push("above");
    }
    for placement in placements {
        eprintln!("{placement}");
        let (report, told, _) = record("signal_frames", &[placement], "go 200");
        told.assert_shown_by(&report);
        report.assert_saw_all();
    }
}

#[test]
fn a_handler_inside_a_probed_call_goes_on_behind_the_probe() {
    privileged!();
    check("probed_frames", "go 50");
}

#[test]
fn a_recursion_900_deep_is_whole() {
    privileged!();
    let (_, told) = check("deep_stack", "go 900");
    assert!(told.deepest() > 900);
}

#[test]
fn a_recursion_1500_deep_keeps_its_leaf_1024_and_is_counted() {
    privileged!();
    let (report, told, _) = record("deep_stack", &[], "go 1500");
    assert!(told.deepest() > 1500);
    told.assert_shown_by(&report);
    report.assert_saw_all_but(&["truncated_stacks"]);
    // That of the block, and that of the system call by which malloc fetched the heap for it: this block is the first.
    assert_eq!(report.quality("truncated_stacks"), 2);
}

#[test]
fn code_opened_while_tracing_is_walked_and_not_taken_for_what_was_there_before() {
    privileged!();
    let libraries = ["opened.so", "opened_other.so"].map(victim_program);
    let libraries = libraries
        .each_ref()
        .map(|path| path.to_str().expect("the path of a victim is text"));
    let (report, told, truth) = record("opened_code", &libraries, "go 25");
    assert!(truth.get("opened") == 50 && truth.get("same_address") > 40);
    told.assert_shown_but_for_fresh_code(&report);
    report.assert_saw_all_but(&["truncated_stacks"]);
}

#[test]
fn stacks_of_threads_go_down_to_where_threads_start() {
    privileged!();
    let (_, told) = check("thread_stacks", "go 500");
    assert_eq!(told.count(), 32);
}

#[test]
fn stacks_of_coroutines_end_where_coroutines_start() {
    privileged!();
    let (_, told) = check("coroutine", "go 1000");
    assert!(told.count() > 10);
}

#[test]
fn stacks_that_a_program_has_made_itself_end_at_their_first_function() {
    privileged!();
    // A return address of zero; a function that says that nothing called it, returned to at its first byte, or calling.
    for bottom in ["zero", "outermost", "called"] {
        eprintln!("{bottom}");
        let (report, told, _) = record("own_stacks", &[bottom], "go 1000");
        told.assert_shown_by(&report);
        report.assert_saw_all();
        assert!(told.count() > 10);
    }
}

#[test]
fn stacks_that_go_through_code_which_says_nothing_are_cut_there() {
    privileged!();
    // Called by such code; and so that the call returns to the first byte of a function that nothing called.
    for through in ["silent", "behind"] {
        eprintln!("{through}");
        let (report, told, _) = record("own_stacks", &[through], "go 1000");
        told.assert_shown_by(&report);
        report.assert_saw_all_but(&["truncated_stacks"]);
        // All but those of the loop that switches.
        assert!(report.quality("truncated_stacks") >= 1000, "{through}");
        assert_eq!(
            report.quality("truncated_stacks"),
            report.quality("truncated_no_rule")
        );
    }
}

#[test]
fn stacks_of_rust_closures_generics_panics_and_threads_are_whole() {
    privileged!();
    if link_kinds().iter().all(|kind| kind != "session") {
        return assert_rust_is_let_go_or_seen();
    }
    let (_, told) = check("rust_stacks", "go 40");
    assert!(told.count() > 100);
}

/// Rust gives each thread an alternate stack. If one lies above its thread's own, only a session link does no harm, and the program
/// is let go.
fn assert_rust_is_let_go_or_seen() {
    let _alone = alone();
    let directory = scratch();
    let path = directory.path().join("truth");
    let text = path.to_str().expect("the path of a scratch file is text");
    let mut victim = Victim::start_with("rust_stacks", &[text]);
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    victim.tell("go 40");
    let report = recorder.interrupt();
    victim.quit();
    if report.json()["quality"]["ended_by"] == "interrupted" {
        report.assert_saw_all();
        return ToldStacks::read(&path).assert_shown_by(&report);
    }
    let unseen = report.json()["quality"]["unseen"].to_string();
    assert!(unseen.contains("an alternate stack above"), "{unseen}");
    assert!(!report.is_complete());
}

#[test]
fn a_stack_is_not_taken_for_another_that_left_its_traces_at_the_same_addresses() {
    privileged!();
    let (_, told) = check("alternating_stacks", "go 2000");
    assert!(told.count() > 300);
}

#[test]
fn one_chain_of_calls_is_one_stack_whatever_its_registers_hold() {
    privileged!();
    let (_, told) = check("counting_registers", "go 10000");
    assert_eq!(told.count(), 1);
}
