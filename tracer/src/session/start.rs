//! How a session starts: room, programs, probes, threads, in this order.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
};

use highwater_common::sampling::Sampling;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Company, INTERRUPTED, Options, Outcome, Session, SessionError, Subject, afford,
    attaching::Attaching,
    code, descriptors,
    governor::{Governor, ProcessorTime},
    heal,
    intake::Sent,
    launch, loads, makeup, marks, memory,
    places::Places,
    preflight, python, quality,
    recording::{self, Recording},
    signals::{self, Signals},
    so_far, stacks, threads, unwind,
    waiting::Waiting,
};
use crate::{
    follow::Images,
    live::LiveSet,
    model::Feed,
    own_memory,
    probe::{drain::Drain, kernel::Kernel, sideband::Sideband, sizes::Sizes},
    record::{LossKind, Opening},
    symbol::{FrameInterner, Symbols},
    units::size,
    words::say,
};

/// Batches between the draining thread and the session: what is in flight at most.
const BATCHES_IN_FLIGHT: usize = 8;
/// By how much kernel memory has to grow while tracing for that to be told, bytes.
const WORTH_TELLING: u64 = 1 << 20;

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
    let (mut kernel, sizes) = match preflight::whom(&options.subject) {
        Some(whom) if !options.preflight.window.is_zero() => {
            // With next to no memory: how much is called for is known once the calls were counted.
            afford::check(wanted)?;
            let mut counting = Kernel::load(&Sizes::COUNTING)?;
            let found =
                preflight::look(&mut counting, &mut kinds, &options, &whom, &mut signals).await?;
            let calls_per_s = found.as_ref().map(preflight::Looked::calls_per_s);
            let sizes = afford::afford(options.sizes(calls_per_s))?;
            counted = found;
            (counting.resize(&sizes)?, sizes)
        }
        _ => {
            let sizes = afford::afford(wanted)?;
            (Kernel::load(&sizes)?, sizes)
        }
    };
    kernel.load_ahead(options.mappings);
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
    let runs_already = !matches!(options.subject, Subject::Command { .. });
    let unwinding =
        unwind::Unwinding::start(runs_already).map_err(|source| SessionError::Start {
            what: "start the threads that build unwind tables",
            source,
        })?;
    let makeups = makeup::Makeups::start().map_err(|source| SessionError::Start {
        what: "start the thread that looks at what memory is made of",
        source,
    })?;
    let attaching = Attaching::start().map_err(|source| SessionError::Start {
        what: "start the thread that attaches",
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
        places: Places::default(),
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
        roots: Vec::new(),
        root_ended: None,
        pending: Vec::new(),
        undefined: Waiting::default(),
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
        mapped_files: loads::MappedFiles::default(),
        sampled_high: memory::SampledHigh::none(),
        makeups,
        attaching,
        scope: None,
        answering: so_far::Answering::default(),
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
    let last_samples = session.let_go();
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
    session.write_last_samples(last_samples);
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
    pub(super) fn begin(
        &mut self,
        mut opening: Opening,
    ) -> Result<Option<launch::Launched>, SessionError> {
        let launched = match self.options.subject.clone() {
            Subject::Running { pids } => {
                self.begin_running(&pids, opening)?;
                None
            }
            Subject::Scope(_) => {
                let kind = self.usual_kind()?;
                opening.link = kind.to_string();
                self.open(opening);
                self.begin_scope()?;
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
                self.roots = vec![self.root];
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
}
