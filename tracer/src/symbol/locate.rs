//! From an address in a process to a place in a file.

use crate::record::ModuleIndex;

/// One executable mapping of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeMapping {
    /// First address of the mapping.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// Where in the file `start` is, bytes.
    pub file_offset: u64,
    /// The file that is mapped.
    pub module: ModuleIndex,
}

/// The executable mappings of one process in one mapping epoch, sorted by address.
#[derive(Clone, Debug, Default)]
pub struct CodeMap {
    mappings: Vec<CodeMapping>,
}

impl CodeMap {
    /// Takes the mappings in any order.
    ///
    /// Empty ones are dropped. Mappings never overlap at one moment, but `/proc/PID/maps` is not read in one moment:
    /// where two do overlap, the one that starts later ends the other.
    pub fn new(mut mappings: Vec<CodeMapping>) -> Self {
        mappings.retain(|mapping| mapping.start < mapping.end);
        mappings.sort_by_key(|mapping| mapping.start);
        for at in 1..mappings.len() {
            let next_start = mappings[at].start;
            let previous = &mut mappings[at - 1];
            previous.end = previous.end.min(next_start);
        }
        mappings.retain(|mapping| mapping.start < mapping.end);
        Self { mappings }
    }

    /// Which file the return address `address` lies in, and its offset there.
    ///
    /// What counts is the mapping that holds the call, so the byte before `address`: a call that never returns may be
    /// the last instruction of its mapping. Where there is no such byte the mapping of `address` itself counts (the
    /// kernel makes signal handlers return to places that nothing called from).
    pub fn locate(&self, address: u64) -> Option<(ModuleIndex, u64)> {
        let mapping = address
            .checked_sub(1)
            .and_then(|call| self.holding(call))
            .or_else(|| self.holding(address))?;
        let offset = mapping.file_offset.checked_add(address - mapping.start)?;
        Some((mapping.module, offset))
    }

    fn holding(&self, address: u64) -> Option<&CodeMapping> {
        let after = self
            .mappings
            .partition_point(|mapping| mapping.start <= address);
        let mapping = self.mappings.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mapping(start: u64, end: u64, file_offset: u64, module: u32) -> CodeMapping {
        CodeMapping {
            start,
            end,
            file_offset,
            module: ModuleIndex(module),
        }
    }

    #[test]
    fn an_address_becomes_an_offset_in_the_file_that_is_mapped_there() {
        let map = CodeMap::new(vec![
            mapping(0x7000, 0x9000, 0x1000, 2),
            mapping(0x1000, 0x3000, 0, 1),
        ]);
        assert_eq!(map.locate(0x1234), Some((ModuleIndex(1), 0x234)));
        assert_eq!(map.locate(0x8abc), Some((ModuleIndex(2), 0x2abc)));
        assert_eq!(map.locate(0x5000), None);
        assert_eq!(map.locate(0), None);
        assert_eq!(map.locate(u64::MAX), None);
    }

    #[test]
    fn a_call_at_the_very_end_of_a_mapping_belongs_to_that_mapping() {
        let map = CodeMap::new(vec![
            mapping(0x1000, 0x2000, 0x5000, 1),
            mapping(0x2000, 0x3000, 0x9000, 2),
        ]);
        assert_eq!(map.locate(0x2000), Some((ModuleIndex(1), 0x6000)));
        assert_eq!(map.locate(0x3000), Some((ModuleIndex(2), 0xa000)));
        assert_eq!(map.locate(0x3001), None);
    }

    #[test]
    fn an_address_at_the_start_of_a_mapping_that_nothing_precedes_is_found() {
        let map = CodeMap::new(vec![mapping(0x1000, 0x2000, 0x5000, 1)]);
        assert_eq!(map.locate(0x1000), Some((ModuleIndex(1), 0x5000)));
        assert_eq!(map.locate(0xfff), None);
    }

    #[test]
    fn an_offset_beyond_64_bits_is_nowhere() {
        let map = CodeMap::new(vec![mapping(0x1000, 0x2000, u64::MAX - 1, 1)]);
        assert_eq!(map.locate(0x1800), None);
    }

    proptest! {
        /// The naive twin looks through all mappings; the map agrees wherever no mapping overlaps another.
        #[test]
        fn a_map_agrees_with_a_search_through_all_mappings(
            gaps in prop::collection::vec((0_u64..20, 1_u64..20), 0..12),
            address in 0_u64..400,
        ) {
            let mut at = 0;
            let mut mappings = Vec::new();
            for (index, (gap, length)) in gaps.into_iter().enumerate() {
                mappings.push(mapping(at + gap, at + gap + length, 1000 * index as u64, index as u32));
                at += gap + length;
            }
            let naive = [address.checked_sub(1), Some(address)]
                .into_iter()
                .flatten()
                .find_map(|probe| mappings.iter().find(|m| (m.start..m.end).contains(&probe)))
                .map(|m| (m.module, m.file_offset + address - m.start));
            mappings.reverse();
            prop_assert_eq!(CodeMap::new(mappings).locate(address), naive);
        }

        #[test]
        fn overlapping_mappings_never_panic_and_never_answer_outside_themselves(
            raw in prop::collection::vec((0_u64..50, 0_u64..50, 0_u64..10), 0..12),
            address in 0_u64..60,
        ) {
            let mappings: Vec<_> = raw.into_iter().enumerate()
                .map(|(index, (start, end, offset))| mapping(start, end, offset, index as u32)).collect();
            if let Some((module, offset)) = CodeMap::new(mappings.clone()).locate(address) {
                let found = mappings[module.0 as usize];
                prop_assert!(found.start <= address && address <= found.end);
                prop_assert_eq!(offset, found.file_offset + address - found.start);
            }
        }
    }
}
