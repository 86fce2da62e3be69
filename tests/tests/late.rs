//! Attaching late, to a process that holds much already.

use std::time::Instant;

use highwater_tests::{Recorder, Victim, alone, privileged, scratch};

const MIB: u64 = 1 << 20;

/// Panics unless a size is right within 2 %.
#[track_caller]
fn assert_close(what: &str, found: u64, expected: u64) {
    assert!(
        found.abs_diff(expected) <= expected / 50,
        "{what} is {} MiB, not {} MiB",
        found / MIB,
        expected / MIB
    );
}

#[test]
fn who_attaches_late_is_told_that_the_peak_was_at_attach() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let mut victim = Victim::start("late");
    let begun = Instant::now();
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    victim.tell("free200");
    let freed_after = begun.elapsed();
    let taken = victim.tell("take100").get("taken_bytes");
    let report = recorder.interrupt();
    victim.quit();

    report.assert_saw_all();
    assert_close("RSS at attach", report.memory("attach", "rss"), 300 * MIB);
    assert_close(
        "what was there at attach",
        report.memory("attach", "before_attach") + report.memory("attach", "unexplained"),
        300 * MIB,
    );
    assert_close(
        "what was freed of it",
        report.total("unmatched_freed_bytes"),
        200 * MIB,
    );
    assert_eq!(report.total("unmatched_frees"), 800);

    // The process never held more than when we came, and nothing of that was traced.
    let peak = report.peak();
    assert_eq!((peak.bytes, peak.blocks), (0, 0));
    assert!(
        u128::from(peak.at_ns) <= freed_after.as_nanos(),
        "the peak is at {} ns, but the frees were done at {freed_after:?}",
        peak.at_ns
    );
    assert_close("RSS at the peak", report.memory("peak", "rss"), 300 * MIB);
    assert_close(
        "baseline at the peak",
        report.memory("peak", "before_attach"),
        300 * MIB,
    );
    assert_eq!(report.memory("peak", "live"), 0);

    let end = report.end();
    assert_eq!((end.bytes, end.blocks), (taken, 400));
    assert_close("RSS at the end", report.memory("end", "rss"), 200 * MIB);
    assert_close(
        "baseline at the end",
        report.memory("end", "before_attach"),
        100 * MIB,
    );
    assert_eq!(report.memory("end", "live"), taken);
}

#[test]
fn a_peak_after_attach_counts_what_was_freed_of_the_baseline() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let mut victim = Victim::start("late");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    victim.tell("free200");
    victim.tell("take100");
    let truth = victim.tell("take250");
    let report = recorder.interrupt();
    victim.quit();

    report.assert_saw_all();
    let peak = report.peak();
    assert_eq!(
        (peak.bytes, peak.blocks),
        (truth.get("taken_bytes"), truth.get("taken_blocks"))
    );
    assert_eq!(peak.through("take"), (peak.bytes, peak.blocks));
    assert_close("RSS at the peak", report.memory("peak", "rss"), 450 * MIB);
    assert_close(
        "baseline at the peak",
        report.memory("peak", "before_attach"),
        100 * MIB,
    );
}
