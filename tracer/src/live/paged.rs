//! What is kept of each live block, of which there may be many millions, by its name.
//!
//! A recording numbers blocks as they come, and gives these names in place of addresses. So those that are live lie close together:
//! they are kept in pages of neighbours, some 20 bytes for a value of 16. An ordinary table takes 24 to 48, and while it grows half as
//! much again. Where few blocks of a page are live, one takes some 160 bytes; but then they are not many millions. Real
//! addresses may lie anywhere, and are not taken.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::event::Address;

/// Blocks of a page.
const PAGE: usize = 8;

/// This bit tells a name from an address, and names lie 16 apart.
const NAME: u64 = 1 << 63;
const UNIT: u64 = 16;

#[derive(Debug)]
struct Page<V> {
    values: Box<[V; PAGE]>,
    /// A bit for each block that is there.
    there: u8,
}

/// A value for each name.
#[derive(Debug)]
pub(crate) struct Paged<V> {
    pages: HashMap<u64, Page<V>, FixedState>,
}

impl<V> Default for Paged<V> {
    fn default() -> Self {
        Self {
            pages: HashMap::default(),
        }
    }
}

/// Whether it is the name of a block.
pub(crate) fn is_name(Address(address): Address) -> bool {
    address & NAME != 0 && address.is_multiple_of(UNIT)
}

/// The page of a name, and its place there.
fn place(Address(name): Address) -> (u64, usize) {
    let number = (name & !NAME) / UNIT;
    (number / PAGE as u64, (number % PAGE as u64) as usize)
}

/// The name at a place.
fn name(page: u64, at: usize) -> Address {
    Address(NAME | ((page * PAGE as u64 + at as u64) * UNIT))
}

impl<V: Copy + Default> Paged<V> {
    /// The value of a name.
    pub(crate) fn get(&self, name: Address) -> Option<V> {
        let (page, at) = place(name);
        let page = self.pages.get(&page)?;
        (page.there & 1 << at != 0).then(|| page.values[at])
    }

    /// Sets the value of a name, and gives the one it had.
    pub(crate) fn insert(&mut self, name: Address, value: V) -> Option<V> {
        let (page, at) = place(name);
        let page = self.pages.entry(page).or_insert_with(|| Page {
            values: Box::new([V::default(); PAGE]),
            there: 0,
        });
        let old = (page.there & 1 << at != 0).then(|| page.values[at]);
        page.there |= 1 << at;
        page.values[at] = value;
        old
    }

    /// Removes a name, and gives the value it had.
    pub(crate) fn remove(&mut self, name: Address) -> Option<V> {
        let (number, at) = place(name);
        let page = self.pages.get_mut(&number)?;
        if page.there & 1 << at == 0 {
            return None;
        }
        page.there &= !(1 << at);
        let value = page.values[at];
        if page.there == 0 {
            self.pages.remove(&number);
        }
        Some(value)
    }

    /// All names with their values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Address, V)> {
        self.pages.iter().flat_map(|(number, page)| {
            let there = (0..PAGE).filter(|at| page.there & 1 << at != 0);
            there.map(|at| (name(*number, at), page.values[at]))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_an_ordinary_table_holds(
            steps in prop::collection::vec((0..3_u8, 0..60_u64, any::<u64>()), 0..200),
        ) {
            let (mut paged, mut plain) = (Paged::default(), BTreeMap::new());
            for (what, number, value) in steps {
                let address = Address(NAME | (number * UNIT));
                prop_assert!(is_name(address) && !is_name(Address(number * UNIT)));
                match what {
                    0 => prop_assert_eq!(paged.remove(address), plain.remove(&address)),
                    1 => prop_assert_eq!(paged.get(address), plain.get(&address).copied()),
                    _ => prop_assert_eq!(paged.insert(address, value), plain.insert(address, value)),
                }
            }
            prop_assert!(paged.pages.values().all(|page| page.there != 0));
            let all: BTreeMap<Address, u64> = paged.iter().collect();
            prop_assert_eq!(all, plain);
        }
    }
}
