//! The victims by themselves, untraced: what they say is right before anything is held against it.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use highwater_tests::{
    MemoryCgroup, Running, Truth, Victim, mapped_text, privileged, try_victim_program,
};

/// Runs a victim, and gives its truth of the last command that told its books.
fn alone(name: &str, arguments: &[&str], commands: &[&str]) -> Truth {
    let mut victim = Victim::start_with(name, arguments);
    let text = mapped_text(victim.pid());
    let mut truth = Truth::default();
    for command in commands {
        truth = victim.tell(command);
    }
    let changed = text
        .changed_bytes()
        .expect("the victim's memory can be read");
    assert_eq!(changed, 0, "libc is what it is in its file");
    victim.quit();
    truth
}

/// Panics unless blocks and bytes that came are those that went and those that stayed.
#[track_caller]
fn assert_balanced(truth: &Truth) {
    assert_eq!(
        truth.get("allocations") - truth.get("frees"),
        truth.get("live_blocks")
    );
    assert_eq!(
        truth.get("allocated_bytes") - truth.get("freed_bytes"),
        truth.get("live_bytes")
    );
}

#[test]
fn victims_that_keep_books_balance_them() {
    for (name, arguments, commands) in [
        (
            "steady",
            &[][..],
            &["hold 500", "work 20000", "drop 400"][..],
        ),
        ("threads", &[], &["go"]),
        ("through_libc", &[], &["go"]),
        ("leader_gone", &[], &["hold 100", "drop 40"]),
        ("backtrace_in_handler", &[], &["go"]),
        ("jump_out_of_calloc", &[], &["go", "hold 100"]),
        ("seccomp", &[], &["hold 100", "work 1000"]),
        ("spawn_children", &[], &["vfork 5", "spawn 5"]),
        ("short_threads", &[], &["go 200"]),
        ("arenas", &[], &["rise", "threads", "fall"]),
        ("mapping_races", &[], &["go", "realloc"]),
        ("launched", &[], &["hold 100"]),
        ("handed_on", &[], &["mixed 100", "drop"]),
        ("grown_at_once", &[], &["tell"]),
        ("clone_vm", &[], &["go 5"]),
        (
            "paced",
            &[],
            &["pace 0", "hold 100", "churn 100", "large 10"],
        ),
        ("go_marked", &[], &["hold 100"]),
        ("deep", &[], &["deep 100000"]),
        ("signal_in_calloc", &["same"], &["go"]),
        ("signal_in_calloc", &["above"], &["go"]),
        ("signal_in_calloc", &["below"], &["go"]),
    ] {
        eprintln!("{name} {arguments:?}");
        assert_balanced(&alone(name, arguments, commands));
    }
}

#[test]
fn a_timers_handler_finds_its_thread_often_enough() {
    for placement in ["same", "above", "below"] {
        let truth = alone("timer_in_malloc", &[placement], &["go"]);
        assert_eq!(truth.get("handled"), 1000);
        assert_eq!(truth.get("allocations"), truth.get("frees"));
    }
}

#[test]
fn eight_sites_hold_ten_thousand_blocks_at_their_peak() {
    let truth = alone("eight_sites", &[], &["rise", "fall"]);
    assert_eq!(truth.sum("peak_blocks"), 10_000);
    assert_eq!(truth.sum("live_blocks"), 270);
}

#[test]
fn a_program_computes_the_same_in_every_run() {
    let run = || alone("steady", &[], &["hold 500", "work 20000", "checksum"]);
    assert_eq!(run(), run());
}

#[test]
fn every_exception_is_caught() {
    let truth = alone("throwing", &[], &["go"]);
    assert_eq!((truth.get("refused"), truth.get("caught")), (2000, 2000));
}

#[test]
fn a_forked_child_takes_its_parents_place_until_it_leaves() {
    let mut victim = Victim::start("fork_child");
    victim.tell("hold 100");
    victim.tell("fork");
    assert_eq!(victim.tell("hold 50").get("live_blocks"), 150);
    victim.tell_until_ready("leave");
    assert_eq!(victim.tell("drop 10").get("live_blocks"), 90);
    victim.quit();
}

#[test]
fn an_exec_begins_with_empty_books() {
    for name in ["exec_from_thread", "ends"] {
        let mut victim = Victim::start(name);
        victim.tell("hold 100");
        victim.tell_until_ready("exec");
        assert_eq!(victim.tell("hold 5").get("live_blocks"), 5);
        victim.quit();
    }
}

#[test]
fn threads_churn_until_they_are_told_to_stop() {
    let mut victim = Victim::start_with("churn", &["4"]);
    victim.tell("check");
    victim.tell("stop");
    assert_eq!(victim.tell("hold 5").get("allocations"), 5);
    victim.quit();
}

#[test]
fn who_eats_all_memory_of_its_cgroup_is_killed() {
    privileged!();
    const LIMIT: u64 = 64 << 20;
    let cgroup = match MemoryCgroup::with_limit(LIMIT) {
        Ok(cgroup) => cgroup,
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI is set, but {reason}");
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let mut victim = Victim::start("ends");
    cgroup.add(victim.pid());
    victim.send("eat");
    let (outcome, truth) = victim.wait_for_last_truth();
    assert_eq!(outcome.status.signal(), Some(libc::SIGKILL));
    assert!(
        (LIMIT / 2..=LIMIT + (1 << 20)).contains(&truth.get("live_bytes")),
        "{truth:?}"
    );
}

#[test]
fn other_ends_are_as_they_were_asked_for() {
    let mut victim = Victim::start("ends");
    victim.send("exit 7");
    assert_eq!(victim.wait().code(), 7);
    let mut victim = Victim::start("ends");
    victim.send("abort");
    assert_eq!(victim.wait().status.signal(), Some(libc::SIGABRT));
}

#[test]
fn a_32_bit_program_runs_here_if_it_can_be_built() {
    let Ok(program) = try_victim_program("elf32") else {
        eprintln!("skipped: this compiler makes no 32-bit programs");
        return;
    };
    let mut running = Running::start(Command::new(program).stdin(Stdio::piped()));
    assert_eq!(running.stdout_line(), "READY");
    assert!(running.wait().status.success());
}

#[test]
fn a_static_program_maps_no_libc() {
    let mut victim = Victim::start("static");
    assert_balanced(&victim.tell("work 1000"));
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", victim.pid()));
    assert!(!maps.expect("the victim is alive").contains("libc.so"));
    victim.quit();
}

#[test]
fn who_holds_much_gives_it_back_to_the_kernel() {
    let mut victim = Victim::start("late");
    let resident = |victim: &Victim| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", victim.pid()));
        let status = status.expect("the victim is alive");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let words: Vec<&str> = line.expect("it has memory").split_whitespace().collect();
        words[1].parse::<u64>().expect("kilobytes are a number") >> 10
    };
    assert!(resident(&victim).abs_diff(300) <= 6);
    for (command, expected) in [("free200", 100), ("take100", 200), ("take250", 450)] {
        victim.tell(command);
        let found = resident(&victim);
        assert!(
            found.abs_diff(expected) <= expected / 50,
            "{found} MiB after {command}"
        );
    }
    victim.quit();
}
