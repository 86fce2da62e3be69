//! From an instruction to its line: what each version's code objects say.

use super::Version;

/// A code object's line table.
#[derive(Clone, Debug)]
pub struct Lines {
    format: Format,
    first: u32,
    table: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `co_lnotab`, up to 3.9 (<https://github.com/python/cpython/blob/v3.9.18/Objects/lnotab_notes.txt>).
    Increments,
    /// `co_linetable` of 3.10 (PEP 626, <https://github.com/python/cpython/blob/v3.10.13/Objects/lnotab_notes.txt>).
    Ranges,
    /// From 3.11 on (<https://github.com/python/cpython/blob/v3.11.7/Objects/locations.md>).
    Locations,
}

impl Lines {
    /// The table of a code object that begins at a line.
    pub fn new(version: Version, first: u32, table: Vec<u8>) -> Self {
        let format = match version.minor {
            ..=9 => Format::Increments,
            10 => Format::Ranges,
            _ => Format::Locations,
        };
        Self {
            format,
            first,
            table,
        }
    }

    /// How long the table is, bytes.
    pub fn bytes(&self) -> usize {
        self.table.len()
    }

    /// The line of the instruction so many bytes from the first. `None`: it has none.
    pub fn line(&self, instruction: i32) -> Option<u32> {
        let Ok(at) = u32::try_from(instruction) else {
            // The function is about to begin.
            return Some(self.first);
        };
        let line = match self.format {
            Format::Increments => Some(self.by_increments(at)),
            Format::Ranges => self.by_ranges(at),
            Format::Locations => self.by_locations(at),
        }?;
        u32::try_from(line).ok()
    }

    fn by_increments(&self, at: u32) -> i64 {
        let (mut address, mut line) = (0, i64::from(self.first));
        for pair in self.table.chunks_exact(2) {
            address += u32::from(pair[0]);
            if address > at {
                break;
            }
            line += i64::from(pair[1] as i8);
        }
        line
    }

    fn by_ranges(&self, at: u32) -> Option<i64> {
        /// There is no line.
        const NONE: i8 = -128;
        let (mut end, mut line) = (0, i64::from(self.first));
        for pair in self.table.chunks_exact(2) {
            end += u32::from(pair[0]);
            let change = pair[1] as i8;
            if change != NONE {
                line += i64::from(change);
            }
            if at < end {
                return (change != NONE).then_some(line);
            }
        }
        None
    }

    fn by_locations(&self, at: u32) -> Option<i64> {
        /// Begins an entry.
        const BEGINS: u8 = 0x80;
        let (mut end, mut line) = (0, i64::from(self.first));
        let mut rest = self.table.as_slice();
        while let Some((&head, behind)) = rest.split_first() {
            if head & BEGINS == 0 {
                return None;
            }
            let length = behind
                .iter()
                .position(|byte| byte & BEGINS != 0)
                .unwrap_or(behind.len());
            let (body, next) = behind.split_at(length);
            rest = next;
            let kind = head >> 3 & 15;
            let change = match kind {
                // No location; short forms and the one of one line say their line in the kind; the others in full.
                15 => None,
                13 | 14 => Some(signed(body)?),
                10..=12 => Some(i64::from(kind) - 10),
                _ => Some(0),
            };
            line += change.unwrap_or(0);
            // Units of two bytes.
            end += 2 * (u32::from(head & 7) + 1);
            if at < end {
                return change.is_some().then_some(line);
            }
        }
        None
    }
}

/// A signed number: six bits a byte, the lowest first, of which the lowest one is the sign.
fn signed(bytes: &[u8]) -> Option<i64> {
    const MORE: u8 = 0x40;
    let (mut value, mut shift) = (0_u64, 0);
    for byte in bytes {
        if shift > 56 {
            return None;
        }
        value |= u64::from(byte & 0x3f) << shift;
        if byte & MORE == 0 {
            let magnitude = (value >> 1) as i64;
            return Some(if value & 1 == 1 {
                -magnitude
            } else {
                magnitude
            });
        }
        shift += 6;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(minor: u8, first: u32, table: &[u8]) -> Lines {
        Lines::new(Version { major: 3, minor }, first, table.to_vec())
    }

    #[test]
    fn increments_apply_from_their_address_on() {
        // Line 10, from byte 6 on line 11, from byte 20 on line 9.
        let table = lines(9, 10, &[6, 1, 14, 0xfe]);
        let found: Vec<_> = [0, 5, 6, 19, 20, 900].map(|at| table.line(at)).into();
        assert_eq!(found, [10, 10, 11, 11, 9, 9].map(Some));
    }

    #[test]
    fn ranges_say_where_there_is_no_line() {
        let table = lines(10, 10, &[4, 1, 6, 0x80, 2, 3]);
        let found: Vec<_> = [0, 3, 4, 9, 10, 12].map(|at| table.line(at)).into();
        assert_eq!(found, [Some(11), Some(11), None, None, Some(14), None]);
    }

    #[test]
    fn locations_of_every_form_are_read() {
        let table = [
            // Two units, short form: the first line.
            0x80 | 1,
            0x12,
            // One unit, two lines on.
            0x80 | 12 << 3,
            1,
            2,
            // One unit without a location.
            0x80 | 15 << 3,
            // Two units, 40 lines back, without columns.
            0x80 | 13 << 3 | 1,
            0x51,
            0x01,
            // One unit, one line on, in full.
            0x80 | 14 << 3,
            2,
            0,
            1,
            1,
        ];
        let table = lines(11, 100, &table);
        let found: Vec<_> = [0, 3, 4, 6, 8, 11, 12, 14].map(|at| table.line(at)).into();
        let expected = [
            Some(100),
            Some(100),
            Some(102),
            None,
            Some(62),
            Some(62),
            Some(63),
            None,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn before_its_first_instruction_a_function_is_at_its_first_line() {
        assert_eq!(lines(12, 7, &[]).line(-2), Some(7));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(
            minor in 8_u8..16,
            first in any::<u32>(),
            table in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<i32>(),
        ) {
            let _ = lines(minor, first, &table).line(at);
        }
    }
}
