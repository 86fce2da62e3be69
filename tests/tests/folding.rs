//! Recordings that hold totals in place of events, held against what the victim did.

use highwater_tests::{
    Outcome, Recorder, Report, Victim, alone, eventually, highwater, privileged, run, scratch,
    seconds,
};

#[test]
fn a_recording_that_grows_too_large_folds_and_its_totals_are_right_to_the_byte() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("threads");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--max-size", "1MiB"]);
    let truth = victim.tell("go");
    // It looks once a second whether it has to.
    eventually("it folds", || {
        Report::so_far(&file).is_some_and(|report| report.json()["folded"] == true)
    });
    let report = recorder.interrupt();
    victim.quit();
    report.assert_saw_all();
    report.assert_totals(&truth);
    report.assert_end(&truth);
    report.peak().assert_adds_up();
    assert!(report.peak().bytes >= report.end().bytes);
    let notes = report.json()["quality"]["notes"].to_string();
    assert!(notes.contains("reached 1.0 MiB"), "{notes}");
}

#[test]
fn a_recording_of_totals_tells_what_grows_and_what_was_held_at_any_time_and_refuses_the_rest() {
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("totals.hwm");
    let mut victim = Victim::start("growth");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--aggregate"]);
    let truth = victim.tell(&format!("go {}", seconds(8)));
    let report = recorder.interrupt();
    victim.quit();
    report.assert_saw_all();
    let held = report.end();
    assert_eq!(held.through("keep_more").0, truth.get("kept_bytes"));
    assert_eq!(held.through("fill_cache").0, truth.get("cached_bytes"));

    let growing = ask(&file, &["--growing"]);
    growing.assert_says(0, &[]);
    assert!(growing.stdout.contains("keep_more"), "{}", growing.stdout);
    assert!(!growing.stdout.contains("fill_cache"), "{}", growing.stdout);
    // The cache was full after a quarter of the time, however long that was. The recording began before, and ended after it.
    let then = report.duration_ns() - truth.get("elapsed_ns") / 2;
    let then = format!("+{}ms", then / 1_000_000);
    let then = ask(&file, &["--at", &then, "--focus", "fill_cache", "--json"]);
    let then: serde_json::Value = serde_json::from_str(&then.stdout).expect("JSON");
    assert_eq!(then["answer"]["bytes"], truth.get("cached_bytes"));

    ask(&file, &["--temporary"]).assert_says(1, &["totals in place of single events"]);
    ask(&file, &["--thread", "main"]).assert_says(1, &["what single threads held"]);
    let statistics = run(highwater().arg("stats").arg(&file));
    statistics.assert_says(1, &["what single blocks were like"]);
    let heaptrack = run(highwater()
        .args(["export", "--format", "heaptrack"])
        .arg(&file));
    heaptrack.assert_says(1, &["every allocation and free"]);
    let size = file.metadata().expect("the recording").len();
    assert!(size < 1 << 20, "{size} bytes for some seconds");
}

#[test]
fn totals_of_a_killed_recorder_are_those_of_a_few_seconds_before() {
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("killed.hwm");
    let mut victim = Victim::start("ends");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--aggregate"]);
    let truth = victim.tell("hold 1000");
    let total = |report: &Report| report.total("allocations");
    eventually("the recording tells of the blocks", || {
        Report::so_far(&file).is_some_and(|report| total(&report) >= 1000)
    });
    recorder.signal(libc::SIGKILL);
    recorder.wait();
    let report = Report::of(&file);
    assert!(!report.is_complete());
    assert_eq!(report.json()["folded"], true);
    assert_eq!(report.end().blocks, 1000, "{truth:?}");
    victim.quit();
}

fn ask(file: &std::path::Path, words: &[&str]) -> Outcome {
    run(highwater().arg("report").arg(file).args(words))
}
