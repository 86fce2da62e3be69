//! The table of one file: its functions side by side.

use std::fs::File;

use highwater_common::unwind::{CFA_FRAME_POINTER, MAX_ROWS, MAX_RULES, Row, Rule, Unit};

use super::{
    Faults, UnwindError, bottoms,
    cfi::{Function, Functions},
    elf::Sections,
    rules::{END, RuleBook, UNKNOWN, bare},
    units,
};

/// Bytes of code without call frame information that are no mere gap.
const EMBEDDED: u64 = 64 << 10;

/// The table of a file with rules of its own: made on any thread, without the [`RuleBook`].
#[derive(Debug)]
pub struct Draft {
    base: u64,
    /// Sorted. Their rules are indices in `rules`.
    rows: Vec<Row>,
    rules: Vec<Rule>,
    faults: Faults,
}

/// The table of a file as the kernel side takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The address that program counter 0 stands for, as the file counts addresses.
    pub base: u64,
    /// Binary logarithm of the bytes that a unit covers.
    pub unit_shift: u32,
    /// The index of the rows.
    pub units: Vec<Unit>,
    /// Sorted by program counter; the first is at 0.
    pub rows: Vec<Row>,
}

impl Draft {
    /// Reads a file's call frame information.
    ///
    /// # Errors
    ///
    /// There is none that can be read.
    pub fn of_file(file: &File) -> Result<Self, UnwindError> {
        let sections = Sections::read(&file)?;
        let functions = Functions::of(&sections);
        let bottoms = bottoms::of(file, &functions);
        Self::new(&sections, functions, &bottoms)
    }

    /// Reads the call frame information of an ELF file in memory.
    ///
    /// # Errors
    ///
    /// There is none that can be read.
    pub fn of_bytes(elf: &[u8]) -> Result<Self, UnwindError> {
        Self::of_sections(&Sections::read(&elf)?)
    }

    pub(super) fn of_sections(sections: &Sections) -> Result<Self, UnwindError> {
        Self::new(sections, Functions::of(sections), &[])
    }

    /// Lays the functions out. `bottoms`: program counters at which a stack that was made by hand ends, sorted.
    fn new(
        sections: &Sections,
        mut functions: Functions,
        bottoms: &[u64],
    ) -> Result<Self, UnwindError> {
        // Stable, so that of two with the same start the one that came last stays last.
        functions.list.sort_by_key(|function| function.start);
        let frame_pointers = functions
            .rules
            .index(bare(CFA_FRAME_POINTER), MAX_RULES as usize)
            .unwrap_or(UNKNOWN);
        let mut layout = Layout {
            frame_pointers,
            entry: sections.entry,
            bottoms,
            base: functions
                .list
                .first()
                .ok_or(UnwindError::NoFrameInformation)?
                .start,
            rows: Vec::new(),
            full: false,
            dropped: 0,
        };
        layout.lay_out(&functions);
        let mut faults = functions.faults;
        faults.rows_dropped += layout.dropped;
        layout.rows.shrink_to_fit();
        Ok(Self {
            base: layout.base,
            rows: layout.rows,
            rules: functions.rules.into_rules(),
            faults,
        })
    }

    /// What of the file is not in the table.
    pub fn counters(&self) -> Faults {
        self.faults
    }

    /// Gives the rules their places among those of all tables.
    pub fn intern(self, book: &mut RuleBook) -> Table {
        let places: Vec<u32> = self.rules.iter().map(|&rule| book.intern(rule)).collect();
        let mut rows = self.rows;
        for row in &mut rows {
            row.rule = places[row.rule as usize];
        }
        let (unit_shift, units) = units::of_rows(&rows);
        Table {
            base: self.base,
            unit_shift,
            units,
            rows,
        }
    }
}

impl Table {
    /// The table as the elements of a BPF array: the units, then the rows. A unit is `first | last << 32`, a row
    /// `pc | rule << 32`.
    pub fn elements(&self) -> Vec<u64> {
        let both = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let units = self.units.iter().map(|unit| both(unit.first, unit.last));
        let rows = self.rows.iter().map(|row| both(row.pc, row.rule));
        units.chain(rows).collect()
    }

    /// The row that applies to an address, as the file counts: what the kernel side does, in Rust.
    pub fn find(&self, vaddr: u64) -> Option<Row> {
        let pc = u32::try_from(vaddr.checked_sub(self.base)?).ok()?;
        let unit = self.units.get((pc >> self.unit_shift) as usize)?;
        let candidates = self.rows.get(unit.first as usize..=unit.last as usize)?;
        let after = candidates.partition_point(|row| row.pc <= pc);
        candidates.get(after.checked_sub(1)?).copied()
    }
}

/// Lays functions side by side.
///
/// Functions may overlap, though linkers rarely let them. Of those that cover an address, the one with the latest start
/// is the right one, and of several with the same start the last. So this is a sweep over the starts in order, with a
/// stack of the functions that began before: the top one has the latest start. Up to the next start, the top one
/// applies until it ends; then the one below it does, if it has not ended itself; and if none is left, nothing is
/// known. A function is pushed and popped once, and between two starts each step but the last pops one, so there are at
/// most two steps a function, each of which adds its rows there and at most one more.
///
/// **Embedded code.** A stretch of [`EMBEDDED`] bytes and more without any function is no gap between functions. It is code
/// that a compiler of the program's own made, ahead of time: V8's builtins lie so in `node`'s text. Such compilers keep frame pointers
/// and write no call frame information. Hand-written assembly without any is far smaller.
///
/// **The first instruction** of a file, where it has no call frame information, begins the outermost frame of all: the dynamic
/// linker runs constructors of libraries from there. So it is with the code behind it, up to the next function.
///
/// **Stacks made by hand** end at program counters of their own ([`bottoms`]), one byte each.
struct Layout<'file> {
    /// The rule of frame pointers.
    frame_pointers: u32,
    /// Where the file's first instruction is.
    entry: u64,
    /// Program counters at which a stack that was made by hand ends, sorted.
    bottoms: &'file [u64],
    base: u64,
    rows: Vec<Row>,
    full: bool,
    dropped: u64,
}

impl Layout<'_> {
    fn lay_out(&mut self, functions: &Functions) {
        let mut begun: Vec<&Function> = Vec::new();
        let mut starts = functions.list.iter().peekable();
        while let Some(function) = starts.next() {
            begun.push(function);
            let mut at = function.start;
            let next = starts.peek().map_or(u64::MAX, |next| next.start);
            while let Some(top) = begun.last()
                && at < next
            {
                let until = top.end.min(next);
                if at < until {
                    self.add_rows(functions, top, at, until);
                    at = until;
                }
                if top.end <= at {
                    begun.pop();
                }
            }
            if at < next {
                self.add_gap(at, next);
            }
        }
    }

    /// Adds what is known of code that belongs to no function.
    fn add_gap(&mut self, at: u64, next: u64) {
        if next == u64::MAX {
            self.add(at, UNKNOWN);
            return;
        }
        let embedded = next - at >= EMBEDDED;
        let entry = (!embedded && (at..next).contains(&self.entry)).then_some(self.entry);
        let rule = if embedded {
            self.frame_pointers
        } else {
            UNKNOWN
        };
        // Behind the first instruction, stacks end anyway.
        let end = entry.unwrap_or(next);
        let bottoms = self.bottoms;
        let first = bottoms.partition_point(|&bottom| bottom < at);
        let mut at = at;
        for &bottom in bottoms[first..].iter().take_while(|&&bottom| bottom < end) {
            if at < bottom {
                self.add(at, rule);
            }
            self.add(bottom, END);
            at = bottom + 1;
        }
        if at < end {
            self.add(at, rule);
        }
        if let Some(entry) = entry {
            self.add(entry, END);
        }
    }

    /// Adds the rows of a function from an address of it on.
    fn add_rows(&mut self, functions: &Functions, function: &Function, at: u64, until: u64) {
        let rows = functions.rows_of(function);
        let after = rows.partition_point(|row| function.start + u64::from(row.into) <= at);
        // The first row is at the function's start.
        self.add(at, rows[after.saturating_sub(1)].rule);
        for row in &rows[after..] {
            let address = function.start + u64::from(row.into);
            if address >= until {
                break;
            }
            self.add(address, row.rule);
        }
    }

    fn add(&mut self, address: u64, rule: u32) {
        if self.rows.last().is_some_and(|last| last.rule == rule) {
            return;
        }
        let Ok(pc) = u32::try_from(address - self.base) else {
            self.dropped += 1;
            return;
        };
        if self.full {
            self.dropped += 1;
            return;
        }
        // The last row applies to all that follows.
        self.full = self.rows.len() + 1 == MAX_ROWS as usize;
        let rule = if self.full { UNKNOWN } else { rule };
        self.rows.push(Row { pc, rule });
    }
}
