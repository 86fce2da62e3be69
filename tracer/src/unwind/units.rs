//! The index of a table: which few rows can apply to a program counter.

use highwater_common::unwind::{Row, Unit};

/// Smallest binary logarithm of the bytes of a unit.
const LEAST_SHIFT: u32 = 4;
/// Largest one, so that a program counter has at most two units to be in.
const MOST_SHIFT: u32 = 31;
/// A unit for at least so many rows, which makes the index at most a quarter of the rows' size.
const ROWS_PER_UNIT: usize = 4;

/// The units of rows, which are sorted and begin at 0, and the binary logarithm of the bytes that each covers.
///
/// Units are as small as the index may be large. Code is dense, so most of them then have four rows or so; where a file
/// has its code far apart they are larger, and the search among their rows longer.
pub(super) fn of_rows(rows: &[Row]) -> (u32, Vec<Unit>) {
    let Some(end) = rows.last().map(|row| u64::from(row.pc)) else {
        return (LEAST_SHIFT, Vec::new());
    };
    let most = (rows.len() / ROWS_PER_UNIT).max(1) as u64;
    let shift = (LEAST_SHIFT..MOST_SHIFT)
        .find(|shift| (end >> shift) < most)
        .unwrap_or(MOST_SHIFT);
    let mut units = Vec::with_capacity((end >> shift) as usize + 1);
    // Both only ever go forward.
    let (mut first, mut last) = (0, 0);
    let advance = |index: &mut usize, below: u64| {
        while rows
            .get(*index + 1)
            .is_some_and(|row| u64::from(row.pc) < below)
        {
            *index += 1;
        }
    };
    for unit in 0..=end >> shift {
        advance(&mut first, (unit << shift) + 1);
        advance(&mut last, (unit + 1) << shift);
        units.push(Unit {
            first: first as u32,
            last: last as u32,
        });
    }
    (shift, units)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(pcs: &[u32]) -> Vec<Row> {
        pcs.iter().map(|&pc| Row { pc, rule: 0 }).collect()
    }

    #[test]
    fn a_unit_begins_with_the_row_that_reaches_into_it() {
        let pcs = [0, 3, 8, 16, 17, 20, 40, 63];
        let (shift, units) = of_rows(&rows(&pcs));
        assert_eq!(shift, 5);
        let unit = |first, last| Unit { first, last };
        assert_eq!(units, [unit(0, 5), unit(5, 7)]);
    }

    #[test]
    fn no_rows_have_no_units() {
        assert_eq!(of_rows(&[]).1, []);
    }

    #[test]
    fn rows_far_apart_have_few_units() {
        let (shift, units) = of_rows(&rows(&[0, u32::MAX]));
        assert_eq!((shift, units.len()), (31, 2));
    }

    proptest! {
        #[test]
        fn every_unit_has_the_rows_that_can_apply_to_its_bytes(
            pcs in prop::collection::btree_set(1_u32..5000, 0..300), spread in 0_u32..20,
        ) {
            let pcs: Vec<u32> = std::iter::once(0).chain(pcs.into_iter().map(|pc| pc << spread.min(12))).collect();
            let rows = rows(&pcs);
            let (shift, units) = of_rows(&rows);
            prop_assert!(units.len() <= (rows.len() / 4).max(2));
            for (index, unit) in units.iter().enumerate() {
                let start = (index as u64) << shift;
                let end = start + (1 << shift);
                let first = rows.iter().rposition(|row| u64::from(row.pc) <= start).unwrap_or(0);
                let last = rows.iter().rposition(|row| u64::from(row.pc) < end).unwrap();
                prop_assert_eq!((unit.first, unit.last), (first as u32, last as u32));
            }
        }
    }
}
