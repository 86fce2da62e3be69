//! Names of code that is in no file: a perf map tells them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_tests::{
    Recorder, Report, Victim, highwater, privileged, run, scratch, victim_program,
};
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

/// Copies of a library, each with a function of another name.
fn libraries(directory: &Path, count: usize) {
    const NAME: &[u8] = b"take_0000";
    let library = fs::read(victim_program("one_function.so")).expect("it was built");
    for number in 0..count {
        let name = format!("take_{number:04}");
        let mut copy = library.clone();
        for at in 0..copy.len() - NAME.len() {
            if copy[at..].starts_with(NAME) {
                copy[at..at + NAME.len()].copy_from_slice(name.as_bytes());
            }
        }
        fs::write(directory.join(format!("{number:04}.so")), copy).expect("it can be written");
    }
}

#[test]
fn every_function_of_more_libraries_than_files_may_be_open_has_its_name() {
    privileged!();
    const LIBRARIES: usize = 1_100;
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    libraries(directory.path(), LIBRARIES);
    let path = directory.path().display().to_string();
    let mut victim = Victim::start_with("many_libraries", &[&path, &LIBRARIES.to_string()]);
    let recorder = Recorder::command(victim.pid(), &file, &[]);
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -Sn 1024; exec \"$@\"", "sh"])
        .arg(recorder.get_program())
        .args(recorder.get_args());
    let mut recorder = Recorder::start_command(&file, &mut limited);
    recorder.await_words("highwater: tracing ");
    let truth = victim.tell("take");
    let report = recorder.interrupt();
    victim.quit();
    report.assert_end(&truth);
    let mut names: Vec<String> = report
        .end()
        .holders
        .into_iter()
        .flat_map(|holder| holder.functions)
        .filter(|name| name.starts_with("take_"))
        .collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), LIBRARIES);
}
