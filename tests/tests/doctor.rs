//! What `highwater doctor` says of this machine and of processes.

use std::{os::unix::process::CommandExt, process::Command};

use highwater_tests::{
    NOBODY, Victim, highwater, highwater_binary, link_kinds, mapped_text, open_to_all, privileged,
    record_while, run, scratch,
};
use serde_json::Value;

#[test]
fn a_machine_that_can_trace_says_so_first_and_at_what_cost() {
    privileged!();
    let outcome = run(highwater().arg("doctor"));
    outcome.assert_says(0, &[]);
    assert!(
        outcome.stdout.starts_with("this machine can trace\n"),
        "{outcome:#?}"
    );
    for fact in ["kernel ", "malloc ", "free ", "an allocation costs"] {
        assert!(outcome.stdout.contains(fact), "{fact}: {outcome:#?}");
    }
}

#[test]
fn a_process_is_told_of_as_json_and_left_as_it_was() {
    privileged!();
    let mut victim = Victim::start("steady");
    let text = mapped_text(victim.pid());
    let outcome = run(highwater().args(["doctor", "--json", "-p", &victim.pid().to_string()]));
    outcome.assert_says(0, &[]);
    let told: Value = serde_json::from_str(&outcome.stdout).expect("it is JSON");
    assert_eq!(told["can_trace"], true);
    assert!(told["why_not"].is_null());
    assert_eq!(told["target"]["pid"], victim.pid());
    assert_eq!(
        told["target"]["allocations_per_s"], 0.0,
        "it waits for a command"
    );
    if std::env::var_os("HIGHWATER_LINK").is_none() {
        assert_eq!(told["link"], link_kinds()[0].as_str());
    }
    let functions = told["allocator"]["functions"]
        .as_array()
        .expect("there are functions");
    for name in ["malloc", "calloc", "realloc", "free"] {
        assert!(
            functions
                .iter()
                .any(|function| function["function"] == name),
            "{told:#}"
        );
    }
    assert_eq!(text.changed_bytes().expect("its memory can be read"), 0);
    victim.tell("work 100");
    victim.quit();
}

#[test]
fn functions_that_are_single_stepped_are_the_same_in_the_report() {
    privileged!();
    let mut victim = Victim::start("steady");
    let outcome = run(highwater().args(["doctor", "--json", "-p", &victim.pid().to_string()]));
    let told: Value = serde_json::from_str(&outcome.stdout).expect("it is JSON");
    let (report, _) = record_while(&mut victim, &[], &["work 100"]);
    victim.quit();
    let notes = report.json()["quality"]["notes"].to_string();
    let functions = told["allocator"]["functions"]
        .as_array()
        .expect("there are functions");
    let stepped: Vec<&str> = functions
        .iter()
        .filter(|function| function["emulated"] == false)
        .filter_map(|function| function["function"].as_str())
        .collect();
    assert_eq!(notes.contains("single-steps"), !stepped.is_empty());
    assert!(
        notes.contains(&stepped.join(", ")),
        "{stepped:?} are not in {notes}"
    );
}

#[test]
fn without_rights_it_says_what_it_can_and_what_grants_them() {
    privileged!();
    let directory = scratch();
    open_to_all(directory.path());
    let copy = directory.path().join("highwater");
    std::fs::copy(highwater_binary(), &copy).expect("the program can be copied");
    open_to_all(&copy);
    let outcome = run(Command::new(&copy).arg("doctor").uid(NOBODY).gid(NOBODY));
    outcome.assert_says(4, &[]);
    for words in ["cannot trace", "CAP_BPF", "setcap", "kernel "] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome:#?}");
    }
}

#[test]
fn a_pid_that_nobody_has_is_named_with_what_to_do() {
    privileged!();
    let outcome = run(highwater().args(["doctor", "-p", "4194305"]));
    outcome.assert_says(1, &[]);
    for words in ["cannot trace", "4194305", "pgrep"] {
        assert!(outcome.stdout.contains(words), "{words}: {outcome:#?}");
    }
}
