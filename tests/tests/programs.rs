//! The first screen of recordings of real programs, each held against a text that a person has read.
//!
//! `tests/programs` has them: of a program a recording (`NAME.hwm`, made by `record.sh`) and its first screen on a terminal of 80
//! columns (`NAME.txt`). What changes on a screen shows as a difference between texts. To write them anew, and read what has become
//! of them: `HIGHWATER_WRITE_SCREENS=1 cargo test -p highwater-tests --test programs`, `git diff tests/programs`.

use std::path::{Path, PathBuf};
use std::{env, fs};

use highwater_tests::{highwater, on_terminal, run};
use serde_json::Value;

/// Lines of a terminal, and those that `record` writes below its answer: an empty one, where the recording is, what to type next.
const LINES: usize = 24;
const BELOW: usize = 3;
const COLUMNS: u16 = 80;

/// There are recordings of so many programs, at least.
const PROGRAMS: usize = 25;

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let files = fs::read_dir(folder).expect("the recordings");
    let files = files.map(|file| file.expect("a recording").path());
    let is_recording = |path: &PathBuf| path.extension().is_some_and(|it| it == "hwm");
    let mut recordings: Vec<PathBuf> = files.filter(is_recording).collect();
    recordings.sort();
    recordings
}

fn screen_of(recording: &Path) -> String {
    let mut report = highwater();
    report.arg("report").arg(recording).env("NO_COLOR", "1");
    on_terminal(&mut report, COLUMNS)
}

#[test]
fn the_first_screen_of_real_programs_is_what_was_read() {
    let recordings = recordings();
    assert!(recordings.len() >= PROGRAMS, "{recordings:?}");
    let mut changed = Vec::new();
    for recording in &recordings {
        let (screen, kept) = (screen_of(recording), recording.with_extension("txt"));
        if env::var_os("HIGHWATER_WRITE_SCREENS").is_some() {
            fs::write(&kept, &screen).expect("its screen is written");
            continue;
        }
        let was = fs::read_to_string(&kept).unwrap_or_default();
        if screen != was {
            changed.push(format!(
                "{}:\n--- was:\n{was}--- is:\n{screen}",
                kept.display()
            ));
        }
    }
    assert!(
        changed.is_empty(),
        "HIGHWATER_WRITE_SCREENS=1 writes them anew.\n{}",
        changed.join("\n")
    );
}

#[test]
fn the_first_screen_of_real_programs_fits_a_terminal_and_names_who_held_it() {
    for recording in recordings() {
        let screen = screen_of(&recording);
        let lines = screen.lines().count() + BELOW;
        assert!(lines <= LINES, "{lines} lines:\n{screen}");
        for line in screen.lines() {
            let columns = line.chars().count();
            assert!(columns <= COLUMNS.into(), "{columns} columns:\n{screen}");
        }
        let mut below = screen
            .lines()
            .skip_while(|line| !line.starts_with("Who held"));
        let holder = below.nth(1).unwrap_or_default();
        for nobody in [
            "__libc_start",
            "_start",
            "(unknown",
            "[anon]+",
            " operator new",
            "malloc",
            "(libc.so",
            "(ld-linux",
        ] {
            assert!(!holder.contains(nobody), "{nobody}:\n{screen}");
        }
        assert!(holder.contains(" %  "), "{screen}");
    }
}

#[test]
fn recordings_of_real_programs_say_nothing_of_the_machine_that_made_them() {
    for recording in recordings() {
        let output = highwater()
            .args(["report", "--json"])
            .arg(&recording)
            .output()
            .expect("highwater runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        for folder in ["/root/", "/work/"] {
            assert!(
                !text.contains(folder),
                "{folder} in {}",
                recording.display()
            );
        }
        let report: Value = serde_json::from_str(&text).expect("JSON");
        for process in report["processes"].as_array().expect("processes") {
            // Of one that ended too soon it is not known.
            let group = process["cgroup"].as_str().unwrap_or("/app");
            assert_eq!(group, "/app", "{}", recording.display());
        }
    }
}

#[test]
fn a_recording_says_the_same_each_time_it_is_read() {
    // Many grow in it: the rate of all together is a sum of fractions.
    let node = recordings()
        .into_iter()
        .find(|path| path.ends_with("node.hwm"));
    let node = node.expect("a recording of node");
    let say = || run(highwater().args(["report", "--json"]).arg(&node)).stdout;
    let said = say();
    assert!((0..8).all(|_| say() == said));
}
