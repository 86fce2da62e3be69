//! What the rings bring, in the order of a recording: processes before their events, definitions before their use.

use highwater_common::{event::RawEvent, stranger::NAME_BYTES};
use tokio::time::Instant;

use super::{
    Session,
    waiting::{self, Undefined},
};
use crate::{
    event::{
        Call, Event, Nanos, ProcessId, Tid,
        decode::{self, Change, Decoded, StackDefinition, Stranger},
    },
    probe::drain::Batch,
    record::{Entry, LossKind},
    symbol::Symbols,
    units::size,
};

/// Calls whose events were sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) allocations: u64,
    pub(super) frees: u64,
}

impl Sent {
    fn count(&mut self, call: &Call) {
        match call {
            Call::Allocated { .. }
            | Call::Failed { .. }
            | Call::Resized { .. }
            | Call::ResizeFailed { .. }
            | Call::ResizeFreed { .. } => self.allocations += 1,
            Call::Freed { .. } => self.frees += 1,
            _ => {}
        }
    }
}

impl Session {
    /// Takes what one look at the rings found through all stages.
    pub(super) fn take(&mut self, batch: Batch) {
        let Batch {
            code,
            stacks,
            events,
            malformed,
        } = batch;
        self.link_again(&events);
        self.quality.malformed_events += malformed;
        for definition in code {
            self.know_python_code(definition);
        }
        let since = Instant::now();
        self.define_stacks(None);
        let stacks = stacks.into_iter();
        self.define_or_wait(
            stacks.map(|definition| Undefined { since, definition }),
            None,
        );
        if !self.recording.is_folded() {
            self.pending.reserve(events.len());
        }
        for raw in events {
            let process = ProcessId(raw.process);
            self.follow_sampling(&raw, process);
            match decode::decode(&raw, |identity| self.stacks.index(process, identity)) {
                Some(Decoded::Event(event)) => self.book(event),
                Some(Decoded::Lifecycle { at, change, .. }) => {
                    self.change(at, process, change);
                }
                Some(Decoded::Named { .. }) => {
                    if let Some(mark) = self.named.take(&raw, process) {
                        self.mark(mark);
                    }
                }
                Some(Decoded::Stranger(stranger)) => self.hear_of(stranger),
                None => self.quality.malformed_events += 1,
            }
        }
        self.write_pending();
        self.sample_new_high();
        self.name_new_threads();
        self.define_stacks(None);
        for names in self
            .symbols
            .as_ref()
            .map(Symbols::try_names)
            .unwrap_or_default()
        {
            self.write(&Entry::Names(names));
        }
    }

    /// Says how allocations are sampled, where that has changed.
    pub(super) fn follow_sampling(&mut self, raw: &RawEvent, process: ProcessId) {
        let Some(exponent) = decode::sampling(raw) else {
            return;
        };
        if exponent != self.exponent {
            self.exponent = exponent;
            self.book(Event {
                at: Nanos(raw.at_ns),
                process,
                thread: Tid(raw.tid),
                call: Call::Sampling { exponent },
            });
        }
    }

    /// Books an event, and keeps it for the recording. What comes late of an image that has ended says nothing any more.
    pub(super) fn book(&mut self, event: Event) {
        let image = event.process;
        if !self.images.is_announced(image) {
            let is_turn = matches!(
                event.call,
                Call::Forked { .. } | Call::Executed { .. } | Call::Exited { .. }
            );
            if !(is_turn && self.images.counts(image)) {
                self.look_for_image(event.at, image);
                if !self.images.is_announced(image) {
                    return;
                }
            }
        }
        self.events += 1;
        self.sent.count(&event.call);
        self.threads.heard(&event);
        self.feed.event(&event);
        match event.call {
            Call::Mapping(_) => self.seen.mappings = true,
            Call::Sampling {
                exponent: exponent @ 1..,
            } => self.seen.sampling = self.seen.sampling.max(Some(exponent)),
            _ => {}
        }
        if !self.recording.is_folded() {
            self.pending.push(event);
        }
    }

    /// Writes the events that are due before anything else is said.
    pub(super) fn write_pending(&mut self) {
        if !self.pending.is_empty() {
            let events = std::mem::take(&mut self.pending);
            self.write(&Entry::Events(events));
        }
    }

    /// Writes an entry. Events were fed as they came.
    pub(super) fn write(&mut self, entry: &Entry) {
        if !matches!(entry, Entry::Events(_)) {
            self.feed.take(entry);
        }
        self.recording.write(entry);
    }

    pub(super) fn flush(&mut self) {
        self.write_pending();
        self.recording.flush();
    }

    /// Lets the recording fold if it has to.
    pub(super) fn fold(&mut self) {
        if let Some(said) = self.recording.fold_if_due(self.feed.live_mut(), self.seen) {
            self.quality.note(said);
        }
    }

    /// Defines the stacks of processes that are known, and whose code is. The others wait: what makes their process known, a
    /// fork or an exec, is still to be read from the other ring; and code that was mapped a moment ago is about to be read.
    /// Those of a process that is `ending` wait no longer.
    pub(super) fn define_stacks(&mut self, ending: Option<ProcessId>) {
        let waiting = self.undefined.take();
        self.define_or_wait(waiting, ending);
    }

    fn define_or_wait(
        &mut self,
        stacks: impl IntoIterator<Item = Undefined>,
        ending: Option<ProcessId>,
    ) {
        let mut most = false;
        for stack in stacks {
            let process = stack.definition.process;
            let tgid = self.tgid_of(process);
            let followed = tgid.and_then(|tgid| self.processes.get(&tgid));
            let waits = followed.is_none_or(|followed| {
                ending != Some(process) && followed.code_is_about_to_be_read_for(&stack)
            });
            let is_known = followed.is_some();
            let stack = match waits {
                true => match self.undefined.keep(stack) {
                    Ok(()) => continue,
                    Err(stack) => {
                        most = true;
                        stack
                    }
                },
                false => stack,
            };
            // One of a process that is not known stays undefined.
            if is_known {
                self.define(process, &stack.definition);
            }
        }
        if most {
            let most = size::short(waiting::MOST_BYTES as u64);
            let why = format!(
                "more than {most} of stacks waited for their process or its code to become known: some are not known, or \
                 have frames without a name"
            );
            self.lose(LossKind::Unnamed, None, why);
        }
    }

    /// Defines a stack in the recording, and asks for the names of locations not seen before.
    pub(super) fn define(&mut self, process: ProcessId, definition: &StackDefinition) {
        let index = self
            .stacks
            .define(process, definition.identity, definition.check);
        let Some(index) = index else { return };
        let frames = self.locate(process, definition);
        self.write(&Entry::Stack(crate::record::Stack {
            index,
            process,
            frames,
            truncated: definition.truncated,
        }));
    }

    /// A process's life took a turn.
    pub(super) fn change(&mut self, at: Nanos, process: ProcessId, change: Change) {
        self.write_pending();
        match change {
            Change::Forked {
                child,
                image: Some(image),
                shares_memory,
            } => {
                self.forked(at, process, (image, child), shares_memory);
                self.define_stacks(None);
            }
            Change::Forked {
                child, image: None, ..
            } => {
                if self.options.children {
                    self.quality.unfollowed_children += 1;
                }
                // It may be one of the scope all the same.
                self.hear_of(Stranger {
                    at,
                    pid: child,
                    name: [0; NAME_BYTES],
                    has_executed: false,
                });
            }
            Change::Executed {
                next,
                from_thread,
                name,
            } => {
                self.define_stacks(Some(process));
                self.executed(at, process, next, (from_thread, &name));
                self.define_stacks(None);
            }
            Change::Exited { status } => {
                self.define_stacks(Some(process));
                self.exited(at, process, status);
            }
            Change::AlternateAbove => self.needs_to_be_alone(process),
            Change::OomVictim => {
                self.mark_oom(process);
                self.book(lifecycle(at, process, Call::OomVictim));
            }
        }
    }
}

/// An event of a process's life, which belongs to no thread of it.
pub(super) fn lifecycle(at: Nanos, process: ProcessId, call: Call) -> Event {
    Event {
        at,
        process,
        thread: Tid(0),
        call,
    }
}
