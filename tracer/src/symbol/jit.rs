//! Names of code that no file has: what a process makes as it runs, and writes into its perf map.
//!
//! A location is looked up soon after it was met, and again as the file grows, until the process ends: writers buffer
//! (Node up to 2 MiB), or write only at the end (the JVM). What has its name keeps it, since the code at an address may be
//! other code later; of several entries, the latest at the time of the look counts.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::demangle::demangle;
use super::perf_map::{Counts, PerfMap};
use crate::record::{FrameIndex, FrameNames, FunctionName};
use crate::target::named_file::{NamedFiles, NotOpened, Wanted};

/// Memory for the perf maps of all processes, bytes.
pub(super) const MOST_MAP_BYTES: usize = 256 << 20;
/// Longest perf map read, bytes.
const MOST_FILE_BYTES: u64 = 256 << 20;
/// Most bytes read for one process, should its map begin anew again and again.
const MOST_READ_BYTES: u64 = 4 * MOST_FILE_BYTES;
/// Most locations of one process that wait for their entry.
const MOST_WAITING: usize = 1 << 16;
/// The end of what was read is kept and compared, to tell a file that grew from one that was written anew. Bytes.
const REMEMBERED_BYTES: usize = 256;
/// How long after a look new locations wait for the next one.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// How often those are looked up again that had no entry.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// How much older than its process a perf map may seem: clocks are set, and kept in ticks.
const MOST_SKEW: Duration = Duration::from_secs(10);

/// Where a process's perf map is, or will be: `/tmp/perf-PID.map` in its root, by its pid in its own namespace.
#[derive(Debug)]
pub struct PerfMapSource {
    /// Opens files in the process's root, so that what is written as the process ends is still found.
    pub files: Arc<NamedFiles>,
    /// The process's pid as it sees it.
    pub ns_pid: u32,
    /// The user whose files the process's are. Those of this user and of root are trusted, which is perf's rule.
    pub owner: u32,
    /// When the process began. An older file is that of an earlier process with this pid.
    pub started: SystemTime,
}

/// Names of one process's code.
pub(super) struct JitNames {
    /// `None` once the process has ended: the next one to have its pid would write to the same name.
    source: Option<PerfMapSource>,
    opened: Option<OpenMap>,
    /// Bytes read so far, of all files.
    read: u64,
    waiting: Vec<(FrameIndex, u64)>,
    looked: Option<Instant>,
    due: Option<Instant>,
    /// Counts of maps that were replaced.
    former: Counts,
    /// A map was there and not used: whose, how old or what it is was wrong, or it is too long.
    pub(super) refused_file: bool,
}

/// A perf map, held open.
struct OpenMap {
    file: File,
    map: PerfMap,
    /// How far it was read.
    read_to: u64,
    /// The last bytes before that.
    last: Vec<u8>,
    /// Length and time of the last change when it was last looked at.
    seen: Option<(u64, i64, i64)>,
}

/// What a look found.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) names: Vec<FrameNames>,
    /// Locations that will have no name.
    pub(super) nameless: usize,
}

impl JitNames {
    pub(super) fn new(source: PerfMapSource) -> Self {
        Self {
            source: Some(source),
            opened: None,
            read: 0,
            waiting: Vec::new(),
            looked: None,
            due: None,
            former: Counts::default(),
            refused_file: false,
        }
    }

    /// Locations to be named, by address. A look is due for them.
    pub(super) fn ask(&mut self, frame: FrameIndex, address: u64, now: Instant) {
        self.waiting.push((frame, address));
        let soon = self
            .looked
            .map_or(now, |looked| now.max(looked + LOOK_AT_MOST_EVERY));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// When to look next; `None`: nothing waits.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Memory of its map, bytes.
    pub(super) fn bytes(&self) -> usize {
        self.opened.as_ref().map_or(0, |opened| opened.map.bytes())
    }

    /// Lines that name nothing.
    pub(super) fn counts(&self) -> Counts {
        let now = self.opened.as_ref().map(|opened| opened.map.counts());
        let now = now.unwrap_or_default();
        Counts {
            malformed: self.former.malformed + now.malformed,
            refused: self.former.refused + now.refused,
        }
    }

    /// Reads what the file has more, and names what waits. The map may take `room` bytes of memory.
    pub(super) fn look(&mut self, now: Instant, room: usize) -> Looked {
        self.read_on(room);
        self.looked = Some(now);
        let map = self.opened.as_ref().map(|opened| &opened.map);
        let mut looked = Looked::default();
        self.waiting.retain(|&(frame, address)| {
            let name = map.and_then(|map| name_of_return(map, address));
            looked.names.extend(name.map(|name| FrameNames {
                frame,
                functions: vec![FunctionName {
                    function: demangle(name),
                    file: None,
                    line: None,
                }],
                source: None,
            }));
            name.is_none()
        });
        // Those that have waited longest are the least likely to be named yet.
        looked.nameless = self.waiting.len().saturating_sub(MOST_WAITING);
        self.waiting.drain(..looked.nameless);
        self.due = (!self.waiting.is_empty()).then_some(now + LOOK_AGAIN_EVERY);
        looked
    }

    /// The last look: the process has ended, or nobody asks any more.
    pub(super) fn look_finally(&mut self, now: Instant, room: usize) -> Looked {
        let mut looked = self.look(now, room);
        looked.nameless += self.waiting.len();
        self.waiting = Vec::new();
        self.due = None;
        self.source = None;
        self.former = self.counts();
        self.opened = None;
        looked
    }

    fn read_on(&mut self, room: usize) {
        let Some(source) = &self.source else {
            return;
        };
        match source.open() {
            Ok(file) => {
                let same = self
                    .opened
                    .as_ref()
                    .is_some_and(|opened| is_same_file(&opened.file, &file));
                if !same {
                    self.begin_anew(file);
                }
            }
            // Not written yet; or removed, then what was read of it and will yet be written to it still counts.
            Err(NotOpened::Io(_)) => {}
            Err(NotOpened::Refused(why)) => {
                if !self.refused_file {
                    log::debug!("perf map of process {}: {why}", source.ns_pid);
                }
                self.refused_file = true;
            }
        }
        if let Some(opened) = &self.opened
            && opened.was_rewritten().unwrap_or(false)
            && let Ok(file) = opened.file.try_clone()
        {
            self.begin_anew(file);
        }
        if let Some(opened) = &mut self.opened {
            let most = MOST_READ_BYTES.saturating_sub(self.read);
            match opened.read_on(room, most) {
                Ok(Progress { read, whole }) => {
                    self.read += read;
                    self.refused_file |= !whole;
                }
                Err(error) => log::debug!("reading a perf map: {error}"),
            }
        }
    }

    fn begin_anew(&mut self, file: File) {
        self.former = self.counts();
        self.opened = Some(OpenMap {
            file,
            map: PerfMap::default(),
            read_to: 0,
            last: Vec::new(),
            seen: None,
        });
    }
}

/// The call is before the return address. Where nothing is there, what begins at the address itself counts.
fn name_of_return(map: &PerfMap, address: u64) -> Option<&str> {
    address
        .checked_sub(1)
        .and_then(|call| map.name_at(call))
        .or_else(|| map.name_at(address))
}

impl PerfMapSource {
    /// Opens the file if it is one to trust. Whoever may write to the target's `/tmp` can put a link there, so none is followed.
    fn open(&self) -> Result<File, NotOpened> {
        let name = format!("/tmp/perf-{}.map", self.ns_pid);
        let file = self.files.open(Path::new(&name), Wanted::NoLink)?;
        let metadata = file.metadata()?;
        if ![0, self.owner].contains(&metadata.uid()) {
            return Err(NotOpened::Refused("it belongs to another user"));
        }
        if metadata.modified()? + MOST_SKEW < self.started {
            return Err(NotOpened::Refused("it is older than the process"));
        }
        Ok(file)
    }
}

fn is_same_file(one: &File, other: &File) -> bool {
    let (Ok(one), Ok(other)) = (one.metadata(), other.metadata()) else {
        return false;
    };
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// How far reading came.
struct Progress {
    /// Bytes of the file that were read so far.
    read: u64,
    /// Whether that was all there is.
    whole: bool,
}

impl OpenMap {
    /// Whether the file is not the one any more that was read so far, although it has the same inode.
    fn was_rewritten(&self) -> io::Result<bool> {
        let mut last = vec![0; self.last.len()];
        let from = self.read_to - self.last.len() as u64;
        match self.file.read_exact_at(&mut last, from) {
            Ok(()) => Ok(last != self.last),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn read_on(&mut self, room: usize, most: u64) -> io::Result<Progress> {
        let meta = self.file.metadata()?;
        let now = (meta.len(), meta.mtime(), meta.mtime_nsec());
        if self.seen == Some(now) {
            return Ok(Progress {
                read: 0,
                whole: true,
            });
        }
        let before = self.read_to;
        let end = (before.saturating_add(most)).min(MOST_FILE_BYTES);
        let mut buffer = vec![0; 64 << 10];
        while self.read_to < end {
            let length = buffer.len().min((end - self.read_to) as usize);
            let got = self.file.read_at(&mut buffer[..length], self.read_to)?;
            if got == 0 {
                break;
            }
            self.map.take_in(&buffer[..got], room);
            self.read_to += got as u64;
            self.remember(&buffer[..got]);
        }
        self.seen = Some(now);
        Ok(Progress {
            read: self.read_to - before,
            whole: self.read_to >= now.0,
        })
    }

    fn remember(&mut self, read: &[u8]) {
        self.last
            .extend_from_slice(&read[read.len().saturating_sub(REMEMBERED_BYTES)..]);
        let surplus = self.last.len().saturating_sub(REMEMBERED_BYTES);
        self.last.drain(..surplus);
    }
}

#[cfg(test)]
mod tests;
