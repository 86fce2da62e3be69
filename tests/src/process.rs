//! Child processes: what they say, and how they end, in bounded time.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::patience;

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output that nobody had read yet.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Outcome {
    /// The exit code; a panic if a signal ended it.
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| panic!("a signal ended it: {self:#?}"))
    }

    /// Panics unless it ended with this code, in words of its own (no panic), with all of `words` in its message,
    /// whatever their case.
    #[track_caller]
    pub fn assert_says(&self, code: i32, words: &[&str]) {
        self.assert_no_panic();
        assert_eq!(self.code(), code, "exit code of {self:#?}");
        let message = self.stderr.to_lowercase();
        for word in words {
            assert!(
                message.contains(&word.to_lowercase()),
                "its message does not say {word:?}: {self:#?}"
            );
        }
    }

    /// Panics if it panicked.
    #[track_caller]
    pub fn assert_no_panic(&self) {
        assert!(
            !self.stderr.contains("panicked at") && !self.stdout.contains("panicked at"),
            "it panicked: {self:#?}"
        );
        assert!(
            self.status.signal().is_none(),
            "a signal ended it: {self:#?}"
        );
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    Running::start(command.stdin(Stdio::null())).wait()
}

/// A child process that is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    stdout: Lines,
    stderr: Lines,
}

impl Running {
    /// Starts a program whose output is read line by line.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = Lines::of(child.stdout.take().expect("stdout is piped"));
        let stderr = Lines::of(child.stderr.take().expect("stderr is piped"));
        Self {
            child,
            name,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The pipe to its standard input, if there is one; only once.
    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// The next line of its standard output.
    #[track_caller]
    pub fn stdout_line(&mut self) -> String {
        match self.stdout.next(patience()) {
            Some(line) => line,
            None => self.give_up("its standard output ended"),
        }
    }

    /// Waits for a line of its standard error that satisfies `wanted`; `None` if that ends without one.
    #[track_caller]
    pub fn find_in_stderr(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + patience();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.stderr.next(left) {
                Some(line) if wanted(&line) => return Some(line),
                Some(_) => {}
                None if !self.stderr.ended => self.give_up("its standard error went silent"),
                None => return None,
            }
        }
    }

    /// Whether it has written, since it was last looked at, a line with these words to its standard error.
    pub fn has_said(&mut self, words: &str) -> bool {
        std::iter::from_fn(|| self.stderr.next(Duration::ZERO)).any(|line| line.contains(words))
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: libc::c_int) {
        let pid = i32::try_from(self.pid()).expect("a pid fits an int");
        // SAFETY: kill has no memory preconditions; the child was not waited for, so the pid is still its own.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "cannot signal {}", self.name);
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        drop(self.child.stdin.take());
        if !ends_within(&self.child, patience()) {
            self.give_up("it did not end");
        }
        let status = self
            .child
            .wait()
            .unwrap_or_else(|error| panic!("cannot wait for {}: {error}", self.name));
        // A grandchild may hold the pipes open; what has been said by now is what counts.
        self.stdout.rest();
        self.stderr.rest();
        Outcome {
            status,
            stdout: self.stdout.unread(),
            stderr: self.stderr.all(),
        }
    }

    /// Kills it and panics with all it has said.
    #[track_caller]
    fn give_up(&mut self, why: &str) -> ! {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stdout.rest();
        self.stderr.rest();
        panic!(
            "{}: {why}\nended: {ended:?}\nstdout:\n{}\nstderr:\n{}",
            self.name,
            self.stdout.all(),
            self.stderr.all()
        );
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a child ends within that time; it stays to be waited for.
fn ends_within(child: &Child, limit: Duration) -> bool {
    let pid = libc::c_long::from(child.id());
    // SAFETY: pidfd_open takes plain numbers.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH) {
        // It has been waited for.
        return true;
    }
    let descriptor = i32::try_from(descriptor).expect("a file descriptor fits an int");
    assert!(
        descriptor >= 0,
        "pidfd_open: {}",
        std::io::Error::last_os_error()
    );
    // SAFETY: the descriptor was just made and is ours alone.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd is passed, and it outlives the call.
        match unsafe { libc::poll(&raw mut poll, 1, milliseconds) } {
            0 => return false,
            1.. => return true,
            _ if left.is_zero() => return false,
            // Interrupted by a signal.
            _ => {}
        }
    }
}

/// The lines of a pipe, read by a thread so that a wait for one can end.
#[derive(Debug)]
struct Lines {
    lines: Receiver<String>,
    seen: Vec<String>,
    read: usize,
    ended: bool,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::Builder::new()
            .name("reads a pipe".to_owned())
            .spawn(move || {
                let mut pipe = BufReader::new(pipe);
                let mut line = Vec::new();
                while pipe
                    .read_until(b'\n', &mut line)
                    .is_ok_and(|length| length > 0)
                {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    if sender.send(text).is_err() {
                        break;
                    }
                    line.clear();
                }
            })
            .expect("a thread can be started");
        Self {
            lines,
            seen: Vec::new(),
            read: 0,
            ended: false,
        }
    }

    /// The next line, or `None` at the end or when the time is over.
    fn next(&mut self, limit: Duration) -> Option<String> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => {
                self.seen.push(line.clone());
                self.read = self.seen.len();
                Some(line)
            }
            Err(error) => {
                self.ended = error == RecvTimeoutError::Disconnected;
                None
            }
        }
    }

    /// Takes in what is left, up to the end of the pipe or until nothing has come for a while.
    fn rest(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.seen.push(line);
        }
    }

    fn unread(&self) -> String {
        self.seen[self.read..].join("\n")
    }

    fn all(&self) -> String {
        self.seen.join("\n")
    }
}
