//! What else than traced blocks is resident, held against what the victim's own malloc says.

use highwater_tests::{Recorder, Report, Victim, highwater, privileged, run, scratch};
use serde_json::Value;

const MIB: u64 = 1 << 20;

/// A number that malloc's heaps came to at this moment.
#[track_caller]
fn of_malloc(report: &Report, moment: &str, name: &str) -> u64 {
    let malloc = &report.json()["memory"][moment]["malloc"];
    let number = malloc[name].as_u64();
    number.unwrap_or_else(|| panic!("no {name} at {moment} in {:#}", report.json()["memory"]))
}

#[test]
fn what_malloc_keeps_is_what_mallinfo_says() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("kept_by_malloc");
    let recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("burst");
    let report = recorder.interrupt();
    let free = truth.get("fordblks");
    assert!(free > 80 * MIB, "{free}");

    assert_eq!(report.end().bytes, truth.get("live_bytes"));
    assert_eq!(of_malloc(&report, "end", "unread_arenas"), 0);
    assert_eq!(of_malloc(&report, "end", "arenas"), 7);
    for name in ["free", "kept", "trimmable"] {
        let told = of_malloc(&report, "end", name);
        assert!(
            told.abs_diff(free) <= free / 50,
            "{name}: {told}, not {free}"
        );
    }
    // At the peak nothing was free yet, and a look at another moment does not stand for it.
    let at_peak = &report.json()["memory"]["peak"]["malloc"];
    let kept_then = at_peak["kept"].as_u64().unwrap_or(0);
    assert!(kept_then < free / 2, "{at_peak:#}");
    let end = &report.json()["memory"]["end"];
    let unexplained = end["unexplained"].as_u64().expect("it is positive");
    assert!(unexplained > 80 * MIB, "{end:#}");
    assert!(end["thread_stacks"].as_u64() > Some(6 * 4096), "{end:#}");
    assert!(end["page_tables"].as_u64() > Some(0), "{end:#}");

    let screen = run(highwater().arg("report").arg(&file)).stdout;
    let line = "freed and kept by malloc in 7 arenas at the end";
    assert!(screen.contains(line), "{screen}");
    assert!(
        screen.contains("(malloc_trim would give it back)"),
        "{screen}"
    );
    assert!(screen.lines().count() <= 24, "{screen}");

    // Once it has been given back it is free as before, but not resident.
    let again = directory.path().join("again.hwm");
    let recorder = Recorder::attach(victim.pid(), &again);
    let truth = victim.tell("trim");
    let report = recorder.interrupt();
    victim.quit();
    let told = of_malloc(&report, "end", "free");
    assert!(told.abs_diff(truth.get("fordblks")) <= free / 50, "{told}");
    let kept = of_malloc(&report, "end", "kept");
    assert!(kept < free / 20, "{kept} of {free}");
    let screen = run(highwater().arg("report").arg(&again)).stdout;
    assert!(!screen.contains("would give it back"), "{screen}");
}

#[test]
fn what_was_held_before_attach_is_told_by_size() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    // 1200 blocks of 256 KiB, each a mapping of its own, and that is a page longer than what was asked for.
    let mut victim = Victim::start("late");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("take100");
    let report = recorder.interrupt();
    victim.quit();
    let before = &report.json()["memory"]["processes"][0]["before"];
    let class = before["sizes"].as_array().into_iter().flatten();
    let class = class
        .into_iter()
        .find(|class| class["least"] == 256 << 10)
        .unwrap_or_else(|| panic!("no blocks of 256 KiB in {before:#}"));
    assert_eq!(class["chunks"], 1200, "{before:#}");
    assert_eq!(class["bytes"], 1200 * 260 * 1024_u64);
    assert_eq!(before["mapped"]["chunks"], 1200);

    let screen = run(highwater().arg("report").arg(&file)).stdout;
    assert!(
        screen.contains("Before attach: 304.7 MiB in 1,2"),
        "{screen}"
    );
    let all = run(highwater().arg("report").arg(&file).arg("--verbose")).stdout;
    assert!(all.contains("1,200 of 256 KiB to 512 KiB"), "{all}");
}

#[test]
fn of_a_program_that_ends_by_itself_what_was_seen_last_is_told_or_nothing() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("kept_by_malloc");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("burst");
    victim.quit();
    let report = recorder.finish();
    let malloc = &report.json()["memory"]["end"]["malloc"];
    if !matches!(malloc, Value::Null) {
        let rss = report.memory("end", "rss");
        assert!(of_malloc(&report, "end", "kept") <= rss, "{malloc:#}");
    }
}

#[test]
fn the_stack_of_a_thread_is_held_by_who_started_the_thread() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("stacks_of_threads");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("start 20");
    recorder.interrupt();
    victim.quit();
    let options = ["--kind", "thread-stack"];
    let screen = run(highwater().arg("report").arg(&file).args(options)).stdout;
    let (_, holders) = screen
        .split_once("Who held it at the peak\n")
        .unwrap_or_else(|| panic!("no holders in {screen}"));
    let first = holders.lines().next().unwrap_or_default();
    assert!(
        first.contains("start (victims/stacks_of_threads.c"),
        "{screen}"
    );
}
