//! Recordings written by hand, for tests.

use std::sync::Arc;

use super::answer::Answer;
use super::model::Profile;
use super::question::{Question, When};
use super::replay::Threads;
use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Call, Event, Function, Nanos, ProcessId, StackIndex, Tid};
use crate::record::reader::ReadError;
use crate::record::{
    Cgroup, Closing, EndReason, Entry, Frame, FrameIndex, FrameKind, FrameNames, FunctionName,
    Makeup, Malloc, MemorySample, Module, ModuleIndex, Opening, Origin, Process, ProcessEnd,
    Quality, Runtime, RuntimeIndex, Stack,
};

pub(super) const MIB: u64 = 1 << 20;
const MS: u64 = 1_000_000;
const STARTED_NS: u64 = 5_000 * MS;

/// A recording under construction. Times are milliseconds since its start, processes and stacks small numbers.
#[derive(Clone)]
pub(super) struct Script {
    pub(super) entries: Vec<Entry>,
    next_address: u64,
    live: Vec<(u32, Address)>,
}

fn at(ms: u64) -> Nanos {
    Nanos(STARTED_NS + ms * MS)
}

/// What a profile answers when asked for this, and nothing else.
pub(super) fn answer(profile: &Profile, when: When) -> Answer {
    let question = Question {
        when,
        ..Question::default()
    };
    Answer::of(profile, &question)
}

impl Script {
    pub(super) fn empty() -> Self {
        let opening = Opening {
            highwater: "0.1.0".into(),
            command_line: vec!["highwater".into(), "record".into()],
            kernel: "6.12.0".into(),
            started_ns: STARTED_NS,
            // 2026-01-02T03:04:05.5Z
            started_unix_ns: 1_767_323_045_500_000_000,
            page_size: 4096,
            link: "session".into(),
            redacted: false,
            options: std::collections::BTreeMap::new(),
        };
        Self {
            entries: vec![
                Entry::Opening(opening),
                Entry::Runtime(Runtime {
                    index: RuntimeIndex(0),
                    name: "python".into(),
                }),
            ],
            next_address: 0x1000,
            live: Vec::new(),
        }
    }

    pub(super) fn launched(command: &str) -> Self {
        let mut script = Self::empty();
        script.process(0, None, command, Origin::Launched, 0, 0);
        script
    }

    /// A process that ran already; its first sample says `rss`.
    pub(super) fn attached(command: &str, baseline: u64, rss: u64) -> Self {
        let mut script = Self::empty();
        script.process(0, None, command, Origin::Attached, 0, baseline);
        script.memory(0, 0, rss);
        script
    }

    pub(super) fn process(
        &mut self,
        id: u32,
        parent: Option<u32>,
        command: &str,
        origin: Origin,
        ms: u64,
        baseline: u64,
    ) {
        self.entries.push(Entry::Process(Process {
            id: ProcessId(id),
            pid: 4242 + id,
            ns_pid: 42 + id,
            parent: parent.map(ProcessId),
            command: command.into(),
            cgroup: Some(Arc::new(Cgroup::at("/app.slice/server".into()))),
            started_unix_ns: 1_767_323_000_000_000_000,
            from_ns: at(ms).0,
            origin,
            baseline_bytes: baseline,
        }));
    }

    pub(super) fn event(&mut self, process: u32, ms: u64, call: Call) {
        let event = Event {
            at: at(ms),
            process: ProcessId(process),
            thread: Tid(4242 + process),
            call,
        };
        self.entries.push(Entry::Events(vec![event]));
    }

    pub(super) fn allocate(&mut self, process: u32, ms: u64, stack: u32, size: u64) {
        let address = Address(self.next_address);
        self.next_address += 0x1000;
        self.live.push((process, address));
        let call = Call::Allocated {
            function: Function::Malloc.into(),
            address,
            size,
            stack: StackIndex(stack),
        };
        self.event(process, ms, call);
    }

    /// Maps private memory, or only reserves it.
    pub(super) fn map(&mut self, process: u32, ms: u64, stack: u32, length: u64, committed: bool) {
        let start = Address(0x7f00_0000_0000 + (ms << 32));
        let mapped = Mapping::Mapped {
            range: Range { start, length },
            traits: Traits {
                committed,
                file: false,
                shared: false,
                stack: false,
                by_allocator: false,
            },
            stack: StackIndex(stack),
        };
        self.event(process, ms, Call::Mapping(mapped));
    }

    /// Frees the newest block.
    pub(super) fn free_last(&mut self, process: u32, ms: u64) {
        if let Some((_, address)) = self.live.pop() {
            self.event(process, ms, Call::Freed { address, header: 0 });
        }
    }

    /// Frees a block in another process, which has it from a fork: the one of that number, from 0.
    pub(super) fn free_in(&mut self, process: u32, ms: u64, block: usize) {
        let (_, address) = self.live[block];
        self.event(process, ms, Call::Freed { address, header: 0 });
    }

    /// Frees the newest block, after more has happened.
    pub(super) fn free_at(&mut self, process: u32, ms: u64, before: impl FnOnce(&mut Self)) {
        let newest = self.live.pop();
        before(self);
        if let Some((_, address)) = newest {
            self.event(process, ms, Call::Freed { address, header: 0 });
        }
    }

    /// Frees a block from before attach.
    pub(super) fn free_unknown(&mut self, process: u32, ms: u64, size: u64) {
        self.event(
            process,
            ms,
            Call::Freed {
                address: Address(0xdead_0000 + ms * 16),
                header: size | 1,
            },
        );
    }

    pub(super) fn fork(&mut self, parent: u32, child: u32, ms: u64) {
        self.event(
            parent,
            ms,
            Call::Forked {
                child: ProcessId(child),
            },
        );
        self.process(
            child,
            Some(parent),
            "child",
            Origin::Forked {
                missed_ns: 1_500_000,
            },
            ms,
            0,
        );
    }

    pub(super) fn exec(&mut self, old: u32, new: u32, ms: u64, command: &str) {
        self.event(
            old,
            ms,
            Call::Executed {
                next: ProcessId(new),
            },
        );
        self.process(
            new,
            Some(old),
            command,
            Origin::Executed { missed_ns: 0 },
            ms,
            0,
        );
        // It is the same process.
        let processes = self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Process(process) => Some(process),
            _ => None,
        });
        let mut pid = 0;
        for process in processes {
            if process.id == ProcessId(old) {
                pid = process.pid;
            } else if process.id == ProcessId(new) {
                process.pid = pid;
            }
        }
    }

    pub(super) fn oom_victim(&mut self, process: u32, ms: u64) {
        self.event(process, ms, Call::OomVictim);
    }

    pub(super) fn exit(&mut self, process: u32, ms: u64, status: u32) {
        self.event(process, ms, Call::Exited { status });
    }

    pub(super) fn detach(&mut self, process: u32, ms: u64) {
        self.end(process, ms, EndReason::Detached);
    }

    pub(super) fn end(&mut self, process: u32, ms: u64, reason: EndReason) {
        self.entries.push(Entry::End(ProcessEnd {
            at: at(ms),
            process: ProcessId(process),
            reason,
        }));
    }

    pub(super) fn memory(&mut self, process: u32, ms: u64, rss: u64) {
        self.memory_in_cgroup(process, ms, rss, None, None);
    }

    pub(super) fn memory_in_cgroup(
        &mut self,
        process: u32,
        ms: u64,
        rss: u64,
        charge: Option<u64>,
        limit: Option<u64>,
    ) {
        self.entries.push(Entry::Memory(MemorySample {
            at: at(ms),
            process: ProcessId(process),
            rss: Some(rss),
            anon: Some(rss),
            file: Some(0),
            shmem: Some(0),
            swap: Some(0),
            cgroup_current: charge,
            cgroup_limit: limit,
        }));
    }

    /// What its memory was made of, as its RSS was so much.
    pub(super) fn makeup(&mut self, process: u32, ms: u64, rss: u64, malloc: Malloc) {
        self.entries.push(Entry::Makeup(Makeup {
            at_ns: at(ms).0,
            process: ProcessId(process),
            rss: Some(rss),
            malloc: Some(malloc),
            thread_stacks: Some(MIB),
            page_tables: Some(MIB / 2),
            before: None,
        }));
    }

    pub(super) fn quality(&mut self, quality: Quality) {
        self.entries.push(Entry::Quality(quality));
    }

    /// A stack whose frames have these names, leaf first: `load@src/table.c:40`, `load` without a place, `a<b` where
    /// `a` is inlined into `b`, and `` for no name;
    /// `py:load@app.py:40` of a Python function, `eval:` of its interpreter.
    pub(super) fn stack(&mut self, index: u32, frames: &[&str]) {
        let module = Module {
            index: 0,
            path: "/usr/bin/server".into(),
            build_id: Some("c0ffee".into()),
        };
        self.entries.push(Entry::Module(module));
        let mut indexes = Vec::new();
        for (position, names) in frames.iter().enumerate() {
            let frame = FrameIndex(index * 100 + position as u32);
            let (kind, names) = match (names.strip_prefix("py:"), names.strip_prefix("eval:")) {
                (Some(names), _) => (FrameKind::Managed(RuntimeIndex(0)), names),
                (_, Some(names)) => (FrameKind::Interpreter(RuntimeIndex(0)), names),
                _ => (FrameKind::Native, *names),
            };
            let offset = 0x1000 * u64::from(index) + 0x10 * position as u64;
            self.entries.push(Entry::Frame(Frame {
                index: frame,
                module: Some(ModuleIndex(0)),
                offset,
                kind,
            }));
            let functions: Vec<_> = names
                .split('<')
                .filter(|name| !name.is_empty())
                .map(function)
                .collect();
            if !functions.is_empty() {
                self.entries.push(Entry::Names(FrameNames {
                    frame,
                    functions,
                    source: None,
                }));
            }
            indexes.push(frame);
        }
        self.push_stack(index, indexes, false);
    }

    pub(super) fn push_stack(&mut self, index: u32, frames: Vec<FrameIndex>, truncated: bool) {
        self.entries.push(Entry::Stack(Stack {
            index: StackIndex(index),
            process: ProcessId(0),
            frames,
            truncated,
        }));
    }

    pub(super) fn close(&mut self, ms: u64, reason: &str) {
        let is_account = |entry: &Entry| matches!(entry, Entry::Quality(_));
        if !self.entries.iter().any(is_account) {
            self.quality(Quality::default());
        }
        self.entries.push(Entry::Closing(Closing {
            ended_ns: at(ms).0,
            reason: reason.into(),
        }));
    }

    /// The profile, closed at the latest moment so far.
    pub(super) fn closed(mut self) -> Profile {
        self.close(0, "interrupted");
        self.unfinished()
    }

    /// The profile that answers a question.
    pub(super) fn closed_for(mut self, question: &Question) -> Profile {
        self.close(0, "interrupted");
        let entries = self.entries.into_iter().map(Ok);
        Profile::replay_for(entries, question, Threads::Together).unwrap()
    }

    pub(super) fn unfinished(self) -> Profile {
        Profile::replay(self.entries.into_iter().map(Ok)).unwrap()
    }

    pub(super) fn cut(self, error: ReadError) -> Profile {
        Profile::replay(self.entries.into_iter().map(Ok).chain([Err(error)])).unwrap()
    }
}

fn function(name: &str) -> FunctionName {
    let (function, place) = name
        .split_once('@')
        .map_or((name, None), |(function, place)| (function, Some(place)));
    let (file, line) = match place.and_then(|place| place.rsplit_once(':')) {
        Some((file, line)) => (Some(file.to_owned()), line.parse().ok()),
        None => (place.map(str::to_owned), None),
    };
    FunctionName {
        function: function.to_owned(),
        file,
        line,
    }
}
