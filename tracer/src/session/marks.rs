//! Moments and spans that are named while a recording is made: by `highwater mark`, which finds the recorders of the machine by
//! their sockets, and by a target that writes `highwater:NAME` to file descriptor -1.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use highwater_common::event::{FLAG_LAST_PART, MARK_PARTS, RawEvent};
use thiserror::Error;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    sync::mpsc,
};

use super::{Identity, Session, clock::monotonic};
use crate::{
    event::{Nanos, ProcessId},
    record::{Entry, Mark, MarkKind},
};

/// Where root's recorders have their sockets.
const OF_ROOT: &str = "/run/highwater";
/// A name has so many bytes at most.
pub const LONGEST_NAME: usize = 64;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(1);
/// Marks on their way to the session.
const IN_FLIGHT: usize = 64;

/// Where recorders have their sockets, root's first.
fn directories() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(|of| PathBuf::from(of).join("highwater"));
    std::iter::once(PathBuf::from(OF_ROOT)).chain(own).collect()
}

/// Why a moment could not be named.
#[derive(Debug, Error)]
pub enum MarkError {
    /// The name is empty, too long, or has something in it that is no text.
    #[error(
        "`{0}` is no name for a moment: 1 to {LONGEST_NAME} bytes of text without control characters, and not like a time"
    )]
    Name(String),
    /// Nothing is being recorded.
    #[error(
        "nothing is being recorded on this machine, as far as this user may see: start `highwater record` first, or mark as the \
         user who records"
    )]
    NobodyRecords,
    /// The recorders that there are did not take it.
    #[error("{0}")]
    Refused(String),
}

/// Names this moment in all recordings under way. Gives the paths of the recordings that took it.
///
/// # Errors
///
/// See [`MarkError`].
pub fn send(kind: MarkKind, name: &str) -> Result<Vec<String>, MarkError> {
    if !is_name(name) {
        return Err(MarkError::Name(name.to_owned()));
    }
    let Nanos(at) = monotonic();
    let (mut took, mut refused) = (Vec::new(), Vec::new());
    for directory in directories() {
        let Ok(sockets) = fs::read_dir(directory) else {
            continue;
        };
        for socket in sockets.flatten() {
            match tell(&socket.path(), kind, at, name) {
                Ok(reply) => match reply.split_once(' ') {
                    Some(("ok", path)) => took.push(path.to_owned()),
                    _ => refused.push(reply),
                },
                // Its recorder was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    let _ = fs::remove_file(socket.path());
                }
                Err(error) => refused.push(format!("{}: {error}", socket.path().display())),
            }
        }
    }
    match (took.is_empty(), refused.first()) {
        (false, _) => Ok(took),
        (true, Some(why)) => Err(MarkError::Refused(format!(
            "no recorder took the mark: {why}"
        ))),
        (true, None) => Err(MarkError::NobodyRecords),
    }
}

fn tell(socket: &Path, kind: MarkKind, at: u64, name: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let word = match kind {
        MarkKind::Moment => "moment",
        MarkKind::Begin => "begin",
        MarkKind::End => "end",
    };
    writeln!(stream, "{word} {at} {name}")?;
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply)?;
    Ok(reply.trim_end().to_owned())
}

/// Whether a moment may be called so. What reads as a time would be one.
fn is_name(name: &str) -> bool {
    let plain = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control);
    let taken = matches!(name, "peak" | "end");
    let is_time = name.starts_with('+') || name.starts_with(|first: char| first.is_ascii_digit());
    plain && !taken && !is_time && !name.contains("..")
}

/// The socket by which this recorder hears of marks; gone when this is dropped.
pub(super) struct Listener {
    heard: mpsc::Receiver<Mark>,
    socket: Option<PathBuf>,
    /// Keeps `heard` open where there is no socket.
    _sender: mpsc::Sender<Mark>,
}

impl Listener {
    /// Listens, if that is possible. Must be called within the event loop.
    pub(super) fn start(output: &Path) -> Self {
        let (sender, heard) = mpsc::channel(IN_FLIGHT);
        let socket = match bind() {
            Ok((listener, socket)) => {
                let output = output.display().to_string();
                tokio::spawn(listen(listener, sender.clone(), output));
                Some(socket)
            }
            Err(error) => {
                log::info!("`highwater mark` will not reach this recorder: {error}");
                None
            }
        };
        Self {
            heard,
            socket,
            _sender: sender,
        }
    }

    pub(super) async fn next(&mut self) -> Mark {
        match self.heard.recv().await {
            Some(mark) => mark,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            let _ = fs::remove_file(socket);
        }
    }
}

fn bind() -> io::Result<(UnixListener, PathBuf)> {
    let mut last = io::Error::other("there is no directory for it");
    for directory in directories() {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&directory);
        let socket = directory.join(format!("{}.sock", std::process::id()));
        let _ = fs::remove_file(&socket);
        match made.and_then(|()| UnixListener::bind(&socket)) {
            Ok(listener) => {
                // Everyone may ask; `may_mark` decides.
                fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
                return Ok((listener, socket));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn listen(listener: UnixListener, to: mpsc::Sender<Mark>, output: String) {
    while let Ok((stream, _)) = listener.accept().await {
        let (to, output) = (to.clone(), output.clone());
        tokio::spawn(async move {
            let answered = answer(stream, &to, &output);
            if tokio::time::timeout(PATIENCE, answered).await.is_err() {
                log::debug!("somebody asked for a mark and did not say which");
            }
        });
    }
}

async fn answer(mut stream: tokio::net::UnixStream, to: &mpsc::Sender<Mark>, output: &str) {
    let allowed = stream.peer_cred().is_ok_and(|who| may_mark(who.uid()));
    let mut line = String::new();
    let (read, mut write) = stream.split();
    let longest = (LONGEST_NAME + 64) as u64;
    let mut read = tokio::io::BufReader::new(read.take(longest));
    let reply = match read.read_line(&mut line).await {
        _ if !allowed => "this recorder is another user's".to_owned(),
        Ok(_) => match parse(line.trim_end_matches('\n')) {
            Some(mark) => match to.send(mark).await {
                Ok(()) => format!("ok {output}"),
                Err(_) => "the recording has ended".to_owned(),
            },
            None => "that is no mark".to_owned(),
        },
        Err(error) => error.to_string(),
    };
    // Whoever does not wait for the answer has its mark all the same.
    let _ = write.write_all(format!("{reply}\n").as_bytes()).await;
}

/// Root may, the recorder's own user, and who called sudo for it.
fn may_mark(uid: u32) -> bool {
    let own = rustix::process::geteuid().as_raw();
    uid == 0 || uid == own || Identity::invoking().is_some_and(|invoking| invoking.uid == uid)
}

fn parse(line: &str) -> Option<Mark> {
    let mut words = line.splitn(3, ' ');
    let kind = match words.next()? {
        "moment" => MarkKind::Moment,
        "begin" => MarkKind::Begin,
        "end" => MarkKind::End,
        _ => return None,
    };
    let at = words.next()?.parse().ok()?;
    let name = words.next().filter(|name| is_name(name))?;
    Some(Mark {
        // Nothing can be named before it happens.
        at: monotonic().min(Nanos(at)),
        process: None,
        kind,
        name: name.to_owned(),
    })
}

/// Names that come from targets in parts, by thread.
#[derive(Debug, Default)]
pub(super) struct Named {
    parts: HashMap<u32, Vec<u8>>,
}

impl Named {
    /// Takes a part in; the whole, when it was the last.
    pub(super) fn take(&mut self, raw: &RawEvent, process: ProcessId) -> Option<Mark> {
        let text = self.parts.entry(raw.tid).or_default();
        if raw.slot == 0 {
            text.clear();
        }
        if text.len() < MARK_PARTS * highwater_common::event::MARK_PART {
            for word in [raw.address, raw.size, raw.stack] {
                text.extend(word.to_le_bytes());
            }
        }
        if raw.flags & FLAG_LAST_PART == 0 {
            return None;
        }
        let text = self.parts.remove(&raw.tid)?;
        let end = text.iter().position(|byte| *byte == 0);
        let text = String::from_utf8_lossy(&text[..end.unwrap_or(text.len())]);
        let text = text.trim_end();
        let (kind, name) = match text.split_once(':') {
            Some(("begin", name)) => (MarkKind::Begin, name),
            Some(("end", name)) => (MarkKind::End, name),
            _ => (MarkKind::Moment, text),
        };
        is_name(name).then(|| Mark {
            at: Nanos(raw.at_ns),
            process: Some(process),
            kind,
            name: name.to_owned(),
        })
    }
}

impl Session {
    /// Writes a mark down, after what happened before it.
    pub(super) fn mark(&mut self, mark: Mark) {
        self.write_pending();
        self.write(&Entry::Mark(mark));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &[u8], slot: u8, flags: u8) -> RawEvent {
        let mut bytes = [0; 24];
        bytes[..text.len()].copy_from_slice(text);
        let word = |at: usize| {
            let word = bytes[at..at + 8].try_into().expect("eight bytes");
            u64::from_le_bytes(word)
        };
        RawEvent {
            address: word(0),
            size: word(8),
            stack: word(16),
            slot,
            flags,
            ..RawEvent::default()
        }
    }

    #[test]
    fn a_name_comes_in_parts() {
        let mut named = Named::default();
        let first = part(b"begin:a name of more tha", 0, 0);
        assert_eq!(named.take(&first, ProcessId(7)), None);
        let mark = named.take(&part(b"n one part\n", 1, FLAG_LAST_PART), ProcessId(7));
        let mark = mark.expect("it is whole");
        assert_eq!(mark.name, "a name of more than one part");
        assert_eq!(
            (mark.kind, mark.process),
            (MarkKind::Begin, Some(ProcessId(7)))
        );
    }

    #[test]
    fn what_reads_as_a_time_or_has_control_characters_is_no_name() {
        for name in [
            "",
            "+1s",
            "12",
            "peak",
            "end",
            "a..b",
            "a\x1b[2J",
            &"x".repeat(65),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
        for name in ["warm", "request 17", "nach dem Laden"] {
            assert!(is_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_line_is_a_kind_a_time_and_a_name() {
        let mark = parse("begin 5 request 17").expect("a mark");
        assert_eq!((mark.at, mark.kind), (Nanos(5), MarkKind::Begin));
        assert_eq!(mark.name, "request 17");
        let later = parse(&format!("moment {} warm", u64::MAX)).expect("a mark");
        assert!(later.at <= monotonic());
        for line in [
            "",
            "moment",
            "moment x warm",
            "moment 5",
            "stop 5 warm",
            "moment 5 +1s",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
