//! Moments and spans that are named while a recording is made: by `highwater mark`, which finds the recorders of the machine by
//! their sockets, and by a target that writes `highwater:NAME` to file descriptor -1.

mod allowance;
mod listener;
mod sockets;

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use highwater_common::event::{FLAG_LAST_PART, MARK_PARTS, RawEvent};
use thiserror::Error;

pub(super) use listener::Listener;

use super::{Session, clock::monotonic};
use crate::{
    event::{Nanos, ProcessId},
    record::{Entry, Mark, MarkKind},
};

/// A name has so many bytes at most.
pub const LONGEST_NAME: usize = 64;
/// How long a recorder waits for who has come to its socket.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long its answer is waited for: on a busy machine its thread, which gives way to all others, may take a while.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer that is read, bytes: a path and a word.
const LONGEST_ANSWER: u64 = 8192;
/// A moment may have been named so long ago, nanoseconds: it is on its way for no longer.
const ON_ITS_WAY: u64 = 10_000_000_000;
/// Threads of which a part of a name has come, at most.
const MOST_PARTS: usize = 4096;

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
    for directory in sockets::directories() {
        for socket in sockets::sockets_in(&directory) {
            match tell(&socket, kind, at, name) {
                Ok(reply) => match reply.split_once(' ') {
                    Some(("ok", path)) => took.push(path.to_owned()),
                    _ if reply.is_empty() => {
                        refused.push("this recorder is another user's, or busy".to_owned());
                    }
                    _ => refused.push(reply),
                },
                // Its recorder was killed.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => refused.push(format!("{}: {error}", socket.display())),
            }
        }
        sockets::sweep(&directory);
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
    let mut stream = sockets::connect(socket, ANSWERS_WITHIN)?;
    let word = match kind {
        MarkKind::Moment => "moment",
        MarkKind::Begin => "begin",
        MarkKind::End => "end",
    };
    let mut reply = String::new();
    let asked = writeln!(stream, "{word} {at} {name}")
        .and_then(|()| BufReader::new(stream.take(LONGEST_ANSWER)).read_line(&mut reply));
    match asked.map_err(|error| error.kind()) {
        // It closed the connection without a word.
        Ok(_) | Err(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
        Err(kind) => return Err(kind.into()),
    }
    Ok(reply.trim_end().to_owned())
}

/// Whether a moment may be called so. What reads as a time would be one.
fn is_name(name: &str) -> bool {
    let plain = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control);
    let taken = matches!(name, "peak" | "end");
    let is_time = name.starts_with('+') || name.starts_with(|first: char| first.is_ascii_digit());
    plain && !taken && !is_time && !name.contains("..")
}

fn parse(line: &str) -> Option<Mark> {
    let mut words = line.splitn(3, ' ');
    let kind = match words.next()? {
        "moment" => MarkKind::Moment,
        "begin" => MarkKind::Begin,
        "end" => MarkKind::End,
        _ => return None,
    };
    let at: u64 = words.next()?.parse().ok()?;
    let now = monotonic();
    let name = words.next().filter(|name| is_name(name))?;
    Some(Mark {
        // Nothing can be named before it happens, nor long afterwards.
        at: Nanos(at.clamp(now.0.saturating_sub(ON_ITS_WAY), now.0)),
        process: None,
        kind,
        name: name.to_owned(),
    })
}

/// Names that come from targets in parts, by thread.
#[derive(Debug, Default)]
pub(super) struct Named {
    parts: HashMap<u32, Vec<u8>>,
    allowances: allowance::Allowances<ProcessId>,
    dropped: u64,
}

impl Named {
    /// Marks that were too many.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes a part in; the whole, when it was the last and the process may name one more.
    pub(super) fn take(&mut self, raw: &RawEvent, process: ProcessId) -> Option<Mark> {
        if self.parts.len() >= MOST_PARTS && !self.parts.contains_key(&raw.tid) {
            // Beginnings whose ends were lost.
            self.parts.clear();
        }
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
        let mark = is_name(name).then(|| Mark {
            at: Nanos(raw.at_ns),
            process: Some(process),
            kind,
            name: name.to_owned(),
        })?;
        let allowed = self.allowances.take(process, mark.at);
        self.dropped += u64::from(!allowed);
        allowed.then_some(mark)
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
        assert_eq!(mark.kind, MarkKind::Begin);
        assert_eq!(mark.name, "request 17");
        // Not before what is being recorded.
        assert!(mark.at.0 >= monotonic().0.saturating_sub(2 * ON_ITS_WAY));
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
