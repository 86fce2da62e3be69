//! What is kept of each live block, of which there may be many millions, by its name.
//!
//! A recording numbers blocks as they come, and gives these names in place of addresses. So those that are live lie close together:
//! they are kept in pages of neighbours, each with the values of those that are there and no others. Where most live, one takes
//! little more than its value; where one of a page does, some 100 bytes. An ordinary table takes 24 to 48 for a value of 16, and while
//! it grows half as much again. Real addresses may lie anywhere, and are not taken.
//!
//! The page of the latest names is at hand: what comes, and what goes soon after, is not looked up.

use std::mem;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use crate::event::Address;

/// Blocks of a page.
const PAGE: u64 = 64;

/// This bit tells a name from an address, and names lie 16 apart.
const NAME: u64 = 1 << 63;
const UNIT: u64 = 16;

/// A page has room for fewer values than this many times those that are there, and these few.
const ROOM: usize = 4;
const LEAST_ROOM: usize = 8;

#[derive(Debug)]
struct Page<V> {
    /// A bit for each block that is there.
    there: u64,
    /// Their values, in order.
    values: Vec<V>,
}

impl<V> Default for Page<V> {
    fn default() -> Self {
        Self {
            there: 0,
            values: Vec::new(),
        }
    }
}

impl<V: Copy> Page<V> {
    fn has(&self, at: u32) -> bool {
        self.there & 1 << at != 0
    }

    /// The place of a value among those that are there.
    fn rank(&self, at: u32) -> usize {
        (self.there & ((1 << at) - 1)).count_ones() as usize
    }

    fn get(&self, at: u32) -> Option<V> {
        self.has(at).then(|| self.values[self.rank(at)])
    }

    fn insert(&mut self, at: u32, value: V) -> Option<V> {
        let rank = self.rank(at);
        if self.has(at) {
            return Some(mem::replace(&mut self.values[rank], value));
        }
        self.there |= 1 << at;
        self.values.insert(rank, value);
        None
    }

    fn remove(&mut self, at: u32) -> Option<V> {
        if !self.has(at) {
            return None;
        }
        let value = self.values.remove(self.rank(at));
        self.there &= !(1 << at);
        Some(value)
    }

    /// Gives back what room is left over.
    fn shrink(&mut self) {
        let there = self.values.len();
        if self.values.capacity() > LEAST_ROOM.max(there * ROOM) {
            self.values.shrink_to(there * 2);
        }
    }

    fn iter(&self, number: u64) -> impl Iterator<Item = (Address, V)> {
        let there = (0..PAGE as u32).filter(|at| self.has(*at));
        let values = self.values.iter().copied();
        there.map(move |at| name(number, at)).zip(values)
    }
}

/// A value for each name.
#[derive(Debug)]
pub(crate) struct Paged<V> {
    /// The page of the latest names, and its number.
    latest: (u64, Page<V>),
    /// Those before, without those that are empty.
    pages: HashMap<u64, Page<V>, FixedState>,
}

impl<V> Default for Paged<V> {
    fn default() -> Self {
        Self {
            latest: (0, Page::default()),
            pages: HashMap::default(),
        }
    }
}

/// Whether it is the name of a block.
pub(crate) fn is_name(Address(address): Address) -> bool {
    address & NAME != 0 && address.is_multiple_of(UNIT)
}

/// The page of a name, and its place there.
fn place(Address(name): Address) -> (u64, u32) {
    let number = (name & !NAME) / UNIT;
    (number / PAGE, (number % PAGE) as u32)
}

/// The name at a place.
fn name(page: u64, at: u32) -> Address {
    Address(NAME | ((page * PAGE + u64::from(at)) * UNIT))
}

impl<V: Copy> Paged<V> {
    /// The value of a name.
    pub(crate) fn get(&self, name: Address) -> Option<V> {
        let (number, at) = place(name);
        if number == self.latest.0 {
            return self.latest.1.get(at);
        }
        self.pages.get(&number)?.get(at)
    }

    /// Sets the value of a name, and gives the one it had.
    pub(crate) fn insert(&mut self, name: Address, value: V) -> Option<V> {
        let (number, at) = place(name);
        if number > self.latest.0 {
            let (earlier, mut page) = mem::replace(&mut self.latest, (number, Page::default()));
            if page.there != 0 {
                page.shrink();
                self.pages.insert(earlier, page);
            }
        }
        if number == self.latest.0 {
            return self.latest.1.insert(at, value);
        }
        self.pages.entry(number).or_default().insert(at, value)
    }

    /// Removes a name, and gives the value it had.
    pub(crate) fn remove(&mut self, name: Address) -> Option<V> {
        let (number, at) = place(name);
        if number == self.latest.0 {
            return self.latest.1.remove(at);
        }
        let Entry::Occupied(mut page) = self.pages.entry(number) else {
            return None;
        };
        let value = page.get_mut().remove(at);
        if page.get().there == 0 {
            page.remove();
        } else {
            page.get_mut().shrink();
        }
        value
    }

    /// All names with their values, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Address, V)> {
        let earlier = self
            .pages
            .iter()
            .flat_map(|(number, page)| page.iter(*number));
        earlier.chain(self.latest.1.iter(self.latest.0))
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
            steps in prop::collection::vec((0..3_u8, 0..300_u64, any::<u64>()), 0..400),
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
                for page in paged.pages.values() {
                    let there = page.values.len();
                    prop_assert!(there > 0);
                    prop_assert!(page.values.capacity() <= LEAST_ROOM.max(there * ROOM));
                }
            }
            let all: BTreeMap<Address, u64> = paged.iter().collect();
            prop_assert_eq!(all, plain);
        }
    }
}
