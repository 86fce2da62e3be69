//! What threads are called. The kernel has the name for as long as the thread lives, and most give themselves one soon after they
//! begin: so it is read when a thread is first heard of, and again within the next seconds.

use std::{collections::HashMap, fs};

use super::{Session, clock::monotonic};
use crate::{
    event::{Event, ProcessId, Tid},
    record::{Entry, LossKind, ThreadName},
    units::size,
};

/// Threads whose names are kept, at most: of those that come later, no name is told. A thread takes some 100 bytes.
const MOST: usize = 1 << 16;
/// Longest name that is kept, bytes. Linux gives a thread of a program at most 15.
const MOST_NAME_BYTES: usize = 64;
/// How often a name is looked at again.
const LOOKS: u8 = 3;

/// The names of threads.
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// Almost every event is of the same thread as the one before, or the one before that.
    latest: Option<(ProcessId, Tid)>,
    known: HashMap<(ProcessId, Tid), Known>,
    /// Those heard of and not looked at yet.
    new: Vec<(ProcessId, Tid)>,
    /// Those to look at again.
    young: Vec<(ProcessId, Tid)>,
    /// There were more than are kept.
    overflowed: bool,
}

#[derive(Debug, Default)]
struct Known {
    name: String,
    looks: u8,
}

impl Threads {
    /// An event of this thread came.
    #[inline]
    pub(super) fn heard(&mut self, event: &Event) {
        let thread = (event.process, event.thread);
        if self.latest != Some(thread) {
            self.latest = Some(thread);
            self.look_up(thread);
        }
    }

    /// A process has ended, and its threads with it.
    pub(super) fn forget(&mut self, process: ProcessId) {
        self.latest = self.latest.filter(|(latest, _)| *latest != process);
        self.known.retain(|(of, _), _| *of != process);
        self.young.retain(|(of, _)| *of != process);
    }

    fn look_up(&mut self, thread: (ProcessId, Tid)) {
        if thread.1 == Tid(0) || self.known.contains_key(&thread) {
            return;
        }
        if self.known.len() >= MOST {
            self.overflowed = true;
            return;
        }
        self.known.insert(thread, Known::default());
        self.new.push(thread);
    }
}

impl Session {
    /// Looks at the names of threads that were first heard of since the last time.
    pub(super) fn name_new_threads(&mut self) {
        let new = std::mem::take(&mut self.threads.new);
        self.name(new);
        if std::mem::take(&mut self.threads.overflowed) {
            let most = size::thousands(MOST as u64);
            let why = format!("of more than {most} threads, those that came last have none");
            self.lose(LossKind::Unnamed, None, why);
        }
    }

    /// Looks again at those of threads that are young.
    pub(super) fn name_young_threads(&mut self) {
        let young = std::mem::take(&mut self.threads.young);
        self.name(young);
    }

    fn name(&mut self, threads: Vec<(ProcessId, Tid)>) {
        for (process, thread) in threads {
            let Some(tgid) = self.tgid_of(process) else {
                continue;
            };
            let path = format!("/proc/{tgid}/task/{}/comm", thread.0);
            // A thread that has ended has no name any more.
            let Ok(name) = fs::read(path) else { continue };
            let name = readable(&name);
            let Some(known) = self.threads.known.get_mut(&(process, thread)) else {
                continue;
            };
            known.looks += 1;
            if known.looks < LOOKS {
                self.threads.young.push((process, thread));
            }
            if known.name != name {
                known.name.clone_from(&name);
                self.write(&Entry::ThreadName(ThreadName {
                    at: monotonic(),
                    process,
                    thread,
                    name,
                }));
            }
        }
    }
}

/// A name as text, as much of it as is kept.
fn readable(name: &[u8]) -> String {
    let mut name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
    name.truncate(name.floor_char_boundary(MOST_NAME_BYTES));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Call, Nanos};

    fn event_of(thread: u32) -> Event {
        Event {
            at: Nanos(1),
            process: ProcessId(1),
            thread: Tid(thread),
            call: Call::OomVictim,
        }
    }

    #[test]
    fn threads_beyond_the_most_are_not_kept_but_told() {
        let mut threads = Threads::default();
        for thread in 1..=MOST as u32 {
            threads.heard(&event_of(thread));
        }
        assert!(!threads.overflowed);
        // One that is known is none too many.
        threads.heard(&event_of(1));
        assert!(!threads.overflowed);
        threads.heard(&event_of(MOST as u32 + 1));
        assert!(threads.overflowed);
        assert_eq!(threads.known.len(), MOST);
    }

    #[test]
    fn a_long_name_is_cut_between_letters() {
        assert_eq!(readable(b"worker-1\n"), "worker-1");
        let name = readable("\u{e9}".repeat(100).as_bytes());
        assert_eq!(name, "\u{e9}".repeat(32));
    }
}
