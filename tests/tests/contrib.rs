//! The examples of `contrib/`, as their readers would run them: copied, with highwater on the path.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_tests::{Outcome, alone, highwater_binary, peers_python, privileged, run, scratch};

/// Copies an example.
#[track_caller]
fn copied(example: &str, to: &Path) -> PathBuf {
    let contrib = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../contrib")
        .join(example);
    let copy = to.join(example);
    run(Command::new("cp").arg("-r").arg(contrib).arg(&copy)).assert_says(0, &[]);
    copy
}

/// Runs a program in a directory, with the highwater under test on the path, and not on GitHub.
#[track_caller]
fn within(directory: &Path, command: &mut Command) -> Outcome {
    let binary = highwater_binary();
    let mut path = OsString::from(binary.parent().expect("it lies somewhere"));
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    run(command
        .current_dir(directory)
        .env("PATH", path)
        .env_remove("GITHUB_ACTIONS"))
}

/// The recordings in a directory.
fn recordings(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it can be listed").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".hwm")).collect()
}

#[test]
fn a_pytest_mark_holds_a_test_to_its_budget() {
    privileged!();
    let _alone = alone();
    let scratch = scratch();
    let directory = copied("pytest", scratch.path());
    let outcome = within(
        &directory,
        Command::new(peers_python()).args(["-m", "pytest", "-v", "-p", "no:cacheprovider"]),
    );
    let said = &outcome.stdout;
    assert_eq!(outcome.code(), 1, "{outcome:#?}");
    for line in [
        "test_one_copy_is_within_the_budget PASSED",
        "test_two_copies_at_once_are_not FAILED",
        "test_others_run_as_always PASSED",
    ] {
        assert!(said.contains(line), "no {line} in {said}");
    }
    // The verdict, and the line that holds it.
    for words in [
        "OVER  peak of the span: 3.8 MiB",
        "(pytest/test_rows.py:16)",
    ] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    assert_eq!(recordings(&directory).len(), 1, "of the one that failed");
}

#[test]
fn cargo_holds_test_binaries_to_a_budget() {
    privileged!();
    let _alone = alone();
    let scratch = scratch();
    let directory = copied("cargo", scratch.path());
    let cargo = |rows: &str| {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["test", "--offline", "--test", "memory"])
            .env("CARGO_TARGET_DIR", scratch.path().join("target"))
            .env_remove("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER")
            .env("ROWS", rows);
        within(&directory, &mut cargo)
    };
    let few = cargo("1024");
    few.assert_says(0, &[]);
    assert!(few.stdout.contains("ok    peak: 1."), "{few:#?}");
    assert_eq!(recordings(&directory), Vec::<String>::new());
    let many = cargo("16384");
    assert_ne!(many.code(), 0);
    for words in ["OVER  peak: 16.", "rows::rows", "(src/lib.rs:5)"] {
        assert!(many.stdout.contains(words), "no {words} in {many:#?}");
    }
    assert_eq!(recordings(&directory).len(), 1);
}

#[test]
fn ctest_holds_programs_to_a_budget() {
    privileged!();
    let _alone = alone();
    let scratch = scratch();
    let directory = copied("ctest", scratch.path());
    for arguments in [&["-S", ".", "-B", "build"][..], &["--build", "build"]] {
        within(&directory, Command::new("cmake").args(arguments)).assert_says(0, &[]);
    }
    let build = directory.join("build");
    let tested = within(&build, Command::new("ctest").arg("--verbose"));
    tested.assert_says(0, &[]);
    for words in [
        "100% tests passed, 0 tests failed out of 2",
        "ok    peak: 1.",
        "ok    live at the end: ",
        "OVER  peak: 16.",
        "row (ctest/rows.c:6)",
    ] {
        assert!(tested.stdout.contains(words), "no {words} in {tested:#?}");
    }
    let xml = fs::read_to_string(build.join("many-rows.xml")).expect("it was written");
    assert!(
        xml.contains("<failure type=\"over\" message=\"peak: 16."),
        "{xml}"
    );
}
