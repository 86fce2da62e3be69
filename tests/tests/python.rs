//! Python functions on stacks, held against what each interpreter of this machine says of its own.

use std::collections::BTreeMap;
use std::process::Command;

use highwater_tests::{
    CPython, PythonFrame, Recorder, Report, Victim, every_cpython, privileged, python_victim,
    scratch, told_python_stacks,
};

fn victim(python: &CPython, script: &str) -> Victim {
    Victim::start_command(
        Command::new(&python.program)
            .arg(python_victim(script))
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    )
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
    for holder in report.end().holders {
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
        let told = told_python_stacks(&victim);
        victim.quit();
        assert!(told.len() > 100, "{} stacks", told.len());
        assert_stacks(&python, &told, &report);
    }
}
