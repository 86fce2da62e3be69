//! Which processes are followed, and what is known of each.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::time::Instant;

use super::{
    Session, epochs::Epochs, mapped_code::MappedCode, places::Place, probes::Probed,
    python::Python, waiting::Undefined,
};
use crate::{
    event::{Address, Nanos, ProcessId, decode::StackDefinition},
    probe::{
        link::{Link, LinkKind},
        sideband::Mapped,
    },
    record::MemorySample,
    symbol::{CodeMapping, PerfMapSource},
    target::{Target, cgroup::MemoryCgroup, memory::Sampler, named_file::NamedFiles},
};

/// A stack through unknown code has the mappings read again unless that was this short a time ago.
const NEW_CODE_AT_MOST_EVERY: Duration = Duration::from_millis(2);
/// A process whose code changes all the time (a JIT compiler's) is looked at this often.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// So long a process may still be mapping its libraries, and is looked at whenever it has mapped something.
const YOUNG: Duration = Duration::from_millis(200);
/// Mappings are read again at an unknown address at most this often.
const REREAD_AT_MOST_EVERY: Duration = Duration::from_millis(50);
/// ... and without one this often.
const REREAD_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// A followed process.
pub(super) struct Followed {
    pub(super) id: ProcessId,
    pub(super) target: Target,
    pub(super) sampler: Option<Sampler>,
    pub(super) cgroup: Option<MemoryCgroup>,
    pub(super) rss: Option<u64>,
    /// When its memory was written last, and what the moment of the peak was then; kept in folded recordings alone.
    pub(super) sampled: Option<(Instant, Nanos)>,
    /// What was read near the peak and is not written yet; the same.
    pub(super) high: Option<MemorySample>,
    pub(super) code: Epochs,
    pub(super) mappings: Vec<CodeMapping>,
    /// What the kernel side was last told of where its code is.
    pub(super) unwound: Vec<MappedCode>,
    /// Its Python interpreter.
    pub(super) python: Option<Python>,
    /// Opened before it is known to be of use: the process may have ended by the time that code in no file is met.
    pub(super) perf_map: Option<PerfMapSource>,
    /// Opens the files that it names.
    pub(super) files: Option<Arc<NamedFiles>>,
    pub(super) read_at: Instant,
    /// When it was first looked at.
    began: Instant,
    /// It was said to have mapped code since.
    pub(super) has_new_code: bool,
    pub(super) link: Option<Link>,
    /// Where those probes are.
    pub(super) place: Option<Arc<Place>>,
    /// When those probes were in.
    pub(super) linked_at: Nanos,
    /// The code that the link probes, in memory.
    pub(super) probed: Option<Probed>,
    /// Device and inode of the library that the link probes.
    pub(super) library: Option<(u64, u64)>,
    /// When it mapped that library last, as far as that was heard of.
    pub(super) expected_at: Option<Nanos>,
    /// Its memory was looked at, and that library is the one that it uses.
    pub(super) keeps_library: bool,
    pub(super) parent: Option<ProcessId>,
    /// It was forked, and has not called exec since: it holds what its parent held then.
    pub(super) inherits: bool,
    pub(super) stage: Stage,
    pub(super) oom_victim: bool,
    pub(super) gone_since: Option<Instant>,
    /// The thread that carries its probes was not there at the last look.
    pub(super) has_lost_its_thread: bool,
}

/// A program that a followed process has become by exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NewProgram {
    /// When it called exec.
    pub(super) since: Nanos,
    /// What fails in it is tried again until then.
    pub(super) until: Instant,
}

impl NewProgram {
    /// It has to be looked at, for the first time or again.
    pub(super) fn awaits_look(self) -> Stage {
        Stage::Awaiting {
            program: self,
            is_looked_at: false,
        }
    }
}

/// How far a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It will call exec; until then nothing of it counts.
    Held,
    /// It has not mapped its libc yet, as far as is known. `is_looked_at`: it is just looked at.
    Awaiting {
        program: NewProgram,
        is_looked_at: bool,
    },
    /// The probes of a child that was forked then are going in.
    PlacingInChild { since: Nanos },
    /// The probes of a process that was found in the scope are going in; it became this program then, if that was heard of.
    PlacingInNewcomer { since: Option<Nanos> },
    /// The probes of a new program are going in; `replaces`: it had some in another library.
    PlacingInProgram { program: NewProgram, replaces: bool },
    /// It is traced, or was found not to be traceable.
    Settled,
}

impl Stage {
    /// Whether its probes are going in.
    pub(super) fn is_placing(self) -> bool {
        matches!(
            self,
            Self::PlacingInChild { .. }
                | Self::PlacingInNewcomer { .. }
                | Self::PlacingInProgram { .. }
        )
    }
}

impl Followed {
    pub(super) fn new(
        id: ProcessId,
        parent: Option<ProcessId>,
        target: Target,
        stage: Stage,
    ) -> Self {
        let files = NamedFiles::of(&target).ok().map(Arc::new);
        Self {
            id,
            sampler: Sampler::open(&target).ok(),
            cgroup: MemoryCgroup::of(&target).ok().flatten(),
            perf_map: perf_map_of(&target, files.clone()),
            files,
            target,
            rss: None,
            sampled: None,
            high: None,
            code: Epochs::default(),
            mappings: Vec::new(),
            unwound: Vec::new(),
            python: None,
            read_at: Instant::now(),
            began: Instant::now(),
            has_new_code: false,
            link: None,
            place: None,
            linked_at: Nanos(0),
            probed: None,
            library: None,
            expected_at: None,
            keeps_library: false,
            parent,
            inherits: false,
            stage,
            oom_victim: false,
            gone_since: None,
            has_lost_its_thread: false,
        }
    }

    /// It has mapped these files.
    pub(super) fn has_mapped(&mut self, files: &[Mapped]) {
        if let Some((_, inode)) = self.library {
            let expected = files.iter().filter(|file| file.inode == inode);
            self.expected_at = expected
                .map(|file| Nanos(file.at_ns))
                .chain(self.expected_at)
                .max();
        }
    }

    /// Whether it is known to have mapped that library since its exec: then what it calls is seen from its beginning.
    pub(super) fn has_expected_library(&self) -> bool {
        let has_mapped = match self.stage {
            // What a program maps may be heard of before its exec is.
            Stage::Awaiting { program, .. } | Stage::PlacingInProgram { program, .. } => {
                self.expected_at >= Some(program.since)
            }
            Stage::PlacingInChild { since } => self.expected_at >= Some(since),
            Stage::Held | Stage::PlacingInNewcomer { .. } | Stage::Settled => false,
        };
        self.keeps_library || has_mapped
    }

    /// Memory of its own that it holds now, resident or swapped out, bytes.
    pub(super) fn held_bytes(&mut self) -> u64 {
        let memory = self
            .sampler
            .as_mut()
            .and_then(|sampler| sampler.sample().ok());
        memory.map_or(0, |memory| {
            memory.anon.unwrap_or(0) + memory.swap.unwrap_or(0)
        })
    }

    /// Takes the probes out.
    pub(super) fn unlink(&mut self) {
        self.link = None;
    }

    /// How long it has been followed, as the program that it is.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// When it may be looked at for the code that it was said to have mapped.
    pub(super) fn look_due(&self) -> Option<Instant> {
        if self.stage == Stage::Held {
            // Nothing that it runs is traced; it is about to become another program.
            return None;
        }
        let pause = if self.stage != Stage::Settled || self.began.elapsed() < YOUNG {
            Duration::ZERO
        } else {
            LOOK_AT_MOST_EVERY
        };
        self.has_new_code.then(|| self.read_at + pause)
    }

    /// Whether a stack that met unknown code may have its mappings read again.
    pub(super) fn is_due_for_new_code(&mut self) -> bool {
        self.due_after(NEW_CODE_AT_MOST_EVERY)
    }

    /// Whether an unknown address may have its mappings read again.
    pub(super) fn may_reread(&mut self) -> bool {
        self.due_after(REREAD_AT_MOST_EVERY)
    }

    /// Whether a stack has an address where nothing is known to be mapped, and that will be looked at in a moment: its
    /// mappings were read shortly before the stack came, too shortly to be read again now.
    pub(super) fn code_is_about_to_be_read_for(&self, waiting: &Undefined) -> bool {
        let StackDefinition {
            epoch,
            met_new_code,
            frames,
            ..
        } = &waiting.definition;
        let pause = match met_new_code {
            true => NEW_CODE_AT_MOST_EVERY,
            false => REREAD_AT_MOST_EVERY,
        };
        let code = self.code.at(*epoch);
        self.read_at < waiting.since
            && self.read_at.elapsed() < pause
            && !self.code.is_behind(*epoch)
            && frames.iter().any(|&Address(at)| code.locate(at).is_none())
    }

    /// Whether its mappings should be looked at again anyhow.
    pub(super) fn is_due_for_reading(&mut self) -> bool {
        self.due_after(REREAD_AT_LEAST_EVERY)
    }

    fn due_after(&mut self, pause: Duration) -> bool {
        let due = self.mappings.is_empty() || self.read_at.elapsed() >= pause;
        if due {
            self.read_at = Instant::now();
        }
        due
    }
}

/// Where the process's perf map is looked for.
pub(super) fn perf_map_of(
    target: &Target,
    files: Option<Arc<NamedFiles>>,
) -> Option<PerfMapSource> {
    Some(PerfMapSource {
        files: files?,
        ns_pid: target.ns_pid,
        owner: target.file_owner().ok()?,
        started: UNIX_EPOCH + Duration::from_nanos(target.started_unix_ns),
    })
}

impl Session {
    /// The kind of link that a process has.
    pub(super) fn link_kind(&self, tgid: u32) -> Option<LinkKind> {
        self.processes.get(&tgid)?.link.as_ref().map(Link::kind)
    }

    /// The pid of a followed process.
    pub(super) fn tgid_of(&self, process: ProcessId) -> Option<u32> {
        let tgid = self.images.pid(process)?;
        let followed = self.processes.get(&tgid)?;
        (followed.id == process).then_some(tgid)
    }

    /// Events lost so far.
    pub(super) fn lost(&self) -> u64 {
        use highwater_common::counter::Counter;
        self.kernel.counter(Counter::LostAllocations) + self.kernel.counter(Counter::LostFrees)
    }
}
