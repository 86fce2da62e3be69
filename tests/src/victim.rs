//! Victims: programs that are told what to do and tell the truth about it.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Sub;
use std::process::{ChildStdin, Command, Stdio};

use crate::process::{Outcome, Running};
use crate::program::victim_program;

/// What a victim said in answer to a command: its `TRUTH` lines, each with keys and numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth(Vec<BTreeMap<String, u64>>);

impl Truth {
    /// The number behind a key, from the first line that has it.
    #[track_caller]
    pub fn get(&self, key: &str) -> u64 {
        *self
            .0
            .iter()
            .find_map(|line| line.get(key))
            .unwrap_or_else(|| panic!("the victim did not tell {key}: {self:?}"))
    }

    /// One number from the line in which another key has that value.
    #[track_caller]
    pub fn get_where(&self, of: &str, value: u64, key: &str) -> u64 {
        self.0
            .iter()
            .find(|line| line.get(of) == Some(&value))
            .and_then(|line| line.get(key).copied())
            .unwrap_or_else(|| panic!("the victim did not tell {key} for {of}={value}: {self:?}"))
    }

    /// The sum of a key over all lines.
    pub fn sum(&self, key: &str) -> u64 {
        self.0.iter().filter_map(|line| line.get(key)).sum()
    }

    fn add(&mut self, line: &str) {
        let facts = line.split_whitespace().filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_owned(), value.parse().ok()?))
        });
        self.0.push(facts.collect());
    }
}

/// What happened between two moments: each number of the first line less what it was before.
impl Sub<&Self> for Truth {
    type Output = Self;

    fn sub(self, before: &Self) -> Self {
        let lines = self.0.into_iter().map(|line| {
            line.into_iter()
                .map(|(key, value)| {
                    let then = before.0.iter().find_map(|line| line.get(&key));
                    let since = value.wrapping_sub(then.copied().unwrap_or(0));
                    (key, since)
                })
                .collect()
        });
        Self(lines.collect())
    }
}

/// The protocol that victims speak, with whichever process holds their standard input and output.
#[derive(Debug)]
pub struct Conversation {
    stdin: Option<ChildStdin>,
    said: Vec<String>,
}

impl Conversation {
    pub(crate) fn with(running: &mut Running) -> Self {
        Self {
            stdin: running.take_stdin(),
            said: Vec::new(),
        }
    }

    /// Waits for `READY`.
    #[track_caller]
    pub(crate) fn await_ready(&mut self, running: &mut Running) -> Truth {
        self.listen(running, "READY")
    }

    #[track_caller]
    pub(crate) fn tell(&mut self, running: &mut Running, command: &str) -> Truth {
        self.send(command);
        let name = command.split(' ').next().unwrap_or_default();
        self.listen(running, &format!("DONE {name}"))
    }

    /// Tells without waiting for an answer.
    #[track_caller]
    pub(crate) fn send(&mut self, command: &str) {
        let stdin = self.stdin.as_mut().expect("the victim's input is open");
        writeln!(stdin, "{command}")
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|error| panic!("cannot tell the victim {command:?}: {error}"));
    }

    /// Closes the victim's input, upon which it ends.
    pub(crate) fn end(&mut self) {
        self.stdin = None;
    }

    #[track_caller]
    pub(crate) fn listen(&mut self, running: &mut Running, until: &str) -> Truth {
        let mut truth = Truth::default();
        loop {
            let line = running.stdout_line();
            self.said.push(line.clone());
            if line == until {
                return truth;
            }
            assert!(
                line.starts_with("TRUTH"),
                "the victim said {line:?} while {until:?} was awaited; before: {:#?}",
                self.said
            );
            truth.add(&line);
        }
    }

    /// Every line that the victim has said.
    pub fn said(&self) -> &[String] {
        &self.said
    }
}

/// A running victim, killed when this is dropped.
#[derive(Debug)]
pub struct Victim {
    running: Running,
    conversation: Conversation,
    start: Truth,
}

impl Victim {
    /// Builds and starts the victim of that name and waits until it is ready.
    #[track_caller]
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// The same, with arguments.
    #[track_caller]
    pub fn start_with(name: &str, arguments: &[&str]) -> Self {
        Self::start_command(Command::new(victim_program(name)).args(arguments))
    }

    /// Starts a victim by a command of the test's own making.
    #[track_caller]
    pub fn start_command(command: &mut Command) -> Self {
        Self::start_meanwhile(command, |_| ()).1
    }

    /// The same, with something done, given its process id, before it is ready.
    #[track_caller]
    pub fn start_meanwhile<T>(
        command: &mut Command,
        meanwhile: impl FnOnce(u32) -> T,
    ) -> (T, Self) {
        let mut running = Running::start(command.stdin(Stdio::piped()));
        let done = meanwhile(running.pid());
        let mut conversation = Conversation::with(&mut running);
        let start = conversation.await_ready(&mut running);
        let victim = Self {
            running,
            conversation,
            start,
        };
        (done, victim)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it told before it was ready.
    pub fn start_truth(&self) -> &Truth {
        &self.start
    }

    /// Tells it a command and waits until that is done.
    #[track_caller]
    pub fn tell(&mut self, command: &str) -> Truth {
        self.conversation.tell(&mut self.running, command)
    }

    /// Tells it a command that ends in `READY` once more: it has become another program, or its child has left.
    #[track_caller]
    pub fn tell_until_ready(&mut self, command: &str) -> Truth {
        self.conversation.send(command);
        self.conversation.await_ready(&mut self.running)
    }

    /// Tells it a command that it does not survive, or that nobody waits for.
    #[track_caller]
    pub fn send(&mut self, command: &str) {
        self.conversation.send(command);
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: libc::c_int) {
        self.running.signal(signal);
    }

    /// Every line it has said up to now.
    pub fn said(&self) -> &[String] {
        self.conversation.said()
    }

    /// Lets it quit, and panics unless it does so of its own accord.
    #[track_caller]
    pub fn quit(mut self) {
        self.conversation.end();
        let outcome = self.running.wait();
        assert!(outcome.status.success(), "the victim ended: {outcome:#?}");
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        self.conversation.end();
        self.running.wait()
    }

    /// Waits for its end, with the truth from the lines that were not read yet.
    #[track_caller]
    pub fn wait_for_last_truth(self) -> (Outcome, Truth) {
        let outcome = self.wait();
        let mut truth = Truth::default();
        if let Some(line) = outcome
            .stdout
            .lines()
            .rfind(|line| line.starts_with("TRUTH"))
        {
            truth.add(line);
        }
        (outcome, truth)
    }
}
