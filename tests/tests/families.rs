//! Processes that make others: what each holds counts for as long as it lives, and no longer.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use highwater_tests::{
    Recorder, Report, Victim, eventually, highwater, privileged, run, scratch, seconds,
    victim_program,
};

const MIB: u64 = 1 << 20;

/// What `highwater check` says of a recording.
fn check(file: &Path, budget: &[&str]) -> highwater_tests::Outcome {
    let mut command = highwater();
    command.arg("check").args(budget).arg(file);
    run(&mut command)
}

#[test]
fn children_that_end_at_once_leave_nothing_behind() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut command: Command = highwater();
    command.arg("record").arg("-o").arg(&file).arg("--");
    command.args([
        "sh",
        "-c",
        "i=0; while [ $i -lt 400 ]; do /bin/true; i=$((i+1)); done",
    ]);
    run(&mut command).assert_says(0, &[]);
    let report = Report::of(&file);
    let peak = report.peak();
    assert!(peak.bytes < 300 * 1024, "{} bytes at the peak", peak.bytes);
    // What is live at the end is the shell's own, just before it ended.
    let end = report.end();
    assert!(end.bytes < 200 * 1024, "{} bytes at the end", end.bytes);
    for process in report.processes() {
        assert!(process.exit.is_some(), "{process:?} was never closed");
    }
}

#[test]
fn processes_whose_numbers_are_alike_are_all_followed() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    // A small table of threads has four places for those whose numbers are equal modulo 4096.
    victim.tell("alike 7");
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--ring", "1MiB"]);
    let truth = victim.tell("hold 5");
    let report = recorder.interrupt();
    victim.quit();
    report.assert_saw_all();
    report.assert_end(&truth);
    report.assert_peak(&truth);
}

#[test]
fn what_three_processes_hold_as_we_detach_is_live_at_the_end() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    victim.tell("fork 2");
    let recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("hold 5");
    let report = recorder.interrupt();
    victim.quit();
    report.assert_saw_all();
    report.assert_end(&truth);
    report.assert_peak(&truth);
    assert_eq!(report.memory("end", "live"), truth.get("live_bytes"));
    let unexplained = report.json()["memory"]["end"]["unexplained"].as_i64();
    let unexplained = unexplained.expect("it is known");
    // Three small programs: what they have beside it is little.
    assert!(unexplained.unsigned_abs() < 12 * MIB, "{unexplained}");
    check(&file, &["--max-live-at-end", "8MB"]).assert_says(3, &[]);
    check(&file, &["--max-live-at-end", "16MB"]).assert_says(0, &[]);
}

#[test]
fn what_a_master_loaded_before_it_forked_counts_once_and_is_told_as_inherited() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    let recorder = Recorder::attach(victim.pid(), &file);
    let loaded = victim.tell("hold 20").get("live_bytes");
    victim.tell("fork 4");
    eventually("the workers are traced", || {
        Report::so_far(&file).is_some_and(|report| report.processes().len() == 5)
    });
    let added = victim.tell("hold 5").get("live_bytes");
    victim.tell("end");
    let report = recorder.interrupt();
    victim.quit();
    let (peak, end) = (report.peak(), report.end());
    assert_eq!((peak.bytes, peak.blocks), (loaded + added, 45));
    peak.assert_adds_up();
    // The master holds what it loaded, and its own part.
    assert_eq!(end.bytes, loaded + added / 5);
    let memory = &report.json()["memory"]["peak"];
    assert_eq!(memory["inherited"], 4 * loaded);
    // What is in each one's RSS, and counts once, is not unexplained.
    let unexplained = memory["unexplained"].as_i64().expect("it is known");
    assert!(unexplained.unsigned_abs() < 16 * MIB, "{unexplained}");
    let peaks = report.json()["process_peaks"].as_array().expect("peaks");
    let of_each = peaks.iter().map(|peak| {
        let of = |name: &str| peak[name].as_u64().expect("bytes");
        (of("bytes"), of("inherited_bytes"))
    });
    let own = loaded + added / 5;
    let of_workers = [(own, loaded); 4];
    assert_eq!(
        of_each.collect::<Vec<_>>(),
        [&[(own, 0)], &of_workers[..]].concat()
    );
    for (more, says) in [
        (None, "(76.3 MiB of it inherited, counted once)"),
        (Some("-v"), "inherited 19.1 MiB  ["),
    ] {
        let text = run(highwater().arg("report").arg(&file).args(more)).stdout;
        assert!(text.contains(says), "{says} is not in\n{text}");
    }
}

#[test]
fn the_name_of_a_server_stands_for_it_and_what_it_made_and_its_workers_are_one_row() {
    privileged!();
    let directory = scratch();
    let program = directory.path().join("hw-server");
    symlink(victim_program("family"), &program).expect("the program can be linked");
    let mut victim = Victim::start_command(&mut Command::new(&program));
    victim.tell("fork 2");
    let file = directory.path().join("recording.hwm");
    let mut record = highwater();
    record
        .args(["record", "-y", "-p", "hw-server", "-o"])
        .arg(&file);
    let mut recorder = Recorder::start_command(&file, &mut record);
    recorder.await_words("highwater: tracing");
    let truth = victim.tell("hold 5");
    let report = recorder.interrupt();
    victim.quit();
    report.assert_end(&truth);
    for (by, name) in [
        ("command", "hw-server ×3"),
        ("unit", "×3"),
        ("cgroup", "×3"),
    ] {
        let mut table = highwater();
        table.args(["table", "--json", "--by", by]).arg(&file);
        let table = run(&mut table).stdout;
        let table: serde_json::Value = serde_json::from_str(&table).expect("it is JSON");
        let rows = table["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert!(
            rows[0]["name"].as_str().expect("a name").ends_with(name),
            "{rows:?}"
        );
        assert_eq!(rows[0]["bytes"], truth.get("live_bytes"));
    }
}

#[test]
fn several_processes_are_traced_together_until_the_last_ends_without_those_that_cannot_be() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victims = [Victim::start("steady"), Victim::start("steady")];
    let mut gone = Command::new("true").spawn().expect("it runs");
    gone.wait().expect("it ends");
    let pids = [victims[0].pid(), gone.id(), victims[1].pid()];
    let mut record = highwater();
    record.args(["record", "-y", "-o"]).arg(&file);
    record.args(
        pids.iter()
            .flat_map(|pid| ["-p".to_owned(), pid.to_string()]),
    );
    let mut recorder = Recorder::start_command(&file, &mut record);
    recorder.await_words(&format!("process {} is not traced", gone.id()));
    recorder.await_words(&format!("tracing {}", pids[2]));
    let held: u64 = victims
        .iter_mut()
        .map(|victim| victim.tell("hold 100").get("live_bytes"))
        .sum();
    let [first, mut last] = victims;
    first.quit();
    // The recording goes on.
    last.tell("drop 50");
    last.quit();
    let report = recorder.finish();
    assert_eq!(report.peak().bytes, held);
    let traced: Vec<u32> = report
        .processes()
        .iter()
        .map(|process| process.pid)
        .collect();
    assert_eq!(traced, [pids[0], pids[2]]);
}

#[test]
fn what_a_daemons_parent_held_as_it_ended_is_its_childs() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut record = highwater();
    record.args(["record", "-o"]).arg(&file).args(["--", "sh"]);
    record.args(["-c", "\"$0\"; sleep 1"]);
    run(record.arg(victim_program("daemon"))).assert_says(0, &[]);
    let report = Report::of(&file);
    assert_eq!(report.peak().through("hold"), (20_000_000, 20));
    assert_eq!(report.end().through("hold"), (20_000_000, 20));
    assert_eq!(report.memory("end", "live"), report.end().bytes);
}

#[test]
fn helpers_that_run_one_after_another_count_one_at_a_time() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    let recorder = Recorder::attach(victim.pid(), &file);
    let helper = victim.tell("run 4").get("helper_bytes");
    let report = recorder.interrupt();
    victim.quit();
    let peak = report.peak().bytes;
    assert!(
        (helper..helper + MIB).contains(&peak),
        "{peak} bytes at the peak, not {helper}"
    );
    assert!(
        report.end().bytes < MIB,
        "{} at the end",
        report.end().bytes
    );
}

/// Records a command to its end.
fn record(file: &Path, command: &[&str]) -> Report {
    let mut recorder = highwater();
    recorder
        .arg("record")
        .arg("-o")
        .arg(file)
        .arg("--")
        .args(command);
    run(&mut recorder).assert_says(0, &[]);
    Report::of(file)
}

#[test]
fn a_child_that_held_much_before_its_probes_were_in_is_never_ok() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    let recorder = Recorder::attach(victim.pid(), &file);
    let truth = victim.tell("burst").get("peak_bytes");
    let report = recorder.interrupt();
    victim.quit();
    let seen = report.peak().bytes;
    let outcome = check(&file, &["--max-peak", "10MB"]);
    if seen > 10_000_000 {
        assert_eq!(outcome.code(), 3, "{outcome:#?}");
    } else {
        // Its probes were late, or it had ended before they were in.
        outcome.assert_says(1, &["cannot tell"]);
    }
    assert!(seen >= truth || !report.is_complete(), "{seen} of {truth}");
}

#[test]
fn programs_that_are_started_in_other_ways_and_end_at_once_are_each_counted() {
    privileged!();
    for way in ["vfork 5", "spawn 5"] {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let mut victim = Victim::start("family");
        let recorder = Recorder::attach(victim.pid(), &file);
        victim.tell(way);
        let report = recorder.interrupt();
        victim.quit();
        // Each is either seen from some moment on, or counted as not followed.
        let late = report.json()["quality"]["unseen"].to_string();
        let late = late.matches("before its probes were in place").count() as u64;
        let missed = report.quality("unfollowed_children") + report.quality("sharers");
        assert_eq!(missed + late, 5, "{way}: {:#}", report.json()["quality"]);
        assert!(!report.is_complete(), "{way}");
        check(&file, &["--max-peak", "100MB"]).assert_says(1, &["cannot tell"]);
    }
}

#[test]
fn a_child_that_is_followed_late_and_makes_no_call_is_told_of_once() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("family");
    let recorder = Recorder::attach(victim.pid(), &file);
    let child = victim.tell("fork 1").get("pid");
    let child = u32::try_from(child).expect("it is a pid");
    recorder.await_identities(child, 1);
    victim.tell("end");
    let report = recorder.interrupt();
    victim.quit();
    assert_eq!(report.quality("unfollowed_children"), 0);
    let unseen = report.json()["quality"]["unseen"].to_string();
    assert_eq!(unseen.matches(" ran for ").count(), 1, "{unseen}");
}

#[test]
fn a_program_is_seen_however_many_it_was_before() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let program = victim_program("many_execs");
    let program = program.display().to_string();
    let report = record(&file, &[&program, "1100", "20"]);
    let peak = report.peak().bytes;
    assert!((20 * MIB..21 * MIB).contains(&peak), "{peak} at the peak");
    check(&file, &["--max-peak", "10MiB"]).assert_says(3, &[]);
}

#[test]
fn a_static_child_is_counted_and_makes_a_verdict_uncertain() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let program = victim_program("static").display().to_string();
    // It lives until its input ends, which is longer than a libc is waited for.
    let report = record(
        &file,
        &["sh", "-c", &format!("sleep {} | {program}", seconds(3))],
    );
    assert!(!report.is_complete(), "{:#}", report.json()["quality"]);
    assert!(report.quality("unfollowed_children") > 0);
    check(&file, &["--max-peak", "1GB"]).assert_says(1, &["statically linked"]);
}

#[test]
fn a_program_that_makes_no_call_is_not_called_unseen() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let report = record(&file, &["/bin/true"]);
    assert_eq!(report.total("allocations"), 0);
    assert_eq!(report.quality("unfollowed_children"), 0);
    assert!(report.is_complete(), "{:#}", report.json()["quality"]);
    check(&file, &["--max-peak", "1MiB"]).assert_says(0, &[]);
}
