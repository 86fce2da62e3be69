//! One process of the twin, and what each call does to it.

use std::collections::BTreeMap;

use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Nanos, ProcessId, StackIndex, Tid};
use crate::live::process::Block as RealBlock;
use crate::live::{Kind, Totals};

const PAGE: u64 = 4096;

/// Who asked for something, and how often that one had forked by then.
pub(super) type Origin = (ProcessId, u32);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) size: u64,
    pub(super) stack: StackIndex,
    pub(super) origin: Origin,
}

/// What is the same wherever in a family it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    Block(Address, u64, Origin),
    Page(u64, StackIndex, [bool; 5], Origin),
}

/// The old block of a resize under way, or what its chunk header took away of the baseline.
#[derive(Clone, Copy, Debug)]
pub(super) enum Old {
    Block(Block),
    Unmatched(u64),
}

/// What a page of the address space was asked for as, and by whom.
pub(super) type Page = (StackIndex, Traits, Origin);

pub(super) fn kind((_, traits, _): Page) -> Option<Kind> {
    let Traits {
        committed,
        file,
        shared,
        stack,
        by_allocator,
    } = traits;
    match (by_allocator, file, shared, committed, stack) {
        (true, ..) => None,
        (_, true, ..) => Some(Kind::File),
        (_, _, true, ..) => Some(Kind::Shared),
        (_, _, _, false, _) => Some(Kind::Reserved),
        (.., true) => Some(Kind::ThreadStack),
        (.., false) => Some(Kind::Mapping),
    }
}

/// What `munmap` or `mremap` retired: where it began, how many pages, and those that were there.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) remap: bool,
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) pages: BTreeMap<u64, Page>,
    pub(super) grows_as: Option<Page>,
}

/// The twin knows whole pages only.
pub(super) fn pages(range: Range) -> std::ops::Range<u64> {
    let first = range.start.0 / PAGE;
    first..first + range.length / PAGE
}

/// Bytes of those that are not the allocator's.
pub(super) fn counted<'a>(pages: impl IntoIterator<Item = &'a Page>) -> u64 {
    let pages = pages.into_iter().filter(|page| kind(**page).is_some());
    pages.count() as u64 * PAGE
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    /// How often it forked.
    pub(super) forks: u32,
    pub(super) pages: BTreeMap<u64, Page>,
    pub(super) retired: BTreeMap<Tid, Retired>,
    pub(super) blocks: BTreeMap<Address, Block>,
    pub(super) resizes: BTreeMap<(Tid, u8), (Address, Old)>,
    /// What it held when tracing began; `None` until we are told.
    pub(super) baseline: Option<u64>,
    pub(super) inherited: bool,
    pub(super) freed_baseline: u64,
    pub(super) begun: bool,
    pub(super) totals: Totals,
    pub(super) ended: bool,
    pub(super) detached: Option<Nanos>,
}

pub(super) type Sums = BTreeMap<(StackIndex, Kind), (i128, u64)>;

impl Process {
    pub(super) fn new(id: ProcessId) -> Self {
        Self {
            id,
            forks: 0,
            pages: BTreeMap::new(),
            retired: BTreeMap::new(),
            blocks: BTreeMap::new(),
            resizes: BTreeMap::new(),
            baseline: None,
            inherited: false,
            freed_baseline: 0,
            begun: false,
            totals: Totals::default(),
            ended: false,
            detached: None,
        }
    }

    pub(super) fn origin(&self) -> Origin {
        (self.id, self.forks)
    }

    /// Each thing that it holds, of which kind that is, and its bytes.
    pub(super) fn things(&self) -> impl Iterator<Item = (Thing, Kind, u64)> {
        let blocks = self.blocks.iter().map(|(&address, block)| {
            let thing = Thing::Block(address, block.size, block.origin);
            (thing, Kind::Heap, block.size)
        });
        let pages = self.pages.iter().filter_map(|(&number, &page)| {
            let (stack, traits, origin) = page;
            let Traits {
                committed,
                file,
                shared,
                stack: of_thread,
                by_allocator,
            } = traits;
            let traits = [committed, file, shared, of_thread, by_allocator];
            let thing = Thing::Page(number, stack, traits, origin);
            Some((thing, kind(page)?, PAGE))
        });
        blocks.chain(pages)
    }

    pub(super) fn own_baseline(&self) -> i128 {
        match (self.inherited, self.baseline) {
            (false, Some(bytes)) => bytes.into(),
            _ => 0,
        }
    }

    pub(super) fn freed_for_all(&self) -> i128 {
        match (self.ended, self.inherited) {
            (true, _) => self.own_baseline(),
            (false, true) => 0,
            (false, false) => self.freed_baseline.into(),
        }
    }

    /// What each stack holds of each kind. Pages that follow each other and are alike are one range.
    pub(super) fn sums(&self) -> Sums {
        let alike = |one: Page, other: Page| (one.0, one.1) == (other.0, other.1);
        sums(self.blocks.values(), &self.pages, alike)
    }

    pub(super) fn put(&mut self, number: u64, (stack, traits): (StackIndex, Traits)) {
        let page = (stack, traits, self.origin());
        let old = self.pages.insert(number, page);
        self.totals.unmapped_bytes += counted(&old);
        self.totals.mapped_bytes += counted([&page]);
    }

    pub(super) fn remove_pages(&mut self, range: std::ops::Range<u64>) -> BTreeMap<u64, Page> {
        let gone = range.filter_map(|number| Some((number, self.pages.remove(&number)?)));
        let gone: BTreeMap<u64, Page> = gone.collect();
        self.totals.unmapped_bytes += counted(gone.values());
        gone
    }

    pub(super) fn begin(&mut self, remap: bool, range: Range) -> Retired {
        let range = pages(range);
        let last = if range.is_empty() {
            range.start
        } else {
            range.end - 1
        };
        let grows_as = self.pages.get(&last).copied();
        let (first, count) = (range.start, range.end - range.start);
        Retired {
            remap,
            first,
            count,
            pages: self.remove_pages(range),
            grows_as,
        }
    }

    pub(super) fn reinstate(&mut self, retired: &Retired) {
        for (number, page) in &retired.pages {
            if !self.pages.contains_key(number) {
                self.pages.insert(*number, *page);
                self.totals.unmapped_bytes -= counted([page]);
            }
        }
    }

    pub(super) fn map(&mut self, thread: Tid, mapping: Mapping) {
        let mut last = self.retired.remove(&thread);
        let ends_remap = matches!(mapping, Mapping::Remapped { .. } | Mapping::RemapFailed);
        if last.as_ref().is_some_and(|last| last.remap) != ends_remap {
            self.totals.unpaired_resizes += 1;
            last = None;
        }
        let private = |by_allocator| Traits {
            committed: true,
            file: false,
            shared: false,
            stack: false,
            by_allocator,
        };
        match mapping {
            Mapping::Mapped {
                range,
                traits,
                stack,
            } => {
                for page in pages(range) {
                    self.put(page, (stack, traits));
                }
                self.totals.mmaps += u64::from(range.length > 0 && !traits.by_allocator);
            }
            Mapping::UnmapBegan { range } if range.length == 0 => {}
            Mapping::UnmapBegan { range } => {
                let began = self.begin(false, range);
                let unknown = (began.count - began.pages.len() as u64) * PAGE;
                self.totals.unmaps += u64::from(counted(began.pages.values()) > 0);
                self.totals.unmatched_unmaps += u64::from(unknown > 0);
                self.totals.unmatched_unmapped_bytes += unknown;
                self.retired.insert(thread, began);
            }
            Mapping::UnmapFailed => {
                let Some(began) = last else { return };
                let unknown = (began.count - began.pages.len() as u64) * PAGE;
                self.totals.unmaps -= u64::from(counted(began.pages.values()) > 0);
                self.totals.unmatched_unmaps -= u64::from(unknown > 0);
                self.totals.unmatched_unmapped_bytes -= unknown;
                self.reinstate(&began);
            }
            Mapping::RemapBegan { range } => {
                let began = self.begin(true, range);
                self.retired.insert(thread, began);
            }
            Mapping::RemapFailed => {
                if let Some(began) = last {
                    self.reinstate(&began);
                }
            }
            Mapping::Remapped {
                range,
                keeps_old,
                by_allocator,
                stack,
            } => {
                let new = (stack, private(by_allocator));
                let Some(old) = last else {
                    for page in pages(range) {
                        self.put(page, new);
                    }
                    return;
                };
                if keeps_old {
                    self.reinstate(&old);
                }
                self.remove_pages(pages(range));
                for (index, page) in (0..).zip(pages(range)) {
                    if index >= old.count {
                        let traits = old.grows_as.map_or(new.1, |(_, traits, _)| traits);
                        self.put(page, (stack, traits));
                    } else if let Some((_, traits, _)) = old.pages.get(&(old.first + index)) {
                        self.put(page, (stack, *traits));
                    }
                }
            }
            Mapping::BreakMoved {
                old,
                new,
                by_allocator,
                stack,
            } => {
                let (old, new) = (old.0.div_ceil(PAGE), new.0.div_ceil(PAGE));
                for page in old..new {
                    self.put(page, (stack, private(by_allocator)));
                }
                self.remove_pages(new..old);
            }
            Mapping::Protected {
                range,
                committed,
                stack,
            } => {
                let origin = self.origin();
                for number in pages(range) {
                    if let Some(page) = self.pages.get_mut(&number) {
                        let was = kind(*page);
                        let traits = Traits {
                            committed,
                            ..page.1
                        };
                        if kind((stack, traits, origin)) != was {
                            *page = (stack, traits, origin);
                        }
                    }
                }
            }
            Mapping::Discarded { range } => {
                self.totals.discards += 1;
                self.totals.discarded_bytes += range.length;
            }
        }
    }

    pub(super) fn remove(&mut self, address: Address, header: u64) -> Old {
        if let Some(block) = self.blocks.remove(&address) {
            return Old::Block(block);
        }
        let left = self.baseline.unwrap_or(0) - self.freed_baseline;
        let chunk = header - header % 8;
        let size = if header / 2 % 2 == 1 && chunk > 4096 {
            chunk - 2048
        } else {
            chunk
        };
        if chunk >= 32 && chunk.is_multiple_of(16) && size <= left {
            self.freed_baseline += size;
            Old::Unmatched(size)
        } else {
            Old::Unmatched(0)
        }
    }

    pub(super) fn count_free(&mut self, old: Old) {
        match old {
            Old::Block(block) => {
                self.totals.frees += 1;
                self.totals.freed_bytes = self.totals.freed_bytes.saturating_add(block.size);
            }
            Old::Unmatched(bytes) => {
                self.totals.unmatched_frees += 1;
                self.totals.unmatched_freed_bytes += bytes;
            }
        }
    }

    pub(super) fn add(&mut self, address: Address, size: u64, stack: StackIndex) {
        let block = Block {
            size: RealBlock::kept(size),
            stack,
            origin: self.origin(),
        };
        self.totals.allocations += 1;
        self.totals.allocated_bytes = self.totals.allocated_bytes.saturating_add(block.size);
        if self.blocks.insert(address, block).is_some() {
            self.totals.replaced_blocks += 1;
        }
    }
}

pub(super) fn sums<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    pages: &BTreeMap<u64, Page>,
    alike: impl Fn(Page, Page) -> bool,
) -> Sums {
    let mut sums = Sums::new();
    for block in blocks {
        let (bytes, blocks) = sums.entry((block.stack, Kind::Heap)).or_default();
        *bytes += i128::from(block.size);
        *blocks += 1;
    }
    for (number, page) in pages {
        let Some(kind) = kind(*page) else { continue };
        let (bytes, ranges) = sums.entry((page.0, kind)).or_default();
        *bytes += i128::from(PAGE);
        let before = number.checked_sub(1).and_then(|before| pages.get(&before));
        if !before.is_some_and(|before| alike(*before, *page)) {
            *ranges += 1;
        }
    }
    sums
}
