//! The thread's own side of [`Symbols`](super::Symbols).

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use hashbrown::{HashMap, HashSet};

use super::debuginfod::{self, Debuginfod, Wanted};
use super::jit::{JitNames, Looked, MOST_MAP_BYTES};
use super::perf_map::Counts;
use super::requests::{New, Shared};
use super::resolver::{Budget, Resolver};
use crate::own_memory;
use crate::record::{FrameIndex, FrameNames, FunctionName, ModuleIndex};

/// Locations named in one go: between two such batches new modules are opened.
pub(super) const BATCH: usize = 256;
/// What was parsed is held for this long after it was last asked for, and for so many times as long as parsing and asking took: to
/// parse it again now and then costs little of a processor.
const HELD_AT_LEAST: Duration = Duration::from_secs(5);
const HELD_TIMES: u32 = 50;
/// How long debug information is waited for once everything was asked.
const FETCH_AT_END: Duration = Duration::from_secs(30);

/// What the thread works with.
pub(super) struct Worker {
    shared: Arc<Shared>,
    names: Sender<Vec<FrameNames>>,
    /// Asks for files of debug information, if the user wants that.
    wanted: Option<Sender<Wanted>>,
}

/// What the thread has in hand.
struct Work {
    resolver: Resolver,
    /// Locations in files.
    pending: HashMap<ModuleIndex, Vec<(FrameIndex, u64)>>,
    /// How long it took since nothing was parsed, and when it was last asked.
    asked_for: Duration,
    last_asked: Instant,
    /// Staying with a module while it has requests keeps it parsed.
    current: Option<ModuleIndex>,
    /// Code that no file has.
    jits: HashMap<ModuleIndex, JitNames>,
    /// What the perf maps of processes that have ended came to.
    ended_jits: (Counts, u64),
    /// Modules whose debug information was asked for, answered or not.
    asked: HashSet<ModuleIndex>,
    /// Those not answered. Their locations wait.
    fetching: HashSet<ModuleIndex>,
    /// Until when those are waited for, once nothing more is asked.
    fetch_until: Option<Instant>,
}

/// What to do next.
enum Next {
    /// Take in this, perhaps nothing.
    Go { new: New, closed: bool },
    /// Nobody wants the answers.
    Stop,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        names: Sender<Vec<FrameNames>>,
        debuginfod: Debuginfod,
    ) -> io::Result<Self> {
        let wanted = match debuginfod {
            Debuginfod::Client(client) => {
                let shared = Arc::clone(&shared);
                Some(debuginfod::start(client, move |module, file| {
                    shared.lock().new.fetched.push((module, file));
                    shared.added.notify_one();
                })?)
            }
            Debuginfod::Off | Debuginfod::Missing => None,
        };
        Ok(Self {
            shared,
            names,
            wanted,
        })
    }

    pub(super) fn run(self, budget: Budget) {
        let mut work = Work {
            resolver: Resolver::new(budget),
            asked_for: Duration::ZERO,
            last_asked: Instant::now(),
            pending: HashMap::new(),
            current: None,
            jits: HashMap::new(),
            ended_jits: Default::default(),
            asked: HashSet::new(),
            fetching: HashSet::new(),
            fetch_until: None,
        };
        loop {
            let Next::Go { new, closed } = self.take(&work) else {
                return;
            };
            let ended = work.take_in(new);
            if closed {
                let until = *work
                    .fetch_until
                    .get_or_insert_with(|| Instant::now() + FETCH_AT_END);
                if Instant::now() >= until {
                    let late = work.fetching.drain().count() as u64;
                    let counter = &self.shared.counters.late_debug_info;
                    counter.fetch_add(late, Ordering::Relaxed);
                }
            }
            if !self.name_jit_code(&mut work, ended, closed) {
                return;
            }
            if let Some(module) = self.next_module(&mut work) {
                let batch = take_batch(&mut work.pending, module);
                let offsets: Vec<u64> = batch.iter().map(|&(_, offset)| offset).collect();
                let names: Vec<FrameNames> = batch
                    .iter()
                    .zip(work.resolve(module, &offsets))
                    .filter(|(_, functions)| !functions.is_empty())
                    .map(|(&(frame, _), functions)| FrameNames {
                        frame,
                        functions,
                        source: None,
                    })
                    .collect();
                let nameless = batch.len() - names.len();
                if !self.answer(Looked { names, nameless }) {
                    return;
                }
            }
            self.count(&work);
            let lets_go = work.lets_go_at().is_some_and(|at| at <= Instant::now());
            if lets_go {
                work.resolver.let_go();
                work.asked_for = Duration::ZERO;
            }
            if work.is_done() || lets_go {
                if closed && work.is_done() {
                    return;
                }
                own_memory::give_back();
            }
        }
    }

    /// What was asked since the last time; waits for something unless there is work.
    fn take(&self, work: &Work) -> Next {
        let mut requests = self.shared.lock();
        loop {
            if requests.abandoned {
                return Next::Stop;
            }
            let until = work.idle_until();
            let now = Instant::now();
            let due = until.is_some_and(|until| until <= now);
            // Closing is news once; after it only fetched files and their deadline are.
            let closing = requests.closed && work.fetch_until.is_none();
            if due || closing || !requests.new.is_empty() {
                return Next::Go {
                    new: std::mem::take(&mut requests.new),
                    closed: requests.closed,
                };
            }
            let added = &self.shared.added;
            requests = match until {
                Some(until) => added
                    .wait_timeout(requests, until - now)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(requests, _)| requests),
                None => added.wait(requests).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Looks into the perf maps that are due; for the last time if `closed`, and into those that have ended. `false`:
    /// nobody takes the answers any more.
    fn name_jit_code(&self, work: &mut Work, ended: Vec<ModuleIndex>, closed: bool) -> bool {
        let now = Instant::now();
        let last: Vec<ModuleIndex> = if closed {
            work.jits.keys().copied().collect()
        } else {
            ended
        };
        let mut looked = Vec::new();
        for module in last {
            let room = work.room_for(module);
            if let Some(mut jit) = work.jits.remove(&module) {
                looked.push(jit.look_finally(now, room));
                let (counts, refused_files) = &mut work.ended_jits;
                add(counts, jit.counts());
                *refused_files += u64::from(jit.refused_file);
            }
        }
        let due: Vec<ModuleIndex> = work
            .jits
            .iter()
            .filter(|(_, jit)| jit.due().is_some_and(|due| due <= now))
            .map(|(module, _)| *module)
            .collect();
        for module in due {
            let room = work.room_for(module);
            if let Some(jit) = work.jits.get_mut(&module) {
                looked.push(jit.look(now, room));
            }
        }
        looked.into_iter().all(|looked| self.answer(looked))
    }

    /// The module to name next: none whose debug information is on its way.
    fn next_module(&self, work: &mut Work) -> Option<ModuleIndex> {
        loop {
            let ready = |module: &ModuleIndex| !work.fetching.contains(module);
            let module = work
                .current
                .filter(|module| ready(module) && work.pending.contains_key(module))
                .or_else(|| work.pending.keys().copied().find(ready));
            work.current = module;
            let module = module?;
            if !self.fetch(work, module) {
                return Some(module);
            }
        }
    }

    /// Asks for the debug information of a module that has none here, once. Says whether to wait for it.
    fn fetch(&self, work: &mut Work, module: ModuleIndex) -> bool {
        let Some(wanted) = &self.wanted else {
            return false;
        };
        let Some(build_id) = work.resolver.lacks_debug_info(module) else {
            return false;
        };
        let build_id = build_id.to_owned();
        let asks = work.asked.insert(module) && wanted.send(Wanted { module, build_id }).is_ok();
        if asks {
            work.fetching.insert(module);
        }
        asks
    }

    /// `false`: nobody takes the answers any more.
    fn answer(&self, Looked { names, nameless }: Looked) -> bool {
        self.shared.lock().waiting -= names.len() + nameless;
        let counter = &self.shared.counters.nameless_frames;
        counter.fetch_add(nameless as u64, Ordering::Relaxed);
        names.is_empty() || self.names.send(names).is_ok()
    }

    fn count(&self, work: &Work) {
        let failures = work.resolver.failures();
        let (mut lines, mut refused_files) = work.ended_jits;
        for jit in work.jits.values() {
            add(&mut lines, jit.counts());
            refused_files += u64::from(jit.refused_file);
        }
        let counters = &self.shared.counters;
        let set = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        set(&counters.failed_modules, failures.modules);
        set(&counters.failed_debug_info, failures.debug_info);
        set(&counters.panics, failures.panics);
        set(&counters.refused_perf_maps, refused_files);
        set(&counters.malformed_perf_lines, lines.malformed);
        set(&counters.refused_perf_lines, lines.refused);
    }
}

impl Work {
    /// Takes in what is new; returns the modules that have ended.
    fn take_in(&mut self, new: New) -> Vec<ModuleIndex> {
        for module in new.modules {
            self.resolver.add_module(
                module.index,
                &module.path,
                module.source,
                module.files.as_deref(),
            );
        }
        for (module, source) in new.perf_maps {
            self.jits.insert(module, JitNames::new(source));
        }
        let now = Instant::now();
        for (frame, module, offset) in new.frames {
            match self.jits.get_mut(&module) {
                Some(jit) => jit.ask(frame, offset, now),
                None => self
                    .pending
                    .entry(module)
                    .or_default()
                    .push((frame, offset)),
            }
        }
        for (module, file) in new.fetched {
            self.take_debug_file(module, file);
        }
        new.ended
    }

    fn take_debug_file(&mut self, module: ModuleIndex, file: Option<File>) {
        // What comes too late for the first question is not used.
        if self.fetching.remove(&module)
            && let Some(file) = file
            && !self.resolver.add_debug_file(module, file)
        {
            log::debug!(
                "debug information fetched for module {} is of another build",
                module.0
            );
        }
    }

    fn resolve(&mut self, module: ModuleIndex, offsets: &[u64]) -> Vec<Vec<FunctionName>> {
        let begun = Instant::now();
        let names = self.resolver.resolve(module, offsets);
        self.last_asked = Instant::now();
        self.asked_for += self.last_asked - begun;
        names
    }

    /// When what was parsed is let go, unless it is asked for again.
    fn lets_go_at(&self) -> Option<Instant> {
        let held = HELD_AT_LEAST.max(self.asked_for.saturating_mul(HELD_TIMES));
        let holds = self.resolver.holds_any() && !self.is_busy();
        holds.then(|| self.last_asked.checked_add(held))?
    }

    /// Whether locations can be named right now.
    fn is_busy(&self) -> bool {
        self.pending
            .keys()
            .any(|module| !self.fetching.contains(module))
    }

    fn is_done(&self) -> bool {
        self.pending.is_empty() && self.jits.is_empty()
    }

    /// How long there is nothing to do unless something comes; `None`: for ever.
    fn idle_until(&self) -> Option<Instant> {
        if self.is_busy() || self.fetch_until.is_some() && self.is_done() {
            return Some(Instant::now());
        }
        let looks = self.jits.values().filter_map(JitNames::due);
        let fetch_until = self.fetch_until.filter(|_| !self.fetching.is_empty());
        let lets_go = self.lets_go_at();
        looks.chain(fetch_until).chain(lets_go).min()
    }

    /// Memory that the perf map of this module may take: what the others leave.
    fn room_for(&self, module: ModuleIndex) -> usize {
        let others = self.jits.iter().filter(|(other, _)| **other != module);
        let taken: usize = others.map(|(_, jit)| jit.bytes()).sum();
        MOST_MAP_BYTES.saturating_sub(taken)
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.malformed += counts.malformed;
    sum.refused += counts.refused;
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
