//! What to trace, and how.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use highwater_common::process::PROCESS_FOLLOW_CHILDREN;

use super::{checkup, preflight::Preflight};
use crate::follow::{Scope, scope::Name};
use crate::probe::{
    link::LinkKind,
    sizes::{self, Sizes},
};

/// What to trace.
#[derive(Clone, Debug)]
pub enum Subject {
    /// Processes that run already.
    Running {
        /// Their pids, at least one. What cannot be traced of several is left out, and that is said.
        pids: Vec<u32>,
    },
    /// A command to launch.
    Command {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// All processes of a scope, those that come to be in it too: there may be none at first.
    Scope(Scope),
}

/// How to trace it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The process or command that is traced.
    pub subject: Subject,
    /// Names of processes that are not followed, nor what these make.
    pub except: Vec<Name>,
    /// The recording's path; it exists already and is empty.
    pub output: PathBuf,
    /// Beyond this size the recording holds totals in place of events, bytes.
    pub max_size: u64,
    /// It does so from the start.
    pub aggregate: bool,
    /// Stop after this long.
    pub duration: Option<Duration>,
    /// Follow the processes that the target makes, and those it has made.
    pub children: bool,
    /// Follow the system calls that change address spaces.
    pub mappings: bool,
    /// Allocations are samples: log2 of the mean number of bytes from one to the next.
    pub sample: Option<u32>,
    /// The most that the target may be slowed: 0.05 is 5 %.
    pub max_overhead: Option<f64>,
    /// Size of the event ring, bytes; otherwise by the rate of calls.
    pub ring_bytes: Option<u32>,
    /// A launched Python is to ask malloc for every object.
    pub python_allocators: bool,
    /// A kind of link instead of the best that works.
    pub link: Option<LinkKind>,
    /// What to do before attaching to a process that runs.
    pub preflight: Preflight,
    /// Whether a progress line may be drawn.
    pub progress: bool,
    /// What a recording in a file says so far, as text or as the reason why it cannot be told; `None`: it is in no file.
    pub so_far: Option<fn(&Path) -> String>,
}

impl Options {
    /// What the kernel side is told of children, as a flag of each process.
    pub(super) fn children_flag(&self) -> u32 {
        match self.children {
            true => PROCESS_FOLLOW_CHILDREN,
            false => 0,
        }
    }

    /// The sizes of the maps for a rate of calls, if that is known.
    pub(super) fn sizes(&self, calls_per_s: Option<f64>) -> Sizes {
        let processors = checkup::processors();
        let samples = self.sample.is_some() || self.max_overhead.is_some();
        match (self.ring_bytes, calls_per_s) {
            (Some(ring), _) => Sizes::with_ring(ring, samples, processors),
            (None, Some(rate)) => Sizes::for_rate(rate, samples, processors),
            (None, None) => Sizes::with_ring(sizes::UNKNOWN_RING, samples, processors),
        }
    }

    /// Those that decide on what a recording holds, as it tells them.
    pub fn told(&self) -> BTreeMap<String, String> {
        let sample = self.sample.map(|exponent| (1u64 << exponent).to_string());
        let limit = self.max_overhead.map(|share| share.to_string());
        let scope = match &self.subject {
            Subject::Scope(scope) => Some(scope.whom.to_string()),
            Subject::Running { .. } | Subject::Command { .. } => None,
        };
        let names: Vec<String> = self.except.iter().map(Name::to_string).collect();
        let told = [
            ("scope", scope),
            ("exclude", (!names.is_empty()).then(|| names.join(", "))),
            ("max_size", Some(self.max_size.to_string())),
            ("aggregate", Some(self.aggregate.to_string())),
            ("children", Some(self.children.to_string())),
            ("mappings", Some(self.mappings.to_string())),
            ("ring_bytes", self.ring_bytes.map(|bytes| bytes.to_string())),
            ("sample_bytes", sample),
            ("max_overhead", limit),
        ];
        told.into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect()
    }
}
