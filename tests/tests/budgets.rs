//! Recordings held to a budget, and against each other.

use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::{Outcome, Recorder, Report, Victim, highwater, privileged, run, scratch};
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
fn what_an_earlier_check_left_behind_does_not_keep_a_command_from_being_checked() {
    privileged!();
    let temporary = scratch();
    let mut check = highwater();
    check
        .args(["check", "--max-peak", "1GiB", "--", "ls"])
        .env("TMPDIR", temporary.path());
    // Its own pid is not known before it runs; the shell's is, and exec keeps it.
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(r#"mkdir "$TMPDIR/highwater-check-$$" && exec "$0" "$@""#)
        .arg(check.get_program())
        .args(check.get_args())
        .env("TMPDIR", temporary.path());
    run(&mut shell).assert_says(0, &[]);
    let left = fs::read_dir(temporary.path()).expect("it can be read");
    assert_eq!(left.count(), 1, "its own directory is gone");
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
    check(&["--max-peak", "1GiB", "--", "/bin/ls", "/"]).assert_says(0, &[]);
    let over = check(&["--max-allocations", "1", "--", "/bin/ls", "/"]);
    over.assert_says(3, &[]);
    assert!(over.stdout.contains("OVER"), "{}", over.stdout);
    check(&["--max-allocations", "0", "--", "/bin/sh", "-c", "exit 7"]).assert_says(7, &[]);
    check(&["--", "/bin/true"]).assert_says(2, &["--max-peak"]);
}

/// `highwater check BUDGET... -- COMMAND` in a directory.
fn check_command(directory: &Path, budget: &[&str], command: &[&str]) -> Outcome {
    let mut check = highwater();
    check.arg("check").args(budget).arg("--").args(command);
    // The victims' sources are in this repository.
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it has one");
    check.env("GITHUB_WORKSPACE", repository);
    run(check.current_dir(directory).env_remove("GITHUB_ACTIONS"))
}

#[test]
fn the_verdict_of_a_command_comes_first_and_its_recording_is_where_that_says() {
    privileged!();
    let scratch = scratch();
    let named = |outcome: &Outcome| -> Option<PathBuf> {
        let mut lines = outcome.stdout.lines();
        let line = lines.find_map(|line| line.strip_prefix("recording   "))?;
        Some(scratch.path().join(line))
    };
    let left = || {
        fs::read_dir(scratch.path())
            .expect("it can be listed")
            .count()
    };
    let ls = ["/bin/ls", "/proc/self/fdinfo/0"];
    let holds = check_command(scratch.path(), &["--max-peak", "1GiB"], &ls);
    holds.assert_says(0, &[]);
    assert_eq!((named(&holds), left()), (None, 0));

    let over = check_command(scratch.path(), &["--max-peak", "10"], &ls);
    over.assert_says(3, &[]);
    let lines: Vec<&str> = over.stdout.lines().collect();
    assert_eq!(lines[0], ls[1], "what the command said");
    assert!(lines[1].starts_with("OVER  peak: "), "{over:#?}");
    assert!(lines.len() <= 12, "{over:#?}");
    assert!(!over.stderr.contains("Peak:"), "{over:#?}");
    let kept = named(&over).expect("it was kept");
    assert!(Report::of(&kept).peak().bytes > 10);
    assert_eq!(left(), 1);

    // A failure of its own keeps it too; and where nothing can be written, it stays where it was made.
    let failed = check_command(
        Path::new("/proc"),
        &["--max-peak", "1GiB"],
        &["/bin/sh", "-c", "exit 7"],
    );
    failed.assert_says(7, &[]);
    assert!(
        failed.stdout.starts_with("FAILED  sh failed with status 7"),
        "{failed:#?}"
    );
    let kept = named(&failed).expect("it was kept");
    Report::of(&kept);
    let directory = kept.parent().expect("it is in one");
    assert!(directory.starts_with(std::env::temp_dir()), "{kept:?}");
    fs::remove_dir_all(directory).expect("it can be removed");
}

#[test]
fn the_verdict_is_json_test_results_and_annotations() {
    privileged!();
    let scratch = scratch();
    let victim = highwater_tests::victim_program("eight_sites");
    let victim = victim.to_string_lossy();
    let commands = scratch.path().join("commands");
    fs::write(&commands, "rise\nquit\n").expect("it can be written");
    let commands = commands.to_string_lossy();
    let command = ["/bin/sh", "-c", r#"exec "$0" < "$1""#, &*victim, &*commands];
    let junit = scratch.path().join("junit.xml");
    let junit_file = junit.to_string_lossy();
    let budget = [
        "--max-peak",
        "1KiB",
        "--max-live-at-end",
        "1GiB",
        "--junit",
        &*junit_file,
        "--github",
    ];
    let told = check_command(
        scratch.path(),
        &[&budget[..], &["--json"]].concat(),
        &command,
    );
    told.assert_says(3, &["wrote"]);
    let json: Value = serde_json::from_str(&told.stdout).expect("it is JSON alone");
    assert_eq!(
        (&json["verdict"], json["budgets"].as_array().map(Vec::len)),
        (&"over".into(), Some(2))
    );
    let recording = scratch
        .path()
        .join(json["recording"].as_str().expect("it was kept"));
    let peak = Report::of(&recording).peak().bytes;
    assert_eq!(json["budgets"][0]["figure"].as_u64(), Some(peak));
    assert!(
        told.stderr.contains("TRUTH"),
        "what the command said: {told:#?}"
    );

    let xml = fs::read_to_string(&junit).expect("it was written");
    let python = "import sys, xml.etree.ElementTree as tree\n\
                  suite = tree.parse(sys.argv[1]).getroot()[0]\n\
                  print(*(f'{case.get(\"name\")}:{[wrong.tag for wrong in case]}' for case in suite), suite.get('failures'))";
    let read = run(std::process::Command::new("python3")
        .args(["-c", python])
        .arg(&junit));
    assert_eq!(
        read.stdout.trim(),
        "peak:['failure'] live at the end:[] 1",
        "{xml}"
    );

    let annotations = told
        .stderr
        .lines()
        .filter(|line| line.starts_with("::error "));
    let annotations: Vec<&str> = annotations.collect();
    assert_eq!(annotations.len(), 1, "{told:#?}");
    for words in [
        "eight_sites.c,line=",
        "::peak: ",
        "; at most 1.0 KiB",
        "%0AWho held it, at +",
    ] {
        assert!(
            annotations[0].contains(words),
            "no {words} in {}",
            annotations[0]
        );
    }
    // On standard output, and told by the environment.
    let mut check = highwater();
    check.args(["check", "--max-peak", "1KiB"]).arg(&recording);
    let told = run(check
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_WORKSPACE", "/nowhere"));
    assert!(
        told.stdout
            .contains("\n::error title=highwater check::peak"),
        "{told:#?}"
    );
}

/// `highwater check FILE` with these words.
#[track_caller]
fn check(file: &Path, words: &[&str]) -> Outcome {
    run(highwater().arg("check").arg(file).args(words))
}

#[test]
fn every_span_of_a_name_has_to_keep_a_budget_of_what_came_in_it() {
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("marks.hwm");
    let mut victim = Victim::start("marks");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("go");
    let truth = victim.tell("go");
    let report = recorder.interrupt();
    victim.quit();
    // What was there before a span began is none of it.
    assert!(report.peak().bytes > truth.get("request_peak_bytes"));
    for (option, is) in [
        ("--max-peak", truth.get("request_peak_bytes")),
        ("--max-live-at-end", truth.get("request_bytes")),
        ("--max-allocations", truth.get("request_allocations")),
    ] {
        let limit = |most: u64| check(&file, &["--mark", "request", option, &most.to_string()]);
        let holds = limit(is);
        holds.assert_says(0, &[]);
        assert!(holds.stdout.contains("of 2 spans"), "{}", holds.stdout);
        let over = limit(is - 1);
        over.assert_says(3, &[]);
        for words in ["OVER", "request (victims/marks.c:"] {
            assert!(over.stdout.contains(words), "{}", over.stdout);
        }
        assert!(!over.stdout.contains("fill"), "{}", over.stdout);
    }
    // A span against the same span of a recording: its own.
    let old = file.to_string_lossy();
    let against = |growth: &str| {
        let words = [
            "--mark",
            "request",
            "--baseline",
            &old,
            "--max-growth",
            growth,
        ];
        check(&file, &words)
    };
    against("0%").assert_says(0, &[]);
    check(&file, &["--mark", "nobody", "--max-peak", "1GiB"])
        .assert_says(1, &["no mark `nobody`", "request"]);
}

#[test]
fn a_span_that_grew_since_the_baseline_is_named() {
    privileged!();
    let scratch = scratch();
    let record = |name: &str, children: usize| {
        let file = scratch.path().join(name);
        let mut victim = Victim::start("marks");
        let recorder = Recorder::attach(victim.pid(), &file);
        victim.tell("go");
        // A span from outside around as many more.
        let mark = |words: &[&str]| run(highwater().arg("mark").args(words)).assert_says(0, &[]);
        mark(&["--begin", "around"]);
        for _ in 0..children {
            victim.tell("go");
        }
        mark(&["--end", "around"]);
        recorder.interrupt();
        victim.quit();
        file
    };
    let (old, new) = (record("old.hwm", 1), record("new.hwm", 2));
    let against = |old: &Path, new: &Path| {
        let old = old.to_string_lossy();
        let words = [
            "--mark",
            "around",
            "--baseline",
            &old,
            "--max-growth",
            "10%",
        ];
        check(new, &words)
    };
    let grew = against(&old, &new);
    grew.assert_says(3, &[]);
    for words in [
        "OVER  peak against the baseline of the span",
        "grown",
        "request",
    ] {
        assert!(grew.stdout.contains(words), "no {words} in {}", grew.stdout);
    }
    against(&new, &old).assert_says(0, &[]);
}

#[test]
fn a_recording_that_stops_early_can_go_over_a_budget_but_not_keep_one() {
    privileged!();
    let scratch = scratch();
    let cut = scratch.path().join("cut.hwm");
    let mut victim = Victim::start("marks");
    let recorder = Recorder::attach(victim.pid(), &cut);
    let truth = victim.tell("go");
    recorder.await_allocations(truth.get("allocations"));
    recorder.signal(libc::SIGKILL);
    recorder.wait();
    victim.quit();
    let report = Report::of(&cut);
    assert!(!report.is_complete());
    let (peak, allocations) = (report.peak().bytes, report.total("allocations"));
    let early = &["cannot tell", "stops early", "cannot keep one"][..];
    let limit = |option: &str, most: u64| check(&cut, &[option, &most.to_string()]);
    limit("--max-peak", peak - 1).assert_says(3, &[]);
    limit("--max-peak", peak).assert_says(1, early);
    limit("--max-allocations", allocations - 1).assert_says(3, &[]);
    limit("--max-allocations", allocations).assert_says(1, early);
    for most in [0, u64::MAX] {
        limit("--max-live-at-end", most).assert_says(1, early);
    }
    // One limit that is certainly passed is enough.
    let small = (peak - 1).to_string();
    check(&cut, &["--max-peak", &small, "--max-live-at-end", "1GiB"]).assert_says(3, &[]);

    // The span had ended before the recording did: of it all is known.
    let span =
        |option: &str, most: u64| check(&cut, &["--mark", "request", option, &most.to_string()]);
    for (option, is) in [
        ("--max-peak", truth.get("request_peak_bytes")),
        ("--max-live-at-end", truth.get("request_bytes")),
    ] {
        span(option, is).assert_says(0, &[]);
        span(option, is - 1).assert_says(3, &[]);
    }

    // A baseline that stops early is at least what it was.
    let (whole, of_whole) = record_eight_sites(scratch.path(), "whole.hwm", &["rise"]);
    assert!(of_whole.peak().bytes > peak);
    let against = |new: &Path, old: &Path, growth: &str| {
        let old = old.to_string_lossy();
        check(new, &["--baseline", &old, "--max-growth", growth])
    };
    against(&whole, &cut, "1GiB").assert_says(0, &[]);
    against(&whole, &cut, "0%").assert_says(1, &["cut.hwm stops early"]);
    against(&cut, &whole, "0%").assert_says(1, &["cut.hwm stops early"]);
}

#[test]
fn totals_answer_for_a_whole_recording_and_refuse_spans() {
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("totals.hwm");
    let mut victim = Victim::start("marks");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--aggregate"]);
    victim.tell("go");
    let peak = recorder.interrupt().peak().bytes;
    victim.quit();
    check(&file, &["--max-peak", &peak.to_string()]).assert_says(0, &[]);
    check(&file, &["--max-peak", &(peak - 1).to_string()]).assert_says(3, &[]);
    check(&file, &["--mark", "request", "--max-peak", "1GiB"])
        .assert_says(1, &["totals in place of single events", "within a span"]);
}
