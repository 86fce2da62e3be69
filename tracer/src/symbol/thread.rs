//! The thread `hw-symbol`: asks for names go in, names come out, and neither side waits for the other.
//!
//! This is the side of those who ask; `worker.rs` is the thread's own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use super::debuginfod::Debuginfod;
use super::jit::PerfMapSource;
use super::module::ModuleSource;
use super::requests::{NewModule, Shared, SymbolCounters};
use super::resolver::Budget;
use super::worker::Worker;
use crate::priority;
use crate::record::{FrameIndex, FrameNames, ModuleIndex};
use crossbeam_channel::Receiver;

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
