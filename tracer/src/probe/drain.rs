//! The thread that empties the rings: named `hw-drain`, it does nothing else, and hands over batches.
//!
//! The kernel side does not wake it for events. It looks every few milliseconds, and is woken only when the ring is more
//! than half full. The channel of batches is bounded: when the rest of the pipeline falls behind, the rings fill, and
//! the kernel side counts what finds no room.

use std::{
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

use super::{
    kernel::Rings,
    order::{Look, Order},
};
use crate::event::{
    decode::{self, StackDefinition},
    python::{self, CodeDefinition},
};

/// How long it waits while events keep coming.
const BUSY: Duration = Duration::from_millis(4);
/// How long it waits when the last look found nothing.
const IDLE: Duration = Duration::from_millis(20);
/// How long it waits for a record that is being written, or for the look at which what was found is due.
const WRITING: Duration = Duration::from_micros(100);
/// Events in a batch at most, but for those that went the long way.
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
            order: Order::default(),
            found: 0,
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
    order: Order,
    /// How many events the last look found: about as many as the next one will.
    found: usize,
}

impl Reader {
    /// Takes what is there, events first: a stack is sent before the event that refers to it, so whatever stack these
    /// events need is in its ring by now. So is each free that went the long way before the last of these events; they are put
    /// in [`Order`] together.
    fn take(&mut self) -> Batch {
        let Rings {
            events,
            spilled,
            stacks,
        } = &mut self.rings;
        let mut batch = Batch::default();
        let mut look = Look {
            events: Vec::with_capacity(self.found),
            ..Look::default()
        };
        while self.order.held() + look.events.len() < BATCH {
            let Some(record) = events.take() else {
                look.events_taken = events.is_empty();
                break;
            };
            match decode::raw_event(&record) {
                Some(event) => look.events.push(event),
                None => batch.malformed += 1,
            }
        }
        self.found = look.events.len();
        let end = spilled.end();
        while let Some(record) = spilled.take() {
            match decode::raw_event(&record) {
                Some(event) => look.spilled.push(event),
                None => batch.malformed += 1,
            }
        }
        look.spilled_taken = spilled.has_come_to(end);
        batch.events = self.order.put(look);
        while let Some(record) = stacks.take() {
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

    /// Whether something waits here, or is being written, so that the next look will bring it.
    fn owes(&self) -> bool {
        let Rings {
            events,
            spilled,
            stacks,
        } = &self.rings;
        !self.order.is_empty()
            || [events, spilled, stacks]
                .iter()
                .any(|ring| !ring.is_empty())
    }
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
                if !rings.owes() {
                    break;
                }
                // The one who writes may wait for a processor, this one perhaps.
                std::thread::sleep(WRITING);
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
