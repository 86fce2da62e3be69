//! Links: what ties the programs to an allocator's functions in one process, until it is dropped.
//!
//! Three kinds, best first. A *session* link runs one program at entry and return and may skip the return trap. A *multi*
//! link takes all offsets at once, one link for entries and one for returns. *perf* events are one per function and
//! direction, slow to remove, but belong to a thread, and so work where the leader thread has exited.

use std::{
    fmt,
    num::NonZeroU32,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    str::FromStr,
};

use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};

use super::{ProbeError, kernel::Kernel, sys};

/// A kind of link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkKind {
    /// `BPF_TRACE_UPROBE_SESSION`
    Session,
    /// `BPF_TRACE_UPROBE_MULTI`
    Multi,
    /// Perf events.
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
            .ok_or_else(|| format!("`{text}` is no kind of link; there are session, multi and perf"))
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

/// The self-test's, which only count.
pub(super) const SELFTEST: Programs = Programs {
    session: "hw_test_session",
    entry: "hw_test_entry",
    at_return: "hw_test_return",
};

/// Probes in one process. Dropping it takes them out.
#[must_use = "dropping a link takes its probes out"]
pub struct Link {
    kind: LinkKind,
    _held: Held,
}

/// What keeps the probes in: closed when dropped.
#[expect(dead_code, reason = "held for its drop only")]
enum Held {
    Descriptors(Vec<OwnedFd>),
    PerfEvents(Vec<UProbeLink>),
}

impl Link {
    /// Places probes on `sites` of the file at `library` (a path valid for us) in one process.
    ///
    /// `pid` is the process; for perf events, any live thread of it.
    pub fn place(
        kernel: &mut Kernel,
        kind: LinkKind,
        library: &Path,
        sites: &[Site],
        pid: NonZeroU32,
    ) -> Result<Self, ProbeError> {
        Self::place_programs(kernel, TRACER, kind, library, sites, pid)
    }

    pub(super) fn place_programs(
        kernel: &mut Kernel,
        programs: Programs,
        kind: LinkKind,
        library: &Path,
        sites: &[Site],
        pid: NonZeroU32,
    ) -> Result<Self, ProbeError> {
        let held = match kind {
            LinkKind::Session => {
                // What needs no return goes apart: while a second session link stands on the same file, the kernel
                // would trap its returns too (see `session::company`).
                let (returning, others): (Vec<Site>, Vec<Site>) = sites.iter().partition(|site| site.returns);
                let mut links = Vec::with_capacity(2);
                for (program, attach_type, sites) in [
                    (programs.session, sys::ATTACH_UPROBE_SESSION, returning),
                    (programs.entry, sys::ATTACH_UPROBE_MULTI, others),
                ] {
                    if !sites.is_empty() {
                        links.push(multi(kernel, kind, program, attach_type, false, library, &sites, pid)?);
                    }
                }
                Held::Descriptors(links)
            }
            LinkKind::Multi => {
                let returning: Vec<Site> = sites.iter().copied().filter(|site| site.returns).collect();
                let multi = |kernel: &mut Kernel, program, at_return, sites: &[Site]| {
                    multi(kernel, kind, program, sys::ATTACH_UPROBE_MULTI, at_return, library, sites, pid)
                };
                // Returns first: a call whose entry is seen should find its return probed.
                let returns = multi(kernel, programs.at_return, true, &returning)?;
                let entries = multi(kernel, programs.entry, false, sites)?;
                Held::Descriptors(vec![entries, returns])
            }
            LinkKind::Perf => Held::PerfEvents(perf(kernel, programs, library, sites, pid)?),
        };
        Ok(Self { kind, _held: held })
    }

    /// Which kind it is.
    pub fn kind(&self) -> LinkKind {
        self.kind
    }
}

#[expect(clippy::too_many_arguments, reason = "these are the system call's own")]
fn multi(
    kernel: &mut Kernel,
    kind: LinkKind,
    program: &str,
    attach_type: u32,
    at_return: bool,
    library: &Path,
    sites: &[Site],
    pid: NonZeroU32,
) -> Result<OwnedFd, ProbeError> {
    let offsets: Vec<u64> = sites.iter().map(|site| site.offset).collect();
    let cookies: Vec<u64> = sites.iter().map(|site| site.cookie).collect();
    let program = kernel.program(program, attach_type)?;
    sys::link_uprobes(program, attach_type, at_return, library, &offsets, &cookies, pid.get()).map_err(|source| {
        ProbeError::Link {
            library: PathBuf::from(library),
            kind,
            source,
        }
    })
}

fn perf(
    kernel: &mut Kernel,
    programs: Programs,
    library: &Path,
    sites: &[Site],
    pid: NonZeroU32,
) -> Result<Vec<UProbeLink>, ProbeError> {
    let mut links = Vec::with_capacity(2 * sites.len());
    for (name, sites) in [
        (programs.at_return, sites.iter().filter(|site| site.returns).collect::<Vec<_>>()),
        (programs.entry, sites.iter().collect()),
    ] {
        let failed = |source| ProbeError::Attach {
            program: name.to_owned(),
            source,
        };
        let program = kernel.perf_program(name)?;
        for site in sites {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(site.offset),
                cookie: Some(site.cookie),
            };
            let id = program
                .attach(point, library, UProbeScope::OneProcess(pid))
                .map_err(failed)?;
            links.push(program.take_link(id).map_err(failed)?);
        }
    }
    Ok(links)
}
