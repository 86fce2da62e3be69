//! A program under way whose lines we read: none may be lost, and none may make it wait.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process;
use crate::command;

/// A child of ours. Dropping it kills it.
pub(super) struct Program {
    child: Child,
    name: String,
    lines: Receiver<String>,
}

impl Program {
    /// Starts it; both its outputs are read.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run `{}`", command::line(command)))?;
        let (sender, lines) = mpsc::channel();
        let outputs: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|it| Box::new(it) as _),
            child.stderr.take().map(|it| Box::new(it) as _),
        ];
        for output in outputs.into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self {
            child,
            name: command.get_program().to_string_lossy().into_owned(),
            lines,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// The first line with this in it.
    pub(super) fn wait_for(&self, text: &str, patience: Duration) -> Result<String> {
        let deadline = Instant::now() + patience;
        let mut said = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return Ok(line),
                Ok(line) => said.push(line),
                Err(error) => {
                    let how = match error {
                        RecvTimeoutError::Timeout => "did not say",
                        RecvTimeoutError::Disconnected => "ended without saying",
                    };
                    said.retain(|line| !line.trim().is_empty());
                    bail!("{} {how} `{text}`, but: {}", self.name, said.join("; "));
                }
            }
        }
    }

    /// As Ctrl-C does, and until it has ended.
    pub(super) fn interrupt(mut self) -> Result<ExitStatus> {
        process::interrupt(self.pid());
        Ok(self.child.wait()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone after this.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
