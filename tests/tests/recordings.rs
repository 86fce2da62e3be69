//! Recordings of every version that there was stay readable, and say what they said.
//!
//! `tests/recordings` holds them, each beside the report that the highwater which made it gave of it; but what several processes of a
//! family hold together counted for each of them then. Those whose names end in what they
//! are of (`version-3-family.hwm`) have the twelve largest holders in their reports, the others all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use highwater_tests::highwater;
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings")
}

/// Recordings, each beside its report.
fn kept() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(folder()).expect("the kept recordings");
    let files = files.map(|file| file.expect("a kept recording").path());
    let mut recordings: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|it| it == "hwm"))
        .collect();
    recordings.sort();
    recordings
        .into_iter()
        .map(|path| {
            let report = fs::read(path.with_extension("json")).expect("its report");
            (path, serde_json::from_slice(&report).expect("JSON"))
        })
        .collect()
}

/// Everything that `older` says, `newer` says too.
fn differences(at: &str, older: &Value, newer: &Value, found: &mut Vec<String>) {
    match (older, newer) {
        (Value::Object(older), Value::Object(newer)) => {
            for (name, value) in older {
                let at = format!("{at}.{name}");
                // The version that reports, and how it writes what it has no figure for.
                if name == "highwater" {
                    continue;
                }
                match newer.get(name) {
                    Some(newer) => differences(&at, value, newer, found),
                    None => found.push(format!("{at} is missing")),
                }
            }
        }
        (Value::Array(older), Value::Array(newer)) if older.len() == newer.len() => {
            for (index, (older, newer)) in older.iter().zip(newer).enumerate() {
                differences(&format!("{at}[{index}]"), older, newer, found);
            }
        }
        _ if older == newer => {}
        _ => found.push(format!("{at} was {older} and is {newer}")),
    }
}

#[test]
fn recordings_of_all_versions_say_what_they_said() {
    let kept = kept();
    let versions: Vec<u8> = kept
        .iter()
        .map(|(path, _)| fs::read(path).expect("a recording")[8])
        .collect();
    assert_eq!(versions, [1, 2, 3, 3, 3, 3, 3, 3], "some of each version");
    for (path, mut report) in kept {
        let mut output = highwater_report(&path);
        let mut found = Vec::new();
        let (older, newer) = (take_holders(&mut report), take_holders(&mut output));
        for (place, (bytes, blocks)) in &older {
            let is = newer.get(place).copied().unwrap_or_default();
            let same = match is_short(&path) {
                // Those that read as it does may not have been among the largest.
                true => is.0 >= *bytes && is.1 >= *blocks,
                false => is == (*bytes, *blocks),
            };
            if !same {
                found.push(format!("{place:?} was {bytes} in {blocks} and is {is:?}"));
            }
        }
        if !is_short(&path) {
            assert_eq!(newer.len(), older.len(), "{}", path.display());
        }
        differences("", &report, &output, &mut found);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
}

/// A place where memory was held: in which list of the report, by which process, of which kind, and how the stack reads.
type Place = (String, u64, String, Vec<String>, bool);

/// Takes the holders out of a report, with the stacks that they refer to: bytes and blocks of each place. Older versions told
/// stacks apart that read alike; here those are one place.
fn take_holders(report: &mut Value) -> BTreeMap<Place, (u64, u64)> {
    let taken = |report: &mut Value, name: &str| {
        let members = report.as_object_mut().expect("a report");
        members.remove(name).expect("part of a report")
    };
    let [frames, stacks, cut] =
        ["frames", "stacks", "truncated_stacks"].map(|name| taken(report, name));
    let number = |value: &Value| value.as_u64().expect("a number");
    let reading = |stack: &Value| -> Vec<String> {
        let indices = stacks[usize_of(stack)].as_array().expect("a stack");
        let frames = indices.iter().map(|index| read(&frames[usize_of(index)]));
        frames.collect()
    };
    let mut held = BTreeMap::new();
    let mut take = |list: String, moment: &mut Value| {
        for holder in taken(moment, "holders").as_array().expect("holders") {
            let stack = &holder["stack"];
            let is_cut = cut.as_array().is_some_and(|cut| cut.contains(stack));
            let (reads, kind) = (reading(stack), holder["kind"].to_string());
            let place = (
                list.clone(),
                number(&holder["process"]),
                kind,
                reads,
                is_cut,
            );
            let of: &mut (u64, u64) = held.entry(place).or_default();
            of.0 += number(&holder["bytes"]);
            of.1 += number(&holder["blocks"]);
        }
    };
    take("peak".to_owned(), &mut report["peak"]);
    take("end".to_owned(), &mut report["end"]);
    let processes = report["process_peaks"].as_array_mut().expect("peaks");
    for (index, peak) in processes.iter_mut().enumerate() {
        take(format!("process {index}"), peak);
    }
    held
}

/// What is read of a frame.
fn read(frame: &Value) -> String {
    let module = frame["module"].as_str().unwrap_or_default();
    let file = module.rsplit('/').next().unwrap_or_default();
    match frame["function"].as_str() {
        Some(function) => format!(
            "{file} {function} {} {} {}",
            frame["file"], frame["line"], frame["inlined"]
        ),
        None => format!("{file}+{}", frame["offset"]),
    }
}

fn usize_of(value: &Value) -> usize {
    let number = value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    number.expect("an index")
}

/// Its report has the twelve largest holders alone.
fn is_short(path: &Path) -> bool {
    let name = path.file_stem().expect("a name").to_string_lossy();
    name.matches('-').count() > 1
}

#[test]
fn functions_of_an_older_recording_keep_their_names() {
    let recording = folder().join("version-3-exact.hwm");
    let counted = fs::read(folder().join("version-3-exact.functions")).expect("its functions");
    let counted: Value = serde_json::from_slice(&counted).expect("JSON");
    let output = json_of("stats", &recording, &[]);
    let mut found = Vec::new();
    differences("", &counted, &output["functions_called"], &mut found);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_container_of_an_older_recording_is_known_by_its_cgroup() {
    let report = highwater_report(&folder().join("version-3-family.hwm"));
    let container = "3f4e1c0b9a8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f";
    for process in &report["processes"].as_array().expect("processes")[..3] {
        assert_eq!(process["cgroup"], format!("/docker/{container}"));
        assert_eq!(process["container"], container);
    }
}

fn highwater_report(path: &Path) -> Value {
    json_of("report", path, &[])
}

fn json_of(verb: &str, path: &Path, more: &[&str]) -> Value {
    let output = highwater()
        .arg(verb)
        .arg(path)
        .arg("--json")
        .args(more)
        .output()
        .expect("highwater runs");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}
