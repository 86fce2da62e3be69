//! The thread `hw-symbol`: asks for names go in, names come out, and neither side waits for the other.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};
use hashbrown::{HashMap, HashSet};

use super::module::ModuleSource;
use super::resolver::{Budget, Resolver};
use crate::record::{FrameIndex, FrameNames, ModuleIndex};

/// Most locations that wait for their names. More are refused and counted.
const MOST_WAITING: usize = 1 << 20;
/// Locations named in one go: between two such batches new modules are opened.
const BATCH: usize = 256;
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
    failed_modules: AtomicU64,
    failed_debug_info: AtomicU64,
    panics: AtomicU64,
    nameless_frames: AtomicU64,
    refused_frames: AtomicU64,
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
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Requests>,
    /// Something was added to `requests`.
    added: Condvar,
    counters: Arc<SymbolCounters>,
}

#[derive(Debug, Default)]
struct Requests {
    modules: Vec<NewModule>,
    frames: Vec<(FrameIndex, ModuleIndex, u64)>,
    /// Locations ever asked for.
    asked: HashSet<FrameIndex, foldhash::fast::RandomState>,
    /// Locations in `frames` and those that the thread has taken but not answered.
    waiting: usize,
    /// No more will be added.
    closed: bool,
    /// Nobody wants the answers.
    abandoned: bool,
}

#[derive(Debug)]
struct NewModule {
    index: ModuleIndex,
    path: PathBuf,
    source: ModuleSource,
    debug_dirs: Vec<PathBuf>,
}

impl Shared {
    /// A panic elsewhere leaves the requests whole: they are only ever added to and taken.
    fn lock(&self) -> MutexGuard<'_, Requests> {
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
        Self::start_with(Budget::default(), MOST_WAITING)
    }

    fn start_with(budget: Budget, most_waiting: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (sender, names) = crossbeam_channel::bounded(MOST_BATCHES);
        let worker = Worker {
            shared: Arc::clone(&shared),
            names: sender,
        };
        let thread = std::thread::Builder::new()
            .name("hw-symbol".into())
            .stack_size(STACK_BYTES)
            .spawn(move || worker.run(budget))?;
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
        self.shared.lock().modules.push(NewModule {
            index,
            path,
            source,
            debug_dirs,
        });
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
                requests.frames.push(frame);
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

    /// No more requests: waits until all are answered, and returns the rest.
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

/// The thread's own side.
struct Worker {
    shared: Arc<Shared>,
    names: Sender<Vec<FrameNames>>,
}

impl Worker {
    fn run(self, budget: Budget) {
        let mut resolver = Resolver::new(budget);
        let mut pending: HashMap<ModuleIndex, Vec<(FrameIndex, u64)>> = HashMap::new();
        // Staying with a module while it has requests keeps it parsed.
        let mut current = None;
        loop {
            let Some((modules, frames)) = self.take(pending.is_empty()) else {
                return;
            };
            for module in modules {
                resolver.add_module(
                    module.index,
                    &module.path,
                    module.source,
                    &module.debug_dirs,
                );
            }
            for (frame, module, offset) in frames {
                pending.entry(module).or_default().push((frame, offset));
            }
            let module = current
                .filter(|module| pending.contains_key(module))
                .or_else(|| pending.keys().next().copied());
            current = module;
            if let Some(module) = module {
                let batch = take_batch(&mut pending, module);
                if !self.answer(&mut resolver, module, &batch) {
                    return;
                }
            }
            self.count(&resolver);
        }
    }

    /// What was asked since the last time; waits for something if `idle`. `None`: that was all.
    #[expect(clippy::type_complexity, reason = "the two vectors of Requests")]
    fn take(&self, idle: bool) -> Option<(Vec<NewModule>, Vec<(FrameIndex, ModuleIndex, u64)>)> {
        let mut requests = self.shared.lock();
        loop {
            if requests.abandoned {
                return None;
            }
            if !idle || !requests.modules.is_empty() || !requests.frames.is_empty() {
                let modules = std::mem::take(&mut requests.modules);
                let frames = std::mem::take(&mut requests.frames);
                return Some((modules, frames));
            }
            if requests.closed {
                return None;
            }
            requests = self
                .shared
                .added
                .wait(requests)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// `false`: nobody takes the answers any more.
    fn answer(
        &self,
        resolver: &mut Resolver,
        module: ModuleIndex,
        batch: &[(FrameIndex, u64)],
    ) -> bool {
        let offsets: Vec<u64> = batch.iter().map(|&(_, offset)| offset).collect();
        let names: Vec<FrameNames> = batch
            .iter()
            .zip(resolver.resolve(module, &offsets))
            .filter(|(_, functions)| !functions.is_empty())
            .map(|(&(frame, _), functions)| FrameNames { frame, functions })
            .collect();
        self.shared.lock().waiting -= batch.len();
        let nameless = (batch.len() - names.len()) as u64;
        self.shared
            .counters
            .nameless_frames
            .fetch_add(nameless, Ordering::Relaxed);
        names.is_empty() || self.names.send(names).is_ok()
    }

    fn count(&self, resolver: &Resolver) {
        let failures = resolver.failures();
        let counters = &self.shared.counters;
        let set = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        set(&counters.failed_modules, failures.modules);
        set(&counters.failed_debug_info, failures.debug_info);
        set(&counters.panics, failures.panics);
    }
}

/// Takes some of what is pending for a module.
fn take_batch(
    pending: &mut HashMap<ModuleIndex, Vec<(FrameIndex, u64)>>,
    module: ModuleIndex,
) -> Vec<(FrameIndex, u64)> {
    let Some(frames) = pending.get_mut(&module) else {
        return Vec::new();
    };
    let batch = frames.split_off(frames.len().saturating_sub(BATCH));
    if frames.is_empty() {
        pending.remove(&module);
    }
    batch
}

#[cfg(test)]
mod tests;
