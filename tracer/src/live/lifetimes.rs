//! When what was held came and went.
//!
//! A recording may have billions of blocks, so their lifetimes are not kept one by one. Time is cut into **eras** of the
//! same length, and for each holding it is summed up what came in one era and went in another. What was live at the end
//! of era `t` is then the sum over all that came by `t` and went after it, and what was allocated within a window and is
//! live at its end is the same sum over what came in the window: the same figures answer both, for any moment and any
//! window that begin and end with an era. What came and went in one era was live at no era's end and is not kept.
//!
//! How long a recording will be is not known as it is read. Eras begin short, and when there are too many, every two of them
//! become one: births and deaths are renumbered, what then came and went in the same era is forgotten. That happens once for
//! each doubling of the time, so it costs each block a constant share of that.
//!
//! A block that is put back, because the call that was to retire it failed, comes anew in the era in which it is put back;
//! so does what a forked child finds.

use std::num::NonZeroU16;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::books::{Held, Shift};
use super::kind::Kind;
use super::saturate;
use super::snapshot::{Amount, HolderKey, Snapshot};
use crate::event::{Nanos, ProcessId, StackIndex, Tid};

/// More eras than these become half as many.
const MOST_ERAS: u16 = 128;

/// How long an era is at first.
const FIRST_WIDTH: u64 = 1_000_000;

/// What is told apart, and which era it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scene {
    /// Threads are told apart.
    pub(super) threads: bool,
    /// Eras are told apart.
    pub(super) eras: bool,
    /// What comes and goes is told one by one.
    pub(super) movements: bool,
    /// The era; 0 where they are not.
    pub(super) era: u16,
    /// How often every two eras became one.
    pub(super) halvings: u16,
}

impl Scene {
    pub(super) fn asker(self, stack: StackIndex, thread: Tid) -> Asker {
        Asker {
            stack,
            thread: self.threads.then_some(thread),
        }
    }

    /// Of what comes now.
    pub(super) fn birth(self) -> Birth {
        // Neither reaches another's bits: eras are fewer than [`MOST_ERAS`], and no width can be doubled 64 times.
        Birth(NonZeroU16::MIN | self.halvings << 8 | self.era << 1)
    }
}

/// When a block came: its era, numbered as eras were then, and how often they had been halved by then. So millions of blocks, which
/// forked processes share, need not change as eras are merged. It is never zero, which keeps an optional block as small as
/// a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Birth(NonZeroU16);

impl Default for Birth {
    fn default() -> Self {
        Self(NonZeroU16::MIN)
    }
}

impl Birth {
    /// The era in which that was, as eras are numbered now.
    pub(super) fn era(self, now: Scene) -> u16 {
        let (halvings, era) = (self.0.get() >> 8, self.0.get() >> 1 & (MOST_ERAS - 1));
        let since = now.halvings.saturating_sub(halvings);
        era.checked_shr(since.into()).unwrap_or(0)
    }
}

const _: () = assert!(MOST_ERAS == 1 << 7, "an era has seven bits of a birth");

/// What is live, by holding and by the era in which it came.
pub(super) type Births = HashMap<(u32, u16), Amount, FixedState>;

/// Who asks for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asker {
    pub(super) stack: StackIndex,
    /// Where threads are told apart.
    pub(super) thread: Option<Tid>,
}

impl Amount {
    pub(super) fn add(&mut self, held: Held) {
        self.bytes = self.bytes.saturating_add(saturate(held.bytes));
        self.blocks = self.blocks.saturating_add(held.blocks);
    }

    /// What came with one change of ranges. A range that grew is one that was asked for, too.
    pub(super) fn add_gain(&mut self, shift: Shift) {
        if shift.bytes > 0 {
            let bytes = saturate(shift.bytes.unsigned_abs());
            self.bytes = self.bytes.saturating_add(bytes);
            self.blocks = self.blocks.saturating_add(1);
        }
    }
}

/// What went, by holding and the eras in which it came and went. Ranges that are split come to more than they were, so
/// counts have a sign.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    gone: HashMap<(u32, u16, u16), (i128, i64), FixedState>,
}

impl Ledger {
    pub(super) fn block_gone(&mut self, holder: u32, born: u16, now: u16, held: Held) {
        let bytes = i128::try_from(held.bytes).unwrap_or(i128::MAX);
        self.add(holder, born, now, bytes, held.blocks.cast_signed());
    }

    pub(super) fn range_gone(&mut self, holder: u32, born: u16, now: u16, shift: Shift) {
        self.add(holder, born, now, -shift.bytes, -shift.ranges);
    }

    fn add(&mut self, holder: u32, born: u16, now: u16, bytes: i128, blocks: i64) {
        if born == now {
            return;
        }
        let gone = self.gone.entry((holder, born, now)).or_default();
        gone.0 = gone.0.saturating_add(bytes);
        gone.1 = gone.1.saturating_add(blocks);
    }

    /// As it was folded.
    pub(super) fn restored(gone: Vec<(u32, u16, u16, u64, u64)>) -> Self {
        let mut ledger = Self::default();
        for (holder, born, gone, bytes, blocks) in gone {
            ledger.add(holder, born, gone, bytes.into(), blocks.cast_signed());
        }
        ledger
    }

    /// All that is held goes.
    pub(super) fn all_gone(&mut self, born: Births, now: u16) {
        for ((holder, born), Amount { bytes, blocks }) in born {
            self.add(holder, born, now, bytes.into(), blocks.cast_signed());
        }
    }

    pub(super) fn halve(&mut self) {
        for ((holder, born, gone), (bytes, blocks)) in std::mem::take(&mut self.gone) {
            self.add(holder, born / 2, gone / 2, bytes, blocks);
        }
    }

    /// Adds what went, and what was born and lives, to the lives of its holding.
    pub(super) fn lives(&self, live: Births, to: &mut [Vec<Life>]) {
        for (&(holder, born, gone), &(bytes, blocks)) in &self.gone {
            to[holder as usize].push(Life {
                born,
                gone: Some(gone),
                bytes: u64::try_from(bytes.max(0)).unwrap_or(u64::MAX),
                blocks: blocks.max(0).cast_unsigned(),
            });
        }
        for ((holder, born), Amount { bytes, blocks }) in live {
            let of_holder = &mut to[holder as usize];
            if of_holder.is_empty() {
                // Of a million stacks, most hold one thing.
                of_holder.reserve_exact(1);
            }
            of_holder.push(Life {
                born,
                gone: None,
                bytes,
                blocks,
            });
        }
        for lives in to {
            lives.sort_unstable_by_key(|life| (life.born, life.gone));
        }
    }
}

/// What came in one era and went in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// The era in which it came.
    pub born: u16,
    /// The era in which it went; `None`: it was live at the end.
    pub gone: Option<u16>,
    /// How many bytes these blocks had together.
    pub bytes: u64,
    /// Blocks, or ranges.
    pub blocks: u64,
}

/// What one holder held, and when that came and went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lives {
    /// The process that allocated.
    pub process: ProcessId,
    /// The stack that asked for it.
    pub stack: StackIndex,
    /// The thread that did, where threads are told apart.
    pub thread: Option<Tid>,
    /// Of which kind.
    pub kind: Kind,
    /// By the eras in which it came and went.
    pub lives: Vec<Life>,
}

impl Lives {
    /// Who it is.
    pub fn key(&self) -> HolderKey {
        HolderKey {
            process: self.process,
            stack: self.stack,
            thread: self.thread,
            kind: self.kind,
        }
    }

    /// What was live at the end of each of `eras` eras, bytes.
    pub fn levels(&self, eras: usize) -> Vec<u64> {
        let mut steps = vec![0_i128; eras + 1];
        for life in &self.lives {
            let bytes = i128::from(life.bytes);
            steps[usize::from(life.born).min(eras)] += bytes;
            if let Some(gone) = life.gone {
                steps[usize::from(gone).min(eras)] -= bytes;
            }
        }
        let mut level = 0;
        steps[..eras]
            .iter()
            .map(|step| {
                level += step;
                u64::try_from(level.max(0)).unwrap_or(u64::MAX)
            })
            .collect()
    }
}

/// A stretch of the time of tracing, and what was allocated in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Era {
    /// The most that was live in it at one moment, of the kinds that make the peak, bytes.
    pub highest: u64,
    /// What was live at its end, bytes.
    pub end: u64,
    /// Blocks that came in it.
    pub allocations: u64,
    /// How many bytes these blocks had together.
    pub allocated_bytes: u64,
}

/// When what was held came and went; see the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// When the first era begins.
    pub begins: Nanos,
    /// How long each is, nanoseconds.
    pub width: u64,
    /// The eras, in order; the last one may be cut short by the end.
    pub eras: Vec<Era>,
    /// What each holder held. Those that only held what came and went in one era have no lives.
    pub lives: Vec<Lives>,
}

impl Timeline {
    /// When an era ends.
    pub fn end_of(&self, era: usize) -> Nanos {
        let eras = era as u64 + 1;
        Nanos(
            self.begins
                .0
                .saturating_add(self.width.saturating_mul(eras)),
        )
    }
}

impl Timeline {
    /// What was live at the end of an era, of what came after another one's (or at any time, without one). Errors of samples are
    /// not kept by era.
    pub fn snapshot(&self, after: Option<usize>, era: usize) -> Snapshot {
        let mut snapshot = Snapshot {
            at: self.end_of(era),
            ..Snapshot::default()
        };
        for lives in &self.lives {
            let mut of = Amount::default();
            for life in &lives.lives {
                let came = usize::from(life.born);
                let is_live = came <= era && life.gone.is_none_or(|gone| usize::from(gone) > era);
                if is_live && after.is_none_or(|after| came > after) {
                    of.bytes = of.bytes.saturating_add(life.bytes);
                    of.blocks = of.blocks.saturating_add(life.blocks);
                }
            }
            if of.blocks > 0 {
                snapshot.add(lives.key(), of);
            }
        }
        snapshot.holders.sort_by_key(|holder| {
            let least = (
                std::cmp::Reverse(holder.bytes),
                std::cmp::Reverse(holder.blocks),
            );
            (least, holder.key())
        });
        snapshot
    }

    /// The era whose end is nearest to a moment; `None` before all of them.
    pub fn nearest(&self, at: Nanos) -> Option<usize> {
        let since = at.0.checked_sub(self.begins.0)?;
        let ends = since.saturating_add(self.width / 2) / self.width.max(1);
        let era = usize::try_from(ends).ok()?.checked_sub(1)?;
        Some(era.min(self.eras.len().saturating_sub(1)))
    }
}

/// When the eras are.
#[derive(Debug)]
pub(super) struct Eras {
    begins: Option<Nanos>,
    width: u64,
    eras: Vec<Era>,
}

impl Default for Eras {
    fn default() -> Self {
        Self {
            begins: None,
            width: FIRST_WIDTH,
            eras: vec![Era::default()],
        }
    }
}

/// An era that begins.
pub(super) struct Entered {
    pub(super) era: u16,
    /// How often every two eras became one for it.
    pub(super) halvings: u16,
}

impl Eras {
    /// As they were folded; no more than there may be, and at least one.
    pub(super) fn restored(begins: Option<Nanos>, width: u64, eras: &[Era]) -> Self {
        let mut eras: Vec<Era> = eras.iter().copied().take(MOST_ERAS.into()).collect();
        eras.resize(eras.len().max(1), Era::default());
        Self {
            begins,
            width: width.clamp(1, u64::MAX >> 8),
            eras,
        }
    }

    /// When the first begins, how long each is, and they themselves.
    pub(super) fn parts(&self) -> (Option<Nanos>, u64, &[Era]) {
        (self.begins, self.width, &self.eras)
    }

    /// Which it is now.
    pub(super) fn current(&self) -> u16 {
        self.eras.len() as u16 - 1
    }

    /// The era of this moment, if that is later than the one it is.
    #[inline]
    pub(super) fn enter(&mut self, at: Nanos) -> Option<Entered> {
        let begins = *self.begins.get_or_insert(at);
        let since = at.0.saturating_sub(begins.0);
        if since / self.width < self.eras.len() as u64 {
            return None;
        }
        let mut halvings = 0;
        while since / self.width >= u64::from(MOST_ERAS) {
            self.halve();
            halvings += 1;
        }
        let era = (since / self.width) as usize;
        let level = self.eras.last().map_or(0, |last| last.end);
        let still = Era {
            highest: level,
            end: level,
            ..Era::default()
        };
        self.eras.resize(self.eras.len().max(era + 1), still);
        Some(Entered {
            era: self.eras.len() as u16 - 1,
            halvings,
        })
    }

    /// So much is live now.
    #[inline]
    pub(super) fn reach(&mut self, bytes: u64) {
        if let Some(now) = self.eras.last_mut() {
            now.highest = now.highest.max(bytes);
            now.end = bytes;
        }
    }

    /// A block of that many bytes came.
    #[inline]
    pub(super) fn came(&mut self, bytes: u64) {
        if let Some(now) = self.eras.last_mut() {
            now.allocations = now.allocations.saturating_add(1);
            now.allocated_bytes = now.allocated_bytes.saturating_add(bytes);
        }
    }

    fn halve(&mut self) {
        self.width *= 2;
        let pairs = self.eras.chunks(2);
        self.eras = pairs
            .map(|pair| Era {
                highest: pair.iter().map(|era| era.highest).max().unwrap_or(0),
                end: pair.last().map_or(0, |era| era.end),
                allocations: pair
                    .iter()
                    .fold(0, |sum, era| sum.saturating_add(era.allocations)),
                allocated_bytes: pair
                    .iter()
                    .fold(0, |sum, era| sum.saturating_add(era.allocated_bytes)),
            })
            .collect();
    }

    pub(super) fn timeline(&self, lives: Vec<Lives>) -> Timeline {
        Timeline {
            begins: self.begins.unwrap_or_default(),
            width: self.width,
            eras: self.eras.clone(),
            lives,
        }
    }
}
