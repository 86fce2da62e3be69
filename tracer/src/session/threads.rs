//! What threads are called. The kernel has the name for as long as the thread lives, and most give themselves one soon after they
//! begin: so it is read when a thread is first heard of, and again within the next seconds.

use std::{collections::HashMap, fs};

use super::{Session, clock::monotonic};
use crate::{
    event::{Event, ProcessId, Tid},
    record::{Entry, ThreadName},
};

/// Threads whose names are kept, at most: of those that come later, no name is told.
const MOST: usize = 1 << 16;
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
        if thread.1 == Tid(0) || self.known.len() >= MOST || self.known.contains_key(&thread) {
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
            let name = String::from_utf8_lossy(name.trim_ascii_end()).into_owned();
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
