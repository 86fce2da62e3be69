//! The target is never harmed: programs that do what return probes and signals together do not survive.

use highwater_tests::{Recorder, Victim, alone, privileged, record_while, scratch};

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
        // A child may be gone before anyone could look at it; that is told, and is all that may be missing.
        report.assert_saw_all_but(&["unfollowed_children", "truncated_stacks"]);
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

    report.assert_saw_all_but_first_moments();
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
        (child.get("live_bytes"), child.get("live_blocks")),
        "what the child has from its parent counts once"
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
