//! The target is never harmed: programs that do what return probes and signals together do not survive.

use highwater_tests::{Recorder, Report, Truth, Victim, alone, privileged, record_while, scratch};

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

#[test]
fn exceptions_pass_out_of_operator_new_and_through_frames_that_allocate() {
    privileged!();
    let mut untraced = Victim::start("throwing");
    untraced.tell("go");
    let mut victim = Victim::start("throwing");
    let (report, truth) = record_while(&mut victim, &[], &["go"]);
    assert_eq!(victim.said(), untraced.said());
    assert_eq!(truth.get("refused"), 2000);
    // The C++ library allocates too, and keeps no frame pointers.
    report.assert_saw_all_but(&["truncated_stacks"]);
    assert_eq!(report.total("failed_allocations"), truth.get("failed"));
    assert_eq!(report.end().blocks, 0, "{:#?}", report.end());
    victim.quit();
    untraced.quit();
}

#[test]
fn a_handler_takes_backtraces_of_malloc() {
    privileged!();
    let _alone = alone();
    let mut victim = Victim::start("backtrace_in_handler");
    let (report, truth) = record_while(&mut victim, &[], &["go"]);
    victim.quit();
    assert_eq!(truth.get("handled_enough"), 1);
    assert_eq!(truth.get("empty"), 0);
    report.assert_saw_all();
    report.assert_totals(&truth);
    report.assert_end(&truth);
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
    let (report, truth) = allocate_inside_calloc("same", None);
    assert_exact_but_for_unsafe_returns(&report, &truth);
}

#[test]
fn a_handler_on_an_alternate_stack_above_allocates_inside_calloc() {
    privileged!();
    let (report, truth) = allocate_inside_calloc("above", Some(1));
    assert_exact_but_for_unsafe_returns(&report, &truth);
}

#[test]
fn a_handler_on_an_alternate_stack_below_allocates_inside_calloc() {
    privileged!();
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
    allocate_anywhere("above");
}

#[test]
fn a_timers_handler_on_an_alternate_stack_below_allocates_anywhere() {
    privileged!();
    allocate_anywhere("below");
}

#[test]
fn work_after_a_jump_out_of_calloc_is_booked_right() {
    privileged!();
    let mut victim = Victim::start("jump_out_of_calloc");
    let (report, truth) = record_while(&mut victim, &[], &["go", "hold 100", "drop 30"]);
    victim.quit();
    // A return that never came is known as missed, if the next call tells.
    report.assert_saw_all_but(&["missed_returns"]);
    assert!(report.quality("missed_returns") <= 200);
    report.assert_totals(&truth);
    assert_eq!(report.total("unmatched_frees"), 0);
    report.assert_end(&truth);
    report.assert_peak(&truth);
}

#[test]
fn a_sandboxed_process_is_traced_or_refused_but_never_killed() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("seccomp");
    victim.tell("hold 10");
    let file = directory.path().join("recording.hwm");
    match Recorder::try_attach(victim.pid(), &file, &[]) {
        Ok(recorder) => {
            let before = victim.tell("hold 0");
            victim.tell("work 20000");
            let window = victim.tell("hold 100") - &before;
            let report = recorder.interrupt();
            report.assert_saw_all();
            report.assert_totals(&window);
        }
        Err(outcome) => {
            eprintln!("refused: {}", outcome.stderr);
            outcome.assert_says(1, &["seccomp"]);
        }
    }
    victim.tell("work 20000");
    victim.tell("drop 110");
    victim.quit();
}

#[test]
fn children_that_exec_at_once_leave_the_parents_books_exact() {
    privileged!();
    for command in ["vfork 20", "spawn 20"] {
        let mut victim = Victim::start("spawn_children");
        let pid = victim.pid();
        let (report, truth) = record_while(&mut victim, &["--no-children"], &[command]);
        victim.quit();
        assert_eq!(truth.get("good"), 20, "{command}: each child did its work");
        report.assert_saw_all();
        assert_eq!(report.only_process().pid, pid);
        report.assert_totals(&truth);
        report.assert_end(&truth);
        report.assert_peak(&truth);
    }
}

#[test]
fn children_that_exec_at_once_survive_being_followed() {
    privileged!();
    for command in ["vfork 20", "spawn 20"] {
        let mut victim = Victim::start("spawn_children");
        let pid = victim.pid();
        let (report, truth) = record_while(&mut victim, &[], &[command]);
        victim.quit();
        assert_eq!(truth.get("good"), 20, "{command}: each child did its work");
        assert!(report.is_complete());
        let parent = report
            .processes()
            .into_iter()
            .find(|process| process.pid == pid);
        let peak = report.process_peak(parent.expect("the parent is traced").id);
        assert_eq!(
            (peak.bytes, peak.blocks),
            (truth.get("peak_bytes"), truth.get("peak_blocks"))
        );
    }
}

#[test]
fn a_forked_child_is_followed_with_a_copy_of_its_parents_live_set() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("fork_child");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    let parent = victim.tell("hold 100");
    let child_pid = u32::try_from(victim.tell("fork").get("child")).expect("a pid fits 32 bits");
    recorder.await_identities(child_pid, 1);
    let child = victim.tell("hold 50");
    // More than the child allocated itself: blocks that it has from its parent.
    victim.tell("drop 120");
    victim.tell_until_ready("leave");
    let end = victim.tell("drop 10");
    let report = recorder.interrupt();
    victim.quit();

    report.assert_saw_all();
    assert_eq!(report.total("unmatched_frees"), 0);
    let processes = report.processes();
    assert_eq!(processes.len(), 2, "{processes:#?}");
    assert_eq!(processes[1].pid, child_pid);
    assert_eq!(processes[1].parent, Some(processes[0].id));
    let exit = processes[1].exit.as_ref().expect("the child has exited");
    assert_eq!((exit.reason.as_str(), exit.code), ("exited", Some(0)));

    let parents = report.process_peak(processes[0].id);
    assert_eq!(
        (parents.bytes, parents.blocks),
        (parent.get("live_bytes"), parent.get("live_blocks"))
    );
    let childs = report.process_peak(processes[1].id);
    assert_eq!(
        (childs.bytes, childs.blocks),
        (child.get("live_bytes"), child.get("live_blocks"))
    );
    let all = report.peak();
    assert_eq!(
        (all.bytes, all.blocks),
        (
            parent.get("live_bytes") + child.get("live_bytes"),
            parent.get("live_blocks") + child.get("live_blocks")
        )
    );
    report.assert_end(&end);
}

#[test]
fn a_forked_child_is_left_alone_where_children_are_not_wanted() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("fork_child");
    let file = directory.path().join("recording.hwm");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--no-children"]);
    let parent = victim.tell("hold 100");
    victim.tell("fork");
    victim.tell("hold 50");
    victim.tell("work 5000");
    victim.tell("drop 150");
    victim.tell_until_ready("leave");
    let end = victim.tell("drop 10");
    let report = recorder.interrupt();
    victim.quit();

    report.assert_saw_all();
    report.only_process();
    report.assert_totals(&end);
    report.assert_peak(&parent);
    report.assert_end(&end);
}
