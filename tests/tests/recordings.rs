//! Recordings of every version that there was stay readable, and say what they said.
//!
//! `tests/recordings` holds them, each beside the report that the highwater which made it gave of it. Those whose names end in what they
//! are of (`version-3-family.hwm`) have the twelve largest holders in their reports, the others all.

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
    for (path, report) in kept {
        let output = highwater_report(&path);
        let mut found = Vec::new();
        differences("", &report, &output, &mut found);
        assert!(found.is_empty(), "{}: {found:#?}", path.display());
    }
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
    let name = path.file_stem().expect("a name").to_string_lossy();
    let is_short = name.matches('-').count() > 1;
    json_of(
        "report",
        path,
        if is_short { &["--top", "12"] } else { &[] },
    )
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
