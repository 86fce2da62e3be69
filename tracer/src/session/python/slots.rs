//! Places among the kernel side's interpreters.

use std::sync::{Arc, Weak};

use highwater_common::python::{Interpreter, MAX_INTERPRETERS};

/// A place, held for as long as somebody has this.
#[derive(Clone, Debug)]
pub(crate) struct Slot(Arc<u32>);

impl Slot {
    pub(crate) fn number(&self) -> u32 {
        *self.0
    }
}

/// All places but the first, which stands for none.
#[derive(Default)]
pub(crate) struct Slots(Vec<(Interpreter, Weak<u32>)>);

impl Slots {
    /// A place for an interpreter, and whether it is to be written: children of a fork share their parent's. Places that
    /// nobody holds are given out again only when all are taken, for a child may have inherited one unseen.
    pub(crate) fn take(&mut self, interpreter: Interpreter) -> Option<(Slot, bool)> {
        let same = self
            .0
            .iter()
            .filter(|(other, _)| *other == interpreter)
            .find_map(|(_, held)| held.upgrade());
        if let Some(held) = same {
            return Some((Slot(held), false));
        }
        let number = if self.0.len() + 1 < MAX_INTERPRETERS as usize {
            self.0.push((interpreter, Weak::new()));
            self.0.len()
        } else {
            let free = self
                .0
                .iter()
                .position(|(_, held)| held.strong_count() == 0)?;
            free + 1
        };
        let held = Arc::new(number as u32);
        self.0[number - 1] = (interpreter, Arc::downgrade(&held));
        Some((Slot(held), true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(key: u64) -> Interpreter {
        Interpreter {
            state_key: key,
            ..Interpreter::default()
        }
    }

    #[test]
    fn the_same_interpreter_has_one_place() {
        let mut slots = Slots::default();
        let (first, new) = slots.take(interpreter(1)).unwrap();
        assert!(new && first.number() == 1);
        let (again, new) = slots.take(interpreter(1)).unwrap();
        assert!(!new && again.number() == 1);
        let (other, _) = slots.take(interpreter(2)).unwrap();
        assert_eq!(other.number(), 2);
    }

    #[test]
    fn a_place_that_nobody_holds_is_given_out_again_when_there_is_no_other() {
        let mut slots = Slots::default();
        let mut held: Vec<Slot> = (1..u64::from(MAX_INTERPRETERS))
            .map(|key| slots.take(interpreter(key)).unwrap().0)
            .collect();
        assert!(slots.take(interpreter(0)).is_none());
        held.remove(6);
        let (slot, new) = slots.take(interpreter(0)).unwrap();
        assert!(new && slot.number() == 7);
    }
}
