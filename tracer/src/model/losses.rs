//! What could not be seen, and what that means for the figures. Whether a recording is complete, what `check` may say, and the
//! words and JSON of every report follow from [`Loss::affects`].

mod counted;

use std::fmt;

use crate::event::Nanos;
use crate::record::{self, LossKind, Origin, Process, Quality};
use crate::units::{size, time};

/// What a loss makes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affects {
    /// No figure is wrong.
    Nothing,
    /// Who held it, not how much was held.
    Names,
    /// Allocations are missing: what was seen is the least that there was.
    LowerBound,
    /// Frees are missing too, or whole processes: from its moment on, what was seen may have been handed back.
    Everything,
}

impl Affects {
    /// Its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Names => "names",
            Self::LowerBound => "lower_bound",
            Self::Everything => "everything",
        }
    }
}

/// Something that could not be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Events that the full ring had no room for.
    Events {
        /// Number of lost allocations.
        allocations: u64,
        /// Number of lost frees.
        frees: u64,
        /// By how many bytes what was live may be more, and less, than is said; `None` where that was not recorded.
        off: Option<(u64, u64)>,
        /// Where it was not, what they come to if each was an average block, bytes.
        estimate: Option<u64>,
        /// What would have helped.
        hint: String,
    },
    /// So many of something.
    Counted {
        /// How many of them there are.
        count: u64,
        /// What that makes wrong.
        affects: Affects,
        /// One of them, and several of them.
        words: [&'static str; 2],
        /// What became of them.
        rest: String,
    },
    /// The probes were out for some time.
    Pause {
        /// When they were taken out, and when they were in again, nanoseconds after the start.
        since_start_ns: (u64, u64),
        /// When they were taken out.
        from: Nanos,
    },
    /// ... so many times more.
    Pauses {
        /// Number of further pauses.
        count: usize,
        /// For how long in all, nanoseconds.
        sum_ns: u64,
    },
    /// A process ran without probes at first.
    Late {
        /// Pid of the process.
        pid: u32,
        /// For so long, nanoseconds.
        missed_ns: u64,
    },
    /// So many processes did.
    LateTogether {
        /// Number of processes.
        count: u64,
        /// For so long at most, nanoseconds.
        most_missed_ns: u64,
    },
    /// ... and so many processes more.
    LateToo {
        /// Number of further processes.
        count: u64,
        /// For so long at most, nanoseconds.
        most_missed_ns: u64,
    },
    /// Something that the recorder wrote down as it happened.
    Told {
        /// So long after the start, nanoseconds.
        since_start_ns: u64,
        /// The loss as the recording has it.
        loss: record::Loss,
    },
    /// The recording was finished, and its account of losses is missing.
    Unaccounted,
}

impl Loss {
    /// What it makes wrong.
    pub fn affects(&self) -> Affects {
        match self {
            Self::Events { .. } | Self::Pause { .. } | Self::Pauses { .. } | Self::Unaccounted => {
                Affects::Everything
            }
            Self::Counted { affects, .. } => *affects,
            Self::Late { .. } | Self::LateTogether { .. } | Self::LateToo { .. } => {
                Affects::LowerBound
            }
            Self::Told { loss, .. } => match loss.kind {
                LossKind::ProbesRemoved
                | LossKind::LetGo
                | LossKind::CarrierEnded
                | LossKind::More
                | LossKind::Unknown => Affects::Everything,
                LossKind::Untraced
                | LossKind::NotAttached
                | LossKind::Unsure
                | LossKind::OtherLibrary
                | LossKind::NothingSeen
                | LossKind::MappingsUntraced => Affects::LowerBound,
                // The memory that it takes from the kernel counts as mappings.
                LossKind::OtherAllocator | LossKind::Unnamed => Affects::Names,
            },
        }
    }

    /// Whether it changes sizes or counts.
    pub fn is_grave(&self) -> bool {
        self.affects() >= Affects::LowerBound
    }

    /// The moment before which it changes nothing, if that is known.
    pub fn since(&self) -> Option<Nanos> {
        match self {
            Self::Told { loss, .. } => Some(Nanos(loss.at_ns)),
            Self::Pause { from, .. } => Some(*from),
            Self::Events { .. }
            | Self::Counted { .. }
            | Self::Pauses { .. }
            | Self::Late { .. }
            | Self::LateTogether { .. }
            | Self::LateToo { .. }
            | Self::Unaccounted => None,
        }
    }

    /// By how many bytes what was live may be more, and less, where that is all that it changes.
    pub fn off(&self) -> Option<(u64, u64)> {
        match self {
            Self::Events { off, .. } => *off,
            _ => None,
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events {
                allocations,
                frees,
                off,
                estimate,
                hint,
            } => {
                let all = allocations.saturating_add(*frees);
                write!(
                    f,
                    "{} lost ({} and {}): the ring was full{hint}",
                    number(all, "event was", "events were"),
                    number(*allocations, "allocation", "allocations"),
                    number(*frees, "free", "frees"),
                )?;
                match (off, estimate) {
                    (Some((more, less)), _) => write!(
                        f,
                        "; what was live may have been up to {} more than reported, or {} less.",
                        size::short(*more),
                        size::short(*less)
                    ),
                    (None, Some(estimate)) => write!(
                        f,
                        " (by the average block, the live set may be off by up to {}).",
                        size::short(*estimate)
                    ),
                    (None, None) => write!(f, "."),
                }
            }
            Self::Counted {
                count,
                words: [one, many],
                rest,
                ..
            } => write!(f, "{} {rest}.", number(*count, one, many)),
            Self::Late { pid, missed_ns } => write!(
                f,
                "Process {pid} ran for {} before its probes were in place.",
                time::duration(*missed_ns)
            ),
            Self::LateTogether {
                count,
                most_missed_ns,
            } => write!(
                f,
                "{} for up to {} before their probes were in place.",
                number(*count, "process ran", "processes ran"),
                time::duration(*most_missed_ns)
            ),
            Self::LateToo {
                count,
                most_missed_ns,
            } => write!(
                f,
                "{} for up to {} before their probes were in place.",
                number(*count, "process more ran", "processes more ran"),
                time::duration(*most_missed_ns)
            ),
            Self::Told {
                since_start_ns,
                loss,
            } => told(f, &time::offset(*since_start_ns), loss),
            Self::Pause {
                since_start_ns: (from, to),
                ..
            } => write!(
                f,
                "Nothing was seen from {} to {}: the recorder was stopped, and its probes were out. Blocks from that time are \
                 missing, and blocks freed in it count as live.",
                time::offset(*from),
                time::offset(*to)
            ),
            Self::Pauses { count, sum_ns } => write!(
                f,
                "The recorder was stopped {count} times more, for {} in all.",
                time::duration(*sum_ns)
            ),
            Self::Unaccounted => write!(
                f,
                "The recording does not say what was lost: that account was too large to be written."
            ),
        }
    }
}

fn told(f: &mut fmt::Formatter<'_>, at: &str, loss: &record::Loss) -> fmt::Result {
    let record::Loss {
        at_ns: _,
        pid,
        command,
        kind,
        why,
    } = loss;
    let pid = pid.unwrap_or(0);
    match kind {
        LossKind::ProbesRemoved => write!(f, "From {at} on nothing was traced: {why}."),
        LossKind::LetGo => write!(
            f,
            "From {at} on process {pid} ({command}) was not traced any more: {why}."
        ),
        LossKind::Untraced => write!(
            f,
            "Process {pid} ({command}) is not traced since it called exec, at {at}: {why}."
        ),
        LossKind::NotAttached => write!(f, "Process {pid} ({command}) was not traced: {why}."),
        LossKind::Unsure => write!(f, "From {at} on processes may be missing: {why}."),
        LossKind::CarrierEnded => write!(
            f,
            "At {at} process {pid} ({command}) had lost the thread that carried its probes: {why}."
        ),
        LossKind::OtherLibrary => write!(
            f,
            "Process {pid} ({command}) mapped another libc than was expected: {why}."
        ),
        LossKind::NothingSeen => write!(
            f,
            "Process {pid} ({command}): none of its calls was seen; either it made none, or its probes were in too late."
        ),
        LossKind::MappingsUntraced => write!(f, "Memory mappings were not traced: {why}."),
        LossKind::OtherAllocator => write!(
            f,
            "Process {pid} ({command}) has another allocator, {why}: blocks of that are not seen, and the memory it takes \
             counts as mappings."
        ),
        LossKind::Unnamed => write!(f, "From {at} on names are missing: {why}."),
        LossKind::More => write!(f, "From {at} on there was more that was not seen: {why}."),
        LossKind::Unknown => write!(
            f,
            "At {at} something was lost that this version of highwater has no words for: {why}"
        ),
    }
}

/// A number and what there are so many of.
fn number(count: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        size::thousands(count),
        if count == 1 { one } else { many }
    )
}

/// What a recording says of losses.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Its last account of them; `None` where it has none.
    pub quality: Option<&'a Quality>,
    /// It was finished in order.
    pub is_closed: bool,
    /// What was written down as it happened.
    pub told: &'a [record::Loss],
    /// When it began, nanoseconds of `CLOCK_MONOTONIC`.
    pub started_ns: u64,
    /// The size of an average block, if there was any, bytes.
    pub average_bytes: Option<u64>,
    /// The size of its event ring, if it says so, bytes.
    pub ring_bytes: Option<u64>,
}

/// More processes than this are told by their number.
const LATE_TOLD: usize = 8;

/// Processes that ran without probes at first.
fn late<'p>(processes: impl Iterator<Item = &'p Process>) -> Vec<Loss> {
    let mut losses = Vec::new();
    let (mut count, mut most_missed_ns) = (0, 0);
    for process in processes {
        let (Origin::Forked { missed_ns } | Origin::Executed { missed_ns }) = process.origin else {
            continue;
        };
        let pid = process.pid;
        match missed_ns {
            0 => {}
            _ if losses.len() < LATE_TOLD => losses.push(Loss::Late { pid, missed_ns }),
            _ => {
                count += 1;
                most_missed_ns = most_missed_ns.max(missed_ns);
            }
        }
    }
    if count > 0 {
        losses.push(Loss::LateToo {
            count,
            most_missed_ns,
        });
    }
    losses
}

/// Makes one of the losses that are processes whose probes were late, where there are several; it stands where the first of them
/// stood.
pub fn join_late(losses: &mut Vec<Loss>) {
    let of = |loss: &Loss| match *loss {
        Loss::Late { missed_ns, .. } => Some((1, missed_ns)),
        Loss::LateTogether {
            count,
            most_missed_ns,
        }
        | Loss::LateToo {
            count,
            most_missed_ns,
        } => Some((count, most_missed_ns)),
        _ => None,
    };
    let late: Vec<(u64, u64)> = losses.iter().filter_map(of).collect();
    let (Some(first), 2..) = (
        losses.iter().position(|loss| of(loss).is_some()),
        late.len(),
    ) else {
        return;
    };
    losses.retain(|loss| of(loss).is_none());
    let together = Loss::LateTogether {
        count: late
            .iter()
            .fold(0, |sum, (count, _)| sum.saturating_add(*count)),
        most_missed_ns: late.iter().map(|(_, missed)| *missed).max().unwrap_or(0),
    };
    losses.insert(first, together);
}

/// More pauses than this are told by their number and their sum.
const PAUSES_TOLD: usize = 8;

/// A ring that is large enough for a program that does nothing but allocate, bytes.
const ENOUGH: u64 = 64 << 20;

/// The option that makes a loss less likely: tables grow with the ring, up to [`ENOUGH`].
fn larger_ring(ring_bytes: Option<u64>) -> String {
    match ring_bytes {
        Some(ring) if ring < ENOUGH => {
            format!(" (it had {}; larger: --ring 64MiB)", size::short(ring))
        }
        _ => String::new(),
    }
}

fn pauses(pauses: &[record::Pause], started_ns: u64) -> Vec<Loss> {
    let told = pauses.iter().take(PAUSES_TOLD);
    let mut losses: Vec<Loss> = told
        .map(|pause| Loss::Pause {
            since_start_ns: (
                pause.from_ns.saturating_sub(started_ns),
                pause.to_ns.saturating_sub(started_ns),
            ),
            from: Nanos(pause.from_ns),
        })
        .collect();
    if let Some(more) = pauses.get(PAUSES_TOLD..).filter(|more| !more.is_empty()) {
        let lengths = more.iter();
        let lengths = lengths.map(|pause| pause.to_ns.saturating_sub(pause.from_ns));
        losses.push(Loss::Pauses {
            count: more.len(),
            sum_ns: lengths.fold(0, u64::saturating_add),
        });
    }
    losses
}

/// Everything that could not be seen, of all kinds; those first that change sizes and counts.
pub fn losses<'p>(
    account: &Account<'_>,
    processes: impl Iterator<Item = &'p Process>,
) -> Vec<Loss> {
    let mut losses = Vec::new();
    let nothing = Quality::default();
    if account.quality.is_none() && account.is_closed {
        losses.push(Loss::Unaccounted);
    }
    let quality = account.quality.unwrap_or(&nothing);
    losses.extend(events(quality, account));
    let told = account.told.iter().map(|loss| Loss::Told {
        since_start_ns: loss.at_ns.saturating_sub(account.started_ns),
        loss: loss.clone(),
    });
    losses.extend(told);
    losses.extend(counted::counted(quality, account));
    losses.extend(pauses(&quality.pauses, account.started_ns));
    losses.extend(late(processes));
    losses.sort_by_key(|loss| !loss.is_grave());
    losses
}

fn events(quality: &Quality, account: &Account<'_>) -> Option<Loss> {
    let (allocations, frees) = (quality.lost_allocations, quality.lost_frees);
    if (allocations, frees) == (0, 0) {
        return None;
    }
    let sum = |field: fn(&record::ProcessLosses) -> u64| {
        let of_processes = quality.losses.iter().map(field);
        of_processes.fold(0, u64::saturating_add)
    };
    // Sizes are known only of what is told of the processes.
    let all_told = sum(|of| of.allocations) >= allocations && sum(|of| of.frees) >= frees;
    Some(Loss::Events {
        allocations,
        frees,
        off: all_told.then(|| (sum(|of| of.allocated_bytes), sum(|of| of.freed_bytes))),
        hint: larger_ring(account.ring_bytes),
        estimate: account
            .average_bytes
            .map(|bytes| bytes.saturating_mul(allocations.saturating_add(frees))),
    })
}

#[cfg(test)]
mod tests;
