//! The thread that empties the rings: named `hw-drain`, it does nothing else, and hands over batches.
//!
//! The kernel side does not wake it for events. It looks every few milliseconds, and is woken only when the ring is more
//! than half full. The channel of batches is bounded: when the rest of the pipeline falls behind, the rings fill, and
//! the kernel side counts what finds no room.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use highwater_common::event::RawEvent;
use rustix::event::epoll;
use tokio::sync::mpsc::Sender;

use super::kernel::Rings;
use crate::event::{
    decode::{self, StackDefinition},
    python::{self, CodeDefinition},
};

/// How long it waits while events keep coming.
const BUSY: Duration = Duration::from_millis(4);
/// How long it waits when the last look found nothing.
const IDLE: Duration = Duration::from_millis(20);
/// Events in a batch at most.
const BATCH: usize = 32 << 10;

/// What one look at the rings found. Every stack that an event refers to is here or came earlier, unless it was lost.
#[derive(Debug, Default)]
pub struct Batch {
    /// New Python code objects: those of the stacks are here or came earlier.
    pub code: Vec<CodeDefinition>,
    /// Definitions of stacks that were not sent before, or were lost.
    pub stacks: Vec<StackDefinition>,
    /// Events, in program order.
    pub events: Vec<RawEvent>,
    /// Records that made no sense.
    pub malformed: u64,
}

impl Batch {
    fn is_empty(&self) -> bool {
        let Self {
            code,
            stacks,
            events,
            malformed,
        } = self;
        code.is_empty() && stacks.is_empty() && events.is_empty() && *malformed == 0
    }
}

/// The draining thread.
pub struct Drain {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Drain {
    /// Starts to empty the rings into `batches`.
    pub fn start(rings: Rings, batches: Sender<Batch>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            rings.events.as_fd(),
            epoll::EventData::new_u64(0),
            // Edge-triggered: data alone does not end the wait, only a wake-up does.
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let rings = Reader {
            rings,
            spilled: VecDeque::new(),
        };
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("hw-drain".to_owned())
            .spawn(move || drain(rings, &epoll, &stopped, &batches))?;
        Ok(Self { stop, thread })
    }

    /// Lets the thread empty the rings once more and end. The channel closes when it has; receive until then.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits for the thread's end.
    pub fn join(self) {
        if self.thread.join().is_err() {
            log::error!("the draining thread panicked; what was in the rings is lost");
        }
    }
}

struct Reader {
    rings: Rings,
    /// Frees that went the long way, and whose turn has not come.
    spilled: VecDeque<RawEvent>,
}

impl Reader {
    /// Takes what is there, events first: a stack is sent before the event that refers to it, so whatever stack these
    /// events need is in its ring by now. So is each free that went the long way before the last of these events: it is put
    /// back where it belongs by its time. Later ones wait for the events of their time. Those that were found by the look before
    /// wait no longer if this look emptied the ring: what came before them was in it by then.
    fn take(&mut self) -> Batch {
        let older = self.spilled.len();
        let mut batch = Batch::default();
        let mut events = Vec::new();
        while events.len() < BATCH {
            let Some(record) = self.rings.events.next() else {
                break;
            };
            match decode::raw_event(&record) {
                Some(event) => events.push(event),
                None => batch.malformed += 1,
            }
        }
        let caught_up = events.len() < BATCH;
        while let Some(record) = self.rings.spilled.next() {
            match decode::raw_event(&record) {
                Some(event) => self.spilled.push_back(event),
                None => batch.malformed += 1,
            }
        }
        batch.events = merge(events, &mut self.spilled, if caught_up { older } else { 0 });
        while let Some(record) = self.rings.stacks.next() {
            if python::is_code(&record) {
                match python::code_definition(&record) {
                    Some(code) => batch.code.push(code),
                    None => batch.malformed += 1,
                }
                continue;
            }
            match decode::stack_definition(&record) {
                Some(stack) => batch.stacks.push(stack),
                None => batch.malformed += 1,
            }
        }
        batch
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

fn drain(
    mut rings: Reader,
    epoll: &impl std::os::fd::AsFd,
    stop: &AtomicBool,
    batches: &Sender<Batch>,
) {
    loop {
        // Read before the look: what was sent before the stop is in the ring at this look.
        let last = stop.load(Ordering::Acquire);
        let mut found = false;
        loop {
            let batch = rings.take();
            if batch.is_empty() {
                if rings.spilled.is_empty() {
                    break;
                }
                // Found just now: they are due at the next look.
                continue;
            }
            found = true;
            if batches.blocking_send(batch).is_err() {
                return;
            }
        }
        if last {
            return;
        }
        let wait = if found { BUSY } else { IDLE };
        let timeout = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: wait.as_nanos() as i64,
        };
        let mut woken = Vec::with_capacity(1);
        // A failed or interrupted wait only means an earlier look.
        let _ = epoll::wait(
            epoll,
            rustix::buffer::spare_capacity(&mut woken),
            Some(&timeout),
        );
    }
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

    proptest! {
        /// Each ring is in the order of its times here; looks fall anywhere.
        #[test]
        fn events_of_both_rings_come_out_as_sorted_by_time(
            spills in prop::collection::vec(any::<bool>(), 0..200),
            looks in prop::collection::vec(0usize..200, 0..8),
        ) {
            let mut looks: Vec<usize> = looks.into_iter().map(|look| look.min(spills.len())).collect();
            looks.sort_unstable();
            // Two more, as the draining thread looks until it finds nothing.
            looks.extend([spills.len(), spills.len()]);
            let (mut waiting, mut merged, mut from) = (VecDeque::new(), Vec::new(), 0);
            for look in looks {
                let older = waiting.len();
                let mut events = Vec::new();
                for (number, spilled) in spills[from..look].iter().enumerate() {
                    let event = at((from + number) as u64);
                    if *spilled {
                        waiting.push_back(event);
                    } else {
                        events.push(event);
                    }
                }
                from = look;
                merged.extend(merge(events, &mut waiting, older));
            }
            prop_assert!(waiting.is_empty());
            let sorted: Vec<u64> = (0..spills.len() as u64).collect();
            prop_assert_eq!(times(&merged), sorted);
        }
    }
}
