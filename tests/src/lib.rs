//! What the tests that trace real processes share.
//!
//! A test starts a [`Victim`], a tiny program from `victims/` that prints its own truth, attaches the built `highwater`
//! to it with a [`Recorder`], tells the victim what to do, and holds the [`Report`] of the recording against that truth.
//!
//! Nothing sleeps for luck. A victim says `READY` and then obeys one command a line; a recorder says
//! `highwater: tracing …` once all its probes are in. Every wait has a limit ([`patience`]), and what was said up to then
//! is in the message of the panic. Everything that was started is killed when its value is dropped.
//!
//! Tests that need to load BPF programs begin with [`privileged!`]. What is made for a browser is opened in a [`Browser`].
//!
//! Environment:
//! - `HIGHWATER`: the binary under test; otherwise the one that cargo built beside the test.
//! - `HIGHWATER_VICTIMS`: a directory of built victims; otherwise they are built as tests ask for them.
//! - `HIGHWATER_LINK`: `session`, `multi` or `perf`, to run every test on that kind of link.
//! - `HIGHWATER_EMULATED`: the processor is emulated: waits may take longer, and what is done over and over is done less often.
//! - `CI`: a privileged test that cannot run fails, instead of being skipped.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

mod backtrace;
mod browser;
mod c_library;
mod cgroup;
mod display;
mod empty_root;
mod memory;
mod privilege;
mod process;
mod program;
mod python;
mod recorder;
mod report;
mod sinks;
mod terminal;
mod victim;

pub use backtrace::{ToldStacks, record_stacks};
pub use browser::{Browser, Key, Scheme};
pub use c_library::{CLibrary, c_libraries};
pub use cgroup::MemoryCgroup;
pub use display::Display;
pub use empty_root::{EmptyRoot, static_highwater};
pub use memory::{Text, mapped_text};
pub use privilege::{NOBODY, lack_of_privilege, open_to_all};
pub use process::{Outcome, Running, run};
pub use program::{
    highwater, highwater_binary, peers_python, speedscope, try_victim_program, victim_names,
    victim_program,
};
pub use python::{CPython, PythonFrame, every_cpython, python_victim, told_python_stacks};
pub use recorder::{Launched, Recorder, link_kinds};
pub use report::{Exit, Frame, Holder, Holding, Place, Process, Report};
pub use sinks::{Sink, every_sink, unpacked};
pub use terminal::on_terminal;
pub use victim::{Conversation, Truth, Victim};

/// How long anything may take before a test gives up on it.
pub fn patience() -> Duration {
    Duration::from_secs(if is_emulated() { 600 } else { 120 })
}

/// How often a test does what it does again and again at other moments, where `usual` is how often a fast machine does it.
pub fn rounds(usual: u32) -> u32 {
    if is_emulated() {
        usual.div_ceil(10)
    } else {
        usual
    }
}

/// How many seconds something has to last that lasts `usual` seconds on a fast machine.
pub fn seconds(usual: u32) -> u32 {
    if is_emulated() { 5 * usual } else { usual }
}

/// Whether a processor is emulated here: whatever is done takes twenty times as long.
pub fn is_emulated() -> bool {
    std::env::var_os("HIGHWATER_EMULATED").is_some()
}

/// Held by a test that keeps more than one processor busy, so that two of them do not starve each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static BUSY: Mutex<()> = Mutex::new(());
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory of the test's own, removed when this is dropped.
pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("highwater-test-")
        .tempdir()
        .expect("a temporary directory can be made")
}

/// Waits until something holds; panics if it never does.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + patience();
    while !holds() {
        assert!(Instant::now() < end, "it never came to be that {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Attaches to a victim, tells it these commands, and detaches: the report, and what the victim told of the last one.
#[track_caller]
pub fn record_while(victim: &mut Victim, options: &[&str], commands: &[&str]) -> (Report, Truth) {
    let directory = scratch();
    let file = directory.path().join("recording.hwm");
    let recorder = Recorder::attach_with(victim.pid(), &file, options);
    let mut truth = Truth::default();
    for command in commands {
        truth = victim.tell(command);
    }
    (recorder.interrupt(), truth)
}

/// Ends the test here if this process may not trace others: as skipped, or, where `CI` is set, as failed.
#[macro_export]
macro_rules! privileged {
    () => {
        if let Some(reason) = $crate::lack_of_privilege() {
            assert!(
                std::env::var_os("CI").is_none(),
                "this test cannot run, and CI is set: {reason}"
            );
            eprintln!("skipped: {reason}");
            return;
        }
    };
}
