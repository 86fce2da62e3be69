//! Why a session could not go on.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::{
    afford::NoRoom,
    company::{Endangered, Endangers},
    launch::LaunchError,
    preflight::Declined,
};
use crate::{
    probe::{ProbeError, calibrate::CalibrationError},
    record::writer::WriteError,
    target::TargetError,
};

/// Why a session could not go on.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The target cannot be traced.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Probes could not be placed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Another recorder must not be joined.
    #[error(transparent)]
    Company(#[from] Endangers),
    /// The target must be traced alone, and would not be.
    #[error(transparent)]
    NotAlone(#[from] Endangered),
    /// Another one must be traced alone, and is.
    #[error(
        "another process of the scope handles signals on an alternate stack above its ordinary one, and is traced alone: a second one at the          same time could kill it. Leave it out (--exclude), or record this one by itself"
    )]
    OtherAlone,
    /// What tracing costs could not be measured beforehand.
    #[error("{0}; to attach without knowing what it will cost: --preflight 0")]
    Calibration(#[from] CalibrationError),
    /// The cost was not accepted.
    #[error(transparent)]
    Declined(#[from] Declined),
    /// Our memory would be missing to the target.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The command could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The recording could not be written.
    #[error(
        "cannot write the recording {}: {source}\nthe probes are out and the target runs on",
        path.display()
    )]
    Write {
        /// Path of the recording.
        path: PathBuf,
        /// What the writer said.
        source: WriteError,
    },
    /// A thread could not be started, or a signal not be awaited.
    #[error("cannot {what}: {source}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
