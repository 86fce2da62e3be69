//! The address space of one process, as far as its system calls tell: what each call does to it.
//!
//! Ranges of the allocator's own are kept like all others, so that what is later done to them is understood, but they
//! are of no kind and count nowhere: the blocks in them do.
//!
//! `munmap` and `mremap` retire their range as they begin, since another thread may be given the addresses before they
//! return. Their thread's next call about mappings decides: a failure puts back what was retired wherever nothing newer
//! has come, anything else means that it is gone.

use std::collections::BTreeMap;

use super::families::Stretch;
use super::kind::Kind;
use super::lifetimes::{Asker, Scene};
use super::ranges::{Change, Piece, Ranges, Span};
use super::totals::Totals;
use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, StackIndex, Tid};

mod shares;

pub(super) use shares::Share;
use shares::area_of;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// What a range carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    /// Who asked for it.
    pub(super) asker: Asker,
    /// The era in which it came.
    pub(super) born: u16,
    pub(super) traits: Traits,
}

impl Area {
    /// Its kind; none of what is the allocator's own.
    pub(super) fn kind(self) -> Option<Kind> {
        let Traits {
            committed,
            file,
            shared,
            stack,
            by_allocator,
        } = self.traits;
        match () {
            () if by_allocator => None,
            () if file => Some(Kind::File),
            () if shared => Some(Kind::Shared),
            () if !committed => Some(Kind::Reserved),
            () if stack => Some(Kind::ThreadStack),
            () => Some(Kind::Mapping),
        }
    }

    /// Whether it becomes another kind by being committed, or by being so no more.
    fn changes_with(self, committed: bool) -> bool {
        self.can_be_committed() && self.traits.committed != committed
    }

    /// Whether its kind depends on whether it is committed.
    fn can_be_committed(self) -> bool {
        let Traits {
            file,
            shared,
            by_allocator,
            ..
        } = self.traits;
        !file && !shared && !by_allocator
    }
}

/// Private memory without a file.
fn private(by_allocator: bool) -> Traits {
    Traits {
        committed: true,
        file: false,
        shared: false,
        stack: false,
        by_allocator,
    }
}

/// Which call retired something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Unmap,
    Remap,
}

/// What a call that began retired.
#[derive(Clone, Debug)]
struct Retired {
    by: By,
    start: u64,
    length: u64,
    pieces: Vec<Piece<Share>>,
    /// What `mremap` gives a range more of: what lies at the end of the old one.
    grows_as: Option<Area>,
}

impl Retired {
    /// Bytes of it that were not the allocator's own.
    fn handed_back(&self) -> u64 {
        counted_of(&self.pieces)
    }

    /// Bytes of it that nobody saw mapped.
    fn unknown(&self) -> u64 {
        let known = self.pieces.iter().map(|piece| piece.span.length());
        self.length - known.sum::<u64>()
    }
}

/// Bytes of these pieces that are not the allocator's own. They do not overlap, so their lengths add up to an address.
fn counted(pieces: &[Piece<Area>]) -> u64 {
    let pieces = pieces
        .iter()
        .filter(|piece| !piece.value.traits.by_allocator);
    pieces.map(|piece| piece.span.length()).sum()
}

fn counted_of(pieces: &[Piece<Share>]) -> u64 {
    let areas = pieces.iter().map(area_of);
    counted(&areas.collect::<Vec<_>>())
}

/// What ranges came and went.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// In the process.
    pub(super) own: Vec<Change<Area>>,
    /// The same, as its family sees it; nothing of a process without one.
    pub(super) shares: Vec<Change<Share>>,
}

/// The ranges of one process.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    ranges: Ranges<Area>,
    /// The same addresses, but for what is of no kind, once the process has had a family.
    shares: Option<Ranges<Share>>,
    /// The stretch that the process is in.
    stretch: Stretch,
    /// The last call of each thread, if it retired something. As many as there are threads.
    retired: BTreeMap<Tid, Retired>,
}

impl Mappings {
    /// Says anew when each range came.
    pub(super) fn born(&mut self, born: impl Fn(u16) -> u16) {
        for area in self.ranges.values_mut() {
            area.born = born(area.born);
        }
        for share in self.shares.iter_mut().flat_map(Ranges::values_mut) {
            share.area.born = born(share.area.born);
        }
    }

    /// Lets a piece that came now replace what lies there, and says what that was.
    fn insert(&mut self, piece: Piece<Area>, changes: &mut Changes) -> Vec<Piece<Area>> {
        let Piece { span, value } = piece;
        if let Some(shares) = &mut self.shares {
            match value.kind() {
                None => drop(shares.take(span, &mut changes.shares)),
                Some(_) => {
                    let value = Share {
                        area: value,
                        stretch: self.stretch,
                        answers: true,
                    };
                    shares.insert(Piece { span, value }, &mut changes.shares);
                }
            }
        }
        self.ranges.insert(piece, &mut changes.own)
    }

    /// Takes out what lies in `span`, and says what that was.
    fn take(&mut self, span: Span, changes: &mut Changes) -> Vec<Piece<Share>> {
        let taken = self.ranges.take(span, &mut changes.own);
        let stretch = self.stretch;
        let as_share = |Piece { span, value }| Piece {
            span,
            value: Share {
                area: value,
                stretch,
                answers: true,
            },
        };
        match &mut self.shares {
            None => taken.into_iter().map(as_share).collect(),
            Some(shares) => {
                let mut pieces = shares.take(span, &mut changes.shares);
                let others = taken
                    .into_iter()
                    .filter(|piece| piece.value.kind().is_none());
                pieces.extend(others.map(as_share));
                pieces
            }
        }
    }

    /// Takes a call in, and says which ranges came and went.
    pub(super) fn apply(
        &mut self,
        thread: Tid,
        mapping: Mapping,
        scene: Scene,
        totals: &mut Totals,
        changes: &mut Changes,
    ) {
        let area = |stack: StackIndex, traits: Traits| Area {
            asker: scene.asker(stack, thread),
            born: scene.era,
            traits,
        };
        let last = self.retired.remove(&thread);
        let remapping = last.as_ref().is_some_and(|last| last.by == By::Remap);
        let ends_remap = matches!(mapping, Mapping::Remapped { .. } | Mapping::RemapFailed);
        let paired = remapping == ends_remap;
        if !paired {
            totals.unpaired_resize();
        }
        let retired = last.filter(|_| paired);
        match mapping {
            Mapping::Mapped {
                range,
                traits,
                stack,
            } => {
                let Some(span) = span(range) else { return };
                if !traits.by_allocator {
                    totals.mapped();
                }
                self.put(span, area(stack, traits), totals, changes);
            }
            Mapping::UnmapBegan { range } => {
                let Some(began) = self.begin(By::Unmap, range, totals, changes) else {
                    return;
                };
                totals.unmap_began(began.handed_back(), began.unknown());
                self.retired.insert(thread, began);
            }
            Mapping::UnmapFailed => {
                let Some(began) = retired else { return };
                totals.unmap_failed(began.handed_back(), began.unknown());
                self.reinstate(&began, scene.era, totals, changes);
            }
            Mapping::RemapBegan { range } => {
                let began = self.begin(By::Remap, range, totals, changes);
                // Of a shared range, `mremap` of nothing makes a second mapping.
                let began = began.unwrap_or_else(|| Retired {
                    by: By::Remap,
                    start: range.start.0,
                    length: 0,
                    pieces: Vec::new(),
                    grows_as: self.ranges.at(range.start.0),
                });
                self.retired.insert(thread, began);
            }
            Mapping::Remapped {
                range,
                keeps_old,
                by_allocator,
                stack,
            } => {
                let traits = private(by_allocator);
                let new = area(stack, traits);
                self.remap(retired, range, keeps_old, new, totals, changes);
            }
            Mapping::RemapFailed => {
                if let Some(began) = retired {
                    self.reinstate(&began, scene.era, totals, changes);
                }
            }
            Mapping::BreakMoved {
                old,
                new,
                by_allocator,
                stack,
            } => {
                let (old, new) = (whole_pages(old), whole_pages(new));
                if let Some(grown) = Span::between(old, new) {
                    let traits = private(by_allocator);
                    self.put(grown, area(stack, traits), totals, changes);
                } else if let Some(shrunk) = Span::between(new, old) {
                    let gone = self.take(shrunk, changes);
                    totals.unmapped_bytes(counted_of(&gone));
                }
            }
            Mapping::Protected {
                range,
                committed,
                stack,
            } => self.protect(range, committed, area(stack, private(false)), changes),
            Mapping::Discarded { range } => {
                totals.discarded(span(range).map_or(0, Span::length));
            }
        }
    }

    fn put(&mut self, span: Span, value: Area, totals: &mut Totals, changes: &mut Changes) {
        let replaced = self.insert(Piece { span, value }, changes);
        totals.unmapped_bytes(counted(&replaced));
        if !value.traits.by_allocator {
            totals.mapped_bytes(span.length());
        }
    }

    fn begin(
        &mut self,
        by: By,
        range: Range,
        totals: &mut Totals,
        changes: &mut Changes,
    ) -> Option<Retired> {
        let span = span(range)?;
        let grows_as = self.ranges.at(span.end - 1);
        let pieces = self.take(span, changes);
        totals.unmapped_bytes(counted_of(&pieces));
        Some(Retired {
            by,
            start: span.start,
            length: span.length(),
            pieces,
            grows_as,
        })
    }

    /// What was retired lives on, where nothing newer has come.
    fn reinstate(
        &mut self,
        retired: &Retired,
        era: u16,
        totals: &mut Totals,
        changes: &mut Changes,
    ) {
        for piece in &retired.pieces {
            let mut piece = *piece;
            piece.value.area.born = era;
            if piece.value.area.kind().is_some()
                && let Some(shares) = &mut self.shares
            {
                // The allocator's ranges are not among them.
                let mut free = vec![piece];
                for there in self.ranges.within(piece.span) {
                    let rest = free.iter().flat_map(|free| free.without(there.span));
                    free = rest.collect();
                }
                for piece in free {
                    shares.insert(piece, &mut changes.shares);
                }
            }
            let area = area_of(&piece);
            let filled = self.ranges.fill(area, &mut changes.own);
            if !area.value.traits.by_allocator {
                totals.not_unmapped_bytes(filled);
            }
        }
    }

    /// The new range is what the old one was, piece by piece, but held by who asked for the move, as with `realloc`.
    /// Where the old range was not seen mapped, neither is the new one: it is memory from before. What the new one has
    /// more is new.
    fn remap(
        &mut self,
        retired: Option<Retired>,
        range: Range,
        keeps_old: bool,
        new: Area,
        totals: &mut Totals,
        changes: &mut Changes,
    ) {
        let Some(retired) = retired else {
            if let Some(span) = span(range) {
                self.put(span, new, totals, changes);
            }
            return;
        };
        if keeps_old {
            self.reinstate(&retired, new.born, totals, changes);
        }
        let Some(span) = span(range) else { return };
        let replaced = self.take(span, changes);
        totals.unmapped_bytes(counted_of(&replaced));
        let as_of = |old: Area| Area {
            traits: old.traits,
            ..new
        };
        for piece in &retired.pieces {
            let moved = |address: u64| span.start.saturating_add(address - retired.start);
            let (start, end) = (moved(piece.span.start), moved(piece.span.end));
            if let Some(moved) = Span::between(start, end.min(span.end)) {
                self.put(moved, as_of(piece.value.area), totals, changes);
            }
        }
        if let Some(grown) = Span::between(span.start.saturating_add(retired.length), span.end) {
            let value = retired.grows_as.map_or(new, as_of);
            self.put(grown, value, totals, changes);
        }
    }

    /// Memory is asked for when it is committed, so it is held by who committed it.
    fn protect(&mut self, range: Range, committed: bool, new: Area, changes: &mut Changes) {
        let Some(span) = span(range) else { return };
        let there = self.ranges.within(span);
        let changed: Vec<Piece<Area>> = there
            .filter(|piece| piece.value.changes_with(committed))
            .collect();
        for Piece { span, value } in changed {
            let traits = Traits {
                committed,
                ..value.traits
            };
            let value = Area { traits, ..new };
            self.insert(Piece { span, value }, changes);
        }
    }
}

fn span(range: Range) -> Option<Span> {
    Span::new(range.start.0, range.length)
}

/// The program break may lie anywhere, but the kernel maps whole pages up to it.
fn whole_pages(end: Address) -> u64 {
    end.0.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX)
}
