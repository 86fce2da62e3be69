//! Python functions on stacks, held against what each interpreter of this machine says of its own.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use highwater_tests::{
    CPython, Holder, Launched, PythonFrame, Recorder, Report, Victim, alone, every_cpython,
    highwater, privileged, python_victim, record_while, run, scratch, told_python_stacks,
};

fn victim(python: &CPython, script: &str) -> Victim {
    Victim::start_command(python.command(script).env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// Has a Python launched by highwater run a script.
fn launched(python: &CPython, script: &str, options: &[&str], file: &Path) -> Launched {
    let mut command = highwater();
    command.arg("record").args(options).arg("-o").arg(file);
    command.arg("--").args(python.words(script));
    Launched::start_command(file, &mut command)
}

/// The last part of a qualified name: what a traceback shows.
fn plain_name(function: &str) -> &str {
    function.rsplit('.').next().unwrap_or(function)
}

fn as_in_a_traceback(frames: &[PythonFrame]) -> Vec<PythonFrame> {
    frames
        .iter()
        .map(|frame| PythonFrame {
            function: plain_name(&frame.function).to_owned(),
            ..frame.clone()
        })
        .collect()
}

/// Panics unless each told stack was seen, frame by frame, with the blocks that were told of it. (Its lines allocate some small
/// things beside.)
#[track_caller]
fn assert_stacks(
    python: &CPython,
    told: &BTreeMap<u64, (String, Vec<PythonFrame>)>,
    report: &Report,
) {
    const SMALL: u64 = 100_000;
    let mut seen: BTreeMap<Vec<PythonFrame>, u64> = BTreeMap::new();
    for holder in report.peak().holders {
        *seen.entry(as_in_a_traceback(&holder.python)).or_default() += holder.bytes;
    }
    let mut expected: BTreeMap<&[PythonFrame], (&str, u64)> = BTreeMap::new();
    for (size, (scenario, frames)) in told {
        expected.entry(frames).or_insert((scenario, 0)).1 += size;
    }
    let mut wrong = Vec::new();
    for (frames, (scenario, bytes)) in &expected {
        let found = seen.get(*frames).copied().unwrap_or(0);
        if !(*bytes..*bytes + SMALL).contains(&found) {
            let leaf = frames.first();
            let like: Vec<_> = seen
                .keys()
                .filter(|other| other.first() == leaf || other.len() == frames.len())
                .take(2)
                .map(|other| &other[..other.len().min(5)])
                .collect();
            wrong.push(format!(
                "{scenario}: {bytes} bytes told, {found} seen of {} frames {:#?}, like {like:#?}",
                frames.len(),
                &frames[..frames.len().min(5)]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} stacks of {python:?} are wrong: {}\n{:#}",
        wrong.len(),
        expected.len(),
        wrong.join("\n"),
        report.json()["quality"]
    );
}

#[test]
fn every_python_frame_is_what_a_traceback_shows() {
    privileged!();
    for python in every_cpython() {
        let directory = scratch();
        let mut victim = victim(&python, "stacks.py");
        let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
        victim.tell("everything");
        let report = recorder.interrupt();
        let told = told_python_stacks(victim.said());
        victim.quit();
        assert!(told.len() > 100, "{} stacks", told.len());
        assert_stacks(&python, &told, &report);
    }
}

#[test]
fn a_launched_program_has_python_frames_as_one_that_runs() {
    privileged!();
    for python in every_cpython() {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let mut launched = launched(&python, "stacks.py", &[], &file);
        launched.tell_until_python_is_seen("warm");
        launched.tell("everything");
        let told = told_python_stacks(launched.said());
        launched.send("quit");
        let (outcome, file) = launched.wait();
        outcome.assert_says(0, &[]);
        assert_stacks(&python, &told, &Report::of(&file));
    }
}

#[test]
fn a_launched_script_that_is_over_at_once_has_python_frames() {
    privileged!();
    // Launched through another program, a Python is not known before it runs.
    for python in every_cpython().into_iter().filter(CPython::has_our_root) {
        // A busy machine may look too late.
        let seen = (0..10).any(|_| {
            let directory = scratch();
            let file = directory.path().join("recording.hwm");
            let (outcome, file) = launched(&python, "short.py", &[], &file).wait();
            outcome.assert_says(0, &[]);
            let peak = Report::of(&file).peak();
            let functions = |holder: &Holder| {
                let functions = holder.python.iter().map(|frame| frame.function.clone());
                functions.collect::<Vec<_>>()
            };
            peak.holders.iter().any(|holder| {
                holder.bytes >= 50_000_000 && functions(holder) == ["load", "main", "<module>"]
            })
        });
        assert!(seen, "{python:?}");
    }
}

#[test]
fn the_story_has_four_holders_of_100_mb_each_by_function_and_line() {
    privileged!();
    for python in every_cpython() {
        let (report, _) = record_while(&mut victim(&python, "story.py"), &[], &["process 100"]);
        let peak = report.peak();
        assert!(
            peak.bytes.abs_diff(400_000_000) < 4_000_000,
            "{python:?}: {} bytes at the peak",
            peak.bytes
        );
        let script = fs::read_to_string(python_victim("story.py")).expect("the script is there");
        let steps = [
            "add_scalar",
            "duplicate_data",
            "raise_to_power",
            "subtract_scalar",
        ];
        let mut holders: Vec<_> = peak
            .holders
            .iter()
            .filter(|holder| holder.bytes.abs_diff(100_000_000) < 1_000_000)
            .map(|holder| &holder.python[..2])
            .collect();
        holders.sort_unstable_by_key(|frames| frames[0].function.clone());
        assert_eq!(holders.len(), 4, "{python:?}: {:#?}", peak.holders);
        for (frames, step) in holders.iter().zip(steps) {
            let line = |frame: &PythonFrame| {
                let number = frame.line.expect("it has a line") as usize;
                script.lines().nth(number - 1).unwrap_or_default()
            };
            assert_eq!(frames[0].function, step, "{python:?}");
            assert!(
                line(&frames[0]).trim_start().starts_with("return data"),
                "{frames:#?}"
            );
            assert_eq!(frames[1].function, "process_data", "{python:?}");
            assert!(line(&frames[1]).contains(step), "{frames:#?}");
        }
    }
}

#[test]
fn a_python_that_is_killed_leaves_names_and_lines_behind() {
    privileged!();
    for python in every_cpython() {
        let directory = scratch();
        let mut victim = victim(&python, "busy.py");
        let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
        victim.send("grow");
        recorder.await_allocations(2000);
        victim.signal(libc::SIGKILL);
        let report = recorder.finish();
        let peak = report.peak();
        let script = fs::read_to_string(python_victim("busy.py")).expect("the script is there");
        let keeps = script
            .lines()
            .position(|line| line.contains("bytearray(4096)"))
            .map_or(0, |index| index as u64 + 1);
        let (mut kept, mut made) = (0, 0);
        for holder in peak.holders {
            let Some(frame) = holder.python.first() else {
                continue;
            };
            assert!(
                holder
                    .python
                    .iter()
                    .all(|frame| frame.line.is_some() && !frame.function.contains("unknown")),
                "{python:?}: {holder:#?}"
            );
            match (plain_name(&frame.function), frame.line) {
                ("keep", Some(line)) if line == keeps => kept += holder.blocks,
                ("made", Some(2)) => made += holder.blocks,
                _ => {}
            }
        }
        assert!(
            kept > 500 && made > 500,
            "{python:?}: {kept} kept, {made} made"
        );
        assert_eq!(report.json()["quality"]["python"]["nameless"], 0);
    }
}

#[test]
fn code_that_calls_much_and_allocates_little_is_not_slowed() {
    privileged!();
    let _alone = alone();
    for python in every_cpython() {
        let directory = scratch();
        let mut victim = victim(&python, "busy.py");
        victim.tell("fib 20");
        // The two alternate, and the best of each counts: the machine is not ours alone.
        let (mut untraced, mut traced) = (u64::MAX, u64::MAX);
        for round in 0..5 {
            untraced = untraced.min(victim.tell("fib 27").get("ns"));
            let file = directory.path().join(format!("{round}.hwm"));
            let recorder = Recorder::attach(victim.pid(), &file);
            traced = traced.min(victim.tell("fib 27").get("ns"));
            recorder.interrupt();
        }
        victim.quit();
        let slower = traced as f64 / untraced as f64 - 1.0;
        println!(
            "{python:?}: {untraced} ns untraced, {traced} ns traced: {:+.2} %",
            slower * 100.0
        );
        assert!(
            slower < 0.05,
            "{python:?}: {untraced} ns untraced, {traced} ns traced"
        );
    }
}

/// A copy of this machine's Python in which each of these bytes, which it has once or more, is another.
fn altered(directory: &Path, from: &[u8], to: &[u8]) -> PathBuf {
    assert_eq!(from.len(), to.len());
    let python = fs::canonicalize("/usr/bin/python3").expect("Debian's Python is installed");
    let mut bytes = fs::read(&python).expect("it can be read");
    let places: Vec<usize> = memmem(&bytes, from).collect();
    assert!(!places.is_empty(), "{} has no such bytes", python.display());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    let copy = directory.join("python3");
    fs::write(&copy, bytes).expect("scratch takes it");
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("it is ours");
    copy
}

fn memmem<'a>(bytes: &'a [u8], part: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let windows = bytes.windows(part.len()).enumerate();
    windows.filter_map(move |(place, window)| (window == part).then_some(place))
}

/// Panics unless a program that is a Python is told with these words, and its stacks are there all the same.
#[track_caller]
fn assert_native(python: &Path, told: &str) {
    let mut victim = Victim::start_command(
        Command::new(python)
            .arg(python_victim("story.py"))
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
    let (report, _) = record_while(&mut victim, &[], &["process 10"]);
    victim.quit();
    let notes = report.json()["quality"]["notes"].to_string();
    assert!(notes.contains(told), "{notes}");
    let peak = report.peak();
    assert!(
        peak.bytes.abs_diff(40_000_000) < 1_000_000,
        "{}",
        peak.bytes
    );
    let largest = &peak.holders[0];
    assert!(
        largest.python.is_empty()
            && largest.functions.len() > 10
            && largest
                .functions
                .iter()
                .any(|function| function == "Py_BytesMain"),
        "{largest:#?}"
    );
}

#[test]
fn a_python_of_a_version_that_is_not_known_is_told_and_has_native_stacks() {
    privileged!();
    let directory = scratch();
    let version = Command::new("/usr/bin/python3")
        .args(["-c", "import sys; print(sys.hexversion)"])
        .output()
        .expect("Debian's Python is installed");
    let version: u32 = String::from_utf8_lossy(&version.stdout)
        .trim()
        .parse()
        .expect("it is a number");
    let python = altered(
        directory.path(),
        &version.to_le_bytes(),
        &0x0363_00f0_u32.to_le_bytes(),
    );
    assert_native(&python, "runs Python 3.99, whose frames cannot be read");
}

#[test]
fn a_python_that_does_not_say_where_it_evaluates_is_told_and_has_native_stacks() {
    privileged!();
    let directory = scratch();
    let python = altered(
        directory.path(),
        b"_PyEval_EvalFrameDefault",
        b"_PyEval_EvalFrameNowhere",
    );
    assert_native(&python, "whose evaluation loop cannot be found");
}

#[test]
fn frames_are_shown_as_asked_for() {
    privileged!();
    let python = every_cpython().remove(0);
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = victim(&python, "story.py");
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("process 10");
    recorder.interrupt();
    let first = |options: &[&str]| {
        let report = Report::with(&file, options);
        let holder = report.peak().holders.remove(0);
        (
            holder.python.len(),
            holder.functions.len(),
            holder
                .functions
                .contains(&"_PyEval_EvalFrameDefault".to_owned()),
        )
    };
    let (shown, frames, evaluates) = first(&[]);
    assert!(
        shown >= 4 && frames > shown && !evaluates,
        "libc calls main"
    );
    assert_eq!(first(&["--frames", "python"]), (shown, shown, false));
    let (shown_of_native, native, evaluates) = first(&["--frames", "native"]);
    assert!(shown_of_native == 0 && native > frames - shown && evaluates);
    assert_eq!(first(&["--frames", "all"]), (shown, shown + native, true));
}

#[test]
fn the_source_line_is_recorded_unless_it_is_to_be_left_out() {
    privileged!();
    let python = every_cpython().remove(0);
    for (options, expected) in [(&[][..], true), (&["--redact"][..], false)] {
        let (report, _) = record_while(&mut victim(&python, "story.py"), options, &["process 10"]);
        let frames = report.json()["frames"]
            .as_array()
            .expect("frames is a list");
        let has = frames.iter().any(|frame| {
            frame["function"] == "add_scalar" && frame["source"] == "return data.translate(MORE)"
        });
        assert_eq!(has, expected, "{options:?}");
    }
}

#[test]
fn small_objects_are_seen_one_by_one_if_asked_for() {
    privileged!();
    const OBJECTS: u64 = 20_000;
    // Where the C library is another than was expected, the first calls of a launched program are not seen.
    for python in every_cpython().into_iter().filter(CPython::has_our_root) {
        let blocks_made = |options: &[&str]| {
            let directory = scratch();
            let file = directory.path().join("recording.hwm");
            let mut launched = launched(&python, "busy.py", options, &file);
            launched.tell_until_python_is_seen("objects 1000");
            launched.tell("objects 0");
            launched.tell(&format!("objects {OBJECTS}"));
            let (outcome, file) = launched.wait();
            outcome.assert_says(0, &[]);
            let report = Report::of(&file);
            assert_eq!(report.total("unmatched_frees"), 0, "{python:?}");
            let peak = report.peak();
            let made = peak.holders.iter().filter(|holder| {
                let mut frames = holder.python.iter();
                frames.any(|frame| frame.function == "objects")
            });
            made.fold((0, 0), |(bytes, blocks), holder| {
                (bytes + holder.bytes, blocks + holder.blocks)
            })
        };
        // Each has 100 bytes and a head of 33; the list of them has 8 each and grows by an eighth.
        let (bytes, blocks) = blocks_made(&["--python-allocators"]);
        assert!(
            (OBJECTS..OBJECTS + 100).contains(&blocks),
            "{python:?}: {blocks} blocks"
        );
        assert!(
            (OBJECTS * (133 + 8)..OBJECTS * (133 + 10) + 10_000).contains(&bytes),
            "{python:?}: {bytes} bytes"
        );
        let (arenas, ranges) = blocks_made(&[]);
        assert!(ranges < 100, "{python:?}: {ranges} arenas and large blocks");
        assert!(
            arenas.abs_diff(bytes) < 2_500_000,
            "{python:?}: {arenas} bytes in arenas"
        );
    }
}

#[test]
fn to_a_python_that_runs_no_allocator_can_be_given() {
    let outcome = run(highwater().args(["record", "--python-allocators", "-p", "1"]));
    outcome.assert_says(2, &["PYTHONMALLOC=malloc"]);
}

#[test]
fn an_idle_python_is_attached_to_at_once_and_never_stopped() {
    privileged!();
    for python in every_cpython() {
        let directory = scratch();
        // It waits for its input.
        let mut victim = victim(&python, "story.py");
        let began = Instant::now();
        let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
        let took = began.elapsed();
        assert!(took < Duration::from_secs(20), "{python:?}: {took:?}");
        let status = fs::read_to_string(format!("/proc/{}/status", victim.pid())).expect("it runs");
        assert!(status.contains("State:\tS"), "{python:?}: {status}");
        victim.tell("process 1");
        let report = recorder.interrupt();
        victim.quit();
        let peak = report.peak();
        let named = peak
            .holders
            .iter()
            .filter(|holder| holder.bytes >= 1_000_000);
        assert!(
            named.clone().count() >= 4,
            "{python:?}: {:#?}",
            peak.holders
        );
        for holder in named {
            assert!(holder.python.len() >= 4, "{python:?}: {holder:#?}");
        }
    }
}
