//! A session ties the stages together: probes in, events through the books and into the recording, probes out.
//!
//! One thread runs it (the caller's, as a tokio task); the rings are emptied by `hw-drain`, names are found by
//! `hw-symbol`. The order of a recording is made here: processes before their events, definitions before their use.

mod afford;
mod attach;
mod checkup;
mod clock;
mod code;
mod company;
pub(crate) mod descriptors;
mod epochs;
mod first_to_die;
mod follow;
mod governor;
mod heal;
mod launch;
mod life;
mod mapped_code;
pub mod marks;
mod memory;
mod opening;
mod pause;
mod preflight;
mod probes;
mod progress;
mod python;
mod quality;
pub mod rate;
mod recording;
mod signals;
mod stacks;
mod threads;
mod unwind;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use highwater_common::{event::RawEvent, loss::Losses, sampling::Sampling};
use thiserror::Error;
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
pub use heal::{Healed, sweep};
pub use launch::{Identity, LaunchError, VERB as LAUNCH_VERB, become_command};
pub use preflight::{Declined, Forecast, Preflight};

use governor::{Governor, ProcessorTime};
use recording::Recording;
use signals::{Asked, Signals};

use crate::words::say;
use crate::{
    event::{
        Call, Event, Nanos, ProcessId, Tid,
        decode::{self, Change, Decoded, StackDefinition},
    },
    follow::{Fact, Images},
    live::LiveSet,
    model::Feed,
    own_memory,
    probe::{
        ProbeError,
        calibrate::CalibrationError,
        drain::{Batch, Drain},
        kernel::Kernel,
        link::LinkKind,
        sideband::Sideband,
        sizes::{self, Sizes},
    },
    record::{Closing, EndReason, Entry, LossKind, Opening, ProcessLosses, writer::WriteError},
    symbol::{FrameInterner, Symbols},
    target::TargetError,
    units::size,
};

/// Batches between the draining thread and the session: what is in flight at most.
const BATCHES_IN_FLIGHT: usize = 8;
/// Stacks that wait for their process to become known, at most.
const MOST_UNDEFINED: usize = 64 << 10;
/// How often memory is sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// How often a process that has called exec is looked at until its libc is mapped.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long a target may be gone before we stop waiting for the kernel side to say how it ended.
const END_GRACE: Duration = Duration::from_millis(500);

/// Images whose losses are written down one by one: those of the others together, so that the account has room in an entry.
const MOST_LOSERS: usize = 10_000;
/// No image has this number.
const NO_IMAGE: ProcessId = ProcessId(0);

/// With fewer events than this in a second there is time to give memory back.
const QUIET: u64 = 10_000;
/// By how much kernel memory has to grow while tracing for that to be told, bytes.
const WORTH_TELLING: u64 = 1 << 20;

/// The reason of a session that a signal ended.
const INTERRUPTED: &str = "interrupted";

/// The reason of a session that slowed its target more than was allowed.
pub const OVER_LIMIT: &str = "it slowed the target more than --max-overhead allows";

/// What to trace.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A process that runs already.
    Running {
        /// Its pid.
        pid: u32,
    },
    /// A command to launch.
    Command {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// How to trace it.
#[derive(Clone, Debug)]
pub struct Options {
    /// What.
    pub subject: Subject,
    /// The recording's path; it exists already and is empty.
    pub output: PathBuf,
    /// Beyond this size the recording holds totals in place of events, bytes.
    pub max_size: u64,
    /// It does so from the start.
    pub aggregate: bool,
    /// Stop after this long.
    pub duration: Option<Duration>,
    /// Follow the processes that the target makes, and those it has made.
    pub children: bool,
    /// Follow the system calls that change address spaces.
    pub mappings: bool,
    /// Allocations are samples: log2 of the mean number of bytes from one to the next.
    pub sample: Option<u32>,
    /// The most that the target may be slowed: 0.05 is 5 %.
    pub max_overhead: Option<f64>,
    /// Size of the event ring, bytes; otherwise by the rate of calls.
    pub ring_bytes: Option<u32>,
    /// A launched Python is to ask malloc for every object.
    pub python_allocators: bool,
    /// A kind of link instead of the best that works.
    pub link: Option<LinkKind>,
    /// What to do before attaching to a process that runs.
    pub preflight: Preflight,
    /// Whether a progress line may be drawn.
    pub progress: bool,
}

impl Options {
    /// The sizes of the maps for a rate of calls, if that is known.
    fn sizes(&self, calls_per_s: Option<f64>) -> Sizes {
        let processors = checkup::processors();
        let samples = self.sample.is_some() || self.max_overhead.is_some();
        match (self.ring_bytes, calls_per_s) {
            (Some(ring), _) => Sizes::with_ring(ring, samples, processors),
            (None, Some(rate)) => Sizes::for_rate(rate, samples, processors),
            (None, None) => Sizes::with_ring(sizes::UNKNOWN_RING, samples, processors),
        }
    }

    /// Those that decide on what a recording holds, as it tells them.
    pub fn told(&self) -> BTreeMap<String, String> {
        let sample = self.sample.map(|exponent| (1u64 << exponent).to_string());
        let limit = self.max_overhead.map(|share| share.to_string());
        let told = [
            ("max_size", Some(self.max_size.to_string())),
            ("aggregate", Some(self.aggregate.to_string())),
            ("children", Some(self.children.to_string())),
            ("mappings", Some(self.mappings.to_string())),
            ("ring_bytes", self.ring_bytes.map(|bytes| bytes.to_string())),
            ("sample_bytes", sample),
            ("max_overhead", limit),
        ];
        told.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}

/// How a session ended.
#[derive(Debug)]
pub struct Outcome {
    /// What ended it.
    pub reason: &'static str,
    /// How a launched command ended.
    pub status: Option<std::process::ExitStatus>,
}

/// Why a session could not go on.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The target cannot be traced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Probes could not be placed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Another recorder must not be joined.
    #[error(transparent)]
    Company(#[from] Endangers),
    /// The target must be traced alone, and would not be.
    #[error(transparent)]
    NotAlone(#[from] Endangered),
    /// What tracing costs could not be measured beforehand.
    #[error("{0}; to attach without knowing what it will cost: --preflight 0")]
    Calibration(#[from] CalibrationError),
    /// The cost was not accepted.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// Our memory would be missing to the target.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The command could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The recording could not be written.
    #[error(
        "cannot write the recording {}: {source}\nthe probes are out and the target runs on",
        path.display()
    )]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// A thread could not be started, or a signal not be awaited.
    #[error("cannot {what}: {source}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Calls whose events were sent.
#[derive(Debug, Default)]
struct Sent {
    allocations: u64,
    frees: u64,
}

impl Sent {
    fn count(&mut self, call: &Call) {
        match call {
            Call::Allocated { .. }
            | Call::Failed { .. }
            | Call::Resized { .. }
            | Call::ResizeFailed { .. }
            | Call::ResizeFreed { .. } => self.allocations += 1,
            Call::Freed { .. } => self.frees += 1,
            _ => {}
        }
    }
}

/// A stack that waits to be defined.
struct Undefined {
    /// When its definition was read from the ring.
    since: Instant,
    definition: StackDefinition,
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
    root: u32,
    root_ended: Option<&'static str>,
    pending: Vec<Event>,
    undefined: Vec<Undefined>,
    quality: quality::Tally,
    /// What images that have ended lost.
    lost: Vec<ProcessLosses>,
    sweep: heal::Sweep,
    /// Processes that have loaded a library which patches code, and that library.
    patchers: HashMap<u32, PathBuf>,
    company: Company,
    started: Instant,
    events: u64,
    /// log2 of the mean distance of samples in the latest sampled event; 0: every call is seen.
    exponent: u8,
    sent: Sent,
    threads: threads::Threads,
    named: marks::Named,
    processor_time: ProcessorTime,
    governor: Option<Governor>,
}

/// Before anything is taken: from here on this process spares the others.
pub(crate) fn spare_others() {
    first_to_die::volunteer();
    own_memory::use_small_pages();
}

/// Records until the target ends, `duration` has passed, or a signal says so.
///
/// # Errors
///
/// See [`SessionError`]. Whatever happens, the probes are out when this returns.
pub async fn record(
    options: Options,
    output: File,
    mut opening: Opening,
) -> Result<Outcome, SessionError> {
    descriptors::raise();
    let mut signals = Signals::new().map_err(|source| SessionError::Start {
        what: "await signals",
        source,
    })?;
    let company = Company::join()?;
    let sweep = heal::Sweep::start();
    let mut kinds = HashMap::new();
    let wanted = options.sizes(None);
    let mut counted = None;
    let (mut kernel, sizes) = match options.subject {
        Subject::Running { pid } if !options.preflight.window.is_zero() => {
            // With next to no memory: how much is called for is known once the calls were counted.
            afford::check(wanted)?;
            let mut counting = Kernel::load(&Sizes::COUNTING)?;
            let found =
                preflight::look(&mut counting, &mut kinds, &options, pid, &mut signals).await?;
            let sizes = afford::afford(options.sizes(Some(found.calls_per_s())))?;
            counted = Some(found);
            (counting.resize(&sizes)?, sizes)
        }
        _ => {
            let sizes = afford::afford(wanted)?;
            (Kernel::load(&sizes)?, sizes)
        }
    };
    let ring_bytes = ("ring_bytes".to_owned(), sizes.ring().to_string());
    opening.options.extend([ring_bytes]);
    // Kept until the end: the programs refer to its map. Without log statements enabled there is nothing to read.
    let _logger = aya_log::EbpfLogger::init(kernel.ebpf());
    kernel.follow_processes()?;
    let mut rings = kernel.take_rings()?;
    let sampling = Sampling {
        exponent: options.sample.unwrap_or(0),
        all_frees: 0,
    };
    kernel.set_sampling(sampling)?;
    let mut forecast = None;
    if let Some(counted) = counted {
        let go_on = options.preflight.go_on;
        forecast =
            Some(preflight::tell(&mut kernel, &mut rings, &counted, go_on, &mut signals).await?);
    }
    let governor = match options.max_overhead {
        Some(limit) => {
            let cost = match forecast {
                Some(forecast) => forecast.cost,
                None => preflight::cost(&mut kernel, &mut rings, &mut kinds, &options)?,
            };
            Some(Governor::new(limit, cost, sampling))
        }
        None => None,
    };
    let symbols = Symbols::start().map_err(|source| SessionError::Start {
        what: "start the symbol thread",
        source,
    })?;
    if let Err(error) = kernel.follow_remapping() {
        log::info!("code whose addresses are given out anew is not seen off: {error}");
    }
    let mut quality = quality::Tally::default();
    let mut mappings_untraced = None;
    if !options.mappings {
        quality.note("memory mappings were not traced, as asked for by --no-mappings".to_owned());
    } else if let Err(error) = kernel.follow_mappings() {
        mappings_untraced = Some(error.to_string());
    }
    let sideband = Sideband::start()
        .inspect_err(|error| {
            log::info!(
                "new code is looked for once a second, for the kernel does not tell of it: {error}"
            );
        })
        .ok();
    let runs_already = matches!(options.subject, Subject::Running { .. });
    let unwinding =
        unwind::Unwinding::start(runs_already).map_err(|source| SessionError::Start {
            what: "start the threads that build unwind tables",
            source,
        })?;
    let (sender, mut batches) = mpsc::channel(BATCHES_IN_FLIGHT);
    let drain = Drain::start(rings, sender).map_err(|source| SessionError::Start {
        what: "start the draining thread",
        source,
    })?;
    let Options {
        output: path,
        max_size,
        aggregate,
        ..
    } = &options;
    let recording = Recording::begin(output, path, *max_size, *aggregate).map_err(|source| {
        let path = path.clone();
        SessionError::Write { path, source }
    })?;
    let mut session = Session {
        kernel,
        symbols: Some(symbols),
        recording,
        // What came when is kept for the day that the recording has to fold.
        feed: Feed::new(LiveSet::new().with_timeline()),
        images: Images::default(),
        looked_for: HashSet::new(),
        seen: recording::Seen::default(),
        stacks: stacks::Stacks::default(),
        frames: FrameInterner::new(),
        modules: code::Modules::default(),
        unwinding,
        python: python::Pythons::new(!opening.redacted),
        sideband,
        processes: HashMap::new(),
        code_due: None,
        kinds,
        root: 0,
        root_ended: None,
        pending: Vec::new(),
        undefined: Vec::new(),
        quality,
        lost: Vec::new(),
        sweep,
        patchers: HashMap::new(),
        company,
        started: Instant::now(),
        events: 0,
        exponent: 0,
        sent: Sent::default(),
        threads: threads::Threads::default(),
        named: marks::Named::default(),
        processor_time: ProcessorTime::default(),
        governor,
        options,
    };
    afford::still_fits()?;
    let memory_at_start = session.kernel.memory_bytes();
    say!(
        "{} of kernel memory, {} of it the event ring",
        size::short(memory_at_start),
        size::short(u64::from(sizes.ring()))
    );
    // Before it is said that anything is traced: from then on it can be marked.
    let mut marks = marks::Listener::start(&session.options.output);
    let mut launched = session.begin(opening)?;
    own_memory::give_back();
    if let Some(why) = mappings_untraced {
        session.lose(LossKind::MappingsUntraced, None, why);
    }
    let reason = session
        .run(&mut batches, &mut signals, &mut marks, launched.as_mut())
        .await;
    session.let_go();
    for mark in marks.rest() {
        session.mark(mark);
    }
    session.quality.refuse_marks(marks.refused());
    drop(marks);
    drain.stop();
    while let Some(batch) = batches.recv().await {
        session.take(batch);
    }
    drain.join();
    let memory = session.kernel.memory_bytes();
    if memory > memory_at_start + WORTH_TELLING {
        say!(
            "{} of kernel memory in the end, {} of it unwind tables",
            size::short(memory),
            size::short(session.kernel.tables().bytes())
        );
    }
    session.finish(reason)?;
    // The recording is whole, and there is nothing to take out: a second Ctrl-C ends us at once.
    signals::restore();
    let status = launched.and_then(|launched| launched.wait(reason != INTERRUPTED));
    Ok(Outcome { reason, status })
}

impl Session {
    /// Puts the first probes in. From here on events come.
    fn begin(&mut self, mut opening: Opening) -> Result<Option<launch::Launched>, SessionError> {
        let launched = match self.options.subject.clone() {
            Subject::Running { pid } => {
                self.root = pid;
                let (target, findings) = attach::settled(|| attach::examine(pid))?;
                let kind = self.kind_for(&target, &findings)?;
                opening.link = kind.to_string();
                self.open(opening);
                self.attach_running(pid)?;
                None
            }
            Subject::Command { command } => {
                let mut environment = Vec::new();
                if self.options.python_allocators {
                    environment.push(("PYTHONMALLOC", "malloc"));
                    self.quality.remark(
                        "Python ran with PYTHONMALLOC=malloc, as asked for by --python-allocators"
                            .to_owned(),
                    );
                }
                let launched = launch::Launched::hold(&command, &environment)?;
                self.root = launched.pid();
                let kind = self.hold(&launched)?;
                opening.link = kind.to_string();
                self.open(opening);
                Some(launched)
            }
        };
        if let Some(launched) = &launched {
            launched.release()?;
        }
        self.flush();
        Ok(launched)
    }

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
        let new_code = self
            .sideband
            .as_ref()
            .map_or_else(Default::default, |sideband| {
                std::sync::Arc::clone(&sideband.ready)
            });
        loop {
            let looking = self.awaits_library();
            tokio::select! {
                batch = batches.recv() => match batch {
                    Some(batch) => self.take(batch),
                    None => return "the draining thread ended",
                },
                _ = sampling.tick() => {
                    self.define_stacks(None);
                    self.sample_all();
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
                () = new_code.notified() => self.hear_of_new_code(),
                () = sleep_until(self.code_due), if self.code_due.is_some() => self.look_at_new_code(),
                () = tokio::time::sleep(LOOK_EVERY), if looking => self.look_for_libraries(),
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
                    (Asked::Tell(libc::SIGUSR1), None) => progress.say(self),
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

    /// Takes what one look at the rings found through all stages.
    fn take(&mut self, batch: Batch) {
        let Batch {
            code,
            stacks,
            events,
            malformed,
        } = batch;
        self.quality.malformed_events += malformed;
        for definition in code {
            self.know_python_code(definition);
        }
        let since = Instant::now();
        let stacks = stacks.into_iter();
        self.undefined
            .extend(stacks.map(|definition| Undefined { since, definition }));
        self.define_stacks(None);
        for raw in events {
            let process = ProcessId(raw.process);
            self.follow_sampling(&raw, process);
            match decode::decode(&raw, |identity| self.stacks.index(identity)) {
                Some(Decoded::Event(event)) => self.book(Event { process, ..event }),
                Some(Decoded::Lifecycle { at, change, .. }) => {
                    self.change(at, process, change);
                }
                Some(Decoded::Named { .. }) => {
                    if let Some(mark) = self.named.take(&raw, process) {
                        self.mark(mark);
                    }
                }
                None => self.quality.malformed_events += 1,
            }
        }
        self.write_pending();
        self.name_new_threads();
        self.define_stacks(None);
        for names in self
            .symbols
            .as_ref()
            .map(Symbols::try_names)
            .unwrap_or_default()
        {
            self.write(&Entry::Names(names));
        }
    }

    /// Says how allocations are sampled, where that has changed.
    fn follow_sampling(&mut self, raw: &RawEvent, process: ProcessId) {
        let Some(exponent) = decode::sampling(raw) else {
            return;
        };
        if exponent != self.exponent {
            self.exponent = exponent;
            self.book(Event {
                at: Nanos(raw.at_ns),
                process,
                thread: Tid(raw.tid),
                call: Call::Sampling { exponent },
            });
        }
    }

    /// Books an event, and keeps it for the recording. What comes late of an image that has ended says nothing any more.
    fn book(&mut self, event: Event) {
        let image = event.process;
        if !self.images.is_announced(image) {
            self.look_for_image(event.at, image);
            if !self.images.is_announced(image) {
                return;
            }
        }
        self.events += 1;
        self.sent.count(&event.call);
        self.threads.heard(&event);
        self.feed.event(&event);
        match event.call {
            Call::Mapping(_) => self.seen.mappings = true,
            Call::Sampling {
                exponent: exponent @ 1..,
            } => self.seen.sampling = self.seen.sampling.max(Some(exponent)),
            _ => {}
        }
        if !self.recording.is_folded() {
            self.pending.push(event);
        }
    }

    /// Writes the events that are due before anything else is said.
    fn write_pending(&mut self) {
        if !self.pending.is_empty() {
            let events = std::mem::take(&mut self.pending);
            self.write(&Entry::Events(events));
        }
    }

    /// Writes an entry. Events were fed as they came.
    fn write(&mut self, entry: &Entry) {
        if !matches!(entry, Entry::Events(_)) {
            self.feed.take(entry);
        }
        self.recording.write(entry);
    }

    fn flush(&mut self) {
        self.write_pending();
        self.recording.flush();
    }

    /// Lets the recording fold if it has to.
    fn fold(&mut self) {
        if let Some(said) = self.recording.fold_if_due(self.feed.live_mut(), self.seen) {
            self.quality.note(said);
        }
    }

    /// Defines the stacks of processes that are known, and whose code is. The others wait: what makes their process known, a
    /// fork or an exec, is still to be read from the other ring; and code that was mapped a moment ago is about to be read.
    /// Those of a process that is `ending` wait no longer.
    fn define_stacks(&mut self, ending: Option<ProcessId>) {
        for waiting in std::mem::take(&mut self.undefined) {
            let process = waiting.definition.process;
            let tgid = self.tgid_of(process);
            let followed = tgid.and_then(|tgid| self.processes.get(&tgid));
            let waits = followed.is_none_or(|followed| {
                ending != Some(process) && followed.code_is_about_to_be_read_for(&waiting)
            });
            let may_wait = self.undefined.len() < MOST_UNDEFINED;
            match followed {
                _ if waits && may_wait => self.undefined.push(waiting),
                Some(_) => self.define(process, &waiting.definition),
                None => self.quality.malformed_events += 1,
            }
        }
    }

    /// Defines a stack in the recording, and asks for the names of locations not seen before.
    fn define(&mut self, process: ProcessId, definition: &StackDefinition) {
        let Some(index) = self.stacks.define(definition.identity, definition.check) else {
            return;
        };
        let frames = self.locate(process, definition);
        self.write(&Entry::Stack(crate::record::Stack {
            index,
            process,
            frames,
            truncated: definition.truncated,
        }));
    }

    /// A process's life took a turn.
    fn change(&mut self, at: Nanos, process: ProcessId, change: Change) {
        self.write_pending();
        match change {
            Change::Forked {
                child,
                image: Some(image),
                shares_memory,
            } => {
                self.forked(at, process, (image, child), shares_memory);
                self.define_stacks(None);
            }
            Change::Forked { image: None, .. } => {
                if self.options.children {
                    self.quality.unfollowed_children += 1;
                }
            }
            Change::Executed { next, from_thread } => {
                self.define_stacks(Some(process));
                self.executed(at, process, next, from_thread);
                self.define_stacks(None);
            }
            Change::Exited { status } => {
                self.define_stacks(Some(process));
                self.exited(at, process, status);
            }
            Change::AlternateAbove => self.needs_to_be_alone(process),
            Change::OomVictim => {
                self.mark_oom(process);
                self.book(lifecycle(at, process, Call::OomVictim));
            }
        }
    }

    /// Takes all probes out. Targets run on; their processes are written as let go.
    fn let_go(&mut self) {
        let running: Vec<u32> = self.processes.keys().copied().collect();
        for &tgid in &running {
            self.sample(tgid);
            // One cut for all functions: the probes themselves go one after another.
            self.kernel.forget_process(tgid);
        }
        self.take_probes_out();
        self.sweep.finish(&mut self.kernel);
    }

    /// Writes the rest: names, ends, counters.
    fn finish(mut self, reason: &'static str) -> Result<(), SessionError> {
        self.write_pending();
        for Undefined { definition, .. } in std::mem::take(&mut self.undefined) {
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
        if self.recording.is_folded() {
            self.recording.fold(self.feed.live_mut(), self.seen, true);
        }
        self.quality.drop_marks(self.named.dropped());
        let losses = self.losses();
        let quality = self.quality.sum(
            &self.kernel,
            &self.stacks,
            self.frames.folded(),
            self.python.quality(),
            losses,
        );
        self.write(&Entry::Quality(quality));
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

impl Session {
    /// Counts what an image lost that has ended.
    fn count_losses(&mut self, image: ProcessId) {
        if let Some(losses) = self.kernel.take_losses(image) {
            self.lost.extend(losses_of(image, &losses));
        }
    }

    /// What each program image lost.
    fn losses(&mut self) -> Vec<ProcessLosses> {
        let mut losses = std::mem::take(&mut self.lost);
        let known = self.kernel.losses().into_iter();
        losses.extend(known.filter_map(|(image, losses)| losses_of(image, &losses)));
        losses.sort_by_key(|losses| std::cmp::Reverse(losses.allocations + losses.frees));
        if losses.len() > MOST_LOSERS {
            let rest = losses.drain(MOST_LOSERS..);
            let together = rest.reduce(|one, other| ProcessLosses {
                process: NO_IMAGE,
                allocations: one.allocations + other.allocations,
                allocated_bytes: one.allocated_bytes + other.allocated_bytes,
                frees: one.frees + other.frees,
                freed_bytes: one.freed_bytes + other.freed_bytes,
                over_share: one.over_share + other.over_share,
                spilled: one.spilled + other.spilled,
            });
            losses.extend(together);
        }
        losses.sort_by_key(|losses| losses.process);
        losses
    }
}

/// Nothing where only its share was counted.
fn losses_of(process: ProcessId, losses: &Losses) -> Option<ProcessLosses> {
    let any = (losses.allocations, losses.frees, losses.spilled) != (0, 0, 0);
    any.then_some(ProcessLosses {
        process,
        allocations: losses.allocations,
        allocated_bytes: losses.allocated_bytes,
        frees: losses.frees,
        freed_bytes: losses.freed_bytes,
        over_share: losses.over_share,
        spilled: losses.spilled,
    })
}

/// An event of a process's life, which belongs to no thread of it.
fn lifecycle(at: Nanos, process: ProcessId, call: Call) -> Event {
    Event {
        at,
        process,
        thread: Tid(0),
        call,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}
