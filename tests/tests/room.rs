//! What the recorder takes is charged to its cgroup: a target that shares it must not be killed for that.

use std::{fs, process::Command, thread::sleep, time::Duration};

use highwater_tests::{
    MemoryCgroup, Outcome, Recorder, Report, Victim, alone, eventually, highwater, privileged, run,
    scratch, victim_program,
};

/// The limit of the cgroup that target and recorder share, bytes.
const LIMIT: u64 = 512 << 20;

/// A cgroup with that limit, or `None` where none can be made, which is said, and a failure in CI.
fn cgroup(limit: u64) -> Option<MemoryCgroup> {
    match MemoryCgroup::with_limit(limit) {
        Ok(cgroup) => Some(cgroup),
        Err(reason) => {
            assert!(std::env::var_os("CI").is_none(), "CI is set, but {reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

/// A victim in a cgroup that fills so many million bytes of it.
fn resident(cgroup: &MemoryCgroup, megabytes: u32) -> Victim {
    let mut victim = Victim::start("resident");
    cgroup.add(victim.pid());
    victim.tell(&format!("fill {megabytes}"));
    victim
}

/// The recorder traced, or refused in a sentence that names the room and where to go.
#[track_caller]
fn assert_traced_or_refused(outcome: &Outcome, what: &str, refusal: i32) -> bool {
    if outcome.status.success() {
        return true;
    }
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.code(), refusal, "{what}: {outcome:#?}");
    for words in [
        "left of 512.0 MiB",
        "at least",
        "systemd-run --scope",
        "cgroup.procs",
    ] {
        assert!(said.contains(words), "{what}: no {words:?} in {outcome:#?}");
    }
    false
}

#[test]
fn a_target_in_the_recorders_own_cgroup_is_traced_or_left_alone_but_never_killed() {
    privileged!();
    let _alone = alone();
    let Some(cgroup) = cgroup(LIMIT) else { return };
    let directory = scratch();
    let mut verdicts = Vec::new();
    for megabytes in [250, 350, 450] {
        let mut victim = resident(&cgroup, megabytes);
        let file = directory.path().join(format!("{megabytes}.hwm"));
        let options = ["--duration", "500ms", "--preflight", "100ms"];
        let mut record = Recorder::command(victim.pid(), &file, &options);
        let outcome = run(&mut cgroup.run(&record));
        verdicts.push(assert_traced_or_refused(&outcome, "record", 1));
        victim.tell("fill 1");

        record = Recorder::command(victim.pid(), &directory.path().join("small"), &options);
        let outcome = run(cgroup.run(&record).args(["--ring", "1MiB"]));
        assert_traced_or_refused(&outcome, "record --ring 1MiB", 1);
        // There is a file only if it was traced.
        let _ = fs::remove_file(directory.path().join("small"));
        victim.tell("fill 1");

        let mut doctor = highwater();
        doctor.args(["doctor", "-p", &victim.pid().to_string()]);
        assert_traced_or_refused(&run(&mut cgroup.run(&doctor)), "doctor", 1);
        victim.tell("fill 1");

        let mut check = highwater();
        check
            .args(["check", "--max-peak", "100MiB", "--"])
            .arg(victim_program("resident"));
        assert_traced_or_refused(&run(&mut cgroup.run(&check)), "check", 125);
        victim.tell("fill 1");
        assert_eq!(cgroup.oom_kills(), 0, "beside {megabytes} MB");
        victim.quit();
    }
    // Where between the two the room ends depends on the kernel.
    assert!(verdicts[0] && !verdicts[2], "traced: {verdicts:?}");
}

#[test]
fn an_idle_target_costs_little_and_what_is_told_is_what_was_charged() {
    privileged!();
    let Some(cgroup) = cgroup(4 << 30) else {
        return;
    };
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("steady");
    let command = Recorder::command(victim.pid(), &file, &["--preflight", "100ms"]);
    let mut recorder = Recorder::start_command(&file, &mut cgroup.run(&command));
    let line = recorder.await_words("of kernel memory, 4.0 MiB of it the event ring");
    let told: f64 = line
        .split(' ')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("no number of MiB: {line}"));
    recorder.await_words("highwater: tracing ");
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    // What was taken for verifying our programs, and to build the tables, is given back within a second or two.
    eventually(
        "the kernel is charged what was told, and at most 40 MiB",
        || {
            let charged = mebibytes(cgroup.kernel_charge());
            told <= charged && charged <= told + 10.0 && charged <= 40.0
        },
    );
    let pid = recorder.pid();
    let kilobytes = |what: &str| -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        line?.trim().strip_suffix(" kB")?.parse().ok()
    };
    // Half of it are pages of our own executable and of debug information, which the kernel may drop.
    const MOST_KILOBYTES: u64 = 64_000_000 / 1024;
    eventually("at most 64 MB of the recorder are resident", || {
        kilobytes("VmRSS:").is_some_and(|now| now <= MOST_KILOBYTES)
    });
    // Names are looked for in debug information, that of libc too if it is here: at once or, on a busy machine, at the end.
    victim.tell("hold 100");
    recorder.signal(libc::SIGINT);
    let mut most = 0;
    while !recorder.has_ended() {
        most = most.max(kilobytes("VmHWM:").unwrap_or(0));
        sleep(Duration::from_millis(1));
    }
    assert!(
        most <= MOST_KILOBYTES,
        "{most} kB of the recorder were resident"
    );
    recorder.finish();
    victim.quit();
}

#[test]
fn the_recorder_is_killed_before_others_and_a_launched_command_is_as_it_would_be_without_it() {
    privileged!();
    let score = |pid: u32| {
        let path = format!("/proc/{pid}/oom_score_adj");
        fs::read_to_string(path).expect("it runs").trim().to_owned()
    };
    let directory = scratch();
    let victim = Victim::start("steady");
    let file = directory.path().join("attached.hwm");
    let recorder = Recorder::attach(victim.pid(), &file);
    assert_eq!(score(recorder.pid()), "1000");
    // Whether huge pages are allowed, where the kernel says it.
    let huge_pages = |status: &str| {
        let line = status.lines().find(|line| line.starts_with("THP_enabled:"));
        line.map(str::to_owned)
    };
    let status = |pid: u32| fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let allowed = huge_pages(&status(victim.pid()));
    if allowed.is_some() {
        assert_ne!(huge_pages(&status(recorder.pid())), allowed);
    }
    assert_ne!(score(victim.pid()), "1000");
    recorder.interrupt();
    victim.quit();

    let file = directory.path().join("launched.hwm");
    let outcome = run(Command::new("sh")
        .args([
            "-c",
            "echo 123 > /proc/self/oom_score_adj && exec \"$@\"",
            "sh",
        ])
        .arg(highwater().get_program())
        .args(["record", "-o"])
        .arg(&file)
        .args(["--", "cat", "/proc/self/oom_score_adj", "/proc/self/status"]));
    outcome.assert_says(0, &[]);
    assert_eq!(outcome.stdout.lines().next(), Some("123"), "{outcome:#?}");
    assert_eq!(huge_pages(&outcome.stdout), allowed, "{outcome:#?}");
    assert!(Report::of(&file).is_complete());
}
