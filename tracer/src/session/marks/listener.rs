//! The recorder's end of `highwater mark`: a thread of its own, `hw-marks`, so that whoever floods the socket takes no time from
//! the recording.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot},
};

use super::{LONGEST_NAME, PATIENCE, allowance::Allowances, parse, sockets};
use crate::{priority, record::Mark, session::Identity, session::clock::monotonic};

/// Marks on their way to the session.
const IN_FLIGHT: usize = 64;
/// Connections of one user at once.
const AT_ONCE: u32 = 4;
/// After an accept that failed, the next one waits so long: what it lacks (descriptors, memory) does not come back at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Whose the traced processes are is looked up at most this often: they may change their user.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The socket by which this recorder hears of marks; gone when this is dropped.
pub(in crate::session) struct Listener {
    heard: mpsc::Receiver<Mark>,
    shared: Arc<Shared>,
    running: Option<Running>,
    /// Keeps `heard` open where there is no socket.
    _sender: mpsc::Sender<Mark>,
}

struct Running {
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// What both threads know.
#[derive(Default)]
struct Shared {
    /// The traced processes.
    pids: Mutex<Vec<u32>>,
    refused: AtomicU64,
    dropped: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listener {
    /// Listens, if that is possible.
    pub(in crate::session) fn start(output: &Path) -> Self {
        let (sender, heard) = mpsc::channel(IN_FLIGHT);
        let shared = Arc::new(Shared::default());
        let running = Running::start(output, &sender, &shared)
            .inspect_err(|error| {
                log::info!("`highwater mark` will not reach this recorder: {error}");
            })
            .ok();
        Self {
            heard,
            shared,
            running,
            _sender: sender,
        }
    }

    /// The next mark that was allowed.
    pub(in crate::session) async fn next(&mut self) -> Mark {
        match self.heard.recv().await {
            Some(mark) => mark,
            None => std::future::pending().await,
        }
    }

    /// The marks that were allowed and not handed out yet: whoever made them was answered already.
    pub(in crate::session) fn rest(&mut self) -> Vec<Mark> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// Says which processes are traced: their users may mark.
    pub(in crate::session) fn know_processes(&self, pids: impl Iterator<Item = u32>) {
        let mut known = lock(&self.shared.pids);
        known.clear();
        known.extend(pids);
    }

    /// Connections that were closed unanswered, and marks that were too many.
    pub(in crate::session) fn refused(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.shared.refused), read(&self.shared.dropped))
    }
}

impl Running {
    fn start(output: &Path, sender: &mpsc::Sender<Mark>, shared: &Arc<Shared>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (listener, socket) = sockets::bind()?;
        let (stop, stopped) = oneshot::channel();
        let door = Door {
            shared: Arc::clone(shared),
            to: sender.clone(),
            output: output.display().to_string(),
            open: Mutex::default(),
            allowances: Mutex::default(),
            users: Mutex::default(),
        };
        let thread = std::thread::Builder::new()
            .name("hw-marks".to_owned())
            .spawn(move || {
                priority::give_way();
                runtime.block_on(async {
                    tokio::select! {
                        // Only ever dropped.
                        _ = stopped => {}
                        ended = listen(listener, Arc::new(door)) => {
                            log::error!("`highwater mark` does not reach this recorder any more: {ended}");
                        }
                    }
                });
            })
            .inspect_err(|_| {
                let _ = std::fs::remove_file(&socket);
            })?;
        Ok(Self {
            socket,
            stop,
            thread,
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(Running {
            socket,
            stop,
            thread,
        }) = self.running.take()
        {
            // A sweep may have been there before.
            let _ = std::fs::remove_file(socket);
            drop(stop);
            if thread.join().is_err() {
                log::error!("the thread that listens for marks panicked");
            }
        }
    }
}

/// Who may come in, and who is there.
struct Door {
    shared: Arc<Shared>,
    to: mpsc::Sender<Mark>,
    output: String,
    /// Connections by user.
    open: Mutex<HashMap<u32, u32>>,
    allowances: Mutex<Allowances<u32>>,
    users: Mutex<Users>,
}

/// Whose the traced processes were when that was looked up last.
#[derive(Default)]
struct Users {
    known: HashSet<u32>,
    looked_at: Option<Instant>,
}

/// A connection that is being answered; counted until this is dropped.
struct Visit {
    door: Arc<Door>,
    uid: u32,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut open = lock(&self.door.open);
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

impl Door {
    /// Lets a user in, unless they have no business here or as many connections as one may have.
    fn enter(self: &Arc<Self>, uid: u32) -> Option<Visit> {
        if !self.may_mark(uid) {
            return None;
        }
        let mut open = lock(&self.open);
        let count = open.entry(uid).or_default();
        if *count >= AT_ONCE {
            return None;
        }
        *count += 1;
        drop(open);
        Some(Visit {
            door: Arc::clone(self),
            uid,
        })
    }

    /// Root may, the recorder's own user, who called sudo for it, and the users of the traced processes.
    fn may_mark(&self, uid: u32) -> bool {
        let own = rustix::process::geteuid().as_raw();
        if uid == 0
            || uid == own
            || Identity::invoking().is_some_and(|invoking| invoking.uid == uid)
        {
            return true;
        }
        let mut users = lock(&self.users);
        if !users.known.contains(&uid)
            && users
                .looked_at
                .is_none_or(|looked| looked.elapsed() >= LOOK_EVERY)
        {
            let pids = lock(&self.shared.pids).clone();
            users.known = pids.into_iter().filter_map(user_of).collect();
            users.looked_at = Some(Instant::now());
        }
        users.known.contains(&uid)
    }

    fn refuse(&self) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// The effective user of a process.
fn user_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    uids.split_whitespace().nth(1)?.parse().ok()
}

/// Answers whoever connects, for as long as the thread runs. Gives why that could not even begin.
async fn listen(listener: UnixListener, door: Arc<Door>) -> io::Error {
    let listening = listener
        .set_nonblocking(true)
        .and_then(|()| tokio::net::UnixListener::from_std(listener));
    let listener = match listening {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::info!("a connection for a mark could not be taken: {error}");
                door.refuse();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Before anything is read. What is dropped here is closed.
        let Some(visit) = stream
            .peer_cred()
            .ok()
            .and_then(|peer| door.enter(peer.uid()))
        else {
            door.refuse();
            continue;
        };
        tokio::spawn(async move {
            let answered = answer(stream, &visit);
            if tokio::time::timeout(PATIENCE, answered).await.is_err() {
                visit.door.refuse();
            }
        });
    }
}

async fn answer(mut stream: UnixStream, visit: &Visit) {
    let door = &visit.door;
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let longest = (LONGEST_NAME + 64) as u64;
    let mut read = tokio::io::BufReader::new(read.take(longest));
    let reply = match read.read_line(&mut line).await {
        Ok(_) => match parse(line.trim_end_matches('\n')) {
            Some(_) if !lock(&door.allowances).take(visit.uid, monotonic()) => {
                door.shared.dropped.fetch_add(1, Ordering::Relaxed);
                "these are too many marks".to_owned()
            }
            Some(mark) => match door.to.send(mark).await {
                Ok(()) => format!("ok {}", door.output),
                Err(_) => "the recording has ended".to_owned(),
            },
            None => "that is no mark".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    // Whoever does not wait for the answer has its mark all the same.
    let _ = write.write_all(format!("{reply}\n").as_bytes()).await;
}
