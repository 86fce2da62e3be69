//! How a recording ends: with the target, with us, or against our will.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use highwater_tests::{
    Exit, MemoryCgroup, Recorder, Report, Truth, Victim, alone, eventually, link_kinds,
    mapped_text, privileged, rounds, scratch,
};

/// Attaches to a victim that holds something, lets `end` be its end, and gives the report and the victim's last truth.
fn record_to_the_end(end: impl FnOnce(&mut Victim)) -> (Report, Truth) {
    let directory = scratch();
    let mut victim = Victim::start("ends");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    victim.tell("hold 100");
    let truth = victim.tell("drop 20");
    end(&mut victim);
    let report = recorder.finish();
    victim.wait();
    report.assert_saw_all();
    report.assert_end(&truth);
    (report, truth)
}

fn exit_of(report: &Report) -> Exit {
    let process = report.only_process();
    process
        .exit
        .clone()
        .unwrap_or_else(|| panic!("no exit of {process:#?}"))
}

fn killed_by(signal: i32) -> Exit {
    Exit {
        reason: "signal".to_owned(),
        code: None,
        signal: u64::try_from(signal).ok(),
    }
}

#[test]
fn a_target_that_exits_is_told_with_its_code() {
    privileged!();
    let (report, truth) = record_to_the_end(|victim| victim.send("exit 7"));
    report.assert_peak(&truth);
    let expected = Exit {
        reason: "exited".to_owned(),
        code: Some(7),
        signal: None,
    };
    assert_eq!(exit_of(&report), expected);
}

#[test]
fn a_target_that_crashes_is_told_with_its_signal() {
    privileged!();
    let (report, _) = record_to_the_end(|victim| victim.send("abort"));
    assert_eq!(exit_of(&report), killed_by(libc::SIGABRT));
}

#[test]
fn a_target_that_is_killed_is_told_with_its_signal() {
    privileged!();
    let (report, _) = record_to_the_end(|victim| victim.signal(libc::SIGKILL));
    assert_eq!(exit_of(&report), killed_by(libc::SIGKILL));
}

#[test]
fn a_target_that_runs_out_of_its_cgroups_memory_is_told_as_such() {
    privileged!();
    let _alone = alone();
    const LIMIT: u64 = 64 << 20;
    let cgroup = match MemoryCgroup::with_limit(LIMIT) {
        Ok(cgroup) => cgroup,
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI is set, but {reason}");
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let directory = scratch();
    let mut victim = Victim::start("ends");
    cgroup.add(victim.pid());
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    victim.send("eat");
    let report = recorder.finish();
    let (outcome, truth) = victim.wait_for_last_truth();
    drop(cgroup);

    assert_eq!(outcome.status.signal(), Some(libc::SIGKILL), "{outcome:#?}");
    report.assert_saw_all();
    assert_eq!(exit_of(&report).reason, "oom-killed");
    // The last block that malloc returned is told before it is touched, and so before the kill.
    report.assert_end(&truth);
    report.assert_peak(&truth);
    assert!(report.peak().bytes > LIMIT / 2);
    let limit = &report.json()["memory"]["end"]["cgroup"]["limit"];
    assert_eq!(limit.as_u64(), Some(LIMIT));
}

#[test]
fn a_target_that_becomes_another_program_is_followed_into_it() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("ends");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    let old = victim.tell("hold 50");
    victim.tell_until_ready("exec");
    recorder.await_identities(victim.pid(), 2);
    let new = victim.tell("hold 5");
    victim.quit();
    let report = recorder.finish();

    // A program allocates within a millisecond of its exec: stacks from before its code was looked at are cut, and counted.
    report.assert_saw_all_but(&["truncated_stacks"]);
    let exits = report.processes().into_iter().map(|process| {
        let exit = process.exit.expect("both ended");
        (exit.reason, exit.code)
    });
    assert_eq!(
        exits.collect::<Vec<_>>(),
        [
            ("executed".to_owned(), None),
            ("exited".to_owned(), Some(0))
        ]
    );
    report.assert_heap_at_peak(&old);
    report.assert_heap_at_end(&new);
}

#[test]
fn a_recorder_that_is_terminated_leaves_a_complete_recording() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("ends");
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    let truth = victim.tell("hold 100");
    recorder.signal(libc::SIGTERM);
    let report = recorder.finish();
    report.assert_saw_all();
    report.assert_end(&truth);
    assert_eq!(exit_of(&report).reason, "detached");
    victim.quit();
}

#[test]
fn a_recording_ends_when_its_duration_is_over() {
    privileged!();
    let directory = scratch();
    let mut victim = Victim::start("ends");
    let file = directory.path().join("recording.hwm");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--duration", "2s"]);
    let truth = victim.tell("hold 10");
    let report = recorder.finish();
    report.assert_saw_all();
    report.assert_end(&truth);
    assert!(
        report.duration_ns() >= 1_900_000_000,
        "{} ns",
        report.duration_ns()
    );
    assert_eq!(exit_of(&report).reason, "detached");
    victim.quit();
}

#[test]
fn the_end_of_a_recording_is_the_answer_and_where_it_lies() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("eight_sites");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("rise");
    recorder.signal(libc::SIGINT);
    let outcome = recorder.wait();
    let path = file.display().to_string();
    outcome.assert_says(0, &["site_", &path, "highwater"]);
    assert_eq!(outcome.stdout, "", "facts about a recording are notes");
    victim.quit();
}

/// Numbers in `0..limit` without a pattern that could fall in step with anything.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// When a recorder is killed.
#[derive(Clone, Copy, Debug)]
enum Killed {
    /// While it attaches, or a while after.
    Attaching,
    /// While it takes its probes out, upon Ctrl-C.
    Leaving,
}

/// Kills recorders at random instants, each of which has to leave the victim as it was.
fn kill_recorders(link: &str, when: Killed, kills: u32) {
    let directory = scratch();
    let mut victim = Victim::start_with("churn", &["2"]);
    let text = mapped_text(victim.pid());
    let changed = || text.changed_bytes().expect("the victim is alive");
    let options = ["--link", link];

    // From before the first probe is in until a while after the last one.
    let begun = Instant::now();
    let recorder =
        Recorder::attach_with(victim.pid(), &directory.path().join("whole.hwm"), &options);
    let attach = begun.elapsed();
    let begun = Instant::now();
    recorder.interrupt();
    let leave = begun.elapsed();
    eventually("libc is what it was", || changed() == 0);
    let span = match when {
        Killed::Attaching => attach * 3 / 2,
        Killed::Leaving => leave,
    };
    let latest = u64::try_from(span.as_micros()).expect("it takes no centuries");

    let mut draw = Draw(20_251_122);
    let mut rounds = 0;
    for number in 0..kills {
        let file = directory.path().join(format!("{number}.hwm"));
        // By this its own children are known as well, should it leave any.
        let mark = format!(
            "HIGHWATER_TEST_MARK=kill-{}-{link}-{number}",
            std::process::id()
        );
        let (name, value) = mark.split_once('=').expect("the mark is an assignment");
        let mut command = Recorder::command(victim.pid(), &file, &options);
        let mut recorder = Recorder::start_command(&file, command.env(name, value));
        if matches!(when, Killed::Leaving) {
            recorder.await_words("highwater: tracing");
            recorder.signal(libc::SIGINT);
        }
        sleep(Duration::from_micros(draw.below(latest)));
        recorder.signal(libc::SIGKILL);
        recorder.wait();
        eventually("no child of the killed recorder is left", || {
            !any_process_has(&mark)
        });
        eventually("libc is what it was", || changed() == 0);
        if number % 10 == 0 {
            let now = victim.tell("check").get("rounds");
            assert!(now > rounds, "the victim goes on");
            rounds = now;
        }
    }
    victim.tell("stop");
    victim.quit();
}

#[test]
fn a_recorder_killed_at_any_instant_of_its_attach_leaves_no_trace_in_the_target() {
    privileged!();
    let _alone = alone();
    for link in link_kinds() {
        kill_recorders(&link, Killed::Attaching, rounds(20));
    }
}

#[test]
fn a_recorder_killed_while_it_takes_its_probes_out_leaves_no_trace_in_the_target() {
    privileged!();
    let _alone = alone();
    for link in link_kinds() {
        kill_recorders(&link, Killed::Leaving, rounds(20));
    }
}

/// Whether any process was started with that in its environment.
fn any_process_has(assignment: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("/proc can be read");
    processes.flatten().any(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == assignment.as_bytes())
    })
}

#[test]
fn the_recording_of_a_killed_recorder_is_readable_as_far_as_it_got() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("ends");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("hold 1000");
    recorder.await_identities(victim.pid(), 1);
    recorder.signal(libc::SIGKILL);
    recorder.wait();
    let report = Report::of(&file);
    assert!(!report.is_complete());
    assert!(report.total("allocations") <= 1000);
    victim.quit();
}
