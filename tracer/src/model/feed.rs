//! From an entry to a change of the live set, in one place.
//!
//! Whoever follows a recording, while it is made or later, whole or from some moment on, feeds its live set by [`Feed`]: so all
//! of them come to the same figures.
//!
//! | entry | live set |
//! |---|---|
//! | `Process` | the process is opened, with what it held before; a later one of the same identity changes nothing |
//! | `Events` | each is applied |
//! | `End`: detached | the process runs on: what it held still counts, and changes no more |
//! | `End`: for any other reason | the process is gone, and what it held with it |
//! | `Fold` | the live set is what the fold says, once that is whole, and what `Remains` told before |
//! | any other | none |

use crate::event::{Event, Nanos, ProcessId};
use crate::live::{Fold, LiveSet, Remains};
use crate::record::fold::FoldParts;
use crate::record::{EndReason, Entry, FoldPart, Process, ProcessEnd};

/// A live set that follows the entries of a recording.
#[derive(Debug)]
pub struct Feed {
    live: LiveSet,
    /// The parts of a fold so far.
    parts: FoldParts,
    /// Processes that were let go of: a fold does not say that they have ended.
    detached: Vec<(ProcessId, Nanos)>,
    /// Processes that the next fold does not tell of.
    remains: Vec<Remains>,
    /// What was held before counts for nothing.
    ignores_baselines: bool,
}

/// What a fold says beside the live set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// System calls about the address space were seen.
    pub mappings: bool,
    /// log2 of the largest mean distance of samples, bytes.
    pub sampling: Option<u8>,
}

impl Feed {
    /// Follows a recording from its beginning.
    pub fn new(live: LiveSet) -> Self {
        Self {
            live,
            parts: FoldParts::default(),
            detached: Vec::new(),
            remains: Vec::new(),
            ignores_baselines: false,
        }
    }

    /// Follows it from some moment on, where these processes are traced: what is freed of older memory changes nothing.
    pub fn from_now_on<'p>(
        live: LiveSet,
        processes: impl IntoIterator<Item = &'p Process>,
    ) -> Self {
        let mut feed = Self {
            ignores_baselines: true,
            ..Self::new(live)
        };
        for process in processes {
            feed.open(process);
        }
        feed
    }

    /// The live set.
    pub fn live(&self) -> &LiveSet {
        &self.live
    }

    /// The live set, to ask it what takes a change of its own.
    pub fn live_mut(&mut self) -> &mut LiveSet {
        &mut self.live
    }

    /// An entry that needs no more than to be taken.
    pub fn take(&mut self, entry: &Entry) {
        match entry {
            Entry::Process(process) => self.open(process),
            Entry::Events(events) => events.iter().for_each(|event| self.event(event)),
            Entry::End(end) => self.end(end),
            Entry::Fold(part) => {
                self.fold(part.clone(), |_| {});
            }
            Entry::Remains(remains) => self.remains.push(remains.clone()),
            Entry::Opening(_)
            | Entry::Function(_)
            | Entry::Runtime(_)
            | Entry::Module(_)
            | Entry::Frame(_)
            | Entry::Names(_)
            | Entry::Stack(_)
            | Entry::Memory(_)
            | Entry::Makeup(_)
            | Entry::ThreadName(_)
            | Entry::Loads(_)
            | Entry::Mark(_)
            | Entry::Loss(_)
            | Entry::Quality(_)
            | Entry::Closing(_) => {}
        }
    }

    /// A process is traced from here on.
    pub fn open(&mut self, process: &Process) {
        let baseline = match self.ignores_baselines {
            true => 0,
            false => process.baseline_bytes,
        };
        self.live.open(process.id, Nanos(process.from_ns), baseline);
    }

    /// Changes the live set by what an event says.
    #[inline]
    pub fn event(&mut self, event: &Event) {
        self.live.apply(event);
    }

    /// Tracing of a process ended.
    pub fn end(&mut self, end: &ProcessEnd) {
        match end.reason {
            EndReason::Detached => {
                self.detached.push((end.process, end.at));
                self.live.detach(end.process, end.at);
            }
            EndReason::Exited { .. }
            | EndReason::Signal { .. }
            | EndReason::OomKilled
            | EndReason::Executed
            | EndReason::Vanished => self.live.close(end.process, end.at),
        }
    }

    /// A part of a fold; what it says once it is whole. `prepare` may change it before.
    pub fn fold(&mut self, part: FoldPart, prepare: impl FnOnce(&mut Fold)) -> Option<Folded> {
        let (mut fold, mappings, sampling) = self.parts.take(part)?;
        fold.take_in(&self.remains);
        prepare(&mut fold);
        self.live = LiveSet::unfold(&fold);
        for (process, at) in &self.detached {
            self.live.detach(*process, *at);
        }
        Some(Folded { mappings, sampling })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Address, Call, Function, StackIndex, Tid};
    use crate::live::{Moment, Scope};
    use crate::record::Origin;
    use crate::record::fold::parts;

    const A: ProcessId = ProcessId(1 << 10);
    const B: ProcessId = ProcessId(2 << 10);

    fn opened(id: ProcessId) -> Entry {
        Entry::Process(Process {
            id,
            pid: id.0,
            ns_pid: id.0,
            parent: None,
            command: "program".to_owned(),
            cgroup: None,
            started_unix_ns: 0,
            from_ns: 0,
            origin: Origin::Launched,
            baseline_bytes: 0,
        })
    }

    fn allocated(process: ProcessId, at: u64, size: u64) -> Entry {
        Entry::Events(vec![Event {
            at: Nanos(at),
            process,
            thread: Tid(process.0),
            call: Call::Allocated {
                function: Function::Malloc.into(),
                address: Address(at * 16),
                size,
                stack: StackIndex::NONE,
            },
        }])
    }

    fn ended(process: ProcessId, at: u64, reason: EndReason) -> Entry {
        Entry::End(ProcessEnd {
            at: Nanos(at),
            process,
            reason,
        })
    }

    fn fed(entries: &[Entry]) -> Feed {
        let mut feed = Feed::new(LiveSet::new());
        entries.iter().for_each(|entry| feed.take(entry));
        feed
    }

    /// A holds 100 from 1 on and ends at 3 for this reason; B holds 10 from 2 on, 60 from 5 on, and exits.
    fn history(reason: EndReason) -> Vec<Entry> {
        vec![
            opened(A),
            opened(B),
            allocated(A, 1, 100),
            allocated(B, 2, 10),
            ended(A, 3, reason),
            allocated(B, 5, 50),
            ended(B, 6, EndReason::Exited { code: 0 }),
        ]
    }

    #[test]
    fn a_process_that_is_gone_holds_nothing_however_it_went() {
        for reason in [
            EndReason::Vanished,
            EndReason::Exited { code: 1 },
            EndReason::Signal { signal: 9 },
            EndReason::OomKilled,
            EndReason::Executed,
        ] {
            let feed = fed(&history(reason));
            let peak = feed.live().snapshot(Scope::All, Moment::Peak);
            assert_eq!((peak.bytes, peak.at), (110, Nanos(2)), "{reason:?}");
            let end = feed.live().snapshot(Scope::All, Moment::End);
            assert_eq!(end.bytes, 60, "{reason:?}");
        }
    }

    #[test]
    fn a_process_that_was_let_go_of_holds_what_it_held() {
        let feed = fed(&history(EndReason::Detached));
        let peak = feed.live().snapshot(Scope::All, Moment::Peak);
        assert_eq!((peak.bytes, peak.at), (160, Nanos(5)));
        let end = feed.live().snapshot(Scope::All, Moment::End);
        assert_eq!((end.bytes, end.blocks), (100, 1));
    }

    #[test]
    fn processes_that_are_let_go_of_together_are_all_live_at_the_end() {
        let mut entries = history(EndReason::Exited { code: 0 });
        entries.truncate(4);
        entries.extend([A, B].map(|id| ended(id, 7, EndReason::Detached)));
        let end = fed(&entries).live().snapshot(Scope::All, Moment::End);
        assert_eq!((end.bytes, end.blocks, end.at), (110, 2, Nanos(7)));
    }

    #[test]
    fn a_fold_says_what_the_events_said() {
        for reason in [EndReason::Detached, EndReason::Vanished] {
            let mut entries = history(reason);
            entries.truncate(6);
            let mut whole = fed(&entries);
            let folded = parts(whole.live_mut().fold(), false, None);
            entries.retain(|entry| !matches!(entry, Entry::Events(_)));
            entries.extend(folded.into_iter().map(Entry::Fold));
            let last = ended(B, 6, EndReason::Exited { code: 0 });
            entries.push(last.clone());
            whole.take(&last);
            let feed = fed(&entries);
            for moment in [Moment::Peak, Moment::End] {
                let of = |feed: &Feed| feed.live().snapshot(Scope::All, moment);
                assert_eq!(of(&feed), of(&whole), "{reason:?}");
            }
        }
    }

    #[test]
    fn from_some_moment_on_only_what_comes_then_counts() {
        let Entry::Process(process) = opened(A) else {
            panic!("it is one");
        };
        let mut feed = Feed::from_now_on(LiveSet::new(), [&process]);
        feed.take(&allocated(A, 4, 3));
        feed.take(&ended(A, 5, EndReason::Vanished));
        feed.take(&allocated(A, 6, 40));
        assert_eq!(feed.live().peak_bytes(), 3);
        assert_eq!(feed.live().live_bytes(), 0);
    }
}
