//! The recording as it is written: flushed, brought to the disk, and folded when it has grown too large.
//!
//! A folded recording holds no events. What the live set comes to is written in their place, now and then while recording goes
//! on, and each time stands for all before it. The file is made anew for that, beside the old one, and takes its name once it is
//! whole and on the disk: at every instant, one of the two is there under that name.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    },
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, bounded};

use crate::{
    live::LiveSet,
    priority,
    record::{
        Entry,
        compact::compact,
        fold,
        writer::{WriteError, Writer},
    },
    units::size,
};

/// The live set is told at most this often.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// ... and at least this often.
const MOST_INTERVAL: Duration = Duration::from_secs(300);
/// Telling the live set takes at most this part of the time.
const SHARE_OF_TIME: u32 = 50;
/// ... and at most so many bytes a second.
const BYTES_A_SECOND: u64 = 64 << 10;
/// A folded recording is not made anew before it has this size.
const LEAST_COMPACTED: u64 = 4 << 20;

/// The recording under way.
pub(super) struct Recording {
    writer: Writer<File>,
    path: PathBuf,
    /// The first failure to write; after it nothing is written.
    failure: Option<WriteError>,
    /// Beyond this it folds, bytes.
    max_size: u64,
    folded: Option<Folded>,
    disk: Disk,
}

struct Folded {
    /// When the live set is to be told again.
    due: Instant,
    /// How large the file was when it had just been made anew.
    base: u64,
}

/// What of the live set the events alone told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// System calls about the address space.
    pub(super) mappings: bool,
    /// Samples: the largest log2 of their mean distance, bytes.
    pub(super) sampling: Option<u8>,
}

impl Recording {
    /// Begins a recording in this file, which is empty; `path` is its name. `aggregate`: it is folded from the start.
    pub(super) fn begin(
        file: File,
        path: &Path,
        max_size: u64,
        aggregate: bool,
    ) -> Result<Self, WriteError> {
        let disk = Disk::start().map_err(WriteError::Io)?;
        let writer = Writer::new(file)?;
        Ok(Self {
            folded: aggregate.then(|| Folded {
                due: Instant::now() + LEAST_INTERVAL,
                base: 0,
            }),
            writer,
            path: path.to_owned(),
            failure: None,
            max_size,
            disk,
        })
    }

    /// Whether it holds no events any more.
    pub(super) fn is_folded(&self) -> bool {
        self.folded.is_some()
    }

    /// How large it is, bytes.
    pub(super) fn written(&self) -> u64 {
        self.writer.written()
    }

    /// Whether it could not be written.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn write(&mut self, entry: &Entry) {
        if self.failure.is_none() {
            match self.writer.write(entry) {
                Ok(()) => {}
                // One entry is left out, and the recording goes on.
                Err(error @ (WriteError::TooLarge { .. } | WriteError::TooDeep { .. })) => {
                    log::error!("{error}");
                }
                Err(error) => self.failure = Some(error),
            }
        }
    }

    /// Hands everything so far to the kernel, and asks it to bring that to the disk.
    pub(super) fn flush(&mut self) {
        if self.failure.is_none() {
            match self.writer.flush() {
                Ok(()) => self.disk.sync(self.writer.sink()),
                Err(error) => self.failure = Some(error),
            }
        }
    }

    /// Folds if it has grown too large, and tells the live set anew if that is due. Gives what is to be said of it when it folds.
    pub(super) fn fold_if_due(&mut self, live: &mut LiveSet, seen: Seen) -> Option<String> {
        let written = self.writer.written();
        match &self.folded {
            None if written > self.max_size => {
                self.fold(live, seen, true);
                Some(format!(
                    "the recording reached {}: from then on it holds totals for each stack, and single events no more",
                    size::short(self.max_size)
                ))
            }
            Some(folded) if Instant::now() >= folded.due => {
                let anew = written > 2 * folded.base.max(LEAST_COMPACTED / 2);
                self.fold(live, seen, anew);
                None
            }
            _ => None,
        }
    }

    /// Tells the live set, in a file made `anew` or at the end of this one.
    pub(super) fn fold(&mut self, live: &mut LiveSet, seen: Seen, anew: bool) {
        let began = Instant::now();
        let successor = if anew { self.make_anew() } else { None };
        let before = self.writer.written();
        for part in fold::parts(live.fold(), seen.mappings, seen.sampling) {
            self.write(&Entry::Fold(part));
        }
        self.flush();
        match (successor, &self.failure) {
            (None, _) => {}
            (Some(successor), None) => {
                let taken = successor.take_over(self.writer.sink(), &self.path);
                self.failure = taken.err().map(WriteError::Io);
            }
            // What lacks its fold is no recording. The old file has everything up to here.
            (Some(successor), Some(_)) => successor.discard(),
        }
        let written = self.writer.written();
        let by_bytes = Duration::from_secs((written - before) / BYTES_A_SECOND);
        let by_time = began.elapsed() * SHARE_OF_TIME;
        let interval = by_bytes.max(by_time).clamp(LEAST_INTERVAL, MOST_INTERVAL);
        let base = match &self.folded {
            Some(folded) if !anew => folded.base,
            _ => written,
        };
        self.folded = Some(Folded {
            due: Instant::now() + interval,
            base,
        });
    }

    /// Goes on in a copy without events, which is to take the name over. Where that cannot be made, the file stays as it is.
    fn make_anew(&mut self) -> Option<Successor> {
        if self.failure.is_some() {
            return None;
        }
        if let Err(error) = self.writer.flush() {
            self.failure = Some(error);
            return None;
        }
        let (successor, file, written) = Successor::of(self.writer.sink(), &self.path)
            .inspect_err(|error| {
                log::warn!("the recording keeps the events that it has: {error}");
            })
            .ok()?;
        match self.writer.move_to(file, written) {
            Ok(_) => Some(successor),
            Err(error) => {
                successor.discard();
                self.failure = Some(error);
                None
            }
        }
    }

    /// Ends it: everything is on the disk, or this says why not.
    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        self.flush();
        self.disk.stop();
        self.failure.map_or(Ok(()), Err)
    }
}

/// A copy of the recording that is to take its name.
struct Successor {
    path: PathBuf,
}

impl Successor {
    /// Copies all but the events and folds. Gives the copy, and how long it is.
    fn of(recording: &File, path: &Path) -> io::Result<(Self, File, u64)> {
        let metadata = recording.metadata()?;
        let named = std::fs::metadata(path)?;
        if !metadata.is_file() || (named.dev(), named.ino()) != (metadata.dev(), metadata.ino()) {
            return Err(io::Error::other("it is not a file under its name"));
        }
        let mut name = std::ffi::OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".folding");
        let successor = Self {
            path: path.with_file_name(name),
        };
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&successor.path)?;
        let copied = (|| {
            fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
            // The descriptor that we have is for writing alone.
            let from = File::open(format!("/proc/self/fd/{}", recording.as_raw_fd()))?;
            let mut to = BufWriter::new(&file);
            let written = compact(BufReader::new(from), &mut to).map_err(io::Error::other)?;
            to.flush()?;
            Ok(written)
        })();
        match copied {
            Ok(written) => Ok((successor, file, written)),
            Err(error) => {
                successor.discard();
                Err(error)
            }
        }
    }

    /// Leaves the recording as it is.
    fn discard(self) {
        // What went wrong before is what is told.
        let _ = std::fs::remove_file(&self.path);
    }

    fn take_over(self, file: &File, path: &Path) -> io::Result<()> {
        let taken = file
            .sync_data()
            .and_then(|()| std::fs::rename(&self.path, path));
        if taken.is_err() {
            self.discard();
        }
        taken
    }
}

/// The thread that brings to the disk what was written: it takes as long as the disk does.
struct Disk {
    files: Option<Sender<File>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    fn start() -> io::Result<Self> {
        let (files, written) = bounded::<File>(1);
        let thread = thread::Builder::new()
            .name("hw-disk".to_owned())
            .spawn(move || {
                priority::give_way();
                for file in written {
                    // A pipe has no disk; a disk that fails will say so to the next write.
                    let _ = file.sync_data();
                }
            })?;
        Ok(Self {
            files: Some(files),
            thread: Some(thread),
        })
    }

    /// Asks for it, unless it was asked for and has not begun.
    fn sync(&self, file: &File) {
        if let Some(files) = &self.files
            && !files.is_full()
            && let Ok(file) = file.try_clone()
        {
            let _ = files.try_send(file);
        }
    }

    fn stop(&mut self) {
        self.files = None;
        if let Some(thread) = self.thread.take() {
            // It ends once what it was asked for is done.
            let _ = thread.join();
        }
    }
}
