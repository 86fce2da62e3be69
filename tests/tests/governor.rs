//! `--max-overhead`: tracing that costs more than was allowed ends by itself.

use std::path::Path;

use highwater_tests::{
    Recorder, Report, Victim, alone, eventually, highwater, mapped_text, privileged, run, scratch,
};

const LIMIT: &[&str] = &["--max-overhead", "5%"];

/// What the recording says of itself besides its numbers.
fn notes(report: &Report) -> String {
    report.json()["quality"]["notes"].to_string()
}

#[test]
fn a_target_that_does_nothing_but_allocate_is_let_go_and_runs_on() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start_with("churn", &["1"]);
    let text = mapped_text(victim.pid());
    let outcome = run(&mut Recorder::command(victim.pid(), &file, LIMIT));
    // It ended without being told to.
    outcome.assert_says(0, &["--max-overhead"]);
    let report = Report::of(&file);
    assert_eq!(
        report.json()["quality"]["ended_by"],
        "it slowed the target more than --max-overhead allows"
    );
    let notes = notes(&report);
    for words in [
        "tracing slowed the target by",
        "5 % allowed",
        "probes were taken out",
    ] {
        assert!(notes.contains(words), "{words:?} is not in {notes}");
    }
    // What it held from then on is not known.
    assert!(!report.is_complete());
    let mut command = highwater();
    let words = ["cannot tell", "on nothing was traced"];
    run(command
        .arg("check")
        .arg("--max-peak")
        .arg("1GiB")
        .arg(&file))
    .assert_says(1, &words);
    let screen = run(highwater().arg("report").arg(&file)).stdout;
    let screen = screen.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(screen.contains("on nothing was traced"), "{screen}");
    assert!(!screen.contains("Nothing was lost"), "{screen}");
    let changed = text.changed_bytes().expect("the victim is alive");
    assert_eq!(changed, 0, "every probe is out");
    let before = victim.tell("check").get("rounds");
    eventually("the victim goes on", || {
        victim.tell("check").get("rounds") > before
    });
    victim.tell("stop");
    victim.quit();
}

/// What a recorder says as it turns to samples.
const TURNED: &str = "from then on one allocation in";

/// A victim that holds more blocks than the kernel's table of them has places, and a recorder that has seen each of them. The victim
/// works for itself before each call, for as long as it takes for that to be affordable here.
fn a_million_blocks_seen(file: &Path) -> (Victim, Recorder, u64) {
    for pace in [10_000, 30_000, 100_000] {
        let mut victim = Victim::start("paced");
        let mut recorder = Recorder::attach_with(victim.pid(), file, &["--max-overhead", "100%"]);
        victim.tell(&format!("pace {pace}"));
        victim.tell("hold 1150000");
        if !recorder.has_said(TURNED) && !recorder.has_ended() {
            return (victim, recorder, pace);
        }
        if !recorder.has_ended() {
            recorder.signal(libc::SIGINT);
        }
        recorder.wait();
        std::fs::remove_file(file).expect("it was recorded");
        victim.quit();
    }
    panic!("a hit takes longer than 100 µs");
}

#[test]
fn samples_are_kept_though_a_million_blocks_were_seen_before() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let (mut victim, mut recorder, slow) = a_million_blocks_seen(&file);
    // Faster and faster, until it is samples that are affordable: all calls cost more than twice as much.
    let mut pace = slow;
    while !recorder.has_said(TURNED) {
        assert!(!recorder.has_ended(), "samples are affordable");
        pace = pace * 85 / 100;
        victim.tell(&format!("pace {pace}"));
        victim.tell("churn 300000");
    }
    victim.tell(&format!("pace {slow}"));
    let truth = victim.tell("large 20000");
    let report = recorder.interrupt();
    victim.quit();
    assert_eq!(report.quality("dropped_samples"), 0);
    let error = report.json()["end"]["error_bytes"].as_u64();
    let error = error.expect("end.error_bytes is a number");
    let (bytes, live) = (report.end().bytes, truth.get("live_bytes"));
    // Four standard deviations.
    assert!(
        bytes.abs_diff(live) <= 2 * error,
        "{bytes} \u{b1} {error} of {live} bytes"
    );
}

#[test]
fn a_target_that_rarely_allocates_is_traced_to_its_end() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("rare");
    // One pair of calls in a millisecond of its own: were a hit a hundred times as dear as it is, it would still be affordable.
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--max-overhead", "50%"]);
    // More than a window of the governor's, and busy all the while.
    let truth = victim.tell("go 1500");
    victim.quit();
    let report = recorder.finish();
    report.assert_saw_all();
    report.assert_totals(&truth);
    assert_eq!(report.json()["quality"]["ended_by"], "the target ended");
    assert!(
        report.json()["sample_bytes"].is_null(),
        "every call was seen"
    );
    assert!(!notes(&report).contains("allowed"), "{}", notes(&report));
}

#[test]
fn what_is_to_be_expected_is_told_where_there_is_a_limit_too() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let victim = Victim::start("steady");
    let options = [
        "--max-overhead",
        "5%",
        "--preflight",
        "50ms",
        "--duration",
        "50ms",
    ];
    let outcome = run(&mut Recorder::command(victim.pid(), &file, &options));
    victim.quit();
    outcome.assert_says(0, &["expects no calls"]);
}

#[test]
fn limits_and_sizes_that_make_no_sense_are_refused() {
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let pid = std::process::id();
    for (option, value) in [
        ("--max-overhead", "0"),
        ("--max-overhead", "-5%"),
        ("--max-overhead", "lots"),
        ("--sample", "3"),
        ("--sample", "0"),
        ("--sample", "8GiB"),
    ] {
        let word = format!("{option}={value}");
        let outcome = run(&mut Recorder::command(pid, &file, &[&word]));
        outcome.assert_says(2, &[option, value]);
        assert!(!file.exists(), "{word} leaves no recording");
    }
}
