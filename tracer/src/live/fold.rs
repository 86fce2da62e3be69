//! A live set without its blocks: all that it says of who held what and when, in a form that can be written down.
//!
//! A recording that has grown too large keeps this instead of its events. [`LiveSet::unfold`] makes a live set of it again, which
//! answers as the one that was folded did; only single blocks are not known to it any more, so what is handed back later
//! is not found. Threads are not told apart in it. Nor is it known any more what the processes of a family hold together: if the one that
//! answers for it ends later, it is gone for all, whoever else holds it.
//!
//! Why the answers are the same: each figure at a peak was either saved when the value changed after that peak, or is the value itself
//! ([`crate::peak`]). Folding takes the figure, whichever it is; unfolding puts it back as one that was saved at the clock's
//! latest tick. Where the clock stands at its maximum, nothing saved is looked at, and the value itself is what both had.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::books::{Balance, Books, Held, Tracked};
use super::families::Families;
use super::holdings::Holding;
use super::lifetimes::{Asker, Era, Eras, Life, Scene};
use super::process::{BaselineSource, Process};
use super::sampling::Sampling;
use super::snapshot::Amount;
use super::{Kind, LastEnd, LiveSet, Totals};
use crate::event::{Nanos, ProcessId, StackIndex};

/// All that a live set says, but for the single blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fold {
    /// What is said of all processes together.
    pub head: FoldHead,
    /// The processes of the fold, in the order of their announcements.
    pub processes: Vec<FoldedProcess>,
}

/// What is said of all processes together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldHead {
    now: u64,
    last_end_at: u64,
    last_end: Balance,
    last_end_process: u64,
    exponent: u8,
    books: FoldedBooks,
    eras: Option<FoldedEras>,
}

/// What one process of a fold held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedProcess {
    /// The process's number in the recording.
    pub id: ProcessId,
    begun: bool,
    ended: Option<u64>,
    books: FoldedBooks,
    totals: Totals,
    baseline_left: u64,
    baseline_source: BaselineSource,
    is_sampled: bool,
    /// Who holds something in it, or did.
    pub holdings: Vec<FoldedHolding>,
    /// Beside these, in the books of its family. A recording has it [behind](Self::family) the rest, where older readers pass over it.
    #[serde(skip)]
    shared: Shared,
}

/// What a process holds together with others, at its last moment and at the peak, bytes: what it inherited, and what another one answers for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Shared {
    inherited: [u128; 2],
    elsewhere: [u128; 2],
}

/// What is said of a process that holds something together with others. Of one of which nothing is said, nothing was inherited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedFamily {
    shared: Shared,
    /// Of the holdings by their number, what the process answers for; of all others it is what they hold.
    joint: Vec<(u32, Held)>,
}

/// A stack with what of one kind it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldedHolding {
    stack: StackIndex,
    kind: Kind,
    now: Held,
    at_own_peak: Held,
    at_peak_of_all: Held,
    allocated: Amount,
    lives: Vec<Life>,
    /// What of `now` the process answers for, where that is not all.
    #[serde(skip)]
    joint: Option<Held>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FoldedBooks {
    level: i128,
    maximum: i128,
    at_maximum: bool,
    peak_at: u64,
    now: Balance,
    at_peak: Balance,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct FoldedEras {
    begins: Option<u64>,
    width: u64,
    eras: Vec<Era>,
}

impl FoldedBooks {
    fn of(books: &Books) -> Self {
        let (level, maximum, at_maximum) = books.clock.state();
        Self {
            level,
            maximum,
            at_maximum,
            peak_at: books.clock.peak_at().0,
            now: books.now(),
            at_peak: books.at_peak(),
        }
    }

    fn unfold(&self) -> Books {
        let Self {
            level,
            maximum,
            at_maximum,
            peak_at,
            now,
            at_peak,
        } = *self;
        // Sums of what is no more than a recording's claim: they shall not overflow later either.
        let bounded = |level: i128| level.clamp(-LEVEL, LEVEL);
        let clock = crate::peak::PeakClock::restored(
            (bounded(level), bounded(maximum), at_maximum),
            Nanos(peak_at),
        );
        Books::restored(clock, now, at_peak)
    }
}

/// No level comes to more: 2⁶³ blocks of 2⁶⁴ bytes.
const LEVEL: i128 = i128::MAX >> 1;

impl LiveSet {
    /// What it says now.
    pub fn fold(&mut self) -> Fold {
        let all = &self.all;
        let processes = self.processes.iter_mut();
        let processes = processes.map(|process| FoldedProcess::of(process, all));
        let processes = processes.collect();
        let LastEnd {
            at,
            balance,
            process,
        } = self.last_end;
        let head = FoldHead {
            now: self.now.0,
            last_end_at: at.0,
            last_end: balance,
            last_end_process: process as u64,
            exponent: self.sampling.0,
            books: FoldedBooks::of(&self.all),
            eras: self.eras.as_ref().map(|eras| {
                let (begins, width, eras) = eras.parts();
                FoldedEras {
                    begins: begins.map(|begins| begins.0),
                    width,
                    eras: eras.to_vec(),
                }
            }),
        };
        Fold { head, processes }
    }

    /// The live set that was folded so.
    pub fn unfold(fold: &Fold) -> Self {
        let Fold { head, processes } = fold;
        let eras = head.eras.as_ref().map(|eras| {
            let FoldedEras {
                begins,
                width,
                eras,
            } = eras;
            Eras::restored(begins.map(Nanos), *width, eras)
        });
        let scene = Scene {
            threads: false,
            movements: false,
            eras: eras.is_some(),
            era: eras.as_ref().map_or(0, Eras::current),
            halvings: 0,
        };
        let mut live = Self {
            all: head.books.unfold(),
            processes: Vec::new(),
            movements: Vec::new(),
            index_of: hashbrown::HashMap::default(),
            latest: 0,
            families: Families::default(),
            open: 0,
            now: Nanos(head.now),
            last_end: LastEnd {
                at: Nanos(head.last_end_at),
                balance: head.last_end,
                process: usize::try_from(head.last_end_process).unwrap_or(usize::MAX),
            },
            sampling: Sampling(head.exponent),
            scene,
            eras,
            ended: processes
                .iter()
                .filter(|process| process.ended.is_some())
                .map(|process| process.id)
                .collect(),
            totals_of_shed: Totals::default(),
        };
        for process in processes {
            if live.index_of.contains_key(&process.id) {
                continue;
            }
            live.index_of.insert(process.id, live.processes.len());
            let unfolded = process.unfold(&live.all, live.sampling, scene);
            live.open += usize::from(unfolded.ended.is_none());
            live.processes.push(unfolded);
        }
        live
    }
}

impl FoldedProcess {
    /// Adds one to others; if it is the same as the last of them, it has more of its holdings.
    pub fn join_last(self, processes: &mut Vec<Self>) {
        match processes.last_mut() {
            Some(last) if last.id == self.id => last.holdings.extend(self.holdings),
            _ => processes.push(self),
        }
    }
}

impl Fold {
    /// Makes one holder of those whose stacks are told alike: `first` says by which stack each goes.
    pub fn join(&mut self, first: impl Fn(StackIndex) -> StackIndex) {
        for process in &mut self.processes {
            let mut place: HashMap<(StackIndex, Kind), usize> = HashMap::new();
            let mut joined: Vec<FoldedHolding> = Vec::with_capacity(process.holdings.len());
            for mut holding in std::mem::take(&mut process.holdings) {
                holding.stack = first(holding.stack);
                match place.entry((holding.stack, holding.kind)) {
                    Slot::Occupied(at) => joined[*at.get()].take(holding),
                    Slot::Vacant(at) => {
                        at.insert(joined.len());
                        joined.push(holding);
                    }
                }
            }
            process.holdings = joined;
        }
    }
}

impl FoldedProcess {
    /// What is said of it beside the rest, if it has a family.
    pub fn family(&self) -> Option<FoldedFamily> {
        let joint = self.holdings.iter().zip(0..);
        let joint = joint.filter_map(|(holding, number)| Some((number, holding.joint?)));
        let joint: Vec<_> = joint.collect();
        let is_plain = joint.is_empty() && self.shared == Shared::default();
        (!is_plain).then_some(FoldedFamily {
            shared: self.shared,
            joint,
        })
    }

    /// As [`family`](Self::family) told.
    pub fn set_family(&mut self, family: FoldedFamily) {
        self.shared = family.shared;
        for (number, joint) in family.joint {
            if let Some(holding) = self.holdings.get_mut(number as usize) {
                holding.joint = Some(joint);
            }
        }
    }
}

impl FoldedHolding {
    fn joint(&self) -> Held {
        self.joint.unwrap_or(self.now).bounded()
    }

    /// Holds what another holds, too.
    fn take(&mut self, other: Self) {
        let joint = self.joint().joined(other.joint());
        self.now = self.now.joined(other.now);
        self.joint = (joint != self.now).then_some(joint);
        self.at_own_peak = self.at_own_peak.joined(other.at_own_peak);
        self.at_peak_of_all = self.at_peak_of_all.joined(other.at_peak_of_all);
        self.allocated.bytes = self.allocated.bytes.saturating_add(other.allocated.bytes);
        self.allocated.blocks = self.allocated.blocks.saturating_add(other.allocated.blocks);
        // Those of the same eras become one as they are unfolded.
        self.lives.extend(other.lives);
    }

    /// Every two eras have become one so often.
    pub(super) fn merge_eras(&mut self, halvings: u32) {
        let merged = |era: u16| era.checked_shr(halvings).unwrap_or(0);
        for life in &mut self.lives {
            life.born = merged(life.born);
            life.gone = life.gone.map(merged);
        }
    }

    /// How many births and deaths it tells.
    pub fn lives(&self) -> usize {
        self.lives.len()
    }
}

impl FoldHead {
    /// How long an era is, nanoseconds; 0 where eras are not told apart.
    pub(super) fn era_width(&self) -> u64 {
        self.eras.as_ref().map_or(0, |eras| eras.width)
    }
}

impl FoldedProcess {
    pub(super) fn of(process: &mut Process, all: &Books) -> Self {
        let mut holdings: Vec<FoldedHolding> = Vec::new();
        for (holding, lives) in process.lives(all) {
            holdings.push(FoldedHolding {
                stack: holding.stack,
                kind: holding.kind,
                now: holding.now,
                at_own_peak: Held::default(),
                at_peak_of_all: Held::default(),
                allocated: holding.allocated,
                lives,
                joint: (holding.joint != holding.now).then_some(holding.joint),
            });
        }
        let at_peaks = process.at_own_peak().zip(process.at_peak_of_all(all));
        for (folded, ((_, own), (_, of_all))) in holdings.iter_mut().zip(at_peaks) {
            folded.at_own_peak = own;
            folded.at_peak_of_all = of_all;
        }
        let (baseline_left, baseline_source) = process.baseline();
        Self {
            id: process.id,
            begun: process.begun,
            // One that we let go of holds what it held: the entry of its end says that it has ended.
            ended: process.ended.filter(|_| process.released).map(|at| at.0),
            books: FoldedBooks::of(&process.books),
            totals: process.totals,
            baseline_left,
            baseline_source,
            is_sampled: process.is_sampled(),
            holdings,
            shared: Shared {
                inherited: [
                    process.kin.inherited.now(),
                    process.kin.inherited.at_peak(&process.books.clock),
                ],
                elsewhere: [
                    process.kin.elsewhere.now(),
                    process.kin.elsewhere.at_peak(&all.clock),
                ],
            },
        }
    }

    fn unfold(&self, all: &Books, sampling: Sampling, scene: Scene) -> Process {
        let books = self.books.unfold();
        let mut births: BTreeMap<(u32, u16), Amount> = BTreeMap::new();
        let mut gone = Vec::new();
        let mut holdings = Vec::with_capacity(self.holdings.len());
        for (index, folded) in self.holdings.iter().enumerate() {
            let asker = Asker {
                stack: folded.stack,
                thread: None,
            };
            let mut holding = Holding::new(asker, folded.kind, &books, all);
            holding.now = folded.now.bounded();
            holding.joint = folded.joint();
            holding.allocated = folded.allocated;
            holding
                .at_own_peak
                .restore(&books.clock, folded.at_own_peak.bounded());
            holding
                .at_peak_of_all
                .restore(&all.clock, folded.at_peak_of_all.bounded());
            holdings.push(holding);
            for life in &folded.lives {
                let Life {
                    born,
                    gone: went,
                    bytes,
                    blocks,
                } = *life;
                match went {
                    Some(went) => gone.push((index as u32, born, went, bytes, blocks)),
                    None => {
                        let of = births.entry((index as u32, born)).or_default();
                        of.bytes = of.bytes.saturating_add(bytes);
                        of.blocks = of.blocks.saturating_add(blocks);
                    }
                }
            }
        }
        let Shared {
            inherited,
            elsewhere,
        } = self.shared;
        let inherited = Tracked::restored(&books.clock, inherited);
        let mut process = Process::restored(self.id, (books, all), sampling, scene, holdings);
        process.kin.inherited = inherited;
        process.kin.elsewhere = Tracked::restored(&all.clock, elsewhere);
        process.begun = self.begun;
        process.ended = self.ended.map(Nanos);
        process.released = process.ended.is_some();
        process.totals = self.totals;
        process.restore(
            (self.baseline_left, self.baseline_source),
            self.is_sampled,
            births,
            gone,
        );
        process
    }
}
