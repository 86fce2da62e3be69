//! What the command line answers where a question is half asked, or the answer is half read.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use highwater_tests::{Running, highwater, run, scratch};

/// A recording that lies among the sources.
fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/version-3.hwm")
}

#[test]
fn a_name_that_many_processes_have_is_answered_with_those() {
    let directory = scratch();
    let program = directory.path().join("hw-asked-for");
    symlink("/bin/sleep", &program).expect("the program can be linked");
    let sleeping: Vec<Running> = (0..7)
        .map(|_| Running::start(Command::new(&program).arg("100")))
        .collect();
    let mut pids: Vec<u32> = sleeping.iter().map(Running::pid).collect();
    pids.sort_unstable();
    let outcome = run(highwater().args(["record", "-p", "hw-asked-for"]));
    let first = format!("record -p {}", pids[0]);
    outcome.assert_says(
        2,
        &[
            "more than one process has that name",
            "hw-asked-for 100",
            "and 2 more",
            &first,
        ],
    );
    for (at, pid) in pids.iter().enumerate() {
        let listed = outcome
            .stderr
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{pid} ")));
        assert_eq!(listed, at < 5, "{pid}: {}", outcome.stderr);
    }
    for process in sleeping {
        process.signal(libc::SIGTERM);
        process.wait();
    }
}

#[test]
fn the_command_line_of_a_process_cannot_touch_the_terminal() {
    let directory = scratch();
    let program = directory.path().join("hw-evil");
    symlink("/bin/sleep", &program).expect("the program can be linked");
    // GNU sleep adds its arguments up.
    let evil = "0\x1b[2J\n7777 fake";
    let shell = "exec -a \"$0\" sleep 100";
    let sleeping =
        Running::start(Command::new("bash").args(["-c", shell, &format!("hw-evil {evil}")]));
    highwater_tests::eventually("it has its name", || {
        let line = fs::read(format!("/proc/{}/cmdline", sleeping.pid())).unwrap_or_default();
        line.starts_with(b"hw-evil")
    });
    let outcome = run(highwater().args(["record", "-p", "hw-evil"]));
    // It is not just its name, so it is not attached to.
    outcome.assert_says(2, &["called just so", "hw-evil 0\\x1b[2J\\n7777 fake"]);
    assert!(!outcome.stderr.contains('\x1b'), "{:?}", outcome.stderr);
    sleeping.signal(libc::SIGTERM);
    sleeping.wait();
}

#[test]
fn a_name_that_nothing_has_is_told_as_that() {
    run(highwater().args(["record", "-p", "no-such-program-anywhere"]))
        .assert_says(2, &["no pid", "no process of that name"]);
    run(highwater().args(["doctor", "-p", "no-such-program-anywhere"]))
        .assert_says(2, &["no process of that name"]);
}

#[test]
fn a_command_without_its_dashes_is_given_back_with_them() {
    for (words, said) in [
        (
            &["record", "python3", "x.py"][..],
            "highwater record -- python3 x.py",
        ),
        (
            &["record", "-o", "a b.hwm", "python3", "-m", "app"],
            "highwater record -o 'a b.hwm' -- python3 -m app",
        ),
        (&["python3", "x.py"], "highwater record -- python3 x.py"),
    ] {
        run(highwater().args(words)).assert_says(2, &[said]);
    }
    // Both a process and a command are too much, however they are written.
    let both = run(highwater().args(["record", "-p", "1", "python3", "x.py"]));
    assert!(!both.stderr.contains("-- python3"), "{}", both.stderr);
    // A slip in a verb is told as a slip.
    run(highwater().args(["repotr"])).assert_says(2, &["report"]);
}

#[test]
fn a_duration_without_a_unit_is_asked_for_one() {
    run(highwater().args(["record", "-p", "1", "--duration", "3"]))
        .assert_says(2, &["a unit is missing: 3s, 3m or 3h?"]);
}

#[test]
fn who_asks_nothing_is_shown_three_ways_to_begin() {
    let outcome = run(&mut highwater());
    outcome.assert_says(
        2,
        &["record -p PID", "record -- COMMAND", "highwater report"],
    );
    assert!(outcome.stderr.lines().count() < 12, "{}", outcome.stderr);
}

#[test]
fn a_reader_that_has_read_enough_is_no_error_for_any_view_or_export() {
    let file = recording();
    let file = file.to_str().expect("a path in UTF-8");
    let mut views: Vec<Vec<&str>> = Vec::new();
    for verb in ["report", "table", "tree", "stats"] {
        for format in [&[][..], &["--json"], &["--csv"]] {
            views.push([&[verb, file], format].concat());
        }
    }
    for format in ["pprof", "collapsed", "speedscope", "heaptrack", "csv"] {
        views.push(vec!["export", file, "--format", format, "-o", "-"]);
    }
    for format in [&[][..], &["--json"], &["--csv"]] {
        views.push([&["diff", file, file], format].concat());
    }
    views.push(vec!["flamegraph", file, "-o", "-"]);
    views.push(vec!["man"]);
    views.push(vec!["completions", "bash"]);
    views.push(vec!["--help"]);
    for words in views {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = highwater();
        let output = command
            .args(&words)
            .stdout(writer)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {said}");
        assert!(!said.contains("pipe"), "{words:?}: {said}");
    }
}

#[test]
fn the_first_line_of_a_report_is_all_that_head_needs() {
    let mut view = highwater()
        .arg("report")
        .arg(recording())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut first = String::new();
    let mut stdout = BufReader::with_capacity(16, view.stdout.take().expect("it is piped"));
    stdout.read_line(&mut first).expect("a line");
    drop(stdout);
    let output = view.wait_with_output().expect("it ends");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert!(!first.trim().is_empty());
}

#[test]
fn a_view_without_a_file_reads_the_newest_recording_here_and_says_which() {
    let directory = scratch();
    let now = SystemTime::now();
    for (name, age) in [("old.hwm", 300), ("new.hwm", 100)] {
        let to = directory.path().join(name);
        fs::copy(recording(), &to).expect("the recording can be copied");
        let file = File::options()
            .write(true)
            .open(to)
            .expect("it can be opened");
        file.set_modified(now - Duration::from_secs(age))
            .expect("it can be aged");
    }
    // A link is not followed, wherever it leads, and what is no recording is none by its ending.
    symlink("/etc/passwd", directory.path().join("link.hwm")).expect("a link");
    fs::create_dir(directory.path().join("folder.hwm")).expect("a directory");
    let here = |words: &[&str]| run(highwater().args(words).current_dir(directory.path()));
    for words in [
        &["report"][..],
        &["report", "--json"],
        &["table", "--by", "function"],
        &["tree"],
        &["stats"],
        &["export", "--format", "collapsed", "-o", "-"],
    ] {
        let outcome = here(words);
        outcome.assert_says(0, &["reading new.hwm, the newest recording here"]);
        assert!(!outcome.stdout.contains("newest recording"), "{words:?}");
    }
    here(&["flamegraph"]).assert_says(0, &["new.hwm", "wrote new.html"]);
    let named = here(&["report", "old.hwm"]);
    named.assert_says(0, &[]);
    assert!(!named.stderr.contains("newest"), "{}", named.stderr);
}

#[test]
fn where_no_recording_is_a_view_without_a_file_says_how_to_make_one() {
    let directory = scratch();
    run(highwater().arg("report").current_dir(directory.path()))
        .assert_says(2, &["no FILE is named", "highwater record -p PID"]);
}

#[test]
fn every_verb_has_examples_in_its_help_which_no_line_of_80_columns_cuts() {
    for verb in [
        "record",
        "report",
        "flamegraph",
        "mark",
        "table",
        "tree",
        "stats",
        "diff",
        "check",
        "export",
        "doctor",
        "man",
    ] {
        let help = run(highwater().args([verb, "--help"]).env("COLUMNS", "80"));
        help.assert_says(0, &[]);
        let examples = help.stdout.split("Examples:").nth(1);
        let examples = examples.unwrap_or_else(|| panic!("{verb}: {}", help.stdout));
        assert!(
            examples.contains(&format!("highwater {verb}")),
            "{examples}"
        );
        for line in help.stdout.lines() {
            assert!(line.chars().count() <= 80, "{verb}: {line}");
        }
    }
}
