//! A session ties the stages together: probes in, events through the books and into the recording, probes out.
//!
//! One thread runs it (the caller's, as a tokio task); the rings are emptied by `hw-drain`, names are found by
//! `hw-symbol`. The order of a recording is made here: processes before their events, definitions before their use.

mod afford;
mod attach;
mod attaching;
mod checkup;
mod clock;
mod code;
mod company;
pub(crate) mod descriptors;
mod epochs;
mod error;
mod first_to_die;
mod follow;
mod governor;
mod heal;
mod intake;
mod launch;
mod life;
mod loads;
mod losses;
mod makeup;
mod mapped_code;
pub mod marks;
mod memory;
mod opening;
mod options;
mod pause;
mod places;
mod preflight;
mod probes;
mod program;
mod progress;
mod python;
mod quality;
pub mod rate;
mod recording;
mod scope;
mod several;
mod signals;
mod so_far;
mod stacks;
mod start;
mod threads;
mod unwind;
mod waiting;

use std::{
    collections::{HashMap, HashSet},
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};

pub use afford::NoRoom;
pub(crate) use attach::sites;
pub use checkup::{CheckedTarget, Checkup, checkup, sizes_for};
pub use clock::{monotonic, wall};
pub(crate) use company::Company;
pub use company::{Endangered, Endangers};
pub use error::SessionError;
pub use heal::{Healed, sweep};
pub use launch::{Identity, LaunchError, VERB as LAUNCH_VERB, become_command};
pub use options::{Options, Subject};
pub use preflight::{Declined, Forecast, Preflight};
pub use start::record;

use governor::{Governor, ProcessorTime};
use intake::{Sent, lifecycle};
use recording::Recording;
use signals::{Asked, Signals};
use waiting::{Undefined, Waiting};

use crate::{
    event::{Event, ProcessId},
    follow::{Fact, Images},
    model::Feed,
    own_memory,
    probe::{drain::Batch, kernel::Kernel, link::LinkKind, sideband::Sideband},
    record::{Closing, EndReason, Entry, MemorySample, ProcessLosses},
    symbol::{FrameInterner, Symbols},
};

/// How often memory is sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// How often a process that has called exec is looked at until its libc is mapped.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long a target may be gone before we stop waiting for the kernel side to say how it ended.
const END_GRACE: Duration = Duration::from_millis(500);

/// With fewer events than this in a second there is time to give memory back.
const QUIET: u64 = 10_000;

/// The reason of a session that a signal ended.
const INTERRUPTED: &str = "interrupted";

/// The reason of a session that slowed its target more than was allowed.
pub const OVER_LIMIT: &str = "it slowed the target more than --max-overhead allows";

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// What ended it.
    pub reason: &'static str,
    /// How a launched command ended.
    pub status: Option<std::process::ExitStatus>,
}

/// A session under way.
struct Session {
    options: Options,
    kernel: Kernel,
    /// Until the end, when it is waited for.
    symbols: Option<Symbols>,
    recording: Recording,
    /// What the entries so far come to.
    feed: Feed,
    /// The images that are followed.
    images: Images,
    /// Images of which events came, but nothing else.
    looked_for: HashSet<ProcessId>,
    seen: recording::Seen,
    stacks: stacks::Stacks,
    frames: FrameInterner,
    modules: code::Modules,
    unwinding: unwind::Unwinding,
    python: python::Pythons,
    sideband: Option<Sideband>,
    processes: HashMap<u32, follow::Followed>,
    /// When processes that have mapped code are to be looked at again.
    code_due: Option<Instant>,
    kinds: HashMap<crate::probe::selftest::Situation, LinkKind>,
    /// The process that was asked for, or the first of several.
    root: u32,
    /// Those of them that are traced still: the recording ends with the last.
    roots: Vec<u32>,
    root_ended: Option<&'static str>,
    pending: Vec<Event>,
    undefined: Waiting,
    quality: quality::Tally,
    /// What images that have ended lost.
    lost: Vec<ProcessLosses>,
    sweep: heal::Sweep,
    /// Processes that have loaded a library which patches code, and that library.
    patchers: HashMap<u32, PathBuf>,
    company: Company,
    places: places::Places,
    started: Instant,
    events: u64,
    /// log2 of the mean distance of samples in the latest sampled event; 0: every call is seen.
    exponent: u8,
    sent: Sent,
    threads: threads::Threads,
    /// How often each process has mapped which code.
    mapped_files: loads::MappedFiles,
    sampled_high: memory::SampledHigh,
    makeups: makeup::Makeups,
    attaching: attaching::Attaching,
    /// What it follows beside processes that were asked for by number.
    scope: Option<scope::Scoping>,
    answering: so_far::Answering,
    named: marks::Named,
    processor_time: ProcessorTime,
    governor: Option<Governor>,
}

/// Before anything is taken: from here on this process spares the others.
pub(crate) fn spare_others() {
    first_to_die::volunteer();
    own_memory::use_small_pages();
}

impl Session {
    /// The loop: batches, ticks, signals, until there is a reason to stop.
    async fn run(
        &mut self,
        batches: &mut mpsc::Receiver<Batch>,
        signals: &mut Signals,
        marks: &mut marks::Listener,
        mut launched: Option<&mut launch::Launched>,
    ) -> &'static str {
        let deadline = self
            .options
            .duration
            // One that ends after the clock does has no end.
            .and_then(|duration| Instant::now().checked_add(duration));
        let mut sampling = tokio::time::interval(SAMPLE_EVERY);
        sampling.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress =
            progress::Progress::new(self.options.progress && io::stderr().is_terminal());
        let mut flushed = Instant::now();
        let mut events_before = self.events;
        let mut interrupted = false;
        marks.know_processes(self.processes.keys().copied());
        let tables = std::sync::Arc::clone(&self.unwinding.ready);
        let attached = std::sync::Arc::clone(&self.attaching.ready);
        let newcomers = self
            .scope
            .as_ref()
            .map_or_else(Default::default, scope::Scoping::ready);
        let new_code = self
            .sideband
            .as_ref()
            .map_or_else(Default::default, |sideband| {
                std::sync::Arc::clone(&sideband.ready)
            });
        loop {
            let scope = self.scope.as_ref();
            let looking =
                self.awaits_library() || scope.is_some_and(scope::Scoping::awaits_programs);
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => self.take(batch),
                    None => return "the draining thread ended",
                },
                _ = sampling.tick() => {
                    self.define_stacks(None);
                    self.sample_all();
                    self.look_at_makeups();
                    self.look_at_probes();
                    self.sweep.go_on(&mut self.kernel);
                    self.examine_pythons();
                    if let Some(reason) = self.govern() {
                        progress.end();
                        return reason;
                    }
                    progress.draw(self);
                    if flushed.elapsed() > Duration::from_secs(1) {
                        self.name_young_threads();
                        marks.know_processes(self.processes.keys().copied());
                        self.flush();
                        self.fold();
                        flushed = Instant::now();
                        if self.events - events_before < QUIET {
                            own_memory::give_back();
                        }
                        events_before = self.events;
                    }
                }
                mark = marks.next() => self.mark(mark),
                () = tables.notified() => self.place_tables(),
                () = attached.notified() => self.take_attached(),
                () = new_code.notified() => self.hear_of_new_code(),
                () = sleep_until(self.code_due), if self.code_due.is_some() => self.look_at_new_code(),
                () = tokio::time::sleep(LOOK_EVERY), if looking => {
                    self.look_for_libraries();
                    self.try_newcomers_again();
                }
                () = newcomers.notified() => self.take_newcomers(),
                () = sleep_until(deadline), if deadline.is_some() => {
                    progress.end();
                    return "duration";
                }
                asked = signals.next() => match (asked, launched.as_mut()) {
                    // The command decides what the signal means; a second one is for us.
                    (Asked::End(number), Some(launched)) if !interrupted => {
                        interrupted = true;
                        launched.forward(number);
                    }
                    (Asked::End(_), _) => {
                        progress.end();
                        return INTERRUPTED;
                    }
                    (Asked::Stop, launched) => {
                        progress.end();
                        if let Some(launched) = &launched {
                            launched.forward(libc::SIGTSTP);
                        }
                        self.pause(batches).await;
                        if let Some(launched) = &launched {
                            launched.forward(libc::SIGCONT);
                        }
                    }
                    (Asked::Tell(number), Some(launched)) => launched.forward(number),
                    (Asked::Tell(libc::SIGUSR1), None) => {
                        progress.say(self);
                        self.tell_so_far();
                    }
                    (Asked::Tell(_), None) => {}
                },
            }
            self.let_patchers_go();
            if let Some(reason) = self.root_ended {
                progress.end();
                return reason;
            }
            if self.recording.has_failed() {
                progress.end();
                return "the recording could not be written";
            }
        }
    }

    /// Takes all probes out. Targets run on; their processes are written as let go. Gives what was read of the memory of each as it
    /// was: it is [written](Self::write_last_samples) once the events of before are.
    fn let_go(&mut self) -> Vec<(u32, MemorySample)> {
        self.end_attaching();
        let mut samples = Vec::new();
        for (&tgid, followed) in &mut self.processes {
            samples.extend(followed.read_memory().map(|sample| (tgid, sample)));
            // One cut for all functions: the probes themselves go one after another.
            self.kernel.forget_process(tgid);
        }
        self.take_probes_out();
        self.sweep.finish(&mut self.kernel);
        samples
    }

    /// All events have been taken: what the memory of those was that run on comes after them, and a last look at what it is made of.
    fn write_last_samples(&mut self, samples: Vec<(u32, MemorySample)>) {
        let mut running = Vec::new();
        for (tgid, sample) in samples {
            let Some(mut followed) = self.processes.remove(&tgid) else {
                continue;
            };
            self.write_high(&mut followed);
            if self.images.is_announced(sample.process) {
                self.write_pending();
                self.write(&Entry::Memory(sample));
                running.push(tgid);
            }
            self.processes.insert(tgid, followed);
        }
        self.look_at_the_end(&running);
    }

    /// Writes what could not be seen by now; the last such entry stands.
    fn write_quality(&mut self) {
        let losses = self.losses();
        let quality = self.quality.sum(
            &self.kernel,
            &self.stacks,
            self.frames.folded(),
            self.python.quality(),
            losses,
        );
        self.write(&Entry::Quality(quality));
    }

    /// Writes the rest: names, ends, counters.
    fn finish(mut self, reason: &'static str) -> Result<(), SessionError> {
        self.write_pending();
        for Undefined { definition, .. } in self.undefined.take() {
            // Its process came and went unseen: bare addresses are all there is.
            self.define(definition.process, &definition);
        }
        if let Some(root) = self.processes.remove(&self.root) {
            self.note_unseen(&root);
            self.processes.insert(self.root, root);
        }
        let at = monotonic();
        for image in self.images.all() {
            let reason = EndReason::Detached;
            self.follow(at, Fact::Ended { image, reason });
        }
        if let Some(symbols) = self.symbols.take() {
            let counters = symbols.counters();
            for names in symbols.finish() {
                self.write(&Entry::Names(names));
            }
            self.quality.note_symbols(&counters);
        }
        if self.modules.beyond_limit > 0 {
            self.quality.note(format!(
                "{} mapped files were not opened, so that their functions have no names: {}",
                self.modules.beyond_limit,
                descriptors::advice()
            ));
        }
        self.note_tables();
        self.tell_of_the_unsure();
        if self.recording.is_folded() {
            self.recording.fold(self.feed.live_mut(), self.seen, true);
        }
        self.quality.drop_marks(self.named.dropped());
        self.write_quality();
        self.write(&Entry::Closing(Closing {
            ended_ns: at.0,
            reason: reason.to_owned(),
        }));
        let path = self.options.output.clone();
        self.recording
            .finish()
            .map_err(|source| SessionError::Write { path, source })
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
