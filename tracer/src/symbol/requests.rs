//! What the session and the thread `hw-symbol` share: what was asked, and what could not be named.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hashbrown::HashSet;

use super::jit::PerfMapSource;
use super::module::ModuleSource;
use crate::record::{FrameIndex, ModuleIndex};

/// What could not be named, by cause.
#[derive(Debug, Default)]
pub struct SymbolCounters {
    pub(super) failed_modules: AtomicU64,
    pub(super) failed_debug_info: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) nameless_frames: AtomicU64,
    pub(super) refused_frames: AtomicU64,
    pub(super) refused_perf_maps: AtomicU64,
    pub(super) malformed_perf_lines: AtomicU64,
    pub(super) refused_perf_lines: AtomicU64,
    pub(super) late_debug_info: AtomicU64,
    pub(super) debuginfod_missing: AtomicBool,
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
    pub(super) asked: HashSet<FrameIndex, foldhash::fast::RandomState>,
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
