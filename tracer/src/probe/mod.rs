//! Probes: the first stage of the pipeline, and the only one that needs privilege.
//!
//! [`kernel`] loads the BPF object, [`link`] ties its programs to an allocator's functions in one process, `pins` holds
//! the links so that they cannot outlive us, and [`selftest`] chooses the kind of link by trying it on children of our own. [`placement`](crate::target::placement) says where in a function a
//! probe is cheapest.

pub mod btf;
pub mod calibrate;
pub mod capability;
pub mod drain;
pub mod kernel;
pub mod link;
mod order;
mod pins;
pub mod ring;
pub mod selftest;
pub mod sideband;
pub mod sizes;
pub(crate) mod sys;
pub mod tables;

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why probes could not be placed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A right is missing.
    #[error(transparent)]
    NotPermitted(#[from] capability::NotPermitted),
    /// The kernel's own type information could not be read.
    #[error(
        "cannot read the kernel's type information (/sys/kernel/btf/vmlinux): {0}; highwater needs Linux 5.17 or newer, built with CONFIG_DEBUG_INFO_BTF"
    )]
    KernelTypes(#[from] btf::BtfError),
    /// aya refused the object or the kernel refused a map.
    #[error("cannot load highwater's BPF maps: {0}")]
    Maps(#[from] aya::EbpfError),
    /// A map of the object has not the expected type.
    #[error("map {name} of the BPF object is unusable: {source}")]
    Map {
        /// Its name in the object.
        name: &'static str,
        /// What aya said.
        source: aya::maps::MapError,
    },
    /// The object could not be parsed or relocated.
    #[error("the BPF object inside this binary is damaged: {0}")]
    Object(String),
    /// The verifier refused a program.
    #[error("the kernel refused the BPF program {program}: {source}{}", tail(log))]
    Verifier {
        /// Its name in the object.
        program: String,
        /// What the system call said.
        source: io::Error,
        /// The end of the verifier's log.
        log: String,
    },
    /// An unwind table or a code range could not be handed to the kernel.
    #[error("cannot hand unwind tables to the kernel: {0}")]
    Tables(io::Error),
    /// The positions of a ring could not be mapped.
    #[error("cannot map a ring of the kernel side: {0}")]
    Ring(io::Error),
    /// aya could not load or attach a program.
    #[error("cannot attach the BPF program {program}: {source}")]
    Attach {
        /// Its name in the object.
        program: String,
        /// What aya said.
        source: aya::programs::ProgramError,
    },
    /// The kernel refused a link.
    #[error("cannot place probes in {} (link kind {kind}): {source}", library.display())]
    Link {
        /// The file to be probed.
        library: PathBuf,
        /// Kind of link.
        kind: link::LinkKind,
        /// What the system call said.
        source: io::Error,
    },
    /// No kind of link passed the self-test.
    #[error("no kind of probe link works for a process like this one on this kernel: {tried}")]
    NoWorkingLink {
        /// Each kind and how it failed.
        tried: String,
    },
    /// A child of our own for the self-test could not be run.
    #[error("cannot run the self-test's child process: {0}")]
    SelfTest(io::Error),
}

/// The last lines of a verifier log, on lines of their own.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(12);
    lines[from..]
        .iter()
        .map(|line| format!("\n  {line}"))
        .collect()
}
