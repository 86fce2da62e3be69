//! What is asked of a recording, held against what the victim did.

use std::path::{Path, PathBuf};

use highwater_tests::{Recorder, Report, Victim, highwater, privileged, run, scratch};
use serde_json::Value;

/// What `highwater report FILE --json` with these words says.
#[track_caller]
fn ask(file: &Path, words: &[&str]) -> Value {
    view("report", file, words)
}

/// What a view with these words says in JSON.
#[track_caller]
fn view(verb: &str, file: &Path, words: &[&str]) -> Value {
    let outcome = run(highwater().arg(verb).arg(file).arg("--json").args(words));
    outcome.assert_says(0, &[]);
    serde_json::from_str(&outcome.stdout).expect("it is JSON")
}

/// Names of the functions on the stack of a holder, leaf first.
fn functions(report: &Value, holder: &Value) -> Vec<String> {
    let stack = holder["stack"].as_u64().expect("the stack is known") as usize;
    let frames = report["stacks"][stack].as_array().expect("frames");
    let name = |frame: &Value| {
        let frame = &report["frames"][frame.as_u64().expect("an index") as usize];
        frame["function"].as_str().unwrap_or("?").to_owned()
    };
    frames.iter().map(name).collect()
}

#[test]
fn growth_is_found_under_two_hundred_times_as_much_churn_and_a_cache_that_fills_and_stays_is_none()
{
    privileged!();
    let scratch = scratch();
    let file = scratch.path().join("growth.hwm");
    let mut victim = Victim::start("growth");
    let recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("go 8");
    let report = recorder.interrupt();
    report.assert_saw_all();
    victim.quit();

    let growing = ask(&file, &["--growing"]);
    let holders = growing["answer"]["holders"].as_array().expect("holders");
    let names: Vec<_> = holders
        .iter()
        .map(|holder| functions(&growing, holder))
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(names[0].iter().any(|name| name == "keep_more"), "{names:?}");
    let rate = growing["answer"]["bytes"].as_f64().expect("a rate");
    let seconds = truth.get("elapsed_ns") as f64 / 1e9;
    let true_rate = truth.get("kept_bytes") as f64 / seconds;
    assert!(
        (rate / true_rate - 1.0).abs() < 0.1,
        "{rate} B/s, in truth {true_rate}"
    );
    let holding = report.end();
    assert_eq!(holding.through("keep_more").0, truth.get("kept_bytes"));
    assert_eq!(holding.through("fill_cache").0, truth.get("cached_bytes"));
}

/// Records the eight sites up and down.
fn record_eight_sites(directory: &Path) -> PathBuf {
    let file = directory.join("recording.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    victim.tell("fall");
    recorder.interrupt();
    victim.quit();
    file
}

#[test]
fn every_view_of_the_same_question_adds_up_to_the_same() {
    privileged!();
    let directory = scratch();
    let file = record_eight_sites(directory.path());
    let report = Report::of(&file);
    for (words, bytes, blocks) in [
        (&[][..], report.peak().bytes, report.peak().blocks),
        (&["--at", "end"], report.end().bytes, report.end().blocks),
        (
            &["--between", ".."],
            report.end().bytes,
            report.end().blocks,
        ),
        (
            &["--allocated"],
            report.total("allocated_bytes"),
            report.total("allocations"),
        ),
    ] {
        for by in ["stack", "function", "module", "thread", "process"] {
            let table = view("table", &file, &[&["--by", by], words].concat());
            assert_eq!(
                (table["bytes"].as_u64(), table["blocks"].as_u64()),
                (Some(bytes), Some(blocks)),
                "{by} {words:?}"
            );
            let rows = table["rows"].as_array().expect("rows");
            let own = rows.iter().map(|row| row["bytes"].as_u64().expect("bytes"));
            assert_eq!(own.sum::<u64>(), bytes, "{by} {words:?}");
        }
        for words in [words, &[words, &["--inverted"]].concat()] {
            let tree = view("tree", &file, words);
            assert_eq!(
                (tree["bytes"].as_u64(), tree["blocks"].as_u64()),
                (Some(bytes), Some(blocks)),
                "{words:?}"
            );
        }
    }
    let statistics = view("stats", &file, &[]);
    assert_eq!(
        statistics["allocations"].as_u64(),
        Some(report.total("allocations"))
    );
    assert_eq!(
        statistics["allocated_bytes"].as_u64(),
        Some(report.total("allocated_bytes"))
    );
}

#[test]
fn filters_leave_the_stacks_that_match() {
    privileged!();
    let directory = scratch();
    let file = record_eight_sites(directory.path());
    let peak = Report::of(&file).peak();
    let of_three = peak.through("site_3");
    let bytes = |words: &[&str]| ask(&file, words)["answer"]["bytes"].as_u64();
    assert_eq!(bytes(&["--focus", "^site_3$"]), Some(of_three.0));
    assert_eq!(
        bytes(&["--ignore", "^site_3$"]),
        Some(peak.bytes - of_three.0)
    );
    assert_eq!(bytes(&["--process", "eight_sites"]), Some(peak.bytes));
    assert_eq!(bytes(&["--process", "another"]), Some(0));
    assert_eq!(bytes(&["--min", "1GiB"]), Some(0));
}

#[test]
fn words_that_mean_nothing_are_refused_with_what_would() {
    privileged!();
    let directory = scratch();
    let file = record_eight_sites(directory.path());
    for (words, code, said) in [
        (&["--at", "+soon"][..], 2, "+12.5s"),
        (&["--between", "+2s..+1s"], 2, "ends before it begins"),
        (&["--focus", "("], 2, "unclosed group"),
        (&["--at", "warm"], 1, "highwater mark"),
        (&["--at", "+1h"], 1, "the recording goes from +0s to"),
        (&["--growing", "--at", "end"], 2, "cannot be used with"),
    ] {
        let outcome = run(highwater().arg("report").arg(&file).args(words));
        outcome.assert_says(code, &[said]);
    }
}

#[test]
fn a_program_names_its_own_moments_and_spans_and_they_are_asked_for_by_name() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("marks.hwm");
    let mut victim = Victim::start("marks");
    let recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("go");
    let report = recorder.interrupt();
    report.assert_saw_all_but(&["truncated_stacks"]);
    victim.quit();
    let through = |words: &[&str], name: &str| {
        let report = ask(&file, words);
        let holders = report["answer"]["holders"].as_array().expect("holders");
        holders
            .iter()
            .filter(|holder| functions(&report, holder).iter().any(|on| on == name))
            .map(|holder| holder["bytes"].as_u64().expect("bytes"))
            .sum::<u64>()
    };
    assert_eq!(
        through(&["--at", "filled"], "fill"),
        truth.get("filled_bytes")
    );
    assert_eq!(through(&["--at", "filled"], "request"), 0);
    assert_eq!(
        through(&["--between", "request"], "request"),
        truth.get("request_bytes")
    );
    assert_eq!(through(&["--between", "request"], "fill"), 0);
    assert_eq!(
        through(&["--between", "filled.."], "request"),
        truth.get("request_bytes")
    );
    assert_eq!(
        report.end().through("fill").0 + report.end().through("request").0,
        truth.get("end_bytes")
    );
    let marks = &ask(&file, &[])["marks"];
    let names: Vec<_> = marks
        .as_array()
        .expect("marks")
        .iter()
        .map(|mark| mark["name"].as_str())
        // Another test names moments from outside, in every recording under way.
        .filter(|name| !matches!(name, Some("risen" | "fall")))
        .collect();
    assert_eq!(names, [Some("filled"), Some("request")]);
}

#[test]
fn a_moment_is_named_from_outside_in_every_recording_under_way() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("marks.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    let outcome = run(highwater().args(["mark", "risen"]));
    outcome.assert_says(0, &[&format!("marked in {}", file.display())]);
    run(highwater().args(["mark", "--begin", "fall"])).assert_says(0, &[]);
    victim.tell("fall");
    run(highwater().args(["mark", "--end", "fall"])).assert_says(0, &[]);
    run(highwater().args(["mark", "+1s"])).assert_says(2, &["no name"]);
    recorder.interrupt();
    victim.quit();
    let answer = ask(&file, &["--at", "risen"]);
    // Some blocks were freed on the way, but more were held than ever after.
    let whole = Report::of(&file);
    let risen = answer["answer"]["bytes"].as_u64().expect("bytes");
    assert!(risen > whole.end().bytes && risen <= whole.peak().bytes);
    assert_eq!(
        Some(risen),
        ask(&file, &["--between", "..risen"])["answer"]["bytes"].as_u64()
    );
    let marks = ask(&file, &[])["marks"].clone();
    let begun = marks[1]["at_ns"].as_u64().expect("a moment");
    assert!(
        marks[1]["ended_ns"].as_u64().expect("an end") >= begun,
        "{marks}"
    );
}

#[test]
fn a_recording_goes_through_a_pipe_and_says_the_same() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("eight_sites");
    let pid = victim.pid().to_string();
    let mut recorder = std::process::Command::new("sh")
        .arg("-c")
        .arg(r#""$0" record --preflight 0 -p "$1" -o - | tee "$2" | "$0" report - --json > "$3""#)
        .arg(highwater().get_program())
        .arg(&pid)
        .arg(directory.path().join("copy.hwm"))
        .arg(directory.path().join("report.json"))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("sh runs");
    let stderr = recorder.stderr.take().expect("it is piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr)).map_while(Result::ok);
    let said = lines.find(|line| line.starts_with("highwater: tracing"));
    said.expect("it attaches");
    victim.tell("rise");
    victim.quit();
    let rest: Vec<String> = lines.collect();
    assert!(recorder.wait().expect("it ends").success(), "{rest:#?}");
    let piped = std::fs::read_to_string(directory.path().join("report.json")).expect("a report");
    let copied = run(highwater()
        .arg("report")
        .arg(directory.path().join("copy.hwm"))
        .arg("--json"));
    assert!(
        piped.trim_end() == copied.stdout.trim_end(),
        "the reports differ"
    );
    assert!(Report::of(&directory.path().join("copy.hwm")).peak().blocks >= 10_000);
}

#[test]
fn a_redacted_recording_has_no_arguments_in_it() {
    privileged!();
    let directory = scratch();
    let secret = "hunter2-the-secret";
    for (redact, found) in [(&["--redact"][..], false), (&[], true)] {
        let file = directory.path().join(format!("{found}.hwm"));
        let outcome = run(highwater()
            .arg("record")
            .args(redact)
            .arg("-o")
            .arg(&file)
            .args(["--", "/bin/sh", "-c", "sleep 0.3; exit 0", secret]));
        outcome.assert_says(0, &[]);
        let report = run(highwater().arg("report").arg(&file).arg("--json"));
        assert_eq!(report.stdout.contains(secret), found);
        // Chunks that are too small to be packed are there as they are; others may hide what they hold.
        let text = run(highwater().arg("report").arg("--verbose").arg(&file));
        assert_eq!(text.stdout.contains("--redact"), !found);
    }
}
