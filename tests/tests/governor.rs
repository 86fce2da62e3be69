//! `--max-overhead`: tracing that costs more than was allowed ends by itself.

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

#[test]
fn a_target_that_rarely_allocates_is_traced_to_its_end() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("rare");
    let recorder = Recorder::attach_with(victim.pid(), &file, LIMIT);
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
    outcome.assert_says(0, &["expects 0 calls/s"]);
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
