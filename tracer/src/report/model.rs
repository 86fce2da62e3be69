//! Everything a report needs of a recording.

use std::collections::HashMap;

use foldhash::fast::FixedState;

use super::joined::Firsts;
use super::mark::Mark;
use super::memory::Moments;
use super::name::NamedFrame;
use super::spans::Spans;
use super::stacks::{Node, Stacks};
use super::statistics::Statistics;
use crate::event::{Nanos, ProcessId, StackIndex, Tid};
use crate::live::{Holder, HolderKey, Kinds, Snapshot, Timeline, Totals};
use crate::model::Loss;
use crate::record::reader::ReadError;
use crate::record::{
    Closing, EndReason, Frame, FrameIndex, FrameKind, FunctionName, Makeup, MemorySample, Module,
    ModuleIndex, Opening, Origin, Process, ProcessEnd, Quality, RuntimeIndex,
};

/// A recording, replayed: who held what at the peak and at the end, what the kernel says of it, and what is missing.
///
/// Moments are on the recording's monotonic clock; [`Profile::since_start`] makes them relative.
#[derive(Debug)]
pub struct Profile {
    /// How the recording came to be.
    pub opening: Opening,
    /// Every process traced, in the order in which they came under trace.
    pub processes: Vec<ProcessProfile>,
    /// Whether system calls about the address space were seen: of a recording without any, only the heap is known.
    pub mappings: bool,
    /// Allocations were sampled: log2 of the bytes from one sample to the next, the largest there was.
    pub sampling: Option<u8>,
    /// Counts over all processes.
    pub totals: Totals,
    /// What the peaks are those of: the kinds that were asked for, or of a folded recording heap and mappings.
    pub peak_of: Kinds,
    /// The kinds that were asked for.
    pub kinds: Kinds,
    /// All processes together, at the high-water mark.
    pub peak: Snapshot,
    /// All processes together, at the last moment anything was traced.
    pub end: Snapshot,
    /// What the kernel says of all of them together: the sum over the processes under trace at each moment.
    pub memory: Moments,
    /// What could not be seen, in numbers.
    pub quality: Quality,
    /// What could not be seen, and what that makes wrong.
    pub losses: Vec<Loss>,
    /// What was left of what the processes held before attach, now and again, bytes.
    pub held_before: Vec<(Nanos, u64)>,
    /// Whether the recording is whole.
    pub completion: Completion,
    /// The last moment that the recording knows of.
    pub ended: Nanos,
    /// All that was ever asked for, by who asked.
    pub allocated: Vec<Holder>,
    /// When what was held came and went.
    pub timeline: Timeline,
    /// Who holds more and more, bytes a second.
    pub growth: HashMap<HolderKey, f64>,
    /// The same of stacks, whatever threads are told apart.
    pub growth_of_stacks: HashMap<HolderKey, f64>,
    /// Moments and spans that were named.
    pub marks: Vec<Mark>,
    /// The recording holds totals in place of single events, so other moments are known to the nearest era.
    pub folded: bool,
    /// What was asked for, if that is neither the peak nor the end.
    pub(super) asked: Option<Snapshot>,
    /// What came within the spans of a name, if these were asked for.
    pub spans: Option<Spans>,
    /// Temporary blocks, if these were asked for.
    pub(super) temporaries: Vec<Holder>,
    /// What all blocks were like, if that was asked for.
    pub statistics: Option<Statistics>,
    pub(super) threads: HashMap<(ProcessId, Tid), String>,
    /// How often processes loaded files of code, where that was more than once.
    pub(super) loads: HashMap<(ProcessId, ModuleIndex), u64>,
    /// Of how many stacks that are the same each one stands for them, where these are several.
    pub(super) same: HashMap<StackIndex, u64, FixedState>,
    pub(super) locations: Locations,
    /// Stacks that read like others.
    pub(super) alike: Firsts,
    /// Stacks on which Python mapped memory for its small objects, and how long each piece is, bytes.
    pub(super) arenas: HashMap<StackIndex, u64>,
}

/// One process of a [`Profile`].
#[derive(Debug)]
pub struct ProcessProfile {
    /// Who it is.
    pub process: Process,
    /// How tracing of it ended; `None` where the recording does not say.
    pub ended: Option<ProcessEnd>,
    /// When the kernel chose it as the victim of an out-of-memory kill.
    pub oom_at: Option<Nanos>,
    /// Number and bytes of its allocations, frees and resizes.
    pub totals: Totals,
    /// At its own high-water mark.
    pub peak: Snapshot,
    /// At its own end.
    pub end: Snapshot,
    /// What the kernel says of it: at its own attach and end, and at the peak of all processes together.
    pub memory: Moments,
    /// What its memory was made of as it came under trace, if it ran already.
    pub before: Option<Makeup>,
    /// What it said over the whole time, some hundreds of samples at most.
    pub samples: Vec<MemorySample>,
}

/// Whether a recording is whole.
#[derive(Debug)]
pub enum Completion {
    /// It was finished in order.
    Closed(Closing),
    /// It stops between two chunks: its writer did not finish it.
    Unfinished,
    /// It could not be read any further.
    Cut(ReadError),
    /// Its writer goes on with it.
    UnderWay,
}

impl Completion {
    /// Why the recording is not whole, if it is not.
    pub fn cut_reason(&self) -> Option<String> {
        match self {
            Self::Closed(_) | Self::UnderWay => None,
            Self::Unfinished => Some("its writer did not finish it".to_owned()),
            Self::Cut(error) => Some(error.to_string()),
        }
    }
}

/// Where stacks lead: modules, code locations, their names.
#[derive(Debug, Default)]
pub(super) struct Locations {
    pub(super) modules: HashMap<ModuleIndex, Module, FixedState>,
    pub(super) frames: HashMap<FrameIndex, Frame, FixedState>,
    pub(super) runtimes: HashMap<RuntimeIndex, String>,
    pub(super) names: HashMap<FrameIndex, Vec<FunctionName>, FixedState>,
    pub(super) stacks: Stacks,
    /// Some of the frames are a runtime's functions.
    pub(super) has_managed: bool,
    /// Lines of source text.
    pub(super) sources: HashMap<FrameIndex, String>,
}

impl Profile {
    /// The recording is under way: that it has no end says nothing.
    pub fn go_on(&mut self) {
        self.completion = Completion::UnderWay;
    }

    /// Leaves only the holders of these kinds in every list. The sums stay what they are.
    pub fn keep(&mut self, kinds: Kinds) {
        self.peak.keep(kinds);
        self.end.keep(kinds);
        for process in &mut self.processes {
            process.peak.keep(kinds);
            process.end.keep(kinds);
        }
    }

    /// A moment as its distance from the start of the recording.
    pub fn since_start(&self, at: Nanos) -> Nanos {
        Nanos(at.0.saturating_sub(self.opening.started_ns))
    }

    /// A moment on the wall clock, nanoseconds since 1970-01-01 UTC.
    pub fn unix_ns(&self, at: Nanos) -> u64 {
        self.opening
            .started_unix_ns
            .saturating_add(self.since_start(at).0)
    }

    /// How long was recorded, nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        self.since_start(self.ended).0
    }

    /// The process of that identity.
    pub fn process(&self, id: ProcessId) -> Option<&ProcessProfile> {
        self.processes
            .iter()
            .find(|process| process.process.id == id)
    }

    /// The process the recording is about, as it was last: the first one, followed through its execs.
    pub fn main_process(&self) -> Option<&ProcessProfile> {
        let mut main = self.processes.first()?;
        // Each step goes forward in the list, so that a recording cannot make this loop.
        for next in &self.processes {
            // A child that is followed only since its exec says the same of itself, with another pid.
            let became = matches!(next.process.origin, Origin::Executed { .. })
                && next.process.pid == main.process.pid;
            if became && next.process.parent == Some(main.process.id) {
                main = next;
            }
        }
        Some(main)
    }

    /// The name of a thread, if the recording tells.
    pub fn thread_name(&self, process: ProcessId, thread: Tid) -> Option<&str> {
        self.threads.get(&(process, thread)).map(String::as_str)
    }

    /// How fast all holders that grow do so together, bytes a second.
    pub fn growth_bytes_per_s(&self) -> f64 {
        let growing = self.growth_of_stacks.iter();
        let rates = growing.filter(|(key, _)| key.kind.makes_the_peak());
        let mut rates: Vec<f64> = rates.map(|(_, rate)| *rate).collect();
        // In one order: what a sum is rounded to hangs on it, and the map has another each time.
        rates.sort_by(f64::total_cmp);
        // The sum of no numbers would be -0.
        rates.into_iter().fold(0.0, |sum, rate| sum + rate)
    }

    /// At that rate, how long it takes from the end of the recording until the memory cgroup is full, seconds; `None`
    /// without a limit, or where nothing grows.
    pub fn seconds_to_limit(&self) -> Option<f64> {
        let end = &self.memory.end;
        let left = end.cgroup_limit?.saturating_sub(end.cgroup_current?);
        let rate = self.growth_bytes_per_s();
        (rate > 0.0).then(|| left as f64 / rate)
    }

    /// The frames of a stack, leaf first, inlined functions before the function they were inlined into. `None`: the
    /// recording has no such stack.
    pub fn frames(&self, stack: StackIndex) -> Option<Vec<NamedFrame<'_>>> {
        let node = self.locations.stacks.innermost(stack)?;
        let mut named = Vec::new();
        for index in self.locations.stacks.frames(node) {
            self.push_functions(index, &mut named);
        }
        Some(named)
    }

    /// The code locations of a stack, leaf first; none, if the recording has no such stack.
    pub(super) fn locations_of(&self, stack: StackIndex) -> impl Iterator<Item = FrameIndex> {
        self.locations.stacks.frames(self.innermost(stack))
    }

    /// The innermost node of a stack; the root, if the recording has no such stack.
    pub(super) fn innermost(&self, stack: StackIndex) -> Node {
        let node = self.locations.stacks.innermost(stack);
        node.unwrap_or(Node::ROOT)
    }

    /// The functions at a code location, inlined ones before the function they were inlined into.
    pub(super) fn functions_at(&self, index: FrameIndex) -> Vec<NamedFrame<'_>> {
        let mut named = Vec::new();
        self.push_functions(index, &mut named);
        named
    }

    fn push_functions<'a>(&'a self, index: FrameIndex, named: &mut Vec<NamedFrame<'a>>) {
        let frame = self.locations.frames.get(&index);
        let module = frame
            .and_then(|frame| frame.module)
            .and_then(|index| self.locations.modules.get(&index));
        let kind = frame.map(|frame| frame.kind).unwrap_or_default();
        let runtime = match kind {
            FrameKind::Managed(runtime) => self.locations.runtimes.get(&runtime),
            FrameKind::Native | FrameKind::Interpreter(_) => None,
        };
        let bare = NamedFrame {
            module,
            offset: frame.map(|frame| frame.offset),
            kind,
            runtime: runtime.map(String::as_str),
            source: self.locations.sources.get(&index).map(String::as_str),
            ..NamedFrame::default()
        };
        let functions = self.locations.names.get(&index);
        let functions = functions.map_or(&[][..], Vec::as_slice);
        for (position, name) in functions.iter().enumerate() {
            let frame = NamedFrame {
                function: Some(&name.function),
                file: name.file.as_deref(),
                line: name.line,
                inlined: position + 1 < functions.len(),
                ..bare.clone()
            };
            named.push(frame.read_as_javascript());
        }
        if functions.is_empty() {
            named.push(bare);
        }
    }

    /// Whether the root end of a stack is missing.
    pub fn is_truncated(&self, stack: StackIndex) -> bool {
        self.locations.stacks.is_truncated(stack)
    }

    /// Events that the ring had no room for.
    pub fn lost_events(&self) -> u64 {
        let Quality {
            lost_allocations,
            lost_frees,
            lost_process_events,
            ..
        } = &self.quality;
        [lost_allocations, lost_frees, lost_process_events]
            .into_iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// By how much what was live may have been more than is reported: the allocations that were lost, bytes.
    pub fn live_may_be_more_bytes(&self) -> u64 {
        let lost = self.quality.losses.iter();
        lost.map(|losses| losses.allocated_bytes)
            .fold(0, u64::saturating_add)
    }

    /// ... or less: the blocks whose frees were lost, bytes.
    pub fn live_may_be_less_bytes(&self) -> u64 {
        let lost = self.quality.losses.iter();
        lost.map(|losses| losses.freed_bytes)
            .fold(0, u64::saturating_add)
    }

    /// Stacks whose root end is missing.
    pub fn truncated_stacks(&self) -> u64 {
        let quality = &self.quality;
        [
            quality.truncated_depth,
            quality.truncated_unreadable,
            quality.truncated_pending,
            quality.truncated_no_rule,
            quality.truncated_no_code,
            quality.truncated_unsupported,
            quality.truncated_frame_pointer,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Code locations without a name.
    pub fn unresolved_frames(&self) -> u64 {
        let named = |frame: &&FrameIndex| !self.locations.names.contains_key(*frame);
        self.locations.frames.keys().filter(named).count() as u64
    }

    /// Bytes from one sample to the next, on average; `None` where every call was followed.
    pub fn sample_bytes(&self) -> Option<u64> {
        self.sampling.map(|exponent| 1 << exponent.min(63))
    }

    /// Whether the recording is whole and nothing that changes sizes or counts was missed. Missing names and stacks do
    /// not change them: what they held is counted all the same.
    pub fn is_complete(&self) -> bool {
        let is_closed = matches!(self.completion, Completion::Closed(_));
        is_closed && !self.losses.iter().any(Loss::is_grave)
    }
}

impl ProcessProfile {
    /// Why it is traced no more, if the recording says.
    pub fn end_reason(&self) -> Option<EndReason> {
        self.ended.as_ref().map(|end| end.reason)
    }

    /// Whether what it held counts at this moment: it was under trace, or we had let go of it, and it ran on.
    pub fn is_traced_at(&self, at: Nanos) -> bool {
        let gone = |end: &ProcessEnd| end.reason != EndReason::Detached && end.at < at;
        self.process.from_ns <= at.0 && !self.ended.as_ref().is_some_and(gone)
    }
}
