//! Names of code that is in no file: a perf map tells them.

use std::fs;
use std::path::PathBuf;

use highwater_tests::{Recorder, Report, Victim, highwater, privileged, run, scratch};
use serde_json::Value;

const EARLY: &str = "Lazy:~early /app/a b.js:1:2";

/// The perf map of a victim, removed when this is dropped.
struct PerfMap(PathBuf);

impl PerfMap {
    fn of(victim: &Victim) -> Self {
        let map = PathBuf::from(format!("/tmp/perf-{}.map", victim.pid()));
        // That of an earlier process with this pid.
        let _ = fs::remove_file(&map);
        Self(map)
    }
}

impl Drop for PerfMap {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The stack that holds a block through the function, leaf first.
#[track_caller]
fn stack_through(report: &Report, function: &str) -> Vec<String> {
    let end = report.end();
    let mut holders = end.holders.iter();
    holders
        .find(|holder| holder.functions.iter().any(|name| name == function))
        .unwrap_or_else(|| panic!("no stack through {function}: {end:#?}"))
        .functions
        .clone()
}

#[track_caller]
fn assert_between(report: &Report, function: &str) {
    let names = stack_through(report, function);
    let at = |name: &str| names.iter().position(|other| other == name);
    let (leaf, made, main) = (at("allocate"), at(function), at("main"));
    assert!(leaf.is_some() && leaf < made && made < main, "{names:#?}");
}

#[test]
fn code_made_at_run_time_has_the_name_that_its_perf_map_says_then_or_later() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("jit_code");
    let _map = PerfMap::of(&victim);
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("named");
    victim.tell("late");
    let report = recorder.interrupt();
    victim.quit();
    assert_between(&report, EARLY);
    assert_between(&report, "late");
}

#[test]
fn a_perf_map_is_read_to_its_end_when_the_process_has_ended() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("jit_code");
    let _map = PerfMap::of(&victim);
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("late");
    victim.quit();
    assert_between(&recorder.finish(), "late");
}

#[test]
fn code_that_nothing_names_shows_as_an_address_in_anonymous_memory() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("jit_code");
    let _map = PerfMap::of(&victim);
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("nameless");
    let report = recorder.interrupt();
    victim.quit();

    let frames = report.json()["frames"].as_array().expect("frames");
    let made = frames.iter().find(|frame| frame["module"] == "[anon]");
    let made = made.unwrap_or_else(|| panic!("no frame in [anon]: {frames:#?}"));
    assert_eq!(
        (&made["function"], &made["kind"]),
        (&Value::Null, &"native".into())
    );
    let offset = made["offset"].as_u64().expect("an offset");
    let label = format!("[anon]+{offset:#x}");

    let folded = directory.path().join("picture.svg");
    let picture = run(highwater()
        .arg("flamegraph")
        .arg(&file)
        .arg("-o")
        .arg(&folded));
    picture.assert_says(0, &[]);
    let picture = fs::read_to_string(folded).expect("the flame graph can be read");
    assert!(picture.contains(&label), "no {label} in {picture}");
}
