//! Recordings held to a budget, and against each other.

use std::path::{Path, PathBuf};

use highwater_tests::{Recorder, Report, Victim, highwater, privileged, run, scratch};
use serde_json::Value;

/// Records the eight sites up, and down again.
fn record_eight_sites(directory: &Path, name: &str, commands: &[&str]) -> (PathBuf, Report) {
    let file = directory.join(name);
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    for command in commands {
        victim.tell(command);
    }
    let report = recorder.interrupt();
    victim.quit();
    (file, report)
}

#[test]
fn a_budget_holds_to_the_byte() {
    privileged!();
    let scratch = scratch();
    let (file, report) = record_eight_sites(scratch.path(), "r.hwm", &["rise", "fall"]);
    let limits = [
        ("--max-peak", report.peak().bytes),
        ("--max-live-at-end", report.end().bytes),
        ("--max-allocations", report.total("allocations")),
    ];
    for (option, is) in limits {
        let check = |most: u64| {
            run(highwater()
                .arg("check")
                .arg(&file)
                .args([option, &most.to_string()]))
        };
        check(is).assert_says(0, &[]);
        let over = check(is - 1);
        over.assert_says(3, &[]);
        assert!(over.stdout.contains("OVER"), "{}", over.stdout);
        assert!(over.stdout.contains("site_"), "{}", over.stdout);
    }
}

#[test]
fn what_grew_since_the_baseline_is_named() {
    privileged!();
    let scratch = scratch();
    let (old, before) = record_eight_sites(scratch.path(), "old.hwm", &["rise", "fall"]);
    let (new, after) = record_eight_sites(scratch.path(), "new.hwm", &["rise", "fall"]);
    // Two runs of one program hold the same, whatever their addresses.
    assert_eq!(before.peak().bytes, after.peak().bytes);
    let diff = |words: &[&str]| -> Value {
        let outcome = run(highwater()
            .arg("diff")
            .args([&old, &new])
            .arg("--json")
            .args(words));
        outcome.assert_says(0, &[]);
        serde_json::from_str(&outcome.stdout).expect("it is JSON")
    };
    assert_eq!(diff(&[])["changes"].as_array().map(Vec::len), Some(0));

    let (fell, _) = record_eight_sites(scratch.path(), "fell.hwm", &["rise"]);
    let outcome = run(highwater()
        .arg("diff")
        .args([&old, &fell])
        .args(["--json", "--at", "end"]));
    outcome.assert_says(0, &[]);
    let told: Value = serde_json::from_str(&outcome.stdout).expect("it is JSON");
    let changes = told["changes"].as_array().expect("changes");
    assert!(!changes.is_empty());
    let number = |of: &Value, name: &str| of[name].as_i64().expect("a number");
    let sum: i64 = changes
        .iter()
        .map(|change| number(change, "bytes_after") - number(change, "bytes_before"))
        .sum();
    let whole = number(&told, "bytes_after") - number(&told, "bytes_before");
    assert_eq!(sum, whole);
    assert_eq!(number(&told, "bytes_before") as u64, before.end().bytes);

    let against = |growth: &str| {
        run(highwater()
            .arg("check")
            .arg(&new)
            .arg("--baseline")
            .arg(&old)
            .args(["--max-growth", growth]))
    };
    against("0%").assert_says(0, &[]);
    against("some").assert_says(2, &["or say 5%"]);
}

#[test]
fn a_command_is_checked_and_its_own_failure_wins() {
    privileged!();
    let check = |words: &[&str]| run(highwater().arg("check").args(words));
    check(&["--max-peak", "1GiB", "--", "/bin/true"]).assert_says(0, &[]);
    let over = check(&["--max-allocations", "1", "--", "/bin/ls", "/"]);
    over.assert_says(3, &[]);
    assert!(over.stdout.contains("OVER"), "{}", over.stdout);
    check(&["--max-allocations", "0", "--", "/bin/sh", "-c", "exit 7"]).assert_says(7, &[]);
    check(&["--", "/bin/true"]).assert_says(2, &["--max-peak"]);
}
