//! The same program under highwater and under memray: both name the same holders, by function and line.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use highwater_tests::{
    PythonFrame, Victim, peers_python, privileged, python_victim, record_while, run, scratch,
};

/// How large an array is, bytes.
const ARRAY: u64 = 100_000_000;

/// A holder of an array: its two innermost Python frames.
type Holder = [PythonFrame; 2];

#[test]
fn the_four_arrays_of_the_story_are_held_by_whom_memray_says() {
    privileged!();
    let story = python_victim("story_numpy.py");
    let mut victim = Victim::start_command(Command::new(peers_python()).arg(&story));
    let (report, truth) = record_while(&mut victim, &[], &["process 100"]);
    victim.quit();
    assert_eq!(truth.get("array"), ARRAY);
    let peak = report.peak();
    assert!(
        peak.bytes.abs_diff(4 * ARRAY) < ARRAY / 25,
        "{} bytes at the peak",
        peak.bytes
    );
    let mut ours: Vec<Holder> = peak
        .holders
        .iter()
        .filter(|holder| is_array(holder.bytes))
        .map(|holder| two(&holder.python))
        .collect();
    ours.sort();
    assert_eq!(ours.len(), 4, "{:#?}", peak.holders);
    assert_eq!(ours, by_memray(&story));
}

fn is_array(bytes: u64) -> bool {
    bytes.abs_diff(ARRAY) < ARRAY / 100
}

/// The two innermost frames, with plain names: memray has no others of this script.
#[track_caller]
fn two(frames: &[PythonFrame]) -> Holder {
    match frames {
        [first, second, ..] => [first.clone(), second.clone()],
        _ => panic!("too few frames: {frames:?}"),
    }
}

/// Who holds an array at the peak of the same program, started under memray.
fn by_memray(story: &Path) -> Vec<Holder> {
    let directory = scratch();
    let results: PathBuf = directory.path().join("memray.bin");
    let mut memray = Command::new(peers_python())
        .args(["-m", "memray", "run", "--quiet", "-o"])
        .args([&results, story])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("memray runs");
    let mut stdin = memray.stdin.take().expect("it has one");
    stdin.write_all(b"process 100\n").expect("it listens");
    drop(stdin);
    assert!(memray.wait().expect("it ends").success());
    let peak = run(Command::new(peers_python())
        .arg(python_victim("memray_peak.py"))
        .arg(&results));
    peak.assert_says(0, &[]);
    let mut holders: Vec<Holder> = peak.stdout.lines().filter_map(holder).collect();
    holders.sort();
    holders
}

/// A line of `memray_peak.py`, if it is of an array.
fn holder(line: &str) -> Option<Holder> {
    let words: Vec<&str> = line.split('\t').collect();
    if !is_array(words[0].parse().expect("a size")) {
        return None;
    }
    let frames: Vec<PythonFrame> = words[1..]
        .chunks_exact(3)
        .map(|frame| PythonFrame {
            function: frame[0].to_owned(),
            file: frame[1].to_owned(),
            line: frame[2].parse().ok(),
        })
        .collect();
    Some(two(&frames))
}
