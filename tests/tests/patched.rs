//! Programs whose allocator functions are not what their file says: patched by an agent, or with a debugger's breakpoints in
//! them. A probe there could kill them.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use highwater_tests::{
    Outcome, Recorder, Running, Victim, c_libraries, eventually, highwater, mapped_text,
    privileged, run, scratch, victim_program,
};

/// Each recorder sweeps breakpoints that nobody holds out of all processes, those too that a debugger or a killed tracer of another
/// test has left.
static SWEEPS: RwLock<()> = RwLock::new(());

fn beside_sweeps() -> RwLockReadGuard<'static, ()> {
    SWEEPS.read().unwrap_or_else(PoisonError::into_inner)
}

fn without_sweeps() -> RwLockWriteGuard<'static, ()> {
    SWEEPS.write().unwrap_or_else(PoisonError::into_inner)
}

/// The functions that the victim can patch, by its own numbers.
const MALLOC: u32 = 0;
const FREE: u32 = 1;
const OTHERS: [(u32, &str); 3] = [(2, "calloc"), (3, "realloc"), (4, "posix_memalign")];

/// A victim on each C library that there is here, and what that is called.
fn victims() -> Vec<(String, Victim)> {
    let program = victim_program("patched_code");
    c_libraries()
        .into_iter()
        .map(|library| {
            let victim = Victim::start_command(&mut library.command(&program));
            (library.name, victim)
        })
        .collect()
}

fn record(pid: u32, file: &Path) -> Outcome {
    run(&mut Recorder::command(pid, file, &["--duration", "200ms"]))
}

fn doctor(pid: u32) -> Outcome {
    run(highwater().args(["doctor", "-p"]).arg(pid.to_string()))
}

#[test]
fn a_program_that_has_patched_malloc_or_free_is_refused_and_lives_on() {
    privileged!();
    let _beside = beside_sweeps();
    for (number, name) in [(MALLOC, "malloc"), (FREE, "free")] {
        for (library, mut victim) in victims() {
            let directory = scratch();
            victim.tell(&format!("hook {number}"));
            let refused = record(victim.pid(), &directory.path().join("recording.hwm"));
            let words = [&*format!("its {name} was patched in memory"), "bytes e9"];
            refused.assert_says(1, &words);
            let examined = doctor(victim.pid());
            assert_eq!(examined.code(), 1, "{library}: {examined:#?}");
            assert!(examined.stdout.contains(words[0]), "{examined:#?}");
            let counted = victim.tell("work 100").get("hooked_calls");
            assert!(counted >= 100, "{library}: the hook is still in place");
            victim.quit();
        }
    }
}

#[test]
fn another_patched_function_is_left_alone_and_named() {
    privileged!();
    let _beside = beside_sweeps();
    for (number, name) in OTHERS {
        for (library, mut victim) in victims() {
            let directory = scratch();
            let file = directory.path().join("recording.hwm");
            victim.tell(&format!("hook {number}"));
            let recorder = Recorder::attach(victim.pid(), &file);
            let truth = victim.tell("hold 50");
            let hooked = victim.tell("work 100").get("hooked_calls");
            let report = recorder.interrupt();
            victim.quit();

            assert!(hooked >= 100, "{library}: the hook is still in place");
            assert!(!report.is_complete(), "{library}: not every call was seen");
            let quality = &report.json()["quality"];
            assert_eq!(quality["patched_functions"], 1, "{library}: {quality}");
            let notes = quality["notes"].to_string();
            assert!(
                notes.contains(&format!("has patched {name} in memory")),
                "{notes}"
            );
            let held = report.end().holders.iter().map(|holder| holder.bytes).max();
            assert_eq!(held, Some(truth.get("bytes")), "{library}");
            let mut check = highwater();
            let checked = run(check.args(["check", "--max-peak", "1GiB"]).arg(&file));
            assert_eq!(checked.code(), 1, "{library}: never ok: {checked:#?}");
        }
    }
}

#[test]
fn a_function_that_is_patched_while_it_is_probed_is_told_as_lost() {
    privileged!();
    let _alone = without_sweeps();
    for (library, mut victim) in victims() {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let mut recorder = Recorder::attach(victim.pid(), &file);
        victim.tell("hold 10");
        victim.tell(&format!("hook {FREE}"));
        recorder.await_words("free was patched in memory, over the probe");
        victim.tell("work 100");
        let report = recorder.interrupt();
        victim.tell("work 100");
        victim.quit();
        assert!(!report.is_complete(), "{library}");
        assert_eq!(report.json()["quality"]["lost_probes"], 1, "{library}");
    }
}

/// What a hook that is installed after the probes does: it copies our breakpoint, and the copy kills. That cannot be
/// prevented, so it has to be told.
#[test]
fn a_program_that_copies_a_probe_dies_and_the_report_says_what_of() {
    privileged!();
    let _beside = beside_sweeps();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    // Three whole instructions of Debian 12's malloc.
    let mut victim = Victim::start_with("patched_code", &["7"]);
    let recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("hold 10");
    victim.send(&format!("move {MALLOC}"));
    victim.send("work 1");
    let report = recorder.finish();
    let outcome = victim.wait();
    assert_eq!(outcome.status.signal(), Some(libc::SIGTRAP), "{outcome:#?}");
    let exit = report.only_process().exit.clone().expect("it has ended");
    assert_eq!(exit.signal, u64::try_from(libc::SIGTRAP).ok());
    let text = run(highwater().arg("report").arg(&file)).stdout;
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("probes are breakpoints"), "{text}");
    assert!(words.contains("the likely cause"), "{text}");
}

#[test]
fn a_program_that_loads_a_library_known_to_patch_code_is_let_go_or_refused() {
    privileged!();
    let _alone = without_sweeps();
    let directory = scratch();
    // Whatever it does: its name is what it is known by.
    let library = directory.path().join("frida-agent-64.so");
    std::fs::copy("/lib/x86_64-linux-gnu/libm.so.6", &library).expect("it can be copied");
    let mut victim = Victim::start("patched_code");
    let text = mapped_text(victim.pid());
    let file = directory.path().join("recording.hwm");
    let mut recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("hold 10");
    victim.tell(&format!("load {}", library.display()));
    recorder.await_words("was let go");
    eventually("its probes are out", || {
        text.changed_bytes().is_ok_and(|it| it == 0)
    });
    victim.tell("work 10");
    recorder.wait();
    let refused = record(victim.pid(), &directory.path().join("second.hwm"));
    refused.assert_says(1, &["frida-agent-64.so", "patches or copies code"]);
    victim.tell("work 10");
    victim.quit();
}

/// A gdb that obeys commands a line.
struct Debugger(Running, std::process::ChildStdin);

impl Debugger {
    fn attach(pid: u32) -> Self {
        let mut command = Command::new("gdb");
        command.args(["-q", "-nx", "-p"]).arg(pid.to_string());
        command.env("DEBUGINFOD_URLS", "").stdin(Stdio::piped());
        let mut running = Running::start(&mut command);
        let stdin = running.take_stdin().expect("its input is piped");
        let mut gdb = Self(running, stdin);
        gdb.tell("set pagination off");
        gdb.tell("set breakpoint always-inserted on");
        gdb
    }

    /// Tells it something and waits until that is done.
    fn tell(&mut self, command: &str) {
        writeln!(self.1, "{command}\necho \\ndone\\n").expect("gdb is there");
        while !self.0.stdout_line().ends_with("done") {}
    }

    fn leave(mut self) {
        self.tell("detach");
        writeln!(self.1, "quit").expect("gdb is there");
        drop(self.1);
        self.0.wait();
    }
}

/// Where probes go into that victim: the places that a recording changes.
fn probed_places(victim: &Victim) -> Vec<u64> {
    let directory = scratch();
    let recorder = Recorder::attach(victim.pid(), &directory.path().join("recording.hwm"));
    let text = mapped_text(victim.pid());
    let places = text.changed_places().expect("it is alive");
    recorder.interrupt();
    // A debugger that came before that would take our breakpoints for what is there.
    eventually("they are out again", || {
        text.changed_bytes().is_ok_and(|it| it == 0)
    });
    places
}

#[test]
fn a_program_with_a_debuggers_breakpoint_where_a_probe_goes_is_refused() {
    privileged!();
    let _alone = without_sweeps();
    for (library, mut victim) in victims() {
        let directory = scratch();
        let begins = victim.tell("where");
        let places = probed_places(&victim);
        assert!(places.len() >= 9, "{library}: {places:x?}");
        let mut gdb = Debugger::attach(victim.pid());
        for function in ["malloc", "free", "calloc", "realloc", "posix_memalign"] {
            let begin = begins.get(function);
            // The first probe behind a function's first byte is its own.
            let place = places.iter().filter(|place| **place >= begin).min();
            let place = *place.expect("it is probed");
            for (at, address) in [("begin", begin), ("place", place)] {
                gdb.tell(&format!("break *{address:#x}"));
                let file = directory.path().join(format!("{function}-{at}"));
                let outcome = record(victim.pid(), &file);
                if matches!(function, "malloc" | "free") {
                    let words = format!("debugs it and has a breakpoint at {function}");
                    outcome.assert_says(1, &[&words]);
                } else {
                    outcome.assert_says(0, &[&format!("has patched {function} in memory")]);
                }
                gdb.tell("delete");
            }
        }
        gdb.leave();
        victim.tell("work 10");
        victim.quit();
    }
}

#[test]
fn a_debugger_that_comes_and_goes_while_we_record_is_told_and_what_it_takes_out_too() {
    privileged!();
    let _alone = without_sweeps();
    for (library, mut victim) in victims() {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let begins = victim.tell("where");
        let text = mapped_text(victim.pid());
        let mut recorder = Recorder::attach(victim.pid(), &file);
        victim.tell("hold 10");
        let mut places = text.changed_places().expect("it is alive");
        places.extend(["malloc", "free", "calloc", "realloc"].map(|name| begins.get(name)));
        let mut gdb = Debugger::attach(victim.pid());
        recorder.await_words("debugs");
        // It takes our breakpoints for what is there, and puts them back: nothing is lost.
        for place in &places {
            gdb.tell(&format!("break *{place:#x}"));
        }
        gdb.tell("delete");
        gdb.leave();
        let truth = victim.tell("hold 10");
        victim.tell("work 10");
        let report = recorder.interrupt();
        let held = report.end().holders.iter().map(|holder| holder.bytes).max();
        assert_eq!(held, Some(truth.get("bytes")), "{library}");
        assert_eq!(text.changed_bytes().ok(), Some(0), "{library}");
        victim.tell("work 10");
        // And afterwards, where we have been.
        let mut gdb = Debugger::attach(victim.pid());
        for place in &places {
            gdb.tell(&format!("break *{place:#x}"));
        }
        gdb.tell("delete");
        gdb.leave();
        victim.tell("work 10");
        victim.quit();
    }
}

/// A debugger that took our breakpoints for what is there writes them back once we have left. That cannot be prevented, so it is
/// told, and can be healed before the program runs into them.
#[test]
fn a_debugger_that_stays_longer_than_we_do_is_told_and_what_it_writes_back_is_healed() {
    privileged!();
    let _alone = without_sweeps();
    for (library, mut victim) in victims() {
        let directory = scratch();
        let file = directory.path().join("recording.hwm");
        let text = mapped_text(victim.pid());
        let mut recorder = Recorder::attach(victim.pid(), &file);
        victim.tell("hold 10");
        let places = text.changed_places().expect("it is alive");
        let mut gdb = Debugger::attach(victim.pid());
        recorder.await_words("doctor --heal");
        for place in &places {
            gdb.tell(&format!("break *{place:#x}"));
        }
        recorder.interrupt();
        gdb.tell("delete");
        gdb.leave();
        let left = text.changed_bytes().expect("it is alive");
        assert_eq!(left, places.len(), "{library}");
        let healed = run(highwater().args(["doctor", "--heal"]));
        assert!(healed.stdout.contains("took out"), "{healed:#?}");
        assert_eq!(text.changed_bytes().ok(), Some(0), "{library}");
        victim.tell("work 10");
        victim.quit();
    }
}

#[test]
fn a_probe_that_is_overwritten_by_the_files_own_bytes_is_told_as_lost() {
    privileged!();
    let _alone = without_sweeps();
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let mut victim = Victim::start("patched_code");
    let text = mapped_text(victim.pid());
    let mut recorder = Recorder::attach(victim.pid(), &file);
    victim.tell("hold 10");
    // What a debugger does that has had its breakpoint there before us and deletes it now.
    text.restore().expect("root may write to it");
    recorder.await_words("was overwritten");
    let report = recorder.interrupt();
    assert!(!report.is_complete());
    let mut check = highwater();
    let checked = run(check.args(["check", "--max-peak", "1GiB"]).arg(&file));
    assert_eq!(checked.code(), 1, "never ok: {checked:#?}");
    victim.tell("work 10");
    victim.quit();
}

#[test]
fn breakpoints_that_a_killed_tracer_left_are_taken_out() {
    privileged!();
    let _alone = without_sweeps();
    let mut victim = Victim::start("patched_code");
    let text = mapped_text(victim.pid());
    for heal in ["doctor", "record"] {
        text.break_malloc().expect("root may write to it");
        assert_eq!(text.changed_bytes().ok(), Some(1));
        let outcome = if heal == "doctor" {
            run(highwater().args(["doctor", "--heal"]))
        } else {
            let directory = scratch();
            let other = Victim::start("steady");
            record(other.pid(), &directory.path().join("recording.hwm"))
        };
        let said = outcome.stdout.clone() + &outcome.stderr;
        let pid = victim.pid();
        let sentence =
            format!("took out 1 breakpoint that an earlier tracer had left in process {pid}");
        assert!(said.contains(&sentence), "{outcome:#?}");
        assert_eq!(text.changed_bytes().ok(), Some(0), "{heal}");
    }
    victim.tell("work 10");
    victim.quit();
}
