//! Attaching, detaching, attaching again, and what stays of it.

use std::process::Command;

use highwater_tests::{
    Recorder, Report, Victim, alone, eventually, link_kinds, mapped_text, privileged, record_while,
    rounds, scratch, victim_program,
};

/// Something to compute, with a checksum that is the same in every run.
const COMPUTATION: [&str; 5] = [
    "hold 500",
    "work 20000",
    "drop 400",
    "work 5000",
    "checksum",
];

#[test]
fn a_process_that_has_run_for_a_while_is_seen_from_attach_on() {
    privileged!();
    let mut victim = Victim::start("steady");
    victim.tell("work 5000");
    let before = victim.tell("hold 100");
    let (report, after) = record_while(&mut victim, &[], &["hold 200"]);
    victim.quit();
    let window = after - &before;
    report.assert_saw_all();
    report.assert_totals(&window);
    let (end, peak) = (report.end(), report.peak());
    assert_eq!(
        (end.bytes, end.blocks),
        (window.get("allocated_bytes"), 200)
    );
    assert_eq!((peak.bytes, peak.blocks), (end.bytes, end.blocks));
    assert_eq!(end.through("hold"), (end.bytes, end.blocks));
    let exit = report.only_process().exit.expect("it was let go");
    assert_eq!(exit.reason, "detached");
}

#[test]
fn each_of_two_recordings_in_a_row_sees_its_own_window() {
    privileged!();
    let mut victim = Victim::start("steady");
    victim.tell("hold 100");

    // The queue drops the oldest first: 30 of those from before attach.
    let (first, _) = record_while(&mut victim, &[], &["hold 100", "drop 30"]);
    first.assert_saw_all();
    assert_eq!(first.total("allocations"), 100);
    assert_eq!(first.total("frees"), 0);
    assert_eq!(first.total("unmatched_frees"), 30);
    assert_eq!(first.end().blocks, 100);

    let before = victim.tell("hold 50");
    let directory = scratch();
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("second.hwm"));
    let held = victim.tell("hold 10") - &before;
    // 70 of the very first are left, 100 of the first recording, 50 of in between: all unknown to the second.
    let unknown_gone = victim.tell("drop 220");
    let known_gone = victim.tell("drop 4") - &unknown_gone;
    let second = recorder.interrupt();
    victim.quit();
    second.assert_saw_all();
    assert_eq!(second.total("allocations"), 10);
    assert_eq!(second.total("frees"), 4);
    assert_eq!(second.total("freed_bytes"), known_gone.get("freed_bytes"));
    assert_eq!(second.total("unmatched_frees"), 220);
    let end = second.end();
    assert_eq!(
        (end.bytes, end.blocks),
        (
            held.get("allocated_bytes") - known_gone.get("freed_bytes"),
            6
        )
    );
}

#[test]
fn two_recorders_at_once_are_both_right() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("steady");
    let start = victim.tell("hold 10");
    let first = Recorder::attach(victim.pid(), &directory.path().join("first.hwm"));
    let between = victim.tell("hold 50");
    let second = Recorder::attach(victim.pid(), &directory.path().join("second.hwm"));
    let both = victim.tell("hold 70");
    let first = first.interrupt();
    let after = victim.tell("hold 20");
    let second = second.interrupt();
    victim.quit();

    first.assert_saw_all();
    first.assert_totals(&(both - &start));
    assert_eq!(first.end().blocks, 120);
    second.assert_saw_all();
    second.assert_totals(&(after - &between));
    assert_eq!(second.end().blocks, 90);
}

#[test]
fn a_traced_program_says_what_it_says_untraced() {
    privileged!();
    let mut untraced = Victim::start("steady");
    for command in COMPUTATION {
        untraced.tell(command);
    }

    let directory = scratch();
    let mut traced = Victim::start("steady");
    let first = Recorder::attach(traced.pid(), &directory.path().join("first.hwm"));
    let mut second = None;
    for (number, command) in COMPUTATION.into_iter().enumerate() {
        if number == 2 {
            let file = directory.path().join("second.hwm");
            second = Some(Recorder::attach(traced.pid(), &file));
        }
        traced.tell(command);
    }
    drop(second);
    first.interrupt().assert_saw_all();
    assert_eq!(traced.said(), untraced.said());
    traced.quit();
    untraced.quit();
}

#[test]
fn detaching_gives_back_the_original_instructions() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("steady");
    let text = mapped_text(victim.pid());
    let changed = || {
        text.changed_bytes()
            .expect("the victim's memory can be read")
    };
    assert_eq!(changed(), 0, "before anyone attaches");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    victim.tell("work 1000");
    assert!(changed() > 0, "a probe changes at least one byte");
    recorder.interrupt();
    eventually("libc is what it was", || changed() == 0);
    victim.tell("work 1000");
    victim.quit();
}

#[test]
fn a_process_whose_first_thread_has_gone_is_traced() {
    privileged!();
    let mut victim = Victim::start("leader_gone");
    let (report, truth) = record_while(&mut victim, &[], &["hold 100", "drop 40"]);
    victim.quit();
    report.assert_saw_all();
    report.assert_totals(&truth);
    report.assert_end(&truth);
    report.assert_peak(&truth);
}

#[test]
fn probes_move_on_when_the_thread_that_carries_them_ends() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("leader_gone");
    let mut recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    victim.tell_until_ready("pass_on");
    recorder.await_words("lost the thread that carried its probes");
    victim.tell("hold 100");
    let truth = victim.tell("drop 40");
    let report = recorder.interrupt();
    victim.quit();
    assert_eq!(
        report.end().through("hold"),
        (truth.get("live_bytes"), truth.get("live_blocks"))
    );
}

#[test]
fn probes_move_on_when_the_first_thread_ends() {
    privileged!();
    // A kind of link that was asked for may not work without a first thread: then nothing is seen since.
    let forced = link_kinds();
    let forced = forced.iter().map(|kind| vec!["--link", kind.as_str()]);
    for options in std::iter::once(Vec::new()).chain(forced) {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let mut victim = Victim::start_with("leader_gone", &["stays"]);
        let mut recorder = Recorder::attach_with(victim.pid(), &file, &options);
        victim.tell("hold 10");
        victim.tell_until_ready("pass_on");
        recorder.await_words("lost the thread that carried its probes");
        victim.tell("hold 100");
        let truth = victim.tell("drop 40");
        let report = recorder.interrupt();
        victim.quit();
        let unseen = report.json()["quality"]["unseen"].to_string();
        assert!(unseen.contains("lost the thread"), "{options:?}: {unseen}");
        assert!(!report.is_complete(), "{options:?}");
        if !unseen.contains("nothing of it is seen since") {
            assert_eq!(
                report.end().through("hold"),
                (truth.get("live_bytes"), truth.get("live_blocks")),
                "{options:?}"
            );
        } else {
            let forced = std::env::var_os("HIGHWATER_LINK").is_some();
            assert!(forced || !options.is_empty(), "{unseen}");
        }
    }
}

#[test]
fn an_exec_by_a_thread_that_is_not_the_first_begins_a_new_program() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("exec_from_thread");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    let old = victim.tell("hold 30");
    victim.tell_until_ready("exec");
    recorder.await_identities(victim.pid(), 2);
    victim.tell("hold 10");
    let new = victim.tell("drop 5");
    let report = recorder.interrupt();
    let pid = victim.pid();
    victim.quit();

    report.assert_saw_all_but_first_moments();
    let processes = report.processes();
    assert_eq!(processes.len(), 2, "{processes:#?}");
    assert!(
        processes.iter().all(|process| process.pid == pid),
        "{processes:#?}"
    );
    let reasons = processes.iter().map(|process| {
        let exit = process.exit.as_ref().expect("both have ended for us");
        exit.reason.as_str()
    });
    assert_eq!(reasons.collect::<Vec<_>>(), ["executed", "detached"]);
    // The links named the thread that was the leader, so that they had to be placed anew.
    let unseen = report.json()["quality"]["unseen"].to_string();
    assert!(
        unseen.contains("before its probes were in place"),
        "{unseen}"
    );
    report.assert_heap_at_end(&new);
    assert_eq!(
        report.total("allocations"),
        old.get("allocations") + new.get("allocations")
    );
    let first = report.process_peak(processes[0].id);
    assert_eq!(
        (first.bytes, first.blocks),
        (old.get("peak_bytes"), old.get("peak_blocks"))
    );
    let second = report.process_peak(processes[1].id);
    assert_eq!(
        second.heap(),
        (new.get("peak_bytes"), new.get("peak_blocks"))
    );
}

#[test]
fn memory_that_a_child_takes_in_its_parents_address_space_is_missing_and_that_is_said() {
    privileged!();
    let mut victim = Victim::start("clone_vm");
    let (report, truth) = record_while(&mut victim, &[], &["go 20"]);
    victim.quit();
    let live = truth.get("live_bytes");
    assert!(report.end().heap().0 < live, "it is followed by now");
    assert!(!report.is_complete());
    assert_eq!(report.quality("sharers"), 1);
    // It may have freed what its parent held: nothing is certain.
    let unseen = report.json()["quality"]["unseen"].to_string();
    assert!(
        unseen.contains(r#""affects":"everything""#) && unseen.contains("CLONE_VM"),
        "{unseen}"
    );

    // A child that does nothing there but call exec misses nothing.
    let mut victim = Victim::start("spawn_children");
    let (report, _) = record_while(&mut victim, &[], &["vfork 3"]);
    victim.quit();
    assert_eq!(report.quality("sharers"), 0);
}

#[test]
fn threads_inside_malloc_at_attach_and_at_detach_are_left_unharmed() {
    privileged!();
    let _alone = alone();
    let mut victim = Victim::start_with("churn", &["4"]);
    let mut done = 0;
    for _ in 0..rounds(15) {
        let (report, truth) = record_while(&mut victim, &[], &["check"]);
        // Four threads that do nothing else may call faster than a busy machine lets us read.
        let lost = ["lost_events", "lost_allocations", "lost_frees"];
        let torn = ["missed_returns", "unpaired_returns", "unsafe_returns"];
        report.assert_saw_all_but(&[&lost[..], &torn[..]].concat());
        assert!(truth.get("rounds") >= done, "the victim goes on");
        done = truth.get("rounds");
    }
    victim.tell("stop");
    // With all threads at rest, the books are exact again.
    let (report, truth) = record_while(&mut victim, &[], &["hold 100", "drop 30"]);
    report.assert_saw_all();
    report.assert_totals(&truth);
    report.assert_end(&truth);
    victim.quit();
}

#[test]
fn a_program_that_is_replaced_while_we_attach_is_traced_as_what_it_becomes() {
    privileged!();
    let directory = scratch();
    // An attach takes some 0.3 to 2 seconds here.
    for delay in ["0.1", "0.2", "0.3", "0.4", "0.5", "0.7", "0.9", "1.2"] {
        let file = directory.path().join(delay);
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep $0; exec $1", delay]);
        shell.arg(victim_program("steady"));
        let begin = |pid| Recorder::begin(pid, &file, &[]);
        let (mut recorder, mut victim) = Victim::start_meanwhile(&mut shell, begin);
        recorder.await_words("highwater: tracing");
        // Attached to the shell, its probes are placed anew in what it has become.
        eventually("the new program is seen", || {
            victim.tell("hold 1");
            Report::so_far(&file).is_some_and(|report| report.end().through("hold").1 > 0)
        });
        victim.tell("hold 100");
        let report = recorder.interrupt();
        let (_, held) = report.end().through("hold");
        assert!(held >= 100, "{delay} s: {held} blocks");
        victim.quit();
    }
}
