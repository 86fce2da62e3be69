//! Events of two rings in one order: frees that found no room among the events went the long way, through a ring of their own
//! (`tracer-ebpf/src/emit.rs`).

use std::collections::VecDeque;

use highwater_common::event::RawEvent;

/// What one look found in both rings, the events first.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// The events that this look found, in the order of the ring.
    pub(super) events: Vec<RawEvent>,
    /// Nothing is left of what had its place among the events when they were looked at. Where one of them is still being written,
    /// others that are written may stand behind it.
    pub(super) events_taken: bool,
    /// Frees that went the long way.
    pub(super) spilled: Vec<RawEvent>,
    /// Nothing is left of what had its place among them once the events were taken.
    pub(super) spilled_taken: bool,
}

/// Events that were found, and whose turn has not come.
#[derive(Debug, Default)]
pub(super) struct Order {
    events: Vec<RawEvent>,
    spilled: VecDeque<RawEvent>,
}

impl Order {
    /// How many events wait.
    pub(super) fn held(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.spilled.is_empty()
    }

    /// Takes in what a look found, and gives what is in order.
    ///
    /// Each free that went the long way before the last of the events had its place in its ring before they were looked at. It is
    /// put back where it belongs by its time; if one of them may still be hidden, all events wait for it. Those later than all
    /// events wait for the events of their time. Those that were found by a look before wait no longer if this look took all that
    /// was there: what came before them had its place by then.
    pub(super) fn put(&mut self, look: Look) -> Vec<RawEvent> {
        let older = self.spilled.len();
        match self.events.is_empty() {
            true => self.events = look.events,
            false => self.events.extend(look.events),
        }
        self.spilled.extend(look.spilled);
        if !look.spilled_taken {
            return Vec::new();
        }
        let due = if look.events_taken { older } else { 0 };
        merge(std::mem::take(&mut self.events), &mut self.spilled, due)
    }
}

/// Puts spilled events back among the others: each before the first that is later. Those later than the last of the others
/// stay, but for the first `due`, which have their place behind it.
///
/// Each event's time is taken before it is written. So what was written before a free began (its block's allocation) has
/// only earlier events before it in the ring, and is not overtaken; and what happened once it was written (another
/// allocation at its address) is later, and does not overtake. Frees that were written in another order than that of
/// their times ran at the same time: what follows from either comes after both.
fn merge(events: Vec<RawEvent>, spilled: &mut VecDeque<RawEvent>, due: usize) -> Vec<RawEvent> {
    if spilled.is_empty() {
        return events;
    }
    let mut due = due.min(spilled.len());
    let mut merged = Vec::with_capacity(events.len() + spilled.len());
    for event in events {
        while let Some(first) = spilled.front()
            && first.at_ns < event.at_ns
        {
            merged.extend(spilled.pop_front());
            due = due.saturating_sub(1);
        }
        merged.push(event);
    }
    merged.extend(spilled.drain(..due));
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(at_ns: u64) -> RawEvent {
        RawEvent {
            at_ns,
            ..RawEvent::default()
        }
    }

    fn times(events: &[RawEvent]) -> Vec<u64> {
        events.iter().map(|event| event.at_ns).collect()
    }

    #[test]
    fn a_spilled_event_goes_before_the_first_that_is_later() {
        let mut spilled = VecDeque::from([at(15), at(25)]);
        let merged = merge(vec![at(10), at(20), at(30)], &mut spilled, 0);
        assert_eq!(times(&merged), [10, 15, 20, 25, 30]);
        assert!(spilled.is_empty());
    }

    #[test]
    fn a_spilled_event_later_than_all_others_waits_until_it_is_due() {
        let mut spilled = VecDeque::from([at(25), at(35)]);
        let merged = merge(vec![at(10)], &mut spilled, 0);
        assert_eq!(times(&merged), [10]);
        let merged = merge(Vec::new(), &mut spilled, 1);
        assert_eq!(times(&merged), [25]);
        assert_eq!(times(spilled.make_contiguous()), [35]);
    }

    #[test]
    fn what_is_due_and_has_its_place_among_the_others_is_not_due_twice() {
        let mut spilled = VecDeque::from([at(5), at(35)]);
        let merged = merge(vec![at(10)], &mut spilled, 1);
        assert_eq!(times(&merged), [5, 10]);
        assert_eq!(spilled.len(), 1);
    }

    #[test]
    fn a_spilled_event_is_not_due_while_an_earlier_one_is_being_written() {
        let mut order = Order::default();
        let put = order.put(Look {
            spilled: vec![at(20)],
            events_taken: true,
            spilled_taken: true,
            ..Look::default()
        });
        assert!(put.is_empty(), "{put:?}");
        // The allocation of its block stands behind one that is being written.
        let hidden = Look {
            spilled_taken: true,
            ..Look::default()
        };
        let put = order.put(hidden);
        assert!(put.is_empty(), "{put:?}");
        let put = order.put(Look {
            events: vec![at(9), at(10)],
            events_taken: true,
            spilled_taken: true,
            ..Look::default()
        });
        assert_eq!(times(&put), [9, 10, 20]);
        assert!(order.is_empty());
    }

    #[test]
    fn events_wait_for_an_earlier_spilled_one_that_is_being_written() {
        let mut order = Order::default();
        let put = order.put(Look {
            events: vec![at(10), at(30)],
            events_taken: true,
            ..Look::default()
        });
        assert!(put.is_empty(), "{put:?}");
        assert_eq!(order.held(), 2);
        let put = order.put(Look {
            spilled: vec![at(20)],
            events_taken: true,
            spilled_taken: true,
            ..Look::default()
        });
        assert_eq!(times(&put), [10, 20, 30]);
    }

    /// A record of a simulated ring: its time, and the look from which on it is written to its end.
    #[derive(Debug)]
    struct Record {
        at_ns: u64,
        written: usize,
    }

    /// A ring as the kernel has it: records have their places in the order of their times, and the reader sees none behind one that
    /// is being written.
    #[derive(Debug, Default)]
    struct Simulated {
        records: VecDeque<Record>,
    }

    impl Simulated {
        /// What a look finds, and whether that is all there is.
        fn look(&mut self, look: usize) -> (Vec<RawEvent>, bool) {
            let mut found = Vec::new();
            while let Some(record) = self.records.pop_front_if(|record| record.written <= look) {
                found.push(at(record.at_ns));
            }
            (found, self.records.is_empty())
        }
    }

    proptest! {
        /// Each record comes at some look, between the looks at the two rings or before them, goes to either ring, and takes some
        /// looks more to be written.
        #[test]
        fn events_of_both_rings_come_out_as_sorted_by_time(
            records in prop::collection::vec((0usize..3, any::<bool>(), any::<bool>(), 0usize..4), 0..200),
        ) {
            let count = records.len() as u64;
            let (mut events, mut spilled) = (Simulated::default(), Simulated::default());
            let (mut order, mut put, mut look) = (Order::default(), Vec::new(), 0);
            let mut rest = records.into_iter().enumerate().peekable();
            // The last record may come late, and is due two looks later.
            while rest.peek().is_some() || put.len() < count as usize {
                let mut comes = |at_ns: usize, is_spilled: bool, delay: usize, look: usize, events: &mut Simulated| {
                    let ring = if is_spilled { &mut spilled } else { events };
                    ring.records.push_back(Record { at_ns: at_ns as u64, written: look + delay });
                };
                while let Some((at_ns, (_, is_spilled, _, delay))) =
                    rest.next_if(|(_, (looks, _, is_between, _))| *looks == 0 && !is_between)
                {
                    comes(at_ns, is_spilled, delay, look, &mut events);
                }
                let (found, events_taken) = events.look(look);
                while let Some((at_ns, (_, is_spilled, _, delay))) =
                    rest.next_if(|(_, (looks, ..))| *looks == 0)
                {
                    comes(at_ns, is_spilled, delay, look, &mut events);
                }
                let (found_spilled, spilled_taken) = spilled.look(look);
                put.extend(order.put(Look { events: found, events_taken, spilled: found_spilled, spilled_taken }));
                if let Some((_, (looks, ..))) = rest.peek_mut() {
                    *looks = looks.saturating_sub(1);
                }
                look += 1;
                prop_assert!(look < 5000, "all of them come out some time");
            }
            prop_assert!(order.is_empty());
            let sorted: Vec<u64> = (0..count).collect();
            prop_assert_eq!(times(&put), sorted);
        }
    }
}
