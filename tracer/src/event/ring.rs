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

use super::decode::{self, StackDefinition};
use crate::probe::kernel::Rings;

/// How long it waits while events keep coming.
const BUSY: Duration = Duration::from_millis(4);
/// How long it waits when the last look found nothing.
const IDLE: Duration = Duration::from_millis(20);
/// Events in a batch at most.
const BATCH: usize = 32 << 10;

/// What one look at the rings found. Every stack that an event refers to is here or came earlier, unless it was lost.
#[derive(Debug, Default)]
pub struct Batch {
    /// New stacks.
    pub stacks: Vec<StackDefinition>,
    /// Events, in program order.
    pub events: Vec<RawEvent>,
    /// Records that made no sense.
    pub malformed: u64,
}

impl Batch {
    fn is_empty(&self) -> bool {
        let Self {
            stacks,
            events,
            malformed,
        } = self;
        stacks.is_empty() && events.is_empty() && *malformed == 0
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
    /// back where it belongs by its time. Later ones wait for the events of their time, unless there is none.
    fn take(&mut self) -> Batch {
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
        batch.events = merge(events, &mut self.spilled, caught_up);
        while let Some(record) = self.rings.stacks.next() {
            match decode::stack_definition(&record) {
                Some(stack) => batch.stacks.push(stack),
                None => batch.malformed += 1,
            }
        }
        batch
    }
}

/// Puts spilled events back among the others, by time. Those later than the last of the others stay, unless there are no
/// others to come (`caught_up`, and nothing now).
fn merge(
    events: Vec<RawEvent>,
    spilled: &mut VecDeque<RawEvent>,
    caught_up: bool,
) -> Vec<RawEvent> {
    if spilled.is_empty() {
        return events;
    }
    if events.is_empty() && caught_up {
        return spilled.drain(..).collect();
    }
    let mut merged = Vec::with_capacity(events.len() + spilled.len());
    for event in events {
        while let Some(first) = spilled.front()
            && first.at_ns < event.at_ns
        {
            merged.extend(spilled.pop_front());
        }
        merged.push(event);
    }
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
                break;
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
