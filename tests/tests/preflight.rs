//! What tracing will cost is told before probes go in.

use std::time::{SystemTime, UNIX_EPOCH};

use highwater_tests::{Recorder, Report, Victim, alone, mapped_text, privileged, run, scratch};

/// The line of a recorder that says what to expect, if it says so.
fn expectation(stderr: &str) -> Option<&str> {
    stderr.lines().find(|line| line.contains("expects "))
}

#[test]
fn an_idle_process_is_expected_to_call_nothing_and_not_to_be_slowed() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("steady");
    victim.tell("work 100");
    let options = ["--preflight", "100ms", "--duration", "100ms"];
    let outcome = run(&mut Recorder::command(victim.pid(), &file, &options));
    victim.quit();
    outcome.assert_says(0, &[]);
    let line =
        expectation(&outcome.stderr).unwrap_or_else(|| panic!("it is not told: {outcome:#?}"));
    assert!(line.contains("expects no calls"), "{line}");
}

#[test]
fn without_a_terminal_a_process_that_will_be_slowed_much_is_attached_to_and_that_is_said() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let victim = Victim::start_with("churn", &["1"]);
    for (option, words) in [
        (None, "no terminal to ask on"),
        (Some("--yes"), "--yes says"),
    ] {
        let mut options = vec!["--preflight", "200ms", "--duration", "100ms"];
        options.extend(option);
        let outcome = run(&mut Recorder::command(victim.pid(), &file, &options));
        outcome.assert_says(0, &["expects", words, "going on"]);
        std::fs::remove_file(&file).expect("there is a recording");
    }
}

#[test]
fn no_count_leaves_nothing_told_and_a_count_leaves_nothing_in_the_process() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("steady");
    let text = mapped_text(victim.pid());
    for (window, told) in [("0", false), ("50ms", true)] {
        let file = directory.path().join(format!("{window}.hwm"));
        let options = ["--preflight", window, "--duration", "50ms"];
        let outcome = run(&mut Recorder::command(victim.pid(), &file, &options));
        outcome.assert_says(0, &[]);
        assert_eq!(expectation(&outcome.stderr).is_some(), told, "{outcome:#?}");
        let changed = text.changed_bytes().expect("its memory can be read");
        assert_eq!(changed, 0, "every probe is out");
    }
    victim.tell("work 100");
    victim.quit();
}

#[test]
fn the_clock_of_a_recording_starts_where_probes_count_not_as_the_recorder_makes_itself_ready() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let victim = Victim::start("steady");
    // What is idle is counted for all of that time, so the recording begins after it.
    let before = SystemTime::now().duration_since(UNIX_EPOCH);
    let before = before.expect("it is past 1970").as_secs_f64();
    let options = ["--preflight", "1s", "--duration", "50ms"];
    run(&mut Recorder::command(victim.pid(), &file, &options)).assert_says(0, &[]);
    victim.quit();
    let report = Report::of(&file);
    let started = report.json()["started"].as_str().expect("a moment");
    let clock = started.split(['T', 'Z']).nth(1).expect("a time of day");
    let seconds = clock.split(':').fold(0.0, |sum, part| {
        sum * 60.0 + part.parse::<f64>().expect("a number")
    });
    // Midnight may have come.
    let passed = (seconds - before).rem_euclid(86_400.0);
    assert!((1.0..43_200.0).contains(&passed), "{passed} s: {started}");
}

#[test]
fn the_recording_holds_nothing_of_the_calibration() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("steady");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--preflight", "50ms"]);
    let truth = victim.tell("hold 100");
    let report = recorder.interrupt();
    victim.quit();
    report.assert_saw_all();
    report.assert_totals(&truth);
    report.assert_end(&truth);
    assert_eq!(report.processes().len(), 1);
}
