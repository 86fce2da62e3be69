//! The report for programs: one JSON object, schema 1.
//!
//! The schema grows and never breaks: members may be added, none changes its meaning. An unknown value is `null`, never
//! 0. Sizes are bytes, moments `at_ns` are nanoseconds since the start of the recording, wall clock times are RFC 3339
//! UTC. The output is the same for the same recording, byte by byte.
//!
//! `peak_of` names the kinds that the peak is made of: heap and mapping, or the one that was asked for by `--kind`. `bytes`
//! and `blocks` of a moment are of these. `by_kind` has each kind at that
//! moment, of address space its length. `holders` are of the kinds that were asked for.
//!
//! `stacks` are arrays of indices into `frames`, leaf first. An inlined function is a frame of its own (`inlined`), before
//! the function it was inlined into and with the same `offset`. A holder whose stack is not known has `stack: null`.

mod convert;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use serde::Serialize;

use super::answer::{Answer, kind_name};
use super::model::Profile;
use super::name::NamedFrame;
use crate::event::{ProcessId, StackIndex};
use crate::live::{Kind, Snapshot};
use crate::model::Loss;
use crate::record::{FrameKind, HeldBefore, ProcessLosses, PythonQuality};
use crate::units::time;
use crate::words;

/// Writes the report as one JSON object and a final newline, with the `top` largest holders of each moment, or all; and with
/// an answer, if a question was asked.
///
/// # Errors
///
/// What `out` says.
pub fn write(
    profile: &Profile,
    answer: Option<&Answer>,
    top: Option<usize>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut stacks = StackTable::new(profile);
    let mut moment = |snapshot: &Snapshot| JsonMoment::of(profile, snapshot, top, &mut stacks);
    let peak = moment(&profile.peak);
    let end = moment(&profile.end);
    let process_peaks = profile
        .processes
        .iter()
        .map(|process| JsonProcessPeak {
            process: process.process.id,
            inherited_bytes: process.peak.inherited_bytes,
            peak: moment(&process.peak),
        })
        .collect();
    let answer = answer.map(|answer| JsonAnswer::of(profile, answer, top, &mut stacks));
    let report = JsonReport {
        schema: 1,
        highwater: env!("CARGO_PKG_VERSION"),
        recorded_by: &profile.opening.highwater,
        mode: match profile.sample_bytes() {
            None => "exact",
            Some(_) => "sampled",
        },
        sample_bytes: profile.sample_bytes(),
        folded: profile.folded,
        environment: JsonEnvironment {
            kernel: &profile.opening.kernel,
            command_line: &profile.opening.command_line,
            link: &profile.opening.link,
            options: &profile.opening.options,
        },
        started: time::rfc3339(profile.opening.started_unix_ns),
        duration_ns: profile.duration_ns(),
        processes: profile
            .processes
            .iter()
            .map(|process| JsonProcess::of(profile, process))
            .collect(),
        totals: JsonTotals::of(profile, &profile.totals),
        memory: JsonMemory::of(profile),
        peak_of: Kind::ALL
            .into_iter()
            .filter(|kind| profile.peak_of.contains(*kind))
            .map(kind_name)
            .collect(),
        peak,
        end,
        process_peaks,
        answer,
        growth_bytes_per_s: profile.growth_bytes_per_s(),
        seconds_to_limit: profile.seconds_to_limit(),
        marks: profile
            .marks
            .iter()
            .map(|mark| JsonMark {
                name: &mark.name,
                at_ns: profile.since_start(mark.at).0,
                ended_ns: mark.ended.map(|at| profile.since_start(at).0),
            })
            .collect(),
        quality: JsonQuality::of(profile),
        truncated_stacks: stacks.truncated,
        stacks: stacks.stacks,
        frames: stacks.frames,
    };
    words::json(&report, out)
}

/// Where and how it was recorded.
#[derive(Serialize)]
struct JsonEnvironment<'a> {
    kernel: &'a str,
    /// The recorder's own command line, one element an argument.
    command_line: &'a [String],
    link: &'a str,
    options: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    schema: u32,
    /// The version that wrote this report.
    highwater: &'static str,
    /// The version that wrote the recording.
    recorded_by: &'a str,
    mode: &'static str,
    sample_bytes: Option<u64>,
    /// It holds totals in place of single events.
    folded: bool,
    environment: JsonEnvironment<'a>,
    started: Option<String>,
    duration_ns: u64,
    processes: Vec<JsonProcess<'a>>,
    totals: JsonTotals,
    memory: JsonMemory<'a>,
    frames: Vec<JsonFrame<'a>>,
    stacks: Vec<Vec<usize>>,
    /// Indices of the stacks whose root end is missing.
    truncated_stacks: Vec<usize>,
    peak_of: Vec<&'static str>,
    peak: JsonMoment,
    end: JsonMoment,
    process_peaks: Vec<JsonProcessPeak>,
    /// What was asked for, if a question was.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<JsonAnswer<'a>>,
    /// How fast all that grows does so together.
    growth_bytes_per_s: f64,
    /// At that rate, from the end until the memory cgroup is full.
    seconds_to_limit: Option<f64>,
    marks: Vec<JsonMark<'a>>,
    quality: JsonQuality<'a>,
}

#[derive(Serialize)]
struct JsonProcess<'a> {
    id: ProcessId,
    pid: u32,
    ns_pid: u32,
    parent: Option<ProcessId>,
    command: &'a str,
    cgroup: Option<&'a str>,
    container: Option<&'a str>,
    started: Option<String>,
    origin: &'static str,
    /// How long it ran unseen before its first probe; `null` for one that ran before.
    missed_ns: Option<u64>,
    traced_from_ns: u64,
    totals: JsonTotals,
    exit: Option<JsonExit>,
}

#[derive(Serialize)]
struct JsonExit {
    reason: &'static str,
    code: Option<u8>,
    signal: Option<u8>,
    at_ns: u64,
}

#[derive(Serialize)]
struct JsonTotals {
    allocations: u64,
    allocated_bytes: u64,
    frees: u64,
    freed_bytes: u64,
    failed_allocations: u64,
    unmatched_frees: u64,
    unmatched_freed_bytes: u64,
    mmaps: Option<u64>,
    mapped_bytes: Option<u64>,
    unmaps: Option<u64>,
    unmapped_bytes: Option<u64>,
    unmatched_unmaps: Option<u64>,
    unmatched_unmapped_bytes: Option<u64>,
    discarded_bytes: Option<u64>,
}

#[derive(Serialize)]
struct JsonMemory<'a> {
    attach: JsonMemoryMoment<'a>,
    peak: JsonMemoryMoment<'a>,
    end: JsonMemoryMoment<'a>,
    /// The same of each process. Its attach and end are its own, the peak is that of all.
    processes: Vec<JsonProcessMemory<'a>>,
}

#[derive(Serialize)]
struct JsonProcessMemory<'a> {
    process: ProcessId,
    attach: JsonMemoryMoment<'a>,
    peak: JsonMemoryMoment<'a>,
    end: JsonMemoryMoment<'a>,
    /// What it held as it came under trace, if it ran already and was looked at.
    before: Option<&'a HeldBefore>,
}

#[derive(Serialize)]
struct JsonMemoryMoment<'a> {
    at_ns: Option<u64>,
    rss: Option<u64>,
    anon: Option<u64>,
    file: Option<u64>,
    shmem: Option<u64>,
    swap: Option<u64>,
    /// What malloc made of it, where that was looked at.
    malloc: Option<JsonMalloc>,
    /// Resident stacks of threads.
    thread_stacks: Option<u64>,
    /// Not in RSS.
    page_tables: Option<u64>,
    cgroup: JsonCgroup<'a>,
    live: u64,
    /// Of several processes: what each holds that counts for another one.
    inherited: u64,
    before_attach: Option<u64>,
    unexplained: Option<i64>,
}

/// What malloc made of the memory, bytes.
#[derive(Serialize)]
struct JsonMalloc {
    arenas: u64,
    unread_arenas: u64,
    unread: u64,
    /// Freed, and resident.
    kept: u64,
    /// Of that, what `malloc_trim` would give back.
    trimmable: u64,
    /// Freed, resident or not.
    free: u64,
}

#[derive(Serialize)]
struct JsonCgroup<'a> {
    path: Option<&'a str>,
    current: Option<u64>,
    limit: Option<u64>,
}

#[derive(Serialize, PartialEq, Eq, Hash, Clone)]
struct JsonFrame<'a> {
    function: Option<&'a str>,
    file: Option<&'a str>,
    line: Option<u32>,
    module: Option<String>,
    build_id: Option<&'a str>,
    offset: Option<u64>,
    kind: &'a str,
    inlined: bool,
    /// The line of source text, where that was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonMoment {
    at_ns: u64,
    bytes: u64,
    error_bytes: u64,
    blocks: u64,
    by_kind: JsonKinds,
    holders: Vec<JsonHolder>,
}

#[derive(Serialize)]
struct JsonMark<'a> {
    name: &'a str,
    at_ns: u64,
    ended_ns: Option<u64>,
}

/// The holders that a question asks for. In `bytes/s`, `bytes` is by how much they grow.
#[derive(Serialize)]
struct JsonAnswer<'a> {
    asked: &'a str,
    unit: &'static str,
    at_ns: Option<u64>,
    bytes: u64,
    blocks: u64,
    /// Without the filters.
    of_bytes: u64,
    holders: Vec<JsonHolder>,
}

/// Bytes by kind; `null` for the kinds that this recording did not follow.
#[derive(Serialize)]
struct JsonKinds {
    heap: u64,
    mapping: Option<u64>,
    thread_stack: Option<u64>,
    reserved: Option<u64>,
    file: Option<u64>,
    shared: Option<u64>,
}

#[derive(Serialize)]
struct JsonHolder {
    stack: Option<usize>,
    process: ProcessId,
    kind: &'static str,
    bytes: u64,
    blocks: u64,
    error_bytes: u64,
    growth_bytes_per_s: Option<f64>,
    /// The thread, where the question tells threads apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<u32>,
}

#[derive(Serialize)]
struct JsonProcessPeak {
    process: ProcessId,
    /// Of `bytes`, what it had from its parent as it was forked.
    inherited_bytes: u64,
    #[serde(flatten)]
    peak: JsonMoment,
}

#[derive(Serialize)]
struct JsonQuality<'a> {
    /// The recording is whole and nothing that changes sizes or counts was missed.
    complete: bool,
    /// Why the recording stops early, if it does.
    cut: Option<String>,
    /// What ended the recording.
    ended_by: Option<&'a str>,
    lost_events: u64,
    lost_allocations: u64,
    lost_frees: u64,
    lost_process_events: u64,
    lost_stacks: u64,
    undefined_stacks: u64,
    truncated_stacks: u64,
    truncated_depth: u64,
    truncated_unreadable: u64,
    truncated_pending: u64,
    truncated_no_rule: u64,
    truncated_no_code: u64,
    truncated_unsupported: u64,
    truncated_frame_pointer: u64,
    no_walk_buffer: u64,
    unresolved_frames: u64,
    threads_full: u64,
    calls_too_deep: u64,
    missed_returns: u64,
    unpaired_returns: u64,
    unsafe_returns: u64,
    unreadable_results: u64,
    stack_collisions: u64,
    malformed_events: u64,
    dropped_samples: u64,
    python: PythonQuality,
    unfollowed_children: u64,
    sharers: u64,
    dropped_marks: u64,
    refused_mark_connections: u64,
    pauses: Vec<JsonPause>,
    patched_functions: u64,
    lost_probes: u64,
    losses: &'a [ProcessLosses],
    live_may_be_more_bytes: u64,
    live_may_be_less_bytes: u64,
    replaced_blocks: u64,
    unpaired_resizes: u64,
    /// What could not be seen, and what that makes wrong.
    unseen: Vec<JsonLoss>,
    notes: Vec<String>,
}

/// Something that could not be seen.
#[derive(Serialize)]
struct JsonLoss {
    affects: &'static str,
    /// Before this moment it changes nothing, nanoseconds of the monotonic clock.
    since_ns: Option<u64>,
    text: String,
}

impl JsonLoss {
    fn of(loss: &Loss) -> Self {
        Self {
            affects: loss.affects().word(),
            since_ns: loss.since().map(|since| since.0),
            text: loss.to_string(),
        }
    }
}

/// When nothing was seen, since the recording began.
#[derive(Serialize)]
struct JsonPause {
    from_ns: u64,
    to_ns: u64,
}

/// Frames and stacks as the report numbers them: in the order of their first use, each once.
struct StackTable<'a> {
    profile: &'a Profile,
    stacks: Vec<Vec<usize>>,
    truncated: Vec<usize>,
    frames: Vec<JsonFrame<'a>>,
    stack_numbers: HashMap<StackIndex, Option<usize>>,
    frame_numbers: HashMap<JsonFrame<'a>, usize>,
}

impl<'a> StackTable<'a> {
    fn new(profile: &'a Profile) -> Self {
        Self {
            profile,
            stacks: Vec::new(),
            truncated: Vec::new(),
            frames: Vec::new(),
            stack_numbers: HashMap::new(),
            frame_numbers: HashMap::new(),
        }
    }

    fn number(&mut self, stack: StackIndex) -> Option<usize> {
        if let Some(number) = self.stack_numbers.get(&stack) {
            return *number;
        }
        let number = self.profile.frames(stack).map(|frames| {
            let frames = frames
                .iter()
                .map(|frame| self.frame_number(frame))
                .collect();
            self.stacks.push(frames);
            self.stacks.len() - 1
        });
        if self.profile.is_truncated(stack) {
            self.truncated.extend(number);
        }
        self.stack_numbers.insert(stack, number);
        number
    }

    fn frame_number(&mut self, frame: &NamedFrame<'a>) -> usize {
        let frame = JsonFrame {
            function: frame.function,
            file: frame.file,
            line: frame.line,
            module: frame
                .module
                .map(|module| module.path.to_string_lossy().into_owned()),
            build_id: frame.module.and_then(|module| module.build_id.as_deref()),
            // A function of a runtime has none: its number in the recording says nothing outside of it.
            offset: frame.offset.filter(|_| !frame.kind.is_managed()),
            kind: match frame.kind {
                FrameKind::Managed(_) => frame.runtime.unwrap_or("unknown"),
                FrameKind::Native | FrameKind::Interpreter(_) => "native",
            },
            source: frame.source,
            inlined: frame.inlined,
        };
        *self.frame_numbers.entry(frame).or_insert_with_key(|frame| {
            self.frames.push(frame.clone());
            self.frames.len() - 1
        })
    }
}

#[cfg(test)]
mod tests;
