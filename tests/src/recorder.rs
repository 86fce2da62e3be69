//! `highwater record`, attached or launching.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::eventually;
use crate::process::{Outcome, Running};
use crate::program::highwater;
use crate::report::Report;
use crate::victim::{Conversation, Truth};

/// What a recorder's line begins with once all probes are in.
const TRACING: &str = "highwater: tracing ";

/// Every kind of link that this kernel has, best first; the environment's choice alone, if there is one.
pub fn link_kinds() -> Vec<String> {
    if let Ok(kind) = env::var("HIGHWATER_LINK") {
        return vec![kind];
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
    let mut next = || {
        numbers
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0u32)
    };
    let version = (next(), next());
    [("session", (6, 13)), ("multi", (6, 6)), ("perf", (0, 0))]
        .into_iter()
        .filter(|(_, since)| version >= *since)
        .map(|(kind, _)| kind.to_owned())
        .collect()
}

/// A `highwater record` that is tracing; killed when this is dropped.
#[derive(Debug)]
pub struct Recorder {
    running: Running,
    file: PathBuf,
}

impl Recorder {
    /// The recorder's own pid.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// The command that records a process into a file.
    pub fn command(pid: u32, file: &Path, options: &[&str]) -> Command {
        let mut command = record(options);
        // Hundreds of attaches would each count for a second.
        if !options.contains(&"--preflight") {
            command.args(["--preflight", "0"]);
        }
        command.arg("-p").arg(pid.to_string()).arg("-o").arg(file);
        command
    }

    /// Attaches to a process and waits until all probes are in.
    #[track_caller]
    pub fn attach(pid: u32, file: &Path) -> Self {
        Self::attach_with(pid, file, &[])
    }

    /// The same, with further options.
    #[track_caller]
    pub fn attach_with(pid: u32, file: &Path, options: &[&str]) -> Self {
        Self::try_attach(pid, file, options)
            .unwrap_or_else(|outcome| panic!("it did not attach to process {pid}: {outcome:#?}"))
    }

    /// The same, where it may refuse.
    #[track_caller]
    pub fn try_attach(pid: u32, file: &Path, options: &[&str]) -> Result<Self, Outcome> {
        let mut recorder = Self::begin(pid, file, options);
        match recorder
            .running
            .find_in_stderr(|line| line.starts_with(TRACING))
        {
            Some(_) => Ok(recorder),
            None => Err(recorder.wait()),
        }
    }

    /// Starts to attach, and does not wait.
    #[track_caller]
    pub fn begin(pid: u32, file: &Path, options: &[&str]) -> Self {
        Self::start_command(file, &mut Self::command(pid, file, options))
    }

    /// Starts to attach by a command of the test's own making.
    #[track_caller]
    pub fn start_command(file: &Path, command: &mut Command) -> Self {
        Self {
            running: Running::start(command.stdin(Stdio::null())),
            file: file.to_owned(),
        }
    }

    /// Waits until the recording, as far as it has got, knows of `count` identities of that process. A child, or what a
    /// process became by exec, is in the recording once its events can be seen.
    #[track_caller]
    pub fn await_identities(&self, pid: u32, count: usize) {
        let known = || {
            let report = Report::so_far(&self.file)?;
            let processes = report.processes();
            Some(
                processes
                    .iter()
                    .filter(|process| process.pid == pid)
                    .count(),
            )
        };
        eventually(
            &format!("the recording knows {count} identities of process {pid}"),
            || known().is_some_and(|known| known >= count),
        );
    }

    /// Waits until the recording, as far as it has got, has so many allocations.
    #[track_caller]
    pub fn await_allocations(&self, count: u64) {
        eventually(&format!("the recording has {count} allocations"), || {
            Report::so_far(&self.file).is_some_and(|report| report.total("allocations") >= count)
        });
    }

    /// Waits until it says something with these words in it: the line.
    #[track_caller]
    pub fn await_words(&mut self, words: &str) -> String {
        let said = self.running.find_in_stderr(|line| line.contains(words));
        said.unwrap_or_else(|| panic!("it ended and never said {words:?}"))
    }

    /// The first line of its standard error that begins with these words.
    #[track_caller]
    pub fn await_line(&mut self, words: &str) -> String {
        let said = self.running.find_in_stderr(|line| line.starts_with(words));
        said.unwrap_or_else(|| panic!("it ended and never said {words:?}"))
    }

    /// Whether it has said something with these words in it since it was last looked at.
    pub fn has_said(&mut self, words: &str) -> bool {
        self.running.has_said(words)
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.running.has_ended()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: libc::c_int) {
        self.running.signal(signal);
    }

    /// Ends it as Ctrl-C does; panics unless it ends well.
    #[track_caller]
    pub fn interrupt(self) -> Report {
        self.running.signal(libc::SIGINT);
        self.finish()
    }

    /// Waits for it to end by itself; panics unless it ends well.
    #[track_caller]
    pub fn finish(self) -> Report {
        let file = self.file.clone();
        let outcome = self.wait();
        outcome.assert_says(0, &[]);
        Report::of(&file)
    }

    /// Waits for it to end by itself, however it does.
    #[track_caller]
    pub fn wait(self) -> Outcome {
        self.running.wait()
    }
}

/// A victim that `highwater record -- …` runs; both are killed when this is dropped.
#[derive(Debug)]
pub struct Launched {
    running: Running,
    conversation: Conversation,
    file: PathBuf,
}

impl Launched {
    /// Launches a program and waits until it is ready.
    #[track_caller]
    pub fn start(file: &Path, program: &Path, arguments: &[&str]) -> Self {
        let mut command = record(&[]);
        command.arg("-o").arg(file).arg("--");
        command.arg(program).args(arguments);
        Self::start_command(file, &mut command)
    }

    /// Launches by a command of the test's own making.
    #[track_caller]
    pub fn start_command(file: &Path, command: &mut Command) -> Self {
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let mut conversation = Conversation::with(&mut running);
        conversation.await_ready(&mut running);
        Self {
            running,
            conversation,
            file: file.to_owned(),
        }
    }

    /// Tells the victim a command and waits until that is done.
    #[track_caller]
    pub fn tell(&mut self, command: &str) -> Truth {
        self.conversation.tell(&mut self.running, command)
    }

    /// Tells the victim a command that leaves something behind, again and again, until the recording, as far as it has got, knows of an allocation.
    #[track_caller]
    pub fn tell_until_seen(&mut self, command: &str) {
        let file = self.file.clone();
        eventually("the recording knows of an allocation", || {
            self.tell(command);
            Report::so_far(&file).is_some_and(|report| report.total("allocations") > 0)
        });
    }

    /// Tells the victim a command that it does not survive.
    #[track_caller]
    pub fn send(&mut self, command: &str) {
        self.conversation.send(command);
    }

    /// Tells the victim a command that leaves something behind, again and again, until the recording, as far as it has got, has Python functions: stacks of a
    /// program that has just begun are cut until its code is known.
    #[track_caller]
    pub fn tell_until_python_is_seen(&mut self, command: &str) {
        let file = self.file.clone();
        eventually("Python functions are seen", || {
            self.tell(command);
            let report = Report::so_far(&file);
            report.is_some_and(|report| {
                let holders = report.end().holders;
                holders.iter().any(|holder| !holder.python.is_empty())
            })
        });
    }

    /// Every line that the victim has said up to now.
    pub fn said(&self) -> &[String] {
        self.conversation.said()
    }

    /// Sends the recorder a signal.
    #[track_caller]
    pub fn signal(&self, signal: libc::c_int) {
        self.running.signal(signal);
    }

    /// The next line that the victim (or the recorder) prints.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.running.stdout_line()
    }

    /// Closes the victim's input and waits for both to end.
    #[track_caller]
    pub fn wait(mut self) -> (Outcome, PathBuf) {
        self.conversation.end();
        (self.running.wait(), self.file)
    }
}

fn record(options: &[&str]) -> Command {
    let mut command = highwater();
    command.arg("record").args(options);
    if let Some(kind) = env::var_os("HIGHWATER_LINK")
        && !options.contains(&"--link")
    {
        command.arg("--link").arg(kind);
    }
    command
}
