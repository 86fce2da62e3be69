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
//! heaptrack knows blocks alone. A range that shrinks is told as a block of that size that goes, one that grows as one that
//! comes; what a forked child starts with comes at the fork, as one block of each holder. Of equal peaks heaptrack takes
//! the first, we the last.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::{self, Write};

use super::super::answer::matches;
use super::super::course::{Step, course};
use super::super::model::Profile;
use super::super::name::{self, NamedFrame, UNKNOWN_STACK};
use super::super::question::Question;
use super::super::replay::Threads;
use super::TRUNCATED;
use crate::event::Nanos;
use crate::live::{Amount, Holder, HolderKey, Kinds, Movement};
use crate::record::Entry;
use crate::record::reader::ReadError;
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
/// heaptrack's own peak and end are those of the profile (`peak.bytes`, `end.bytes`) where all holders are asked for; but
/// what was held before attach and freed later counts too, for as long as it is held.
///
/// # Errors
///
/// What `out` says, and if `entries` are not what `profile` was made of; a folded recording has no such entries.
pub fn write(
    profile: &Profile,
    question: &Question,
    entries: impl Iterator<Item = Result<Entry, ReadError>>,
    out: &mut dyn Write,
) -> io::Result<()> {
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
        traces: HashMap::new(),
        before_attach: false,
        millisecond: 0,
        pages: None,
    };
    telling.begin(out)?;
    let threads = match question.threads[..] {
        [] => Threads::Together,
        [..] => Threads::Apart,
    };
    let allocations = course(entries, threads, |at, step| telling.step(at, step, out))?;
    if allocations != profile.totals.allocations {
        return Err(io::Error::other(NOT_ALL_EVENTS));
    }
    Ok(())
}

const NOT_ALL_EVENTS: &str = "heaptrack's format takes every single event, and of this recording they are not what its totals say: is it still being written? Wait for its end";

struct Telling<'a> {
    profile: &'a Profile,
    question: &'a Question,
    told: Told,
    /// The trace of each holder; `None`: it is not asked for.
    traces: HashMap<HolderKey, Option<u64>>,
    /// What was held before attach counts.
    before_attach: bool,
    millisecond: u64,
    pages: Option<u64>,
}

impl Telling<'_> {
    /// What was held before attach comes first.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
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
        let freed = self.profile.end.freed_baseline_bytes;
        if self.before_attach && freed > 0 {
            let trace = self.named_trace(BEFORE_ATTACH, out)?;
            self.told.moved(true, freed, trace, out)?;
        }
        Ok(())
    }

    fn step(&mut self, at: Nanos, step: Step, out: &mut dyn Write) -> io::Result<()> {
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

    fn moved(&mut self, movement: &Movement, out: &mut dyn Write) -> io::Result<()> {
        let trace = match movement.holder {
            None if !self.before_attach => return Ok(()),
            None => self.named_trace(BEFORE_ATTACH, out)?,
            Some(holder) => match self.trace_of(holder, out)? {
                Some(trace) => trace,
                None => return Ok(()),
            },
        };
        // heaptrack's own numbers have a sign; only a corrupt recording has a block that large.
        let bytes = u64::try_from(movement.bytes).unwrap_or(u64::MAX);
        self.told.moved(movement.came, bytes, trace, out)
    }

    fn trace_of(&mut self, holder: HolderKey, out: &mut dyn Write) -> io::Result<Option<u64>> {
        if let Some(trace) = self.traces.get(&holder) {
            return Ok(*trace);
        }
        let trace = match self.is_asked_for(holder) {
            true => Some(self.stack(holder, out)?),
            false => None,
        };
        self.traces.insert(holder, trace);
        Ok(trace)
    }

    fn is_asked_for(&self, key: HolderKey) -> bool {
        let holder = Holder::of(key, Amount::default());
        self.question.kinds.contains(key.kind) && matches(self.profile, self.question, &holder)
    }

    /// Root first: each frame's caller is told before it.
    fn stack(&mut self, holder: HolderKey, out: &mut dyn Write) -> io::Result<u64> {
        let profile = self.profile;
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
        let frames = profile.frames(holder.stack).unwrap_or_default();
        if frames.is_empty() {
            return self.told.call(&[named(UNKNOWN_STACK)], trace, out);
        }
        let functions: Vec<_> = frames.chunk_by(|frame, _| frame.inlined).collect();
        for function in functions.into_iter().rev() {
            trace = self.told.call(function, trace, out)?;
        }
        Ok(trace)
    }

    fn named_trace(&mut self, label: &str, out: &mut dyn Write) -> io::Result<u64> {
        self.told.call(&[named(label)], 0, out)
    }
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
    addresses: HashMap<Vec<u64>, u64>,
    /// By address and caller.
    traces: HashMap<(u64, u64), u64>,
    /// By size and trace.
    sizes: HashMap<(u64, u64), u64>,
}

impl Told {
    fn text(&mut self, text: &str, out: &mut dyn Write) -> io::Result<u64> {
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

    /// A call of a function, the innermost of those that were inlined into it first, by that trace.
    fn call(
        &mut self,
        functions: &[NamedFrame<'_>],
        caller: u64,
        out: &mut dyn Write,
    ) -> io::Result<u64> {
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
        let next = self.addresses.len() as u64 + 1;
        let address = match self.addresses.entry(line) {
            Slot::Occupied(known) => *known.get(),
            Slot::Vacant(unknown) => {
                write_line(out, 'i', unknown.key())?;
                *unknown.insert(next)
            }
        };
        let next = self.traces.len() as u64 + 1;
        match self.traces.entry((address, caller)) {
            Slot::Occupied(known) => Ok(*known.get()),
            Slot::Vacant(unknown) => {
                write_line(out, 't', &[address, caller])?;
                Ok(*unknown.insert(next))
            }
        }
    }

    fn moved(&mut self, came: bool, size: u64, trace: u64, out: &mut dyn Write) -> io::Result<()> {
        let next = self.sizes.len() as u64;
        let number = match self.sizes.entry((size, trace)) {
            Slot::Occupied(known) => *known.get(),
            Slot::Vacant(unknown) => {
                write_line(out, 'a', &[size, trace])?;
                *unknown.insert(next)
            }
        };
        write_line(out, if came { '+' } else { '-' }, &[number])
    }
}

fn write_line(out: &mut dyn Write, what: char, numbers: &[u64]) -> io::Result<()> {
    write!(out, "{what}")?;
    for number in numbers {
        write!(out, " {number:x}")?;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests;
