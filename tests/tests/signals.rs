//! Signals to the recorder: none of them leaves a probe in the target.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use highwater_tests::{
    Recorder, Report, Victim, eventually, highwater, mapped_text, privileged, run, scratch,
};

/// Whether a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("State:\tT")
}

#[test]
fn a_recorder_that_is_stopped_has_its_probes_out_and_says_when_nothing_was_seen() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("stopped.hwm");
    // Two processes, of which the child obeys.
    let mut victim = Victim::start("fork_child");
    let parent = victim.pid();
    let child = victim.tell("fork").get("child");
    let child = u32::try_from(child).expect("a pid");
    let texts = [parent, child].map(mapped_text);
    let changed = || {
        texts
            .each_ref()
            .map(|text| text.changed_bytes().expect("it is alive"))
    };
    let recorder = Recorder::attach(parent, &file);
    assert!(changed().iter().all(|bytes| *bytes > 0));
    victim.tell("hold 10");
    recorder.await_allocations(10);

    recorder.signal(libc::SIGTSTP);
    eventually("it is stopped", || is_stopped(recorder.pid()));
    assert_eq!(changed(), [0, 0]);
    victim.tell("hold 10");
    recorder.signal(libc::SIGCONT);
    eventually("the probes are in again", || {
        changed().iter().all(|bytes| *bytes > 0)
    });
    let seen = || {
        victim.tell("hold 1");
        Report::so_far(&file).map_or(0, |report| report.total("allocations"))
    };
    let mut seen = seen;
    eventually("it is followed again", || seen() > 10);
    let report = recorder.interrupt();
    assert_eq!(changed(), [0, 0]);

    assert!(!report.is_complete());
    let pauses = report.json()["quality"]["pauses"]
        .as_array()
        .expect("pauses")
        .clone();
    assert_eq!(pauses.len(), 1, "{pauses:?}");
    assert!(pauses[0]["from_ns"].as_u64() < pauses[0]["to_ns"].as_u64());
    let text = run(highwater().arg("report").arg(&file));
    text.assert_says(0, &[]);
    assert!(
        text.stdout.contains("Nothing was seen from"),
        "{}",
        text.stdout
    );
    let checked = run(highwater()
        .arg("check")
        .arg(&file)
        .args(["--max-peak", "1GiB"]));
    checked.assert_says(1, &["was stopped"]);
    victim.tell_until_ready("leave");
    victim.quit();
}

/// Whether a process ignores a signal.
fn is_ignored(pid: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"));
    let mask = u64::from_str_radix(mask.expect("a mask"), 16).expect("a number");
    mask >> (signal - 1) & 1 == 1
}

/// Whether a signal ends a program that does nothing about it.
fn ends_programs(signal: i32) -> bool {
    let command = format!("ulimit -c 0; kill -{signal} $$");
    let outcome = run(Command::new("sh").arg("-c").arg(command));
    outcome.status.signal() == Some(signal)
}

#[test]
fn a_signal_that_ends_programs_ends_a_recording_in_order() {
    privileged!();
    /// These cannot be caught, or tell of a fault in the program itself.
    const BEYOND: [i32; 7] = [
        libc::SIGKILL,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
    ];
    const STOPPING: [i32; 4] = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    const ASKING: [i32; 2] = [libc::SIGUSR1, libc::SIGUSR2];
    let directory = scratch();
    let mut victim = Victim::start("ends");
    let text = mapped_text(victim.pid());
    let others = [&BEYOND[..], &STOPPING, &ASKING].concat();
    let signals = (1..32).filter(|signal| !others.contains(signal));
    let mut ended = 0;
    for signal in signals.filter(|signal| ends_programs(*signal)) {
        let file = directory.path().join(format!("{signal}.hwm"));
        let recorder = Recorder::attach(victim.pid(), &file);
        if is_ignored(recorder.pid(), signal) {
            continue;
        }
        victim.tell("hold 10");
        recorder.signal(signal);
        let report = recorder.finish();
        assert!(report.is_complete(), "signal {signal}");
        assert_eq!(report.total("allocations"), 10, "signal {signal}");
        assert_eq!(text.changed_bytes().expect("it is alive"), 0);
        ended += 1;
    }
    assert!(ended >= 10, "{ended}");
    victim.quit();
}

#[test]
fn signals_that_ask_or_mean_nothing_do_not_end_a_recording() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("ends");
    let file = directory.path().join("asked.hwm");
    let mut recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("hold 10");
    for signal in [libc::SIGUSR2, libc::SIGPIPE, libc::SIGXFSZ, libc::SIGTTOU] {
        recorder.signal(signal);
    }
    recorder.signal(libc::SIGUSR1);
    recorder.await_words("events/s");
    recorder.await_words("It runs on, and is traced.");
    // What the rings still have is in a later answer.
    eventually("it tells who holds memory", || {
        recorder.signal(libc::SIGUSR1);
        recorder.has_said("Who held it at the peak")
    });
    let report = recorder.interrupt();
    report.assert_saw_all();
    report.assert_end(&truth);
    victim.quit();
}

#[test]
fn a_recorder_whose_words_nobody_reads_records_on() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("unread.hwm");
    let mut victim = Victim::start("ends");
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        // The reader is gone before the first word.
        .arg(r#"{ sleep 1; "$0" record --preflight 0 --duration 2s -p "$1" -o "$2"; echo $? > "$3"; } 2>&1 | true"#)
        .arg(highwater().get_program())
        .arg(victim.pid().to_string())
        .arg(&file)
        .arg(directory.path().join("status"));
    let mut shell = shell.spawn().expect("sh runs");
    eventually("it records", || {
        Report::so_far(&file).is_some_and(|report| !report.processes().is_empty())
    });
    let truth = victim.tell("hold 10");
    assert!(shell.wait().expect("it ends").success());
    let status = directory.path().join("status");
    eventually("it has ended", || {
        fs::read_to_string(&status).is_ok_and(|said| said.ends_with('\n'))
    });
    assert_eq!(fs::read_to_string(&status).expect("its status"), "0\n");
    let report = Report::of(&file);
    report.assert_saw_all();
    report.assert_end(&truth);
    victim.quit();
}

#[test]
fn a_launched_command_has_the_limit_of_files_and_the_signals_that_highwater_was_started_with() {
    privileged!();
    let directory = scratch();
    let command = "ulimit -Sn; ulimit -Hn; grep -E '^Sig(Ign|Blk)' /proc/self/status";
    let limited = format!("trap '' HUP USR1; ulimit -Sn 300; ulimit -Hn 900; {command}");
    let alone = run(Command::new("sh").arg("-c").arg(&limited));
    let launched = run(Command::new("sh")
        .arg("-c")
        .arg(r#"trap '' HUP USR1; ulimit -Sn 300; ulimit -Hn 900; exec "$0" record -o "$1" -- sh -c "$2""#)
        .arg(highwater().get_program())
        .arg(directory.path().join("launched.hwm"))
        .arg(command));
    launched.assert_says(0, &[]);
    // libc has signals from 32 on for itself.
    let told = |said: &str| -> Vec<String> {
        let lines = said.lines().map(|line| match line.split_once(":\t") {
            Some((name, mask)) => {
                let mask = u64::from_str_radix(mask, 16).expect("a mask");
                format!("{name} {:x}", mask & 0x7fff_ffff)
            }
            None => line.to_owned(),
        });
        lines.collect()
    };
    assert_eq!(told(&launched.stdout), told(&alone.stdout));
    assert!(
        launched.stdout.starts_with("300\n900\n"),
        "{}",
        launched.stdout
    );
}
