//! The thread `hw-symbol`: asks for names go in, names come out, and neither side waits for the other.
//!
//! This is the side of those who ask; `worker.rs` is the thread's own.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use hashbrown::HashSet;

use super::debuginfod::Debuginfod;
use super::jit::PerfMapSource;
use super::module::ModuleSource;
use super::resolver::Budget;
use super::worker::Worker;
use crate::priority;
use crate::record::{FrameIndex, FrameNames, ModuleIndex};

/// Most locations that wait for their names. More are refused and counted.
const MOST_WAITING: usize = 1 << 20;
/// Batches of names that wait to be taken. The thread rests while there are that many.
const MOST_BATCHES: usize = 256;
/// blazesym recurses where functions are inlined into each other; see [`super::dwarf`] for how deep.
const STACK_BYTES: usize = 16 << 20;

/// Handle of the thread that finds names.
///
/// Dropped without [`Symbols::finish`], it lets the thread end after what it is doing, without waiting.
#[derive(Debug)]
pub struct Symbols {
    shared: Arc<Shared>,
    names: Receiver<Vec<FrameNames>>,
    thread: Option<JoinHandle<()>>,
    most_waiting: usize,
}

/// What could not be named, by cause.
#[derive(Debug, Default)]
pub struct SymbolCounters {
    pub(super) failed_modules: AtomicU64,
    pub(super) failed_debug_info: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) nameless_frames: AtomicU64,
    refused_frames: AtomicU64,
    pub(super) refused_perf_maps: AtomicU64,
    pub(super) malformed_perf_lines: AtomicU64,
    pub(super) refused_perf_lines: AtomicU64,
    pub(super) late_debug_info: AtomicU64,
    debuginfod_missing: AtomicBool,
}

impl SymbolCounters {
    /// Modules whose frames all stay nameless: not an ELF file that we read, or refused by blazesym.
    pub fn failed_modules(&self) -> u64 {
        self.failed_modules.load(Ordering::Relaxed)
    }

    /// Modules whose debug information could not be used, so that their names have no lines.
    pub fn failed_debug_info(&self) -> u64 {
        self.failed_debug_info.load(Ordering::Relaxed)
    }

    /// Panics inside blazesym, caught.
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Locations that were looked for and have no name.
    pub fn nameless_frames(&self) -> u64 {
        self.nameless_frames.load(Ordering::Relaxed)
    }

    /// Locations that were never looked for, because too many were waiting.
    pub fn refused_frames(&self) -> u64 {
        self.refused_frames.load(Ordering::Relaxed)
    }

    /// Perf maps that were not used, or not wholly: of another user, older than the process, no regular file, too long.
    pub fn refused_perf_maps(&self) -> u64 {
        self.refused_perf_maps.load(Ordering::Relaxed)
    }

    /// Lines of perf maps that are no entries.
    pub fn malformed_perf_lines(&self) -> u64 {
        self.malformed_perf_lines.load(Ordering::Relaxed)
    }

    /// Entries of perf maps for which there was no room.
    pub fn refused_perf_lines(&self) -> u64 {
        self.refused_perf_lines.load(Ordering::Relaxed)
    }

    /// Modules whose debug information was still being fetched when the recording was finished.
    pub fn late_debug_info(&self) -> u64 {
        self.late_debug_info.load(Ordering::Relaxed)
    }

    /// Whether `DEBUGINFOD_URLS` asks for debug information that nothing here can fetch.
    pub fn debuginfod_missing(&self) -> bool {
        self.debuginfod_missing.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    requests: Mutex<Requests>,
    /// Something was added to `requests`.
    pub(super) added: Condvar,
    pub(super) counters: Arc<SymbolCounters>,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) new: New,
    /// Locations ever asked for.
    asked: HashSet<FrameIndex, foldhash::fast::RandomState>,
    /// Locations asked for that the thread has not answered.
    pub(super) waiting: usize,
    /// No more will be added by those who ask.
    pub(super) closed: bool,
    /// Nobody wants the answers.
    pub(super) abandoned: bool,
}

/// What the thread has not taken yet.
#[derive(Debug, Default)]
pub(super) struct New {
    pub(super) modules: Vec<NewModule>,
    pub(super) perf_maps: Vec<(ModuleIndex, PerfMapSource)>,
    /// Locations, to be taken after the modules.
    pub(super) frames: Vec<(FrameIndex, ModuleIndex, u64)>,
    /// Processes' code that grows no more, to be taken after the locations.
    pub(super) ended: Vec<ModuleIndex>,
    /// Debug information that was fetched, or is not to be had.
    pub(super) fetched: Vec<(ModuleIndex, Option<File>)>,
}

impl New {
    pub(super) fn is_empty(&self) -> bool {
        let Self {
            modules,
            perf_maps,
            frames,
            ended,
            fetched,
        } = self;
        modules.is_empty()
            && perf_maps.is_empty()
            && frames.is_empty()
            && ended.is_empty()
            && fetched.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct NewModule {
    pub(super) index: ModuleIndex,
    pub(super) path: PathBuf,
    pub(super) source: ModuleSource,
    pub(super) debug_dirs: Vec<PathBuf>,
}

impl Shared {
    /// A panic elsewhere leaves the requests whole: they are only ever added to and taken.
    pub(super) fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Symbols {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the system has no thread left.
    pub fn start() -> io::Result<Self> {
        Self::start_with(
            Budget::default(),
            MOST_WAITING,
            Debuginfod::from_environment(),
        )
    }

    fn start_with(budget: Budget, most_waiting: usize, debuginfod: Debuginfod) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let missing = debuginfod == Debuginfod::Missing;
        shared
            .counters
            .debuginfod_missing
            .store(missing, Ordering::Relaxed);
        let (sender, names) = crossbeam_channel::bounded(MOST_BATCHES);
        let worker = Worker::new(Arc::clone(&shared), sender, debuginfod)?;
        let thread = std::thread::Builder::new()
            .name("hw-symbol".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                priority::give_way();
                worker.run(budget);
            })?;
        Ok(Self {
            shared,
            names,
            thread: Some(thread),
            most_waiting,
        })
    }

    /// A module whose file is held open from now on, so that it resolves after the target exits or the file is
    /// deleted. Comes before [`Symbols::resolve`] of its frames.
    ///
    /// `path` is how the target names it, for messages and for the search of its file of debug information, which
    /// [`debug_file::find`](super::debug_file::find) describes with `debug_dirs`. That search happens soon, but on the
    /// thread: in a target that is gone by then, there is nothing to be found.
    pub fn add_module(
        &self,
        index: ModuleIndex,
        path: PathBuf,
        source: ModuleSource,
        debug_dirs: Vec<PathBuf>,
    ) {
        self.shared.lock().new.modules.push(NewModule {
            index,
            path,
            source,
            debug_dirs,
        });
        self.shared.added.notify_one();
    }

    /// The code of a process that no file has: offsets in this module are addresses, and names come from the process's
    /// perf map, once it has one. Comes before [`Symbols::resolve`] of its frames.
    pub fn add_perf_map(&self, index: ModuleIndex, source: PerfMapSource) {
        self.shared.lock().new.perf_maps.push((index, source));
        self.shared.added.notify_one();
    }

    /// The process of [`Symbols::add_perf_map`] has ended: whatever its perf map says now is all that it will say.
    pub fn end_perf_map(&self, index: ModuleIndex) {
        self.shared.lock().new.ended.push(index);
        self.shared.added.notify_one();
    }

    /// Asks for the names of return addresses, given as offsets in the file of their module. Never waits.
    ///
    /// Each location is looked for once, however often it is asked for. While 2²⁰ locations wait, further ones are
    /// refused: they stay nameless and are counted ([`SymbolCounters::refused_frames`]).
    pub fn resolve(&self, frames: Vec<(FrameIndex, ModuleIndex, u64)>) {
        let mut requests = self.shared.lock();
        let requests = &mut *requests;
        for frame in frames {
            if requests.waiting >= self.most_waiting {
                self.shared
                    .counters
                    .refused_frames
                    .fetch_add(1, Ordering::Relaxed);
            } else if requests.asked.insert(frame.0) {
                requests.new.frames.push(frame);
                requests.waiting += 1;
            }
        }
        self.shared.added.notify_one();
    }

    /// The names found since the last time. Never waits.
    ///
    /// While nobody takes them, the thread rests after 2¹⁶ of them.
    pub fn try_names(&self) -> Vec<FrameNames> {
        self.names.try_iter().flatten().collect()
    }

    /// No more requests: waits until all are answered, and returns the rest. For debug information that is still being
    /// fetched it waits half a minute at most.
    pub fn finish(mut self) -> Vec<FrameNames> {
        self.shared.lock().closed = true;
        self.shared.added.notify_one();
        let rest = self.names.iter().flatten().collect();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that finds names panicked; some names are missing");
        }
        rest
    }

    /// What could not be named; goes on counting, and stays readable after [`Symbols::finish`].
    pub fn counters(&self) -> Arc<SymbolCounters> {
        Arc::clone(&self.shared.counters)
    }
}

impl Drop for Symbols {
    fn drop(&mut self) {
        let mut requests = self.shared.lock();
        requests.closed = true;
        requests.abandoned = true;
        self.shared.added.notify_one();
    }
}

#[cfg(test)]
mod tests;
