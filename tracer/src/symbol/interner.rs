//! Dense indices for code locations.
//!
//! Locations of a module that is no more are given back together with others, once the table has become twice as large as it was
//! after the last time.

use std::collections::HashSet;

use hashbrown::HashMap;

use crate::record::{FrameIndex, FrameKind, ModuleIndex};

/// Most locations told apart: about 100 MB of table. A target that makes up code as it goes could have any number.
pub const MOST_FRAMES: usize = 1 << 22;

/// Gives every code location an index: the same one each time, counted from 0 in order of first appearance.
#[derive(Debug, Default)]
pub struct FrameInterner {
    indices: HashMap<Location, FrameIndex, foldhash::fast::RandomState>,
    /// How many indices were given out.
    count: u32,
    folded: u64,
    /// Modules that are no more, since the last sweep.
    forgotten: HashSet<ModuleIndex>,
    /// Locations that the last sweep left.
    kept: usize,
}

/// The table may have so many locations before those of modules that are no more are looked for.
const LEAST_SWEPT: usize = 1 << 14;

/// What tells locations apart: as in [`Frame`](crate::record::Frame).
pub type Location = (FrameKind, Option<ModuleIndex>, u64);

/// What [`FrameInterner::intern`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interned {
    /// The location's index.
    pub index: FrameIndex,
    /// The location that stands behind the index: not the one asked for once the table is full.
    pub location: Location,
    /// Whether this is the first time.
    pub new: bool,
}

impl FrameInterner {
    /// Knows no location.
    pub fn new() -> Self {
        Self::default()
    }

    /// The index of an offset in a module, or of a bare address where there is none.
    ///
    /// After [`MOST_FRAMES`] locations, those not seen before fold into one per module, at offset 0.
    pub fn intern(
        &mut self,
        kind: FrameKind,
        module: Option<ModuleIndex>,
        offset: u64,
    ) -> Interned {
        self.intern_up_to(MOST_FRAMES, (kind, module, offset))
    }

    /// How often a location was folded into another because the table was full.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// No location of this module is asked for any more.
    pub fn forget(&mut self, module: ModuleIndex) {
        self.forgotten.insert(module);
        if self.indices.len() < 2 * self.kept.max(LEAST_SWEPT) {
            return;
        }
        let is_forgotten =
            |module: &Option<ModuleIndex>| module.is_some_and(|it| self.forgotten.contains(&it));
        self.indices
            .retain(|(_, module, _), _| !is_forgotten(module));
        self.indices.shrink_to_fit();
        self.kept = self.indices.len();
        self.forgotten.clear();
    }

    fn intern_up_to(&mut self, most: usize, mut location: Location) -> Interned {
        let known = |this: &Self, location| {
            this.indices.get(&location).map(|&index| Interned {
                index,
                location,
                new: false,
            })
        };
        if let Some(interned) = known(self, location) {
            return interned;
        }
        if self.indices.len() >= most {
            self.folded += 1;
            location.2 = 0;
            if let Some(interned) = known(self, location) {
                return interned;
            }
        }
        let index = FrameIndex(self.count);
        self.count += 1;
        self.indices.insert(location, index);
        Interned {
            index,
            location,
            new: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_its_index_and_is_new_only_once() {
        let mut interner = FrameInterner::new();
        let first = interner.intern(FrameKind::Native, Some(ModuleIndex(3)), 0x40);
        let other = interner.intern(FrameKind::Native, Some(ModuleIndex(4)), 0x40);
        let bare = interner.intern(FrameKind::Native, None, 0x40);
        let again = interner.intern(FrameKind::Native, Some(ModuleIndex(3)), 0x40);
        assert_eq!(
            (first.index, other.index, bare.index),
            (FrameIndex(0), FrameIndex(1), FrameIndex(2))
        );
        assert!(first.new && other.new && bare.new);
        assert_eq!((again.index, again.new), (first.index, false));
    }

    #[test]
    fn locations_of_modules_that_are_no_more_take_no_room() {
        let mut interner = FrameInterner::new();
        let kept = interner.intern(FrameKind::Native, Some(ModuleIndex(0)), 0x40);
        for module in 1..30_000 {
            for offset in 0..4 {
                interner.intern(FrameKind::Native, Some(ModuleIndex(module)), offset);
            }
            interner.forget(ModuleIndex(module));
            assert!(interner.indices.len() <= 2 * LEAST_SWEPT + 4);
        }
        let again = interner.intern(FrameKind::Native, Some(ModuleIndex(0)), 0x40);
        assert_eq!((again.index, again.new), (kept.index, false));
        let next = interner.intern(FrameKind::Native, Some(ModuleIndex(0)), 0x50);
        assert_eq!(next.index, FrameIndex(29_999 * 4 + 1));
    }

    #[test]
    fn a_full_table_folds_what_it_does_not_know_into_one_location_per_module() {
        let mut interner = FrameInterner::new();
        let known = interner.intern_up_to(1, (FrameKind::Native, Some(ModuleIndex(7)), 0x10));
        let folded = interner.intern_up_to(1, (FrameKind::Native, Some(ModuleIndex(7)), 0x20));
        let too = interner.intern_up_to(1, (FrameKind::Native, Some(ModuleIndex(7)), 0x30));
        assert_eq!(
            folded.location,
            (FrameKind::Native, Some(ModuleIndex(7)), 0)
        );
        assert!(folded.new && !too.new);
        assert_eq!(folded.index, too.index);
        assert_eq!(
            interner
                .intern_up_to(1, (FrameKind::Native, Some(ModuleIndex(7)), 0x10))
                .index,
            known.index
        );
        assert_eq!(interner.folded(), 2);
    }
}
