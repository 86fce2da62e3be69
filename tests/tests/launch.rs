//! Programs that highwater launches.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use highwater_tests::{
    Launched, NOBODY, Report, highwater, open_to_all, privileged, run, scratch, victim_program,
};

/// `highwater record -o FILE --`, to be followed by a command.
fn record_into(file: &Path) -> Command {
    let mut command = highwater();
    command.arg("record").arg("-o").arg(file).arg("--");
    command
}

#[test]
fn a_launched_program_is_seen_from_before_main_to_its_end() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut launched = Launched::start(&file, &victim_program("launched"), &[]);
    launched.tell("hold 100");
    launched.tell("work 5000");
    let truth = launched.tell("drop 30");
    let (outcome, file) = launched.wait();
    outcome.assert_says(0, &[]);
    let report = Report::of(&file);
    // A program allocates within a millisecond of its exec: stacks from before its code was looked at are cut, and counted.
    report.assert_saw_all_but(&["truncated_stacks"]);
    // Also what its constructor did before main.
    report.assert_totals(&truth);
    assert_eq!(report.total("unmatched_frees"), 0);
    report.assert_heap_at_end(&truth);
    report.assert_heap_at_peak(&truth);
    let process = report.only_process();
    let exit = process.exit.expect("it has exited");
    assert_eq!((exit.reason.as_str(), exit.code), ("exited", Some(0)));
    assert!(process.command.contains("launched"), "{}", process.command);
}

#[test]
fn the_exit_status_of_a_launched_program_is_passed_on() {
    privileged!();
    let directory = scratch();
    let program = victim_program("ends");
    let mut launched = Launched::start(&directory.path().join("7.hwm"), &program, &[]);
    launched.send("exit 7");
    let (outcome, file) = launched.wait();
    assert_eq!(outcome.code(), 7, "{outcome:#?}");
    // Finished in order, but not called whole: this program makes no call that could be seen.
    assert_eq!(
        Report::of(&file).json()["quality"]["ended_by"],
        "the target ended"
    );

    let mut launched = Launched::start(&directory.path().join("abort.hwm"), &program, &[]);
    launched.send("abort");
    let (outcome, file) = launched.wait();
    // As a shell tells it.
    assert_eq!(outcome.code(), 128 + libc::SIGABRT, "{outcome:#?}");
    // Finished in order, but not called whole: this program makes no call that could be seen.
    assert_eq!(
        Report::of(&file).json()["quality"]["ended_by"],
        "the target ended"
    );
}

#[test]
fn a_signal_to_the_recorder_reaches_the_program_that_it_launched() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut launched = Launched::start(&file, &victim_program("launched"), &[]);
    let truth = launched.tell("hold 10");
    launched.signal(libc::SIGTERM);
    while launched.line() != "TRUTH signal=15" {}
    let (outcome, file) = launched.wait();
    // The program's own handler ends it so.
    assert_eq!(outcome.code(), 9, "{outcome:#?}");
    let report = Report::of(&file);
    // A program allocates within a millisecond of its exec: stacks from before its code was looked at are cut, and counted.
    report.assert_saw_all_but(&["truncated_stacks"]);
    report.assert_heap_at_end(&truth);
}

#[test]
fn a_command_that_is_not_there_is_127() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let outcome = run(record_into(&file).arg("no-such-command-of-highwater"));
    outcome.assert_says(127, &["no-such-command-of-highwater"]);
}

#[test]
fn a_command_that_cannot_be_executed_is_126() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let text = directory.path().join("text");
    fs::write(&text, "no program").expect("the file can be written");
    let outcome = run(record_into(&file).arg(&text));
    outcome.assert_says(126, &[&text.display().to_string()]);
}

#[test]
fn a_recording_that_cannot_be_written_is_125() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("missing").join("recording.hwm");
    let outcome = run(record_into(&file).arg("true"));
    outcome.assert_says(125, &[&file.display().to_string()]);
}

#[test]
fn a_command_under_sudo_runs_as_who_called_sudo() {
    privileged!();
    let directory = scratch();
    open_to_all(directory.path());
    let program = directory.path().join("launched");
    fs::copy(victim_program("launched"), &program).expect("the victim can be copied");
    open_to_all(&program);
    let file = directory.path().join("recording.hwm");
    let mut command = record_into(&file);
    command
        .arg(&program)
        .env("SUDO_USER", "nobody")
        .env("SUDO_UID", NOBODY.to_string())
        .env("SUDO_GID", NOBODY.to_string());
    let mut launched = Launched::start_command(&file, &mut command);
    let identity = launched.tell("identity");
    for key in ["uid", "euid", "gid", "egid"] {
        assert_eq!(identity.get(key), u64::from(NOBODY), "{key}");
    }
    let truth = launched.tell("hold 10");
    let (outcome, file) = launched.wait();
    outcome.assert_says(0, &[]);

    let metadata = fs::metadata(&file).expect("the recording is there");
    assert_eq!((metadata.uid(), metadata.gid()), (NOBODY, NOBODY), "owner");
    assert_eq!(metadata.mode() & 0o7777, 0o600, "mode");
    let report = Report::of(&file);
    // A program allocates within a millisecond of its exec: stacks from before its code was looked at are cut, and counted.
    report.assert_saw_all_but(&["truncated_stacks"]);
    report.assert_heap_at_end(&truth);
}

/// A libc of its own for a command, in a directory: another file than the one that is expected, and so probed.
fn another_libc(directory: &Path) {
    let maps = fs::read_to_string("/proc/self/maps").expect("our own maps can be read");
    let libc = maps
        .lines()
        .find_map(|line| {
            line.split_whitespace()
                .last()
                .filter(|path| path.ends_with("/libc.so.6"))
        })
        .expect("tests map libc");
    fs::copy(libc, directory.join("libc.so.6")).expect("libc can be copied");
}

#[test]
fn a_launched_program_whose_probes_were_late_is_not_told_as_wholly_seen() {
    privileged!();
    let directory = scratch();
    another_libc(directory.path());
    let file = directory.path().join("recording.hwm");
    let mut command = record_into(&file);
    command
        .arg("env")
        .arg(format!("LD_LIBRARY_PATH={}", directory.path().display()))
        .arg(victim_program("launched"));
    let mut launched = Launched::start_command(&file, &mut command);
    launched.tell_until_seen("hold 10");
    let (outcome, file) = launched.wait();
    outcome.assert_says(0, &["mapped another libc"]);
    assert!(!Report::of(&file).is_complete());
}

#[test]
fn a_launched_program_that_was_not_seen_at_all_is_told_so() {
    privileged!();
    let directory = scratch();
    another_libc(directory.path());
    let file = directory.path().join("recording.hwm");
    // It has ended before its libc can be looked at.
    let mut command = record_into(&file);
    command
        .env("LD_LIBRARY_PATH", directory.path())
        .arg("/bin/true");
    let outcome = run(&mut command);
    outcome.assert_says(0, &["none of its calls was seen"]);
    let report = Report::of(&file);
    assert_eq!(report.total("allocations"), 0);
    assert!(!report.is_complete(), "{:#}", report.json()["quality"]);
}
