//! Which ranges of addresses carry what: an interval map.
//!
//! Ranges are half-open, never empty, and never overlap. They are kept by their first address in an ordered map, so what
//! touches a range of interest is a run of neighbours there: the last one that begins at or before it, if it reaches
//! that far, and all that begin inside. Finding the first of them costs O(log n), and so does everything that is then
//! done to each.
//!
//! Two ranges that touch and carry the same are always one, as in the kernel. This holds because a range enters the map
//! in one place only, which looks at both neighbours; taking a part out of a range leaves parts that do not touch. So what the map
//! looks like follows from what each address carries, not from the history.
//!
//! Whoever keeps books on the ranges passes in a list of changes. Each range that leaves the map and each that enters
//! it is added there, parts and joined ones too; the sum over the list is what has changed.

use std::collections::BTreeMap;

/// Addresses `start..end`, at least one. The very last address there is cannot be part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Span {
    /// So many bytes from `start`, as far as there are addresses; `None` without any.
    pub(super) fn new(start: u64, length: u64) -> Option<Self> {
        Self::between(start, start.saturating_add(length))
    }

    pub(super) fn between(start: u64, end: u64) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    pub(super) fn length(self) -> u64 {
        self.end - self.start
    }

    fn overlap(self, other: Self) -> Option<Self> {
        Self::between(self.start.max(other.start), self.end.min(other.end))
    }
}

/// A range, or part of one, and what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<T> {
    pub(super) span: Span,
    pub(super) value: T,
}

impl<T: Copy> Piece<T> {
    /// What of it lies in `span`.
    pub(super) fn part(self, span: Span) -> Option<Self> {
        let span = self.span.overlap(span)?;
        Some(Self { span, ..self })
    }

    /// What of it lies outside.
    pub(super) fn without(self, span: Span) -> impl Iterator<Item = Self> {
        let Span { start, end } = self.span;
        let before = Span::between(start, end.min(span.start));
        let after = Span::between(start.max(span.end), end);
        let outside = before.into_iter().chain(after);
        outside.map(move |span| Self { span, ..self })
    }
}

/// A range entered the map or left it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<T> {
    /// What it carries.
    pub(super) value: T,
    /// Its length, below zero if it left.
    pub(super) bytes: i128,
    /// One, or minus one.
    pub(super) ranges: i64,
}

/// The map; see the [module](self).
#[derive(Clone, Debug)]
pub(super) struct Ranges<T> {
    /// Start → end and value.
    by_start: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self {
            by_start: BTreeMap::new(),
        }
    }
}

impl<T: Copy + Eq> Ranges<T> {
    /// What the address carries.
    pub(super) fn at(&self, address: u64) -> Option<T> {
        let (_, (end, value)) = self.by_start.range(..=address).next_back()?;
        (address < *end).then_some(*value)
    }

    /// All ranges, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Piece<T>> {
        self.by_start.iter().map(|(&start, &(end, value))| Piece {
            span: Span { start, end },
            value,
        })
    }

    /// What each carries. Neighbours that come to carry the same stay apart until one of them changes.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.by_start.values_mut().map(|(_, value)| value)
    }

    /// The parts of ranges that lie in `span`, in order.
    pub(super) fn within(&self, span: Span) -> impl Iterator<Item = Piece<T>> {
        self.touching(span)
            .filter_map(move |Piece { span: whole, value }| {
                let span = whole.overlap(span)?;
                Some(Piece { span, value })
            })
    }

    /// Takes out what lies in `span`, and says what that was.
    pub(super) fn take(&mut self, span: Span, changes: &mut Vec<Change<T>>) -> Vec<Piece<T>> {
        let whole: Vec<Piece<T>> = self.touching(span).collect();
        let mut taken = whole;
        for piece in &mut taken {
            self.unlink(*piece, changes);
            let Span { start, end } = piece.span;
            let value = piece.value;
            if let Some(head) = Span::between(start, span.start) {
                self.link(Piece { span: head, value }, changes);
            }
            if let Some(tail) = Span::between(span.end, end) {
                self.link(Piece { span: tail, value }, changes);
            }
            piece.span = Span {
                start: start.max(span.start),
                end: end.min(span.end),
            };
        }
        taken
    }

    /// Lets a piece replace what lies there, and says what that was.
    pub(super) fn insert(
        &mut self,
        piece: Piece<T>,
        changes: &mut Vec<Change<T>>,
    ) -> Vec<Piece<T>> {
        let replaced = self.take(piece.span, changes);
        self.join(piece, changes);
        replaced
    }

    /// Lets a piece have the addresses that carry nothing, and says how many those were.
    pub(super) fn fill(&mut self, piece: Piece<T>, changes: &mut Vec<Change<T>>) -> u64 {
        let there: Vec<Span> = self.within(piece.span).map(|there| there.span).collect();
        let mut filled = 0;
        let mut from = piece.span.start;
        let end = Span {
            start: piece.span.end,
            end: piece.span.end,
        };
        for next in there.into_iter().chain([end]) {
            if let Some(span) = Span::between(from, next.start) {
                filled += span.length();
                let value = piece.value;
                self.join(Piece { span, value }, changes);
            }
            from = next.end;
        }
        filled
    }

    /// The ranges that have a part in `span`.
    fn touching(&self, span: Span) -> impl Iterator<Item = Piece<T>> {
        let before = self.by_start.range(..=span.start).next_back();
        let inside = self.by_start.range(span.start + 1..span.end);
        let all = before.into_iter().chain(inside);
        all.map(|(&start, &(end, value))| Piece {
            span: Span { start, end },
            value,
        })
        .filter(move |piece| piece.span.end > span.start)
    }

    /// Puts a piece where nothing lies, and makes it one with neighbours that carry the same.
    fn join(&mut self, piece: Piece<T>, changes: &mut Vec<Change<T>>) {
        let Piece { mut span, value } = piece;
        let before = self.by_start.range(..span.start).next_back();
        if let Some((&start, &(end, _))) =
            before.filter(|(_, other)| **other == (span.start, value))
        {
            let other = Span { start, end };
            self.unlink(Piece { span: other, value }, changes);
            span.start = start;
        }
        if let Some(&(end, other)) = self.by_start.get(&span.end)
            && other == value
        {
            let start = span.end;
            let other = Span { start, end };
            self.unlink(Piece { span: other, value }, changes);
            span.end = end;
        }
        self.link(Piece { span, value }, changes);
    }

    fn link(&mut self, piece: Piece<T>, changes: &mut Vec<Change<T>>) {
        let Piece { span, value } = piece;
        self.by_start.insert(span.start, (span.end, value));
        changes.push(Change {
            value,
            bytes: span.length().into(),
            ranges: 1,
        });
    }

    fn unlink(&mut self, piece: Piece<T>, changes: &mut Vec<Change<T>>) {
        let Piece { span, value } = piece;
        self.by_start.remove(&span.start);
        changes.push(Change {
            value,
            bytes: -i128::from(span.length()),
            ranges: -1,
        });
    }
}

#[cfg(test)]
mod tests;
