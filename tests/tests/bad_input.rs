//! Bad input: a clear message and the right exit code each time.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Instant;

use highwater_tests::{
    NOBODY, Outcome, Recorder, Report, Running, Victim, alone, eventually, highwater,
    highwater_binary, open_to_all, privileged, record_while, rounds, run, scratch, victim_program,
};
use tempfile::TempDir;

#[test]
fn a_pid_that_does_not_exist_is_named() {
    privileged!();
    // One that did a moment ago.
    let child = Running::start(Command::new("true").stdin(Stdio::null()));
    let pid = child.pid();
    child.wait();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let outcome = run(&mut Recorder::command(pid, &file, &[]));
    outcome.assert_says(1, &["no process", &pid.to_string()]);
    assert!(!file.exists(), "there is nothing to record");
}

#[test]
fn a_name_that_no_process_has_is_a_usage_error() {
    let mut command = highwater();
    run(command.args(["record", "-p", "no-such-name"])).assert_says(2, &["no-such-name"]);
}

#[test]
fn nothing_to_record_is_a_usage_error() {
    run(highwater().arg("record")).assert_says(2, &[]);
}

#[test]
fn a_duration_of_zero_is_a_usage_error() {
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let pid = std::process::id();
    let outcome = run(&mut Recorder::command(pid, &file, &["--duration", "0"]));
    outcome.assert_says(2, &["duration"]);
}

#[test]
fn a_process_that_exits_while_we_attach_is_told_as_gone() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let victim = victim_program("steady");
    let start = || Running::start(Command::new(&victim).stdin(Stdio::piped()));
    let mut target = start();
    let begun = Instant::now();
    let recorder = Recorder::attach(target.pid(), &directory.path().join("whole.hwm"));
    let attach = begun.elapsed();
    drop(target.take_stdin());
    recorder.finish();
    // The moment of the exit wanders through the whole attach, and a little beyond.
    let moments = rounds(40);
    for moment in 0..=moments {
        let file = directory.path().join(format!("{moment}.hwm"));
        let mut target = start();
        let recorder = Recorder::begin(target.pid(), &file, &[]);
        sleep(attach * 6 / 5 * moment / moments);
        drop(target.take_stdin());
        let outcome = recorder.wait();
        outcome.assert_no_panic();
        match outcome.code() {
            0 => assert_eq!(exit_reason(&file), "exited"),
            1 => outcome.assert_says(1, &[&target.pid().to_string()]),
            _ => panic!("exit code of {outcome:#?}"),
        }
        target.wait();
    }
}

fn exit_reason(file: &Path) -> String {
    let process = Report::of(file).only_process();
    process.exit.map(|exit| exit.reason).unwrap_or_default()
}

#[test]
fn who_may_not_trace_is_told_what_is_missing_and_how_to_get_it() {
    privileged!();
    // Where a user without any rights can get at both programs.
    let directory = scratch();
    open_to_all(directory.path());
    let copy = |from: &Path, name: &str| {
        let to = directory.path().join(name);
        fs::copy(from, &to)
            .unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
        open_to_all(&to);
        to
    };
    let binary = copy(&highwater_binary(), "highwater");
    let steady = copy(&victim_program("steady"), "steady");

    let own = Victim::start_command(Command::new(steady).uid(NOBODY).gid(NOBODY));
    let others = Victim::start("steady");
    for target in [&own, &others] {
        let mut command = Command::new(&binary);
        command
            .arg("record")
            .arg("-p")
            .arg(target.pid().to_string());
        command
            .arg("-o")
            .arg(directory.path().join("recording.hwm"));
        let outcome = run(command.uid(NOBODY).gid(NOBODY));
        outcome.assert_says(4, &["cap_"]);
        assert!(
            outcome.stderr.contains("sudo") || outcome.stderr.contains("setcap"),
            "its message names no command: {outcome:#?}"
        );
    }
    own.quit();
    others.quit();
}

#[test]
fn a_recording_into_a_directory_that_is_missing_fails_at_once() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("missing").join("recording.hwm");
    let victim = Victim::start("steady");
    let outcome = run(&mut Recorder::command(victim.pid(), &file, &[]));
    outcome.assert_says(
        1,
        &[&file.display().to_string(), "no such file or directory"],
    );
    victim.quit();
}

#[test]
fn a_recording_is_never_overwritten() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    fs::write(&file, "precious").expect("the file can be written");
    let victim = Victim::start("steady");
    let outcome = run(&mut Recorder::command(victim.pid(), &file, &[]));
    outcome.assert_says(1, &[&file.display().to_string()]);
    assert_eq!(fs::read(&file).expect("the file can be read"), b"precious");
    victim.quit();
}

/// A file system of one MiB, unmounted when this is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = scratch();
        let target = path_of(directory.path());
        // SAFETY: all four strings end in NUL and outlive the call.
        let result = unsafe {
            libc::mount(
                c"tmpfs".as_ptr(),
                target.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                c"size=1m".as_ptr().cast(),
            )
        };
        assert_eq!(result, 0, "mount: {}", io::Error::last_os_error());
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let target = path_of(self.0.path());
        // SAFETY: the string ends in NUL and outlives the call.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

fn path_of(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL")
}

#[test]
fn a_full_disk_ends_the_recording_which_stays_readable_up_to_there() {
    privileged!();
    let _alone = alone();
    let disk = SmallDisk::mount();
    let file = disk.0.path().join("recording.hwm");
    let mut victim = Victim::start("steady");
    let mut recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("work 600000");
    eventually("it ends by itself", || recorder.has_ended());
    recorder
        .wait()
        .assert_says(1, &["no space left", &file.display().to_string()]);
    let report = Report::of(&file);
    assert!(!report.is_complete());
    assert!(
        report.total("allocations") > 10_000,
        "{:#}",
        report.json()["totals"]
    );
    victim.quit();
}

#[test]
fn a_disk_that_was_full_before_leaves_no_file_and_promises_none() {
    privileged!();
    let disk = SmallDisk::mount();
    let filler = disk.0.path().join("filler");
    let filled = run(Command::new("dd")
        .arg("if=/dev/zero")
        .arg(format!("of={}", filler.display()))
        .args(["bs=4096", "count=1000"]));
    assert!(filled.stderr.contains("No space left"), "{filled:#?}");
    let file = disk.0.path().join("recording.hwm");
    let mut victim = Victim::start("steady");
    let outcome = run(&mut Recorder::command(
        victim.pid(),
        &file,
        &["--duration", "2s"],
    ));
    outcome.assert_says(1, &["no space left", "the file was removed"]);
    assert!(!outcome.stderr.contains("readable"), "{}", outcome.stderr);
    assert!(!file.exists());
    victim.tell("work 10");
    victim.quit();
}

#[test]
fn a_duration_that_no_clock_can_hold_is_refused_before_anything_is_done() {
    let outcome = run(highwater().args([
        "record",
        "--duration",
        "18000000000000000000s",
        "-p",
        "1",
        "-o",
        "/nonexistent/recording.hwm",
    ]));
    outcome.assert_says(2, &["a year"]);
}

/// A good recording of some size.
fn good_recording(directory: &Path) -> PathBuf {
    let file = directory.join("good.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    victim.tell("fall");
    recorder.interrupt().assert_saw_all();
    victim.quit();
    file
}

fn report(file: &Path) -> Outcome {
    run(highwater().arg("report").arg(file).arg("--json"))
}

#[test]
fn a_recording_that_was_cut_short_is_readable_up_to_the_cut() {
    privileged!();
    let directory = scratch();
    let bytes = fs::read(good_recording(directory.path())).expect("the recording can be read");
    let cut = directory.path().join("cut.hwm");
    let mut readable = 0;
    let parts = rounds(32) as usize;
    for part in 0..parts {
        let length = bytes.len() * part / parts;
        fs::write(&cut, &bytes[..length]).expect("the copy can be written");
        let outcome = report(&cut);
        outcome.assert_no_panic();
        match outcome.code() {
            0 => {
                assert!(
                    !Report::of(&cut).is_complete(),
                    "{part}/{parts} of a recording"
                );
                readable += 1;
            }
            1 => outcome.assert_says(1, &[&cut.display().to_string()]),
            _ => panic!("exit code of {outcome:#?}"),
        }
    }
    assert!(
        readable >= parts / 2,
        "only {readable} of {parts} parts were readable"
    );
}

#[test]
fn a_corrupt_recording_is_never_silently_wrong() {
    privileged!();
    let directory = scratch();
    let good = good_recording(directory.path());
    let truth = Report::of(&good).json().clone();
    let bytes = fs::read(good).expect("the recording can be read");
    let bad = directory.path().join("bad.hwm");
    let parts = rounds(64) as usize;
    for part in 0..parts {
        let mut bytes = bytes.clone();
        let at = bytes.len() * part / parts;
        bytes[at] ^= 0x5a;
        fs::write(&bad, &bytes).expect("the copy can be written");
        let outcome = report(&bad);
        outcome.assert_no_panic();
        match outcome.code() {
            0 => {
                let report = Report::of(&bad);
                assert!(
                    !report.is_complete() || *report.json() == truth,
                    "byte {at} was changed, and nothing says so"
                );
            }
            1 => outcome.assert_says(1, &[&bad.display().to_string()]),
            _ => panic!("exit code of {outcome:#?}"),
        }
    }
}

#[test]
fn what_is_no_recording_is_told_apart_from_one_of_another_version() {
    privileged!();
    let directory = scratch();
    let mut bytes = fs::read(good_recording(directory.path())).expect("the recording can be read");
    let write = |name: &str, bytes: &[u8]| {
        let file = directory.path().join(name);
        fs::write(&file, bytes).expect("the file can be written");
        file
    };
    let empty = write("empty.hwm", b"");
    report(&empty).assert_says(1, &["empty", &empty.display().to_string()]);
    let other = write(
        "other.hwm",
        b"This is a text that somebody named like a recording.\n",
    );
    report(&other).assert_says(1, &["recording", &other.display().to_string()]);
    // The version follows the eight bytes by which a recording is known.
    bytes[8..10].copy_from_slice(&0x7fff_u16.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..12]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    let newer = write("newer.hwm", &bytes);
    report(&newer).assert_says(1, &["version", "32767", &newer.display().to_string()]);
    let missing = directory.path().join("missing.hwm");
    report(&missing).assert_says(1, &["no such file", &missing.display().to_string()]);
}

#[test]
fn a_recording_of_nothing_is_still_a_recording() {
    privileged!();
    let mut victim = Victim::start("steady");
    let (report, _) = record_while(&mut victim, &[], &["checksum"]);
    victim.quit();
    report.assert_saw_all();
    assert_eq!(report.total("allocations"), 0);
    assert_eq!((report.peak().bytes, report.peak().blocks), (0, 0));
}
