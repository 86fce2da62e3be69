//! What of its ranges a process holds together with its family, and what of that it answers for: `process/kin.rs` has the rules.

use std::collections::BTreeMap;
use std::mem;

use super::super::families::Stretch;
use super::super::ranges::{Change, Piece, Ranges, Span};
use super::{Area, By, Mappings, span, whole_pages};
use crate::event::Tid;
use crate::event::mapping::Mapping;

/// What a range carries where a family may hold it together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::live) struct Share {
    pub(in crate::live) area: Area,
    /// The stretch in which it came.
    pub(in crate::live) stretch: Stretch,
    /// The process answers for it.
    pub(in crate::live) answers: bool,
}

impl Share {
    /// Whether another process of the family has this same memory at the same address.
    fn is_same(self, other: Self) -> bool {
        let of = |share: Self| (share.stretch, share.area.asker, share.area.traits);
        of(self) == of(other)
    }
}

pub(super) fn area_of(piece: &Piece<Share>) -> Piece<Area> {
    Piece {
        span: piece.span,
        value: piece.value.area,
    }
}

impl Mappings {
    /// The process forks. What its child starts with: it answers for nothing. What is retired in other threads is as good as gone.
    pub(in crate::live) fn fork(&mut self) -> Self {
        let stretch = self.stretch;
        let shares = self.shares.get_or_insert_with(|| {
            let mut shares = Ranges::default();
            for Piece { span, value } in self.ranges.iter() {
                if value.kind().is_some() {
                    let value = Share {
                        area: value,
                        stretch,
                        answers: true,
                    };
                    shares.insert(Piece { span, value }, &mut Vec::new());
                }
            }
            shares
        });
        let mut of_child = shares.clone();
        for share in of_child.values_mut() {
            share.answers = false;
        }
        Self {
            ranges: self.ranges.clone(),
            shares: Some(of_child),
            stretch,
            retired: BTreeMap::new(),
        }
    }

    /// The process enters a stretch.
    pub(in crate::live) fn enter(&mut self, stretch: Stretch) {
        self.stretch = stretch;
    }

    /// As [`fork`](Self::fork) made them, but for a process that has no family: it answers for all of it.
    pub(in crate::live) fn stand_alone(&mut self) {
        self.shares = None;
    }

    /// Whether a family may hold some of it together.
    pub(in crate::live) fn has_shares(&self) -> bool {
        self.shares.is_some()
    }

    /// All ranges that the process answers for.
    pub(in crate::live) fn answered(&self) -> Vec<Piece<Area>> {
        match &self.shares {
            None => self.ranges.iter().collect(),
            Some(shares) => {
                let answered = shares.iter().filter(|piece| piece.value.answers);
                answered.map(|piece| area_of(&piece)).collect()
            }
        }
    }

    /// What a call takes from the process of what it answers for and came before a stretch.
    pub(in crate::live) fn gives_up(&self, mapping: Mapping, before: Stretch) -> Vec<Piece<Share>> {
        let (taken, committed) = match mapping {
            Mapping::Mapped { range, .. }
            | Mapping::UnmapBegan { range }
            | Mapping::RemapBegan { range }
            | Mapping::Remapped { range, .. } => (span(range), None),
            Mapping::BreakMoved { old, new, .. } => {
                let (old, new) = (whole_pages(old), whole_pages(new));
                (Span::between(old.min(new), old.max(new)), None)
            }
            Mapping::Protected {
                range, committed, ..
            } => (span(range), Some(committed)),
            Mapping::UnmapFailed | Mapping::RemapFailed | Mapping::Discarded { .. } => {
                return vec![];
            }
        };
        let Some((shares, taken)) = self.shares.as_ref().zip(taken) else {
            return vec![];
        };
        let mut pieces: Vec<Piece<Share>> = shares
            .within(taken)
            .filter(|piece| piece.value.answers && piece.value.stretch < before)
            .collect();
        if let Some(committed) = committed {
            pieces.retain(|piece| piece.value.area.changes_with(committed));
        }
        pieces
    }

    /// Everything that it answers for and came before a stretch.
    pub(in crate::live) fn gives_all_up(&self, before: Stretch) -> Vec<Piece<Share>> {
        let shares = self.shares.iter().flat_map(Ranges::iter);
        shares
            .filter(|piece| piece.value.answers && piece.value.stretch < before)
            .collect()
    }

    /// What a call that ends so puts back.
    pub(in crate::live) fn puts_back(&self, thread: Tid, mapping: Mapping) -> Vec<Piece<Share>> {
        let ends = match mapping {
            Mapping::UnmapFailed => By::Unmap,
            Mapping::RemapFailed
            | Mapping::Remapped {
                keeps_old: true, ..
            } => By::Remap,
            _ => return vec![],
        };
        let retired = self.retired.get(&thread);
        let retired = retired.filter(|retired| retired.by == ends);
        let pieces = retired.into_iter().flat_map(|retired| &retired.pieces);
        pieces.copied().collect()
    }

    /// The process is to answer, or not to, for what of the retired pieces lies in a range once it is put back.
    pub(in crate::live) fn will_answer(&mut self, thread: Tid, of: Span, answers: bool) {
        let Some(retired) = self.retired.get_mut(&thread) else {
            return;
        };
        let whole = mem::take(&mut retired.pieces);
        for piece in whole {
            retired.pieces.extend(piece.without(of));
            if let Some(mut piece) = piece.part(of) {
                piece.value.answers = answers;
                retired.pieces.push(piece);
            }
        }
    }

    /// None of its family lives any more: what may be put back, the process answers for.
    pub(in crate::live) fn will_answer_for_all(&mut self) {
        for piece in self.retired.values_mut().flat_map(|of| &mut of.pieces) {
            piece.value.answers = true;
        }
    }

    /// Which parts of a piece of another process it holds too.
    pub(in crate::live) fn same(&self, piece: Piece<Share>) -> Vec<Span> {
        let shares = self.shares.iter();
        let within = shares.flat_map(|shares| shares.within(piece.span));
        let same = within.filter(|other| other.value.is_same(piece.value));
        same.map(|other| other.span).collect()
    }

    /// The process is to answer, or not to, for what lies in a range; of what it comes to answer for, since this era.
    pub(in crate::live) fn set_answers(
        &mut self,
        of: Span,
        answers: bool,
        era: u16,
        changes: &mut Vec<Change<Share>>,
    ) {
        let Some(shares) = &mut self.shares else {
            return;
        };
        let pieces: Vec<_> = shares.within(of).collect();
        for Piece { span, mut value } in pieces {
            value.answers = answers;
            if answers {
                value.area.born = era;
            }
            shares.insert(Piece { span, value }, changes);
        }
    }
}
