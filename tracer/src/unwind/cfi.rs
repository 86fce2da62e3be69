//! Parses call frame information into functions and their rows.
//!
//! The entries of a section follow each other: common ones (CIE), and one for each function (FDE) that names its CIE
//! (DWARF 5, section 6.4.1, and the Linux Standard Base, section 10.6, for `.eh_frame`). They are walked here by their
//! lengths, so that a broken one costs only itself; gimli parses each and evaluates its instructions.
//!
//! A function's rows cost an evaluation of its own instructions and those of its CIE. A section is read once from front
//! to back, so the former add up to its length; the latter are bounded by [`MOST_CIE_BYTES`] and [`MOST_WORK`].

use std::ops::Range;

use gimli::{
    BaseAddresses, CommonInformationEntry, DebugFrame, EhFrame, FrameDescriptionEntry,
    LittleEndian, UnwindContext, UnwindOffset, UnwindSection,
};
use hashbrown::HashMap;
use highwater_common::unwind::{CFA_UNSUPPORTED, MAX_ROWS, Rule};

use super::{
    Faults,
    elf::{Section, Sections},
    rule::{self, Bytes, Room},
    rules::{Distinct, UNSUPPORTED, bare},
};

/// Longest CIE, bytes. Real ones have some 30.
const MOST_CIE_BYTES: u64 = 512;
/// Most bytes of instructions that are evaluated for one file.
const MOST_WORK: u64 = 512 << 20;
/// Most CIEs remembered.
const MOST_CIES: usize = 64 << 10;

/// What a FDE says about its function.
#[derive(Clone, Copy, Debug)]
pub(super) struct Function {
    /// First address, as the file counts.
    pub(super) start: u64,
    /// The address after the last.
    pub(super) end: u64,
    /// Its first row.
    first: usize,
    /// The one after its last.
    last: usize,
}

/// From `into` bytes after the start of its function on, a rule applies.
#[derive(Clone, Copy, Debug)]
pub(super) struct FunctionRow {
    pub(super) into: u32,
    /// Index among [`Functions::rules`].
    pub(super) rule: u32,
}

/// All functions of a file, in the order of its sections. They may overlap.
pub(super) struct Functions {
    pub(super) list: Vec<Function>,
    rows: Vec<FunctionRow>,
    pub(super) rules: Distinct,
    pub(super) faults: Faults,
    work: u64,
    /// The rule last looked up and its index: functions are full of the same few.
    last: (Rule, u32),
}

impl Functions {
    /// Those of `.debug_frame`, then those of `.eh_frame`.
    ///
    /// A file can well have both, each for what the other leaves out: code compiled with `-g` and without
    /// `-fasynchronous-unwind-tables`, linked with the C library's start files; Go with C.
    pub(super) fn of(sections: &Sections) -> Self {
        let mut functions = Self {
            list: Vec::new(),
            rows: Vec::new(),
            rules: Distinct::new(),
            faults: Faults::default(),
            work: 0,
            last: (Rule::default(), 0),
        };
        functions.faults.broken_entries += u64::from(sections.unreadable.is_some());
        if let Some(section) = &sections.debug_frame {
            let mut frames = DebugFrame::new(&section.bytes, LittleEndian);
            frames.set_address_size(8);
            functions.read(&frames, &Entries::new(section, Kind::Debug), sections);
        }
        if let Some(section) = &sections.eh_frame {
            let mut frames = EhFrame::new(&section.bytes, LittleEndian);
            frames.set_address_size(8);
            functions.read(&frames, &Entries::new(section, Kind::Eh), sections);
        }
        functions
    }

    /// The rows of a function, the first at its start.
    pub(super) fn rows_of(&self, function: &Function) -> &[FunctionRow] {
        &self.rows[function.first..function.last]
    }

    fn read<'data, S: UnwindSection<Bytes<'data>>>(
        &mut self,
        section: &S,
        entries: &Entries<'data>,
        sections: &Sections,
    ) {
        let mut reader = Reader {
            section,
            entries,
            bases: &sections.bases,
            cies: HashMap::default(),
            context: Box::new(UnwindContext::new_in()),
        };
        let mut at = 0;
        while let Some(step) = entries.next(at) {
            at = step.next;
            match step.entry {
                Entry::Cie => {}
                Entry::Broken => self.faults.broken_entries += 1,
                Entry::Fde(offset) => {
                    let Some(fde) = reader.fde(offset) else {
                        self.faults.broken_entries += 1;
                        continue;
                    };
                    self.work += fde.entry_len() as u64 + fde.cie().entry_len() as u64;
                    if self.work > MOST_WORK {
                        self.faults.broken_entries += 1;
                        return;
                    }
                    self.add(&mut reader, &fde, &sections.code);
                }
            }
        }
    }

    /// Evaluates a function's rows. From where they cannot be evaluated on, its rule is [`CFA_UNSUPPORTED`].
    fn add<'data, S: UnwindSection<Bytes<'data>>>(
        &mut self,
        reader: &mut Reader<'_, 'data, S>,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
        code: &[Range<u64>],
    ) {
        let start = fde.initial_address();
        let Some(end) = end_of(fde, code) else {
            // What the linker left out is often still spoken of, at address 0 or so.
            self.faults.rows_dropped += 1;
            return;
        };
        let first = self.rows.len();
        // As far as the rows lead; empty rows say nothing.
        let mut done = start;
        let broken = match fde.rows(reader.section, reader.bases, &mut reader.context) {
            Err(_) => true,
            Ok(mut rows) => loop {
                match rows.next_row() {
                    Err(_) => break true,
                    Ok(None) => break false,
                    Ok(Some(row)) => {
                        let row_start = row.start_address();
                        if row_start >= end {
                            break false;
                        }
                        if row.end_address() > row_start {
                            let signal = fde.is_signal_trampoline();
                            let rule = rule::of_row(row, signal, reader.section);
                            self.push(first, row_start - start, rule);
                            done = row.end_address();
                        }
                    }
                }
            },
        };
        if broken {
            self.faults.broken_entries += 1;
            if done < end {
                self.push(first, done - start, bare(CFA_UNSUPPORTED));
            }
        }
        let last = self.rows.len();
        if first < last {
            self.list.push(Function {
                start,
                end,
                first,
                last,
            });
        }
    }

    /// Adds a row to the function that has the rows from `first` on.
    fn push(&mut self, first: usize, into: u64, rule: Rule) {
        self.faults.unsupported_rules += u64::from(rule.cfa == CFA_UNSUPPORTED);
        if self.last.0 != rule {
            let Some(index) = self.rules.index(rule, usize::MAX) else {
                return;
            };
            self.last = (rule, index);
        }
        let rule = self.last.1;
        if self.rows[first..]
            .last()
            .is_some_and(|row| row.rule == rule)
        {
            return;
        }
        match u32::try_from(into) {
            Ok(into) if self.rows.len() < MAX_ROWS as usize => {
                self.rows.push(FunctionRow { into, rule });
            }
            _ => {
                self.faults.rows_dropped += 1;
                // The row before would seem to apply from here on too.
                if let Some(last) = self.rows[first..].last_mut() {
                    last.rule = UNSUPPORTED;
                }
            }
        }
    }
}

/// The code that each entry of `.eh_frame` is about, in their order: functions, and pieces of them that lie apart.
pub(super) fn extents(sections: &Sections) -> Vec<Range<u64>> {
    let Some(section) = &sections.eh_frame else {
        return Vec::new();
    };
    let mut frames = EhFrame::new(&section.bytes, LittleEndian);
    frames.set_address_size(8);
    let entries = Entries::new(section, Kind::Eh);
    let mut reader = Reader {
        section: &frames,
        entries: &entries,
        bases: &sections.bases,
        cies: HashMap::default(),
        context: Box::new(UnwindContext::new_in()),
    };
    let mut extents = Vec::new();
    let mut at = 0;
    while let Some(step) = entries.next(at) {
        at = step.next;
        if let Entry::Fde(offset) = step.entry
            && let Some(fde) = reader.fde(offset)
            && let Some(end) = end_of(&fde, &sections.code)
        {
            extents.push(fde.initial_address()..end);
        }
    }
    extents
}

/// Where a function ends, at the latest where its segment of code does; `None`: it is not in one, it is empty, or it
/// ends beyond all addresses.
fn end_of(fde: &FrameDescriptionEntry<Bytes<'_>>, code: &[Range<u64>]) -> Option<u64> {
    let start = fde.initial_address();
    let segment = code
        .partition_point(|segment| segment.start <= start)
        .checked_sub(1)?;
    let end = start.checked_add(fde.len())?.min(code[segment].end);
    (start < end).then_some(end)
}

/// What it takes to parse one section.
struct Reader<'section, 'data, S: UnwindSection<Bytes<'data>>> {
    section: &'section S,
    entries: &'section Entries<'data>,
    bases: &'section BaseAddresses,
    cies: Cies<'data>,
    context: Box<UnwindContext<usize, Room>>,
}

/// The CIEs parsed so far, by their offsets in the section.
type Cies<'data> =
    HashMap<usize, CommonInformationEntry<Bytes<'data>>, foldhash::fast::RandomState>;

impl<'data, S: UnwindSection<Bytes<'data>>> Reader<'_, 'data, S> {
    fn fde(&mut self, offset: usize) -> Option<FrameDescriptionEntry<Bytes<'data>>> {
        let partial = self
            .section
            .partial_fde_from_offset(self.bases, S::Offset::from(offset))
            .ok()?;
        let (cies, entries) = (&mut self.cies, self.entries);
        partial
            .parse(|section, bases, offset| {
                let at: usize = UnwindOffset::into(offset);
                if let Some(cie) = cies.get(&at) {
                    return Ok(cie.clone());
                }
                // A FDE may point anywhere, so the length is looked at before anything is parsed.
                let length = entries.length_at(at);
                let cie = match length {
                    Some((_, length)) if length <= MOST_CIE_BYTES => {
                        section.cie_from_offset(bases, offset)?
                    }
                    _ => return Err(gimli::Error::NotCieId(at as u64)),
                };
                if cie.address_size() != 8 {
                    return Err(gimli::Error::UnsupportedAddressSize(cie.address_size()));
                }
                if cies.len() == MOST_CIES {
                    cies.clear();
                }
                cies.insert(at, cie.clone());
                Ok(cie)
            })
            .ok()
    }
}

/// The two forms of call frame information, which tell CIEs from FDEs differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Eh,
    Debug,
}

/// The entries of a section, by their lengths.
struct Entries<'data> {
    bytes: &'data [u8],
    ends_at_zero: bool,
    kind: Kind,
}

/// One entry, and where the next begins.
struct Step {
    entry: Entry,
    next: usize,
}

enum Entry {
    Cie,
    /// At this offset.
    Fde(usize),
    Broken,
}

impl<'data> Entries<'data> {
    fn new(section: &'data Section, kind: Kind) -> Self {
        Self {
            bytes: &section.bytes,
            ends_at_zero: section.ends_at_zero,
            kind,
        }
    }

    /// The entry at an offset, zeroes skipped.
    fn next(&self, mut at: usize) -> Option<Step> {
        let (width, length) = loop {
            match self.length_at(at) {
                // Linkers leave zeroes between what came from different files; only without a section's length does
                // the first one end it.
                Some((4, 0)) if !self.ends_at_zero => at += 4,
                Some((4, 0)) => return None,
                Some(found) => break found,
                None if at < self.bytes.len() => break (self.bytes.len() - at, u64::MAX),
                None => return None,
            }
        };
        let content = at + width;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| content.checked_add(length))
            .filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Some(Step {
                entry: Entry::Broken,
                next: self.bytes.len(),
            });
        };
        // `.eh_frame` has a CIE's zero in four bytes always; `.debug_frame` has all bits set, in the width of offsets.
        let is_cie = match (self.kind, width) {
            (Kind::Eh, _) => self.bytes[content..end].get(..4).map(|id| id == [0; 4]),
            (Kind::Debug, 4) => self.bytes[content..end].get(..4).map(|id| id == [0xff; 4]),
            (Kind::Debug, _) => self.bytes[content..end].get(..8).map(|id| id == [0xff; 8]),
        };
        let entry = match is_cie {
            Some(true) => Entry::Cie,
            Some(false) => Entry::Fde(at),
            None => Entry::Broken,
        };
        Some(Step { entry, next: end })
    }

    /// How many bytes the length of an entry takes, and how many bytes follow it.
    fn length_at(&self, at: usize) -> Option<(usize, u64)> {
        let short = self.bytes.get(at..)?.first_chunk().copied()?;
        match u32::from_le_bytes(short) {
            u32::MAX => {
                let long = self.bytes.get(at + 4..)?.first_chunk().copied()?;
                Some((12, u64::from_le_bytes(long)))
            }
            length => Some((4, length.into())),
        }
    }
}
