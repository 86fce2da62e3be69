//! Names for blocks in place of their addresses.
//!
//! An allocator hands out the same addresses again and again, in an order that nobody can guess, and what a report wants to know is
//! only which block a call was about. So a recording numbers blocks as they come, and says their numbers: a fresh
//! block costs nothing to name.
//!
//! # Why a replay of the names gives what a replay of the addresses gives
//!
//! The live set asks of two addresses of one process whether they are the same, and nothing else. Names may stand for addresses if they are
//! the same where these were, as long as that can matter. So:
//!
//! - An address is written down under its name from the moment a block comes there (or a resize of what lay there
//!   begins) until it is free and no resize that began there is under way. All that is said of it meanwhile has that name.
//! - In that time a block that comes there has the name too: it takes the place of one whose free was lost, or has the address of
//!   one that is being resized, and the live set has to see that.
//! - Outside it nothing in the live set has the address: it is in neither of its tables. A block that comes is as
//!   good under a fresh name, and what is said of an address without a name (a block from before attach) is said by the address.
//! - A forked child starts with the same table, as it does with the same live set, and what one of them changes does not show in the
//!   other.
//! - A process that has ended has no table: nothing comes of it any more, a fork least of all.
//!
//! Both replays are held against each other under proptest in `live/tests/twin.rs`.

use std::mem;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::event::{Address, Call, Event, ProcessId, Tid};
use crate::fork_map::ForkMap;

/// This bit tells a name from an address: those of user space have it clear.
const NAME: u64 = 1 << 63;

/// Names lie 16 apart, as addresses of blocks do.
const SHIFT: u32 = 4;

/// The name of the block with this number.
pub(in crate::record) fn name(number: u64) -> Address {
    Address(NAME | (number << SHIFT) & !NAME)
}

/// The number of the block with this name; `None` of an address.
pub(super) fn number(Address(name): Address) -> Option<u64> {
    (name & NAME != 0 && name & ((1 << SHIFT) - 1) == 0).then_some((name & !NAME) >> SHIFT)
}

/// What lies at an address.
#[derive(Clone, Copy, Debug)]
struct Place {
    name: Address,
    /// A block is live there.
    live: bool,
    /// How many resizes began there and have not ended.
    resizes: u32,
}

/// The address space of one process.
#[derive(Debug, Default)]
struct Space {
    places: ForkMap<u64, Place, FixedState>,
    /// What a thread is resizing, by slot.
    resizes: HashMap<(Tid, u8), Resize, FixedState>,
}

/// A resize under way.
#[derive(Clone, Copy, Debug)]
struct Resize {
    address: u64,
    /// The block was known to be live, and is again if this fails.
    was_live: bool,
}

/// The names of what is live, by process and address.
#[derive(Debug)]
pub(in crate::record) struct Names {
    spaces: HashMap<ProcessId, Space, FixedState>,
    next: u64,
}

impl Names {
    pub(in crate::record) fn new() -> Self {
        Self {
            spaces: HashMap::default(),
            next: 1,
        }
    }

    /// The number of the next block that comes.
    pub(in crate::record) fn next(&self) -> u64 {
        self.next
    }

    /// The event with names in place of addresses. A chunk header is left out where the block is known to be live, since
    /// it would tell nothing.
    pub(in crate::record) fn rename(&mut self, event: &Event) -> Event {
        let mut event = *event;
        let thread = event.thread;
        let next = &mut self.next;
        let space = self.spaces.entry(event.process).or_default();
        match &mut event.call {
            Call::Allocated { address, .. } => *address = space.come(address.0, next),
            Call::Freed { address, header } => {
                if space.go(address) {
                    *header = 0;
                }
            }
            Call::ResizeBegan {
                address,
                header,
                slot,
            } => {
                if space.begin(thread, *slot, address) {
                    *header = 0;
                }
            }
            Call::Resized { address, slot, .. } => {
                let old = space.resizes.remove(&(thread, *slot));
                *address = space.come(address.0, next);
                space.settle(old);
            }
            Call::ResizeFailed { address, slot, .. } => {
                let raw = address.0;
                let old = space.resizes.remove(&(thread, *slot));
                *address = space.called(raw);
                if let Some(old) = old
                    && old.address == raw
                {
                    space.put_back(old);
                }
                space.settle(old);
            }
            Call::ResizeFreed { address, slot } => {
                let old = space.resizes.remove(&(thread, *slot));
                if old.is_some_and(|old| old.address == address.0) {
                    *address = space.called(address.0);
                } else {
                    // The beginning was lost: what lies there goes.
                    space.go(address);
                }
                space.settle(old);
            }
            Call::Forked { child } => {
                if !self.spaces.contains_key(child)
                    && let Some(parent) = self.spaces.get_mut(&event.process)
                {
                    let of_child = parent.of_child();
                    self.spaces.insert(*child, of_child);
                }
            }
            Call::Executed { .. } | Call::Exited { .. } => {
                self.spaces.remove(&event.process);
            }
            Call::Failed { .. } | Call::Mapping(_) | Call::OomVictim | Call::Sampling { .. } => {}
        }
        event
    }
}

impl Space {
    /// A block comes at an address.
    fn come(&mut self, address: u64, next: &mut u64) -> Address {
        self.places.update(address, |place| {
            let place = place.get_or_insert_with(|| {
                let fresh = name(*next);
                *next += 1;
                Place {
                    name: fresh,
                    live: true,
                    resizes: 0,
                }
            });
            place.live = true;
            place.name
        })
    }

    /// A block goes, and its address becomes its name; says whether it was known to be live.
    fn go(&mut self, address: &mut Address) -> bool {
        self.places.update(address.0, |there| {
            let Some(place) = there else { return false };
            *address = place.name;
            let was_live = mem::replace(&mut place.live, false);
            if place.resizes == 0 {
                *there = None;
            }
            was_live
        })
    }

    /// A resize begins; says whether the block was known to be live.
    fn begin(&mut self, thread: Tid, slot: u8, address: &mut Address) -> bool {
        let raw = address.0;
        let was_live = self.places.update(raw, |place| {
            // What is not known keeps its address for a name: what comes there before the end must not have another.
            let place = place.get_or_insert(Place {
                name: *address,
                live: false,
                resizes: 0,
            });
            place.resizes += 1;
            *address = place.name;
            mem::replace(&mut place.live, false)
        });
        let resize = Resize {
            address: raw,
            was_live,
        };
        let older = self.resizes.insert((thread, slot), resize);
        self.settle(older);
        was_live
    }

    /// What was to be resized lives on, or what has its address by now.
    fn put_back(&mut self, resize: Resize) {
        self.places.update(resize.address, |place| {
            if let Some(place) = place {
                place.live |= resize.was_live;
            }
        });
    }

    /// What a forked child starts with: there, no resize is under way.
    ///
    /// Only places where one is under way are touched. No others have it to be undone.
    fn of_child(&mut self) -> Self {
        let mut child = Self {
            places: self.places.fork(),
            ..Self::default()
        };
        for resize in self.resizes.values() {
            child.put_back(*resize);
        }
        for resize in self.resizes.values() {
            child.places.update(resize.address, |there| {
                if let Some(place) = there {
                    place.resizes = 0;
                    if !place.live {
                        *there = None;
                    }
                }
            });
        }
        child
    }

    /// A resize is over.
    fn settle(&mut self, resize: Option<Resize>) {
        let Some(resize) = resize else { return };
        self.places.update(resize.address, |there| {
            if let Some(place) = there {
                place.resizes = place.resizes.saturating_sub(1);
                if place.resizes == 0 && !place.live {
                    *there = None;
                }
            }
        });
    }

    fn called(&self, address: u64) -> Address {
        self.places
            .get(&address)
            .map_or(Address(address), |place| place.name)
    }
}
