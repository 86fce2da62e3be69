//! Scopes: processes that are followed for what they are called or where they are, now and later.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use highwater_tests::{
    MemoryCgroup, Recorder, Report, Victim, highwater, is_emulated, privileged, run, scratch,
    victim_program,
};

/// How large each block is that `family` holds, bytes.
const BLOCK: u64 = 1_000_000;
/// A limit that nothing here comes near, bytes.
const ENOUGH: u64 = 8 << 30;

/// A name that no other test of this run has.
fn unique(word: &str) -> String {
    format!("hw-{word}-{}", std::process::id())
}

/// `record` of a scope into a file, without the count beforehand.
fn record(file: &Path, scope: &[&str]) -> Command {
    let mut command = highwater();
    command.args(["record", "--preflight", "0"]).args(scope);
    command.arg("-o").arg(file);
    command
}

fn start(file: &Path, scope: &[&str]) -> Recorder {
    Recorder::start_command(file, &mut record(file, scope))
}

/// Waits until a process is traced.
#[track_caller]
fn await_traced(recorder: &mut Recorder, victim: &Victim) {
    recorder.await_words(&format!("tracing {} ", victim.pid()));
}

/// A program under another name, by which the kernel knows it.
fn named(directory: &Path, name: &str) -> PathBuf {
    let path = directory.join(name);
    symlink(victim_program("family"), &path).expect("a link can be made");
    path
}

fn pids(report: &Report) -> BTreeSet<u32> {
    report.processes().iter().map(|one| one.pid).collect()
}

/// The answer in words.
fn answer(file: &Path) -> String {
    let outcome = run(highwater().arg("report").arg(file));
    outcome.assert_says(0, &[]);
    outcome.stdout
}

/// A cgroup of that name in each hierarchy that this machine has.
fn cgroups(name: &str) -> Vec<MemoryCgroup> {
    let made = [
        MemoryCgroup::named(name, ENOUGH),
        MemoryCgroup::of_version_2(&format!("{name}-2")),
    ];
    made.into_iter()
        .filter_map(|made| made.inspect_err(|why| eprintln!("not tried: {why}")).ok())
        .collect()
}

#[test]
fn of_a_cgroup_all_are_followed_who_were_there_came_later_and_were_made_there() {
    privileged!();
    for cgroup in cgroups(&unique("several")) {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let mut before = Victim::start("family");
        cgroup.add(before.pid());
        let mut stranger = Victim::start("family");
        let path = cgroup.path().display().to_string();
        let mut recorder = start(&file, &["--cgroup", &path]);
        recorder.await_words("1 process of cgroup ");
        let first = before.tell("hold 5").get("live_bytes");
        let mut moved = Victim::start("family");
        cgroup.add(moved.pid());
        await_traced(&mut recorder, &moved);
        let second = moved.tell("hold 7").get("live_bytes");
        let program = victim_program("family");
        let mut begun = Victim::start_command(&mut cgroup.run(&Command::new(program)));
        await_traced(&mut recorder, &begun);
        let third = begun.tell("hold 3").get("live_bytes");
        stranger.tell("hold 2");
        before.tell("run 2");
        let report = recorder.interrupt();
        let traced = pids(&report);
        for victim in [&before, &moved, &begun] {
            assert!(traced.contains(&victim.pid()), "{traced:?}");
        }
        assert!(!traced.contains(&stranger.pid()));
        // Two programs that it started came and went.
        assert_eq!(traced.len(), 5, "{:#?}", report.processes());
        let held = report.end().through("hold_mine");
        assert_eq!(held, (first + second + third, 15));
        assert_eq!(held.0, 15 * BLOCK);
        assert_eq!(report.quality("lost_events"), 0);
        let said = answer(&file);
        let heading = format!("cgroup /{}", path.rsplit('/').next().unwrap_or_default());
        assert!(said.contains(&heading), "{said}");
        assert!(said.contains("5 processes, 3 alive at the end"), "{said}");
        for victim in [before, stranger, moved, begun] {
            victim.quit();
        }
    }
}

#[test]
fn an_empty_cgroup_is_waited_for_and_when_it_is_empty_again_and_removed_too() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let name = unique("empty");
    let Some(cgroup) = cgroups(&name).pop() else {
        return;
    };
    let path = cgroup.path().display().to_string();
    let mut recorder = start(&file, &["--cgroup", &path]);
    recorder.await_words("yet; waiting");
    let mut victim = Victim::start("family");
    cgroup.add(victim.pid());
    await_traced(&mut recorder, &victim);
    let held = victim.tell("hold 4").get("live_bytes");
    let pid = victim.pid();
    victim.quit();
    drop(cgroup);
    recorder.await_words("was removed; waiting");
    assert!(!recorder.has_ended());
    let report = recorder.interrupt();
    assert_eq!(pids(&report), BTreeSet::from([pid]));
    assert_eq!(report.peak().through("hold_mine"), (held, 4));
    let said = answer(&file);
    assert!(said.contains("1 process, none alive at the end"), "{said}");
}

#[test]
fn a_scope_that_stays_empty_leaves_a_recording_that_says_so() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut recorder = start(&file, &["--comm", &unique("nobody")]);
    recorder.await_words("yet; waiting");
    let report = recorder.interrupt();
    assert!(report.processes().is_empty());
    let said = answer(&file);
    assert!(said.contains("no process was traced"), "{said}");
}

#[test]
fn processes_of_a_name_are_followed_now_and_later_and_others_are_not() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let (wanted, other) = ("hw-scope-wanted", "hw-scope-other");
    let (program, others) = (
        named(directory.path(), wanted),
        named(directory.path(), other),
    );
    let mut before = Victim::start_command(&mut Command::new(&program));
    let mut stranger = Victim::start_command(&mut Command::new(&others));
    let mut recorder = start(&file, &["--comm", wanted]);
    recorder.await_words("1 process of ");
    let first = before.tell("hold 5").get("live_bytes");
    let mut later = Victim::start_command(&mut Command::new(&program));
    await_traced(&mut recorder, &later);
    let second = later.tell("hold 6").get("live_bytes");
    stranger.tell("hold 9");
    let report = recorder.interrupt();
    assert_eq!(pids(&report), BTreeSet::from([before.pid(), later.pid()]));
    assert_eq!(report.end().through("hold_mine"), (first + second, 11));
    for process in report.processes() {
        let is_later = process.pid == later.pid();
        let origin = report.json()["processes"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["pid"] == process.pid))
            .map(|one| one["origin"].clone());
        // On an emulated machine the look at all processes, once a second, may find it before the word of its exec is read.
        let is_expected = match origin.as_ref().and_then(|origin| origin.as_str()) {
            Some("executed") => is_later,
            Some("attached") => !is_later || is_emulated(),
            _ => false,
        };
        assert!(is_expected, "{origin:?} of {process:?}");
    }
    for victim in [before, stranger, later] {
        victim.quit();
    }
}

#[test]
fn containers_and_units_are_known_by_the_names_of_their_cgroups() {
    privileged!();
    let id = format!("{:08x}{}", std::process::id(), "5e".repeat(28));
    let unit = unique("unit");
    let scopes = [
        (format!("docker-{id}.scope"), ["--container", &id[..9]]),
        (format!("{unit}.service"), ["--unit", &unit]),
    ];
    for (name, scope) in &scopes {
        let Some(cgroup) = cgroups(name).into_iter().next() else {
            continue;
        };
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let mut victim = Victim::start("family");
        cgroup.add(victim.pid());
        let mut recorder = start(&file, scope);
        recorder.await_words("1 process of ");
        let held = victim.tell("hold 3").get("live_bytes");
        let report = recorder.interrupt();
        assert_eq!(pids(&report), BTreeSet::from([victim.pid()]));
        assert_eq!(report.end().through("hold_mine"), (held, 3));
        victim.quit();
    }
}

#[test]
fn an_id_that_several_containers_have_is_refused_and_they_are_listed() {
    privileged!();
    let ids =
        ["1", "2"].map(|end| format!("{:08x}{}{end}", std::process::id(), "7c".repeat(27) + "c"));
    let made: Result<Vec<_>, _> = ids
        .iter()
        .map(|id| MemoryCgroup::named(&format!("libpod-{id}.scope"), ENOUGH))
        .collect();
    let Ok(made) = made.inspect_err(|why| eprintln!("not tried: {why}")) else {
        return;
    };
    let victims = [Victim::start("family"), Victim::start("family")];
    for (cgroup, victim) in made.iter().zip(&victims) {
        cgroup.add(victim.pid());
    }
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let outcome = run(&mut record(&file, &["--container", &ids[0][..20]]));
    outcome.assert_says(2, &["several containers", &ids[0], &ids[1]]);
    assert!(!file.exists());
    for victim in victims {
        victim.quit();
    }
}

#[test]
fn programs_that_were_left_out_are_not_followed_and_not_missed() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let name = "hw-scope-left";
    let program = named(directory.path(), name);
    let mut command = highwater();
    command.args(["record", "--exclude", name, "-o"]).arg(&file);
    command.args(["--", "sh", "-c"]);
    command.arg(format!("{} block; true", program.display()));
    run(&mut command).assert_says(0, &[]);
    let report = Report::of(&file);
    let commands: Vec<String> = report
        .processes()
        .into_iter()
        .map(|one| one.command)
        .collect();
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert!(commands[0].starts_with("sh -c "), "{commands:?}");
    assert_eq!(report.quality("unfollowed_children"), 0);
}

#[test]
fn of_the_whole_system_the_others_are_followed_and_we_are_not() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    // Whoever works on this machine is left in peace: what runs already, but for the victims, is left out by its name.
    let running: BTreeSet<String> = fs::read_dir("/proc")
        .expect("processes are listed")
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .filter(|name| !name.is_empty() && name != "highwater")
        .collect();
    let names = ["hw-system-1", "hw-system-2"];
    let mut victims = names.map(|name| {
        let program = named(directory.path(), name);
        Victim::start_command(&mut Command::new(program))
    });
    let mut scope = vec!["--system"];
    for name in &running {
        scope.extend(["--exclude", name]);
    }
    let mut recorder = start(&file, &scope);
    for victim in &victims {
        await_traced(&mut recorder, victim);
    }
    let ours = recorder.pid();
    let held: u64 = victims
        .iter_mut()
        .map(|victim| victim.tell("hold 5").get("live_bytes"))
        .sum();
    let later = named(directory.path(), "hw-system-3");
    let mut later = Victim::start_command(&mut Command::new(later));
    await_traced(&mut recorder, &later);
    let held = held + later.tell("hold 5").get("live_bytes");
    let report = recorder.interrupt();
    let traced = pids(&report);
    for victim in victims.iter().chain([&later]) {
        assert!(traced.contains(&victim.pid()), "{traced:?}");
    }
    assert!(!traced.contains(&ours));
    assert_eq!(report.end().through("hold_mine"), (held, 15));
    for victim in victims {
        victim.quit();
    }
    later.quit();
}

#[test]
fn scopes_that_make_no_sense_are_told_so() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let says = |scope: &[&str], code, words: &[&str]| {
        run(&mut record(&file, scope)).assert_says(code, words);
        assert!(!file.exists(), "there is nothing to record");
    };
    says(
        &["--cgroup", "/hw/no/such"],
        1,
        &["there is no cgroup /hw/no/such"],
    );
    says(
        &["--container", "nginx"],
        2,
        &["--container", "6 to 64 hexadecimal digits"],
    );
    says(&["--unit", "/a/b"], 2, &["--unit", "no path"]);
    says(&["--comm", ""], 2, &["--comm"]);
    says(&["--system", "--comm", "sh"], 2, &["cannot be used with"]);
    says(&["--system", "-p", "1"], 2, &["cannot be used with"]);
    says(&["--unit", "x", "--", "true"], 2, &["cannot be used with"]);
}

#[test]
fn in_a_pid_namespace_of_its_own_it_says_what_is_missing() {
    privileged!();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]);
    let inside = record(&file, &["--system"]);
    command.arg(inside.get_program()).args(inside.get_args());
    run(&mut command).assert_says(1, &["pid namespace of its own", "--pid=host"]);
    assert!(!file.exists());
}
