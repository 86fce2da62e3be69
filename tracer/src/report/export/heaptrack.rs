//! heaptrack's data file, as `heaptrack_print` and `heaptrack_gui` read it: every allocation and free in order.
//!
//! What heaptrack calls version 3 of its format, interpreted (names are there, addresses are not needed). Each line begins
//! with what it is, numbers are hexadecimal:
//!
//! | line | what |
//! |---|---|
//! | `v VERSION 3` | first, the version of heaptrack that wrote it |
//! | `X COMMAND`, `I PAGE PAGES` | what was traced, the size of a page and how many the machine has (not known: 0) |
//! | `s LENGTH TEXT` | a text; texts, addresses and traces are numbered from 1 as they come, and 0 is none |
//! | `i ADDRESS MODULE FUNCTION FILE LINE ...` | an address; more functions, files and lines where others had it inlined |
//! | `t ADDRESS CALLER` | a trace: an address, and the trace that called it |
//! | `a SIZE TRACE` | a size that was asked for there; numbered from 0 |
//! | `+ N`, `- N` | a block of that came, or went |
//! | `c MILLISECONDS`, `R PAGES` | the time since the start; what is resident |
//!
//! <https://github.com/KDE/heaptrack/blob/master/src/analyze/accumulatedtracedata.cpp>
//!
//! heaptrack knows blocks alone, and heaptrack_gui crashes where a block goes that never came. So each `-` is of a size that
//! came there before: what was held before attach comes at the beginning, in the blocks that will go. A range that grows is
//! told as a block that comes. Where a part of something goes (a range that shrinks; of what a forked child starts
//! with, which comes at the fork as one block of each holder, a single block), the whole goes, and the rest comes anew: that is a
//! call more. Of equal peaks heaptrack takes the first, we the last.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufWriter, Write};

use foldhash::fast::FixedState;

use super::super::answer::matches;
use super::super::course::{Step, course};
use super::super::model::Profile;
use super::super::name::{self, NamedFrame, UNKNOWN_STACK};
use super::super::question::Question;
use super::super::replay::Threads;
use super::super::stacks::{Node, PerNode};
use super::TRUNCATED;
use crate::event::Nanos;
use crate::live::{Amount, Holder, HolderKey, Kinds, Movement};
use crate::record::reader::ReadError;
use crate::record::{Entry, FrameIndex, Origin};
use crate::words;

/// What we say we are: heaptrack 1.4.0, and its file format.
const VERSIONS: (u32, u32) = (0x01_04_00, 3);

/// Who has what was held before attach and went later. Without it a file could not tell when the most was held.
const BEFORE_ATTACH: &str = "(held before attach, freed later)";

/// Times are told this often, as heaptrack's own are.
const TICK_MS: u64 = 10;

/// Writes the course of a recording, of the holders that a question asks for, whatever moment that asks about. `profile`
/// is of the same recording as `entries`: what names say comes after what they name.
///
/// `profile` need only have been replayed for its definitions; `happened` is how many events were seen then. `entries` are read
/// once more where something was held before attach, to know beforehand which blocks of it will go.
///
/// heaptrack's own peak and end are those of the profile (`peak.bytes`, `end.bytes`) where all holders are asked for; but
/// what was held before attach and freed later counts too, for as long as it is held.
///
/// # Errors
///
/// What `out` says, and if `entries` are not what `profile` was made of; a folded recording has no such entries.
pub fn write<E: Iterator<Item = Result<Entry, ReadError>>>(
    (profile, happened): (&Profile, u64),
    question: &Question,
    entries: impl Fn() -> io::Result<E>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let out = &mut BufWriter::with_capacity(1 << 16, out);
    let command = profile
        .main_process()
        .map_or("", |main| main.process.command.as_str());
    writeln!(out, "v {:x} {:x}", VERSIONS.0, VERSIONS.1)?;
    writeln!(out, "X {}", words::printable(command))?;
    writeln!(out, "I {:x} 0", profile.opening.page_size)?;
    writeln!(out, "# written by highwater {}", env!("CARGO_PKG_VERSION"))?;
    if !profile.is_complete() {
        writeln!(
            out,
            "# not all was seen; `highwater report` says what is missing"
        )?;
    }
    let mut telling = Telling {
        profile,
        question,
        told: Told::default(),
        traces: HashMap::default(),
        addresses: HashMap::default(),
        of_nodes: PerNode::new(&profile.locations.stacks, 0),
        before_attach: false,
        millisecond: 0,
        pages: None,
    };
    telling.begin(&entries, out)?;
    let threads = match question.threads[..] {
        [] => Threads::Together,
        [..] => Threads::Apart,
    };
    let mut events = 0;
    let counted = entries()?.inspect(|entry| events += number_of_events(entry));
    let totals = course(counted, threads, |at, step| telling.step(at, step, out))?;
    if totals.replaced_blocks > 0 {
        let blocks = totals.replaced_blocks;
        writeln!(out, "# the frees of {blocks} blocks were not seen")?;
    }
    if events != happened {
        return Err(io::Error::other(NOT_ALL_EVENTS));
    }
    out.flush()
}

/// The events of an entry.
fn number_of_events(entry: &Result<Entry, ReadError>) -> u64 {
    match entry {
        Ok(Entry::Events(events)) => events.len() as u64,
        _ => 0,
    }
}

const NOT_ALL_EVENTS: &str = "heaptrack's format takes every single event, and of this recording they are not what its totals say: is it still being written? Wait for its end";

struct Telling<'a> {
    profile: &'a Profile,
    question: &'a Question,
    told: Told,
    /// The trace of each holder; 0: it is not asked for.
    traces: HashMap<HolderKey, u32, FixedState>,
    /// The addresses of a code location, root first: those of a million stacks are looked at once.
    addresses: HashMap<FrameIndex, Vec<u32>, FixedState>,
    /// The traces of stacks that begin with their outermost frame: what two share is looked at once.
    of_nodes: PerNode<u32>,
    /// What was held before attach counts.
    before_attach: bool,
    millisecond: u64,
    pages: Option<u64>,
}

impl Telling<'_> {
    /// What was held before attach comes first, in the blocks that went later.
    fn begin<E: Iterator<Item = Result<Entry, ReadError>>>(
        &mut self,
        entries: &impl Fn() -> io::Result<E>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let Question {
            when: _,
            kinds,
            threads,
            processes,
            focus,
            ignore,
            least: _,
            view: _,
        } = self.question;
        self.before_attach = *kinds == Kinds::OF_THE_PEAK
            && threads.is_empty()
            && processes.is_empty()
            && focus.is_none()
            && ignore.is_none();
        let mut processes = self
            .profile
            .processes
            .iter()
            .map(|process| &process.process);
        let held = processes
            .any(|process| process.origin == Origin::Attached || process.baseline_bytes > 0);
        if !self.before_attach || !held {
            return Ok(());
        }
        // Of each size, how many more went than came, now and at most: some come back, where a resize fails.
        let mut blocks: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
        course(entries()?, Threads::Together, |_, step| {
            if let Step::Moved(movement) = step
                && movement.holder.is_none()
            {
                let (now, most) = blocks.entry(bytes_of(&movement)).or_default();
                *now += if movement.came { -1 } else { 1 };
                *most = (*most).max(*now);
            }
            Ok(())
        })?;
        let trace = self.named_trace(BEFORE_ATTACH, out)?;
        for (size, (_, most)) in blocks {
            for _ in 0..most {
                self.told.came(size, trace, out)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, at: Nanos, step: Step, out: &mut impl Write) -> io::Result<()> {
        let millisecond = self.profile.since_start(at).0 / 1_000_000;
        if millisecond >= self.millisecond.saturating_add(TICK_MS) {
            self.millisecond = millisecond;
            writeln!(out, "c {millisecond:x}")?;
        }
        match step {
            Step::Resident(bytes) => {
                let pages = bytes / self.profile.opening.page_size.max(1);
                if self.pages != Some(pages) {
                    self.pages = Some(pages);
                    writeln!(out, "R {pages:x}")?;
                }
                Ok(())
            }
            Step::Moved(movement) => self.moved(&movement, out),
        }
    }

    fn moved(&mut self, movement: &Movement, out: &mut impl Write) -> io::Result<()> {
        let trace = match movement.holder {
            None if !self.before_attach => return Ok(()),
            None => self.named_trace(BEFORE_ATTACH, out)?,
            Some(holder) => match self.trace_of(holder, out)? {
                Some(trace) => trace,
                None => return Ok(()),
            },
        };
        match movement.came {
            true => self.told.came(bytes_of(movement), trace, out),
            false => self.told.went(bytes_of(movement), trace, out),
        }
    }

    /// The trace of a holder; `None`: it is not asked for.
    fn trace_of(&mut self, holder: HolderKey, out: &mut impl Write) -> io::Result<Option<u32>> {
        let asked = |trace| (trace > 0).then_some(trace);
        if let Some(trace) = self.traces.get(&holder) {
            return Ok(asked(*trace));
        }
        let trace = match self.is_asked_for(holder) {
            true => self.stack(holder, out)?,
            false => 0,
        };
        self.traces.insert(holder, trace);
        Ok(asked(trace))
    }

    fn is_asked_for(&self, key: HolderKey) -> bool {
        let holder = Holder::of(key, Amount::default());
        self.question.kinds.contains(key.kind) && matches(self.profile, self.question, &holder)
    }

    /// Root first: each frame's caller is told before it.
    fn stack(&mut self, holder: HolderKey, out: &mut impl Write) -> io::Result<u32> {
        let profile = self.profile;
        let stacks = &profile.locations.stacks;
        let mut trace = 0;
        if profile.processes.len() > 1
            && let Some(process) = profile.process(holder.process)
        {
            let process = &process.process;
            let program = name::program(&process.command);
            let label = format!("{program} (pid {})", process.pid);
            trace = self.told.call(&[named(&label)], trace, out)?;
        }
        if profile.is_truncated(holder.stack) {
            trace = self.told.call(&[named(TRUNCATED)], trace, out)?;
        }
        let innermost = profile.innermost(holder.stack);
        if innermost == Node::ROOT {
            return self.told.call(&[named(UNKNOWN_STACK)], trace, out);
        }
        let Self {
            told,
            addresses,
            of_nodes,
            ..
        } = self;
        let mut call = |trace, location| -> io::Result<u32> {
            let known = match addresses.entry(location) {
                Slot::Occupied(known) => known.into_mut(),
                Slot::Vacant(unknown) => {
                    let frames = profile.functions_at(location);
                    let functions: Vec<_> = frames.chunk_by(|frame, _| frame.inlined).collect();
                    let mut addresses = Vec::with_capacity(functions.len());
                    for function in functions.into_iter().rev() {
                        addresses.push(told.address(function, out)?);
                    }
                    unknown.insert(addresses)
                }
            };
            let mut trace = trace;
            for &address in &*known {
                trace = told.trace(address, trace, out)?;
            }
            Ok(trace)
        };
        if trace == 0 {
            return of_nodes.try_of(stacks, innermost, call);
        }
        let locations: Vec<FrameIndex> = stacks.frames(innermost).collect();
        for location in locations.into_iter().rev() {
            trace = call(trace, location)?;
        }
        Ok(trace)
    }

    fn named_trace(&mut self, label: &str, out: &mut impl Write) -> io::Result<u32> {
        self.told.call(&[named(label)], 0, out)
    }
}

/// heaptrack's own numbers have a sign; only a corrupt recording has a block that large.
fn bytes_of(movement: &Movement) -> u64 {
    u64::try_from(movement.bytes).unwrap_or(u64::MAX)
}

fn named(label: &str) -> NamedFrame<'_> {
    NamedFrame {
        function: Some(label),
        ..NamedFrame::default()
    }
}

/// What has a number by now.
#[derive(Default)]
struct Told {
    texts: HashMap<String, u64>,
    /// By the numbers of their line.
    addresses: HashMap<Vec<u64>, u32>,
    /// By address and caller.
    traces: HashMap<(u32, u32), u32, FixedState>,
    /// By size and trace.
    sizes: HashMap<(u64, u32), Size, FixedState>,
    /// The sizes of a trace of which there are blocks; only from where a part of one first went.
    by_trace: Option<HashMap<u32, BTreeSet<u64>>>,
}

/// A size that was asked for at a trace.
#[derive(Clone, Copy)]
struct Size {
    number: u32,
    /// So many such blocks are there: they fit in memory.
    blocks: u32,
}

impl Told {
    fn text(&mut self, text: &str, out: &mut impl Write) -> io::Result<u64> {
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(number) = self.texts.get(text) {
            return Ok(*number);
        }
        let number = self.texts.len() as u64 + 1;
        // A text ends with its line.
        let printable = words::printable(text);
        writeln!(out, "s {:x} {printable}", printable.len())?;
        self.texts.insert(text.to_owned(), number);
        Ok(number)
    }

    /// A call of a function by that trace.
    fn call(
        &mut self,
        functions: &[NamedFrame<'_>],
        caller: u32,
        out: &mut impl Write,
    ) -> io::Result<u32> {
        let address = self.address(functions, out)?;
        self.trace(address, caller, out)
    }

    /// The address of a function, the innermost of those that were inlined into it first.
    fn address(&mut self, functions: &[NamedFrame<'_>], out: &mut impl Write) -> io::Result<u32> {
        let outer = functions.last();
        let module = outer
            .and_then(|frame| frame.module)
            .map(|module| module.path.to_string_lossy());
        let mut line = vec![
            outer.and_then(|frame| frame.offset).unwrap_or(0),
            self.text(module.as_deref().unwrap_or(""), out)?,
        ];
        for frame in functions {
            line.push(self.text(&frame.label(), out)?);
            line.push(self.text(frame.file.unwrap_or(""), out)?);
            line.push(frame.line.unwrap_or(0).into());
        }
        let next = self.addresses.len() as u32 + 1;
        match self.addresses.entry(line) {
            Slot::Occupied(known) => Ok(*known.get()),
            Slot::Vacant(unknown) => {
                write_line(out, b'i', unknown.key())?;
                Ok(*unknown.insert(next))
            }
        }
    }

    fn trace(&mut self, address: u32, caller: u32, out: &mut impl Write) -> io::Result<u32> {
        let next = self.traces.len() as u32 + 1;
        match self.traces.entry((address, caller)) {
            Slot::Occupied(known) => Ok(*known.get()),
            Slot::Vacant(unknown) => {
                write_line(out, b't', &[address.into(), caller.into()])?;
                Ok(*unknown.insert(next))
            }
        }
    }

    /// A block came.
    fn came(&mut self, size: u64, trace: u32, out: &mut impl Write) -> io::Result<()> {
        let next = self.sizes.len() as u32;
        let known = match self.sizes.entry((size, trace)) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(unknown) => {
                write_line(out, b'a', &[size, trace.into()])?;
                unknown.insert(Size {
                    number: next,
                    blocks: 0,
                })
            }
        };
        known.blocks = known.blocks.saturating_add(1);
        write_line(out, b'+', &[known.number.into()])?;
        if let Some(by_trace) = &mut self.by_trace {
            by_trace
                .entry(trace)
                .or_default()
                .extend((size > 0).then_some(size));
        }
        Ok(())
    }

    /// A block went, or so much of one or more.
    fn went(&mut self, size: u64, trace: u32, out: &mut impl Write) -> io::Result<()> {
        if self.whole_went(size, trace, out)? {
            return Ok(());
        }
        let mut left = size;
        while left > 0 {
            // The smallest that is large enough, or else the largest. None: the books of a damaged recording do not balance.
            let there = self.there(trace);
            let large_enough = there.range(left..).next().copied();
            let Some(whole) = large_enough.or_else(|| there.last().copied()) else {
                return Ok(());
            };
            self.whole_went(whole, trace, out)?;
            if whole > left {
                self.came(whole - left, trace, out)?;
            }
            left = left.saturating_sub(whole);
        }
        Ok(())
    }

    /// A block of just that size went, if there is one.
    fn whole_went(&mut self, size: u64, trace: u32, out: &mut impl Write) -> io::Result<bool> {
        let known = self.sizes.get_mut(&(size, trace));
        let Some(known) = known.filter(|known| known.blocks > 0) else {
            return Ok(false);
        };
        known.blocks -= 1;
        write_line(out, b'-', &[known.number.into()])?;
        if known.blocks == 0
            && let Some(by_trace) = &mut self.by_trace
        {
            by_trace.entry(trace).or_default().remove(&size);
        }
        Ok(true)
    }

    /// The sizes of which a trace has blocks, none of them 0.
    fn there(&mut self, trace: u32) -> &BTreeSet<u64> {
        let sizes = &self.sizes;
        let by_trace = self.by_trace.get_or_insert_with(|| {
            let mut by_trace: HashMap<u32, BTreeSet<u64>> = HashMap::new();
            for (&(size, trace), _) in sizes
                .iter()
                .filter(|((size, _), known)| *size > 0 && known.blocks > 0)
            {
                by_trace.entry(trace).or_default().insert(size);
            }
            by_trace
        });
        by_trace.entry(trace).or_default()
    }
}

/// There are tens of millions of these lines, so they are put together by hand.
fn write_line(out: &mut impl Write, what: u8, numbers: &[u64]) -> io::Result<()> {
    out.write_all(&[what])?;
    for number in numbers {
        let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1) as usize;
        let mut text = [b' '; 17];
        for (at, digit) in text[1..=digits].iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(number >> (4 * at) & 0xf) as usize];
        }
        out.write_all(&text[..=digits])?;
    }
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests;
