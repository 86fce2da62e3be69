//! Targets that cannot be traced, or not without harm, are refused before a probe goes in.

use std::process::{Command, Stdio};

use highwater_tests::{Recorder, Running, Victim, privileged, run, scratch, try_victim_program};

/// Panics unless recording that process is refused in these words; it would end soon if it was not.
#[track_caller]
fn assert_refused(pid: u32, words: &[&str]) {
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let outcome = run(&mut Recorder::command(pid, &file, &["--duration", "2s"]));
    outcome.assert_says(1, words);
    assert!(
        outcome.stderr.contains(&pid.to_string()),
        "its message does not name the process: {outcome:#?}"
    );
}

#[test]
fn a_static_program_is_refused() {
    privileged!();
    let mut victim = Victim::start("static");
    assert_refused(victim.pid(), &["static"]);
    victim.tell("work 1000");
    victim.quit();
}

#[test]
fn a_32_bit_program_is_refused() {
    privileged!();
    let program = match try_victim_program("elf32") {
        Ok(program) => program,
        Err(reason) => {
            eprintln!("skipped: this compiler makes no 32-bit programs: {reason}");
            return;
        }
    };
    let mut running = Running::start(Command::new(program).stdin(Stdio::piped()));
    let input = running.take_stdin();
    assert_eq!(running.stdout_line(), "READY");
    assert_refused(running.pid(), &["32-bit"]);
    drop(input);
    assert!(running.wait().status.success());
}

#[test]
fn a_kernel_thread_is_refused() {
    privileged!();
    // kthreadd, the parent of all kernel threads.
    assert_refused(2, &["kernel thread"]);
}

#[test]
fn a_go_program_is_refused() {
    privileged!();
    let mut victim = Victim::start("go_marked");
    assert_refused(victim.pid(), &["Go"]);
    victim.tell("work 1000");
    victim.quit();
}
