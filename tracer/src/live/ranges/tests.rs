use proptest::prelude::*;

use super::*;

const UNITS: usize = 24;
const VALUES: usize = 3;

fn span(start: u64, end: u64) -> Span {
    Span::between(start, end).expect("not empty")
}

fn piece(start: u64, end: u64, value: u8) -> Piece<u8> {
    let span = span(start, end);
    Piece { span, value }
}

fn all(ranges: &Ranges<u8>) -> Vec<Piece<u8>> {
    ranges.within(span(0, u64::MAX)).collect()
}

fn with(pieces: &[Piece<u8>]) -> Ranges<u8> {
    let mut ranges = Ranges::default();
    for piece in pieces {
        ranges.insert(*piece, &mut Vec::new());
    }
    ranges
}

#[test]
fn what_is_taken_from_the_middle_leaves_a_head_and_a_tail() {
    let mut ranges = with(&[piece(10, 20, 1)]);
    let taken = ranges.take(span(13, 15), &mut Vec::new());
    assert_eq!(taken, [piece(13, 15, 1)]);
    assert_eq!(all(&ranges), [piece(10, 13, 1), piece(15, 20, 1)]);
}

#[test]
fn several_ranges_are_taken_at_once_and_gaps_between_them_do_not_matter() {
    let mut ranges = with(&[piece(0, 4, 1), piece(6, 8, 2), piece(8, 12, 1)]);
    let taken = ranges.take(span(2, 9), &mut Vec::new());
    assert_eq!(taken, [piece(2, 4, 1), piece(6, 8, 2), piece(8, 9, 1)]);
    assert_eq!(all(&ranges), [piece(0, 2, 1), piece(9, 12, 1)]);
}

#[test]
fn ranges_that_touch_and_carry_the_same_are_one() {
    let ranges = with(&[piece(0, 4, 1), piece(8, 12, 1), piece(4, 8, 1)]);
    assert_eq!(all(&ranges), [piece(0, 12, 1)]);
    let ranges = with(&[piece(0, 4, 1), piece(4, 8, 2)]);
    assert_eq!(all(&ranges), [piece(0, 4, 1), piece(4, 8, 2)]);
}

#[test]
fn the_whole_address_space_is_a_range_like_any_other() {
    let whole = Span::new(0, u64::MAX).expect("not empty");
    let mut ranges = with(&[piece(5, 6, 1)]);
    let value = 2;
    ranges.insert(Piece { span: whole, value }, &mut Vec::new());
    assert_eq!(all(&ranges), [piece(0, u64::MAX, 2)]);
    assert_eq!(ranges.take(whole, &mut Vec::new()).len(), 1);
    assert_eq!(all(&ranges), []);
}

#[test]
fn a_range_that_would_wrap_ends_where_addresses_end_and_one_of_nothing_is_none() {
    assert_eq!(
        Span::new(u64::MAX - 5, 100),
        Some(span(u64::MAX - 5, u64::MAX))
    );
    assert_eq!(Span::new(7, 0), None);
    assert_eq!(Span::new(u64::MAX, u64::MAX), None);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(Piece<u8>),
    Take(Span),
    Fill(Piece<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let span = || {
        let unit = || 0..=UNITS as u64;
        (unit(), unit()).prop_filter_map("empty", |(one, other)| {
            Span::between(one.min(other), one.max(other))
        })
    };
    let piece = || (span(), 0..VALUES as u8).prop_map(|(span, value)| Piece { span, value });
    let step = prop_oneof![
        piece().prop_map(Step::Insert),
        span().prop_map(Step::Take),
        piece().prop_map(Step::Fill),
    ];
    prop::collection::vec(step, 0..60)
}

/// The naive twin: what each address carries.
type Units = [Option<u8>; UNITS];

fn pieces_of(units: &Units) -> Vec<Piece<u8>> {
    let mut pieces: Vec<Piece<u8>> = Vec::new();
    for (at, value) in units.iter().enumerate() {
        let Some(value) = *value else { continue };
        let at = at as u64;
        match pieces.last_mut() {
            Some(last) if last.span.end == at && last.value == value => last.span.end += 1,
            _ => pieces.push(piece(at, at + 1, value)),
        }
    }
    pieces
}

fn units(span: Span) -> std::ops::Range<usize> {
    span.start as usize..span.end as usize
}

/// What `pieces` say within `span`, unit by unit, and nothing outside.
fn spread(pieces: &[Piece<u8>]) -> Units {
    let mut spread = [None; UNITS];
    for piece in pieces {
        for unit in &mut spread[units(piece.span)] {
            assert_eq!(*unit, None, "pieces do not overlap");
            *unit = Some(piece.value);
        }
    }
    spread
}

fn cut(whole: &Units, span: Span) -> Units {
    let mut cut = [None; UNITS];
    cut[units(span)].copy_from_slice(&whole[units(span)]);
    cut
}

proptest! {
    #[test]
    fn ranges_agree_with_what_each_address_carries(steps in steps()) {
        let mut ranges = Ranges::default();
        let mut twin: Units = [None; UNITS];
        let mut sums = [(0_i128, 0_i64); VALUES];
        for step in steps {
            let mut changes = Vec::new();
            match step {
                Step::Insert(piece) => {
                    let replaced = ranges.insert(piece, &mut changes);
                    prop_assert_eq!(spread(&replaced), cut(&twin, piece.span));
                    twin[units(piece.span)].fill(Some(piece.value));
                }
                Step::Take(span) => {
                    let taken = ranges.take(span, &mut changes);
                    prop_assert_eq!(spread(&taken), cut(&twin, span));
                    twin[units(span)].fill(None);
                }
                Step::Fill(piece) => {
                    let free = twin[units(piece.span)].iter().filter(|unit| unit.is_none());
                    let free = free.count() as u64;
                    prop_assert_eq!(ranges.fill(piece, &mut changes), free);
                    for unit in &mut twin[units(piece.span)] {
                        unit.get_or_insert(piece.value);
                    }
                }
            }
            let pieces = pieces_of(&twin);
            prop_assert_eq!(&all(&ranges), &pieces);
            for change in changes {
                let (bytes, count) = &mut sums[usize::from(change.value)];
                *bytes += change.bytes;
                *count += change.ranges;
            }
            for (value, sum) in sums.iter().enumerate() {
                let of_value = pieces.iter().filter(|piece| usize::from(piece.value) == value);
                let bytes = of_value.clone().map(|piece| i128::from(piece.span.length())).sum();
                prop_assert_eq!(*sum, (bytes, of_value.count() as i64));
            }
            for (address, value) in twin.iter().enumerate() {
                prop_assert_eq!(ranges.at(address as u64), *value);
            }
        }
    }
}
