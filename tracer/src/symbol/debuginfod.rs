//! Debug information from servers, where the user asked for it by setting `DEBUGINFOD_URLS`
//! (<https://sourceware.org/elfutils/Debuginfod.html>).
//!
//! elfutils' own client `debuginfod-find` does it: it speaks HTTPS, keeps what it got in the user's cache, and obeys the
//! variables that other tools obey too. A client of our own would bring a TLS library into a program that runs as root.
//! The client is run from directories of the system alone, whatever `PATH` says, on a thread of its own, and is ended
//! when it takes too long.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::debug_file::open_regular;
use crate::priority;
use crate::record::ModuleIndex;

/// How long one file may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files fetched at the same time.
const MOST_AT_ONCE: usize = 4;
/// How often those under way are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest path that the client may answer, bytes.
const MOST_ANSWER_BYTES: u64 = 4096;
/// Where the client may be: directories that only root writes to.
const DIRECTORIES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/bin"];

/// Whether and how to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Debuginfod {
    /// The user did not ask for it.
    Off,
    /// The user did, but the client is not installed.
    Missing,
    /// By a client.
    Client(Client),
}

impl Debuginfod {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        let urls = std::env::var_os("DEBUGINFOD_URLS").unwrap_or_default();
        if urls.into_vec().trim_ascii().is_empty() {
            return Self::Off;
        }
        DIRECTORIES
            .iter()
            .map(|directory| Path::new(directory).join("debuginfod-find"))
            .find(|program| program.is_file())
            .map_or(Self::Missing, |program| {
                Self::Client(Client {
                    program,
                    patience: PATIENCE,
                })
            })
    }
}

/// The program that fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// Called as `PROGRAM debuginfo BUILD-ID`, it prints the path of a file.
    pub(super) program: PathBuf,
    /// How long one file may take.
    pub(super) patience: Duration,
}

/// A file of debug information to be fetched.
pub(super) struct Wanted {
    pub(super) module: ModuleIndex,
    pub(super) build_id: Vec<u8>,
}

/// Starts the thread `hw-debuginfod`. It answers everything that is sent, in any order, and ends once nobody can send any
/// more, without answering the rest.
///
/// # Errors
///
/// When the system has no thread left.
pub(super) fn start(
    client: Client,
    answer: impl Fn(ModuleIndex, Option<File>) + Send + 'static,
) -> io::Result<Sender<Wanted>> {
    // As many as there are modules, each of which is wanted once.
    let (sender, wanted) = crossbeam_channel::unbounded();
    let fetcher = Fetcher {
        client,
        wanted,
        waiting: VecDeque::new(),
        under_way: Vec::new(),
        answer,
    };
    std::thread::Builder::new()
        .name("hw-debuginfod".into())
        .spawn(move || {
            priority::give_way();
            fetcher.run();
        })?;
    Ok(sender)
}

struct Fetcher<A> {
    client: Client,
    wanted: Receiver<Wanted>,
    waiting: VecDeque<Wanted>,
    under_way: Vec<Fetch>,
    answer: A,
}

/// A client that runs.
struct Fetch {
    module: ModuleIndex,
    child: Child,
    until: Instant,
}

impl<A: Fn(ModuleIndex, Option<File>)> Fetcher<A> {
    fn run(mut self) {
        loop {
            let next = if self.under_way.is_empty() && self.waiting.is_empty() {
                self.wanted
                    .recv()
                    .map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.wanted.recv_timeout(LOOK_EVERY)
            };
            match next {
                Ok(wanted) => self.waiting.push_back(wanted),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let answer = &self.answer;
            self.under_way.retain_mut(|fetch| match fetch.poll() {
                Some(file) => {
                    answer(fetch.module, file);
                    false
                }
                None => true,
            });
            self.begin();
        }
    }

    fn begin(&mut self) {
        while self.under_way.len() < MOST_AT_ONCE
            && let Some(Wanted { module, build_id }) = self.waiting.pop_front()
        {
            let build_id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
            let child = Command::new(&self.client.program)
                .args(["debuginfo", &build_id])
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                // What ends a recording from the terminal is not meant for the client.
                .process_group(0)
                .spawn();
            match child {
                Ok(child) => self.under_way.push(Fetch {
                    module,
                    child,
                    until: Instant::now() + self.client.patience,
                }),
                Err(error) => {
                    log::debug!("{}: {error}", self.client.program.display());
                    (self.answer)(module, None);
                }
            }
        }
    }
}

impl Fetch {
    /// The file, or that there is none; `None` while the client runs.
    fn poll(&mut self) -> Option<Option<File>> {
        match self.child.try_wait() {
            Ok(None) if Instant::now() < self.until => None,
            Ok(Some(status)) if status.success() => Some(self.file()),
            // It says that there is none, takes too long, or cannot be waited for.
            _ => Some(None),
        }
    }

    /// The file whose path the client printed.
    fn file(&mut self) -> Option<File> {
        let mut answer = Vec::new();
        let output = self.child.stdout.take()?;
        // The client has ended, so what it printed is in the pipe; a child of its own could hold that open for ever.
        rustix::io::ioctl_fionbio(&output, true).ok()?;
        let mut output = output.take(MOST_ANSWER_BYTES);
        match output.read_to_end(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return None,
            _ => {}
        }
        let path = PathBuf::from(std::ffi::OsString::from_vec(answer.trim_ascii().to_vec()));
        path.is_absolute().then(|| open_regular(&path).ok())?
    }
}

impl Drop for Fetch {
    /// Ends a client that still runs; of one that has ended nothing is left to end.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It leads a group of its own.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
