//! Links: what ties the programs to an allocator's functions in one process, until it is dropped.
//!
//! Three kinds, best first. A *session* link runs one program at entry and return and may skip the return trap. A *multi*
//! link runs one at the entry, another one at the return. *perf* events do too, slow to remove, but belong to a thread, and so work
//! where the leader thread has exited. Each place has a link of its own, and the kernel drops all of them when we end, however we
//! do: see `pins.rs`.

use std::{
    ffi::CString,
    fmt,
    fs::File,
    io,
    num::NonZeroU32,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    str::FromStr,
    sync::Arc,
};

use highwater_common::cookie;

use super::{
    ProbeError,
    kernel::Kernel,
    pins::{HeldLink, Pins},
    sys::{self, Attach, Point},
};
use crate::target::allocator::{Library, ProbePoint};

/// A kind of link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// One link for many probes, each at entry and return together (`BPF_TRACE_UPROBE_SESSION`).
    Session,
    /// One link for many probes of one sort (`BPF_TRACE_UPROBE_MULTI`).
    Multi,
    /// One performance event for each probe.
    Perf,
}

impl LinkKind {
    /// All kinds, the best first.
    pub const LADDER: [Self; 3] = [Self::Session, Self::Multi, Self::Perf];
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "session",
            Self::Multi => "multi",
            Self::Perf => "perf",
        })
    }
}

impl FromStr for LinkKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::LADDER
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| {
                format!("`{text}` is no kind of link; there are session, multi and perf")
            })
    }
}

/// One place to probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// File offset of the instruction.
    pub offset: u64,
    /// Handed to the program.
    pub cookie: u64,
    /// Whether the return matters too.
    pub returns: bool,
}

impl From<&ProbePoint> for Site {
    fn from(probe: &ProbePoint) -> Self {
        Self {
            offset: probe.offset,
            cookie: probe.function as u64,
            returns: !probe.function.frees(),
        }
    }
}

impl Site {
    fn point(&self) -> Point {
        Point {
            offset: self.offset,
            cookie: self.cookie,
        }
    }
}

/// Whose calls a link sees.
#[derive(Clone, Copy, Debug)]
pub struct Whose {
    process: NonZeroU32,
    /// What a perf event is opened on: any live thread of it.
    thread: NonZeroU32,
}

impl Whose {
    /// Those of a process whose leader lives.
    pub fn of(process: NonZeroU32) -> Self {
        Self::through(process, process)
    }

    /// Those of a process, by one of its threads.
    pub fn through(process: NonZeroU32, thread: NonZeroU32) -> Self {
        Self { process, thread }
    }
}

/// Programs by name, as a link needs them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Programs {
    session: &'static str,
    entry: &'static str,
    at_return: &'static str,
}

/// The tracer's own.
pub(super) const TRACER: Programs = Programs {
    session: "hw_session",
    entry: "hw_entry",
    at_return: "hw_return",
};

/// Those that do nothing: the floor of what a probe costs.
const EMPTY: Programs = Programs {
    session: "hw_floor_session",
    entry: "hw_floor",
    at_return: "hw_floor",
};
/// The preflight's, which only counts.
const COUNT: &str = "hw_count";

/// The self-test's, which only count.
pub(super) const SELFTEST: Programs = Programs {
    session: "hw_test_session",
    entry: "hw_test_entry",
    at_return: "hw_test_return",
};

/// Probes in one process. Dropping it has the kernel take them out.
#[must_use = "dropping a link takes its probes out"]
pub struct Link {
    kind: LinkKind,
    _held: Vec<HeldLink>,
}

impl Link {
    /// Places probes on `sites` of a library in one process.
    pub fn place(
        kernel: &mut Kernel,
        kind: LinkKind,
        library: Library<'_>,
        sites: &[Site],
        whose: Whose,
    ) -> Result<Self, ProbeError> {
        Self::place_programs(kernel, TRACER, kind, library, sites, whose)
    }

    /// The same with programs that do nothing.
    pub fn place_empty(
        kernel: &mut Kernel,
        kind: LinkKind,
        library: Library<'_>,
        sites: &[Site],
        whose: Whose,
    ) -> Result<Self, ProbeError> {
        Self::place_programs(kernel, EMPTY, kind, library, sites, whose)
    }

    /// Counts the calls of `sites` in one process, by cookie, and does nothing else: see [`Kernel::calls`]. The breakpoints are
    /// those of the real probes, without a return. A process that is traced by session links is counted by a multi link,
    /// which every kernel that has sessions has too.
    pub fn count(
        kernel: &mut Kernel,
        kind: LinkKind,
        library: Library<'_>,
        sites: &[Site],
        whose: Whose,
    ) -> Result<Self, ProbeError> {
        let attach = match kind {
            LinkKind::Session | LinkKind::Multi => Attach::MultiEntry,
            LinkKind::Perf => Attach::PerfEntry,
        };
        let part = Part {
            program: kernel.program(COUNT, attach.program_type())?,
            attach,
            sites: sites.to_vec(),
        };
        let held = hold(kind, &kernel.pins(), &part, library, whose.thread)?;
        Ok(Self { kind, _held: held })
    }

    pub(super) fn place_programs(
        kernel: &mut Kernel,
        programs: Programs,
        kind: LinkKind,
        library: Library<'_>,
        sites: &[Site],
        whose: Whose,
    ) -> Result<Self, ProbeError> {
        Placement::of_programs(kernel, programs, kind, sites, whose)?.place(library)
    }

    /// Which kind it is.
    pub fn kind(&self) -> LinkKind {
        self.kind
    }
}

/// Probes that are about to be placed, with all that this takes: it may be done on any thread.
pub struct Placement {
    kind: LinkKind,
    /// Which thread the links are for.
    thread: NonZeroU32,
    pins: Arc<Pins>,
    /// In the order in which they go in.
    parts: Vec<Part>,
}

/// Probes of one sort.
struct Part {
    program: Arc<OwnedFd>,
    attach: Attach,
    sites: Vec<Site>,
}

impl Placement {
    /// Loads what `sites` of a library need, unless it is loaded.
    pub fn new(
        kernel: &mut Kernel,
        kind: LinkKind,
        sites: &[Site],
        whose: Whose,
    ) -> Result<Self, ProbeError> {
        Self::of_programs(kernel, TRACER, kind, sites, whose)
    }

    fn of_programs(
        kernel: &mut Kernel,
        programs: Programs,
        kind: LinkKind,
        sites: &[Site],
        whose: Whose,
    ) -> Result<Self, ProbeError> {
        let (mut returning, others): (Vec<Site>, Vec<Site>) =
            sites.iter().partition(|site| site.returns);
        if kind == LinkKind::Perf {
            for site in &mut returning {
                site.cookie = cookie::of_process(site.cookie, whose.process.get());
            }
        }
        let sorts = match kind {
            // What needs no return goes apart: while a second session link stands on the same file, the kernel would
            // trap its returns too (see `session::company`).
            LinkKind::Session => [
                (programs.session, Attach::Session, returning),
                (programs.entry, Attach::MultiEntry, others),
            ],
            // Returns first: a call whose entry is seen should find its return probed.
            LinkKind::Multi => [
                (programs.at_return, Attach::MultiReturn, returning),
                (programs.entry, Attach::MultiEntry, sites.to_vec()),
            ],
            LinkKind::Perf => [
                (programs.at_return, Attach::PerfReturn, returning),
                (programs.entry, Attach::PerfEntry, sites.to_vec()),
            ],
        };
        let mut parts = Vec::with_capacity(sorts.len());
        for (program, attach, sites) in sorts {
            if !sites.is_empty() {
                let program = kernel.program(program, attach.program_type())?;
                parts.push(Part {
                    program,
                    attach,
                    sites,
                });
            }
        }
        Ok(Self {
            kind,
            thread: whose.thread,
            pins: kernel.pins(),
            parts,
        })
    }

    /// Places them. Where one cannot be placed, the others come out again.
    pub fn place(self, library: Library<'_>) -> Result<Link, ProbeError> {
        let mut held = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            held.extend(hold(self.kind, &self.pins, part, library, self.thread)?);
        }
        // And out the other way round.
        held.reverse();
        Ok(Link {
            kind: self.kind,
            _held: held,
        })
    }
}

/// Makes a link for each place.
fn hold(
    kind: LinkKind,
    pins: &Arc<Pins>,
    part: &Part,
    library: Library<'_>,
    pid: NonZeroU32,
) -> Result<Vec<HeldLink>, ProbeError> {
    let program = part.program.as_fd();
    let link =
        |site: &Site| pins.hold(link(program, part.attach, library.file, site.point(), pid)?);
    let links: io::Result<Vec<HeldLink>> = part.sites.iter().map(link).collect();
    links.map_err(|source| ProbeError::Link {
        library: library.name.to_owned(),
        kind,
        source,
    })
}

fn link(
    program: BorrowedFd<'_>,
    attach: Attach,
    file: &File,
    point: Point,
    pid: NonZeroU32,
) -> io::Result<OwnedFd> {
    // The very file that was examined, whatever lies at its path by now.
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    match attach {
        Attach::PerfEntry | Attach::PerfReturn => {
            sys::link_perf_event(program, attach == Attach::PerfReturn, &path, point, pid)
        }
        Attach::Session | Attach::MultiEntry | Attach::MultiReturn => {
            sys::link_uprobe(program, attach, &path, point, pid)
        }
    }
}
