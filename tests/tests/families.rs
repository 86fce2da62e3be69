//! Processes that make others: what each holds counts for as long as it lives, and no longer.

use std::path::Path;
use std::process::Command;

use highwater_tests::{Recorder, Report, Victim, highwater, privileged, run, scratch};

const MIB: u64 = 1 << 20;

/// What `highwater check` says of a recording.
fn check(file: &Path, budget: &[&str]) -> highwater_tests::Outcome {
    let mut command = highwater();
    command.arg("check").args(budget).arg(file);
    run(&mut command)
}

#[test]
fn children_that_end_at_once_leave_nothing_behind() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut command: Command = highwater();
    command.arg("record").arg("-o").arg(&file).arg("--");
    command.args([
        "sh",
        "-c",
        "i=0; while [ $i -lt 400 ]; do /bin/true; i=$((i+1)); done",
    ]);
    run(&mut command).assert_says(0, &[]);
    let report = Report::of(&file);
    let peak = report.peak();
    assert!(peak.bytes < 300 * 1024, "{} bytes at the peak", peak.bytes);
    // What is live at the end is the shell's own, just before it ended.
    let end = report.end();
    assert!(end.bytes < 200 * 1024, "{} bytes at the end", end.bytes);
    for process in report.processes() {
        assert!(process.exit.is_some(), "{process:?} was never closed");
    }
}

#[test]
fn what_three_processes_hold_as_we_detach_is_live_at_the_end() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    victim.tell("fork 2");
    let recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("hold 5");
    let report = recorder.interrupt();
    victim.quit();
    report.assert_saw_all();
    report.assert_end(&truth);
    report.assert_peak(&truth);
    assert_eq!(report.memory("end", "live"), truth.get("live_bytes"));
    let unexplained = report.json()["memory"]["end"]["unexplained"].as_i64();
    let unexplained = unexplained.expect("it is known");
    // Three small programs: what they have beside it is little.
    assert!(unexplained.unsigned_abs() < 12 * MIB, "{unexplained}");
    check(&file, &["--max-live-at-end", "8MB"]).assert_says(3, &[]);
    check(&file, &["--max-live-at-end", "16MB"]).assert_says(0, &[]);
}

#[test]
fn helpers_that_run_one_after_another_count_one_at_a_time() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    let recorder = Recorder::attach(victim.pid(), &file);
    let helper = victim.tell("run 4").get("helper_bytes");
    let report = recorder.interrupt();
    victim.quit();
    let peak = report.peak().bytes;
    assert!(
        (helper..helper + MIB).contains(&peak),
        "{peak} bytes at the peak, not {helper}"
    );
    assert!(
        report.end().bytes < MIB,
        "{} at the end",
        report.end().bytes
    );
}
