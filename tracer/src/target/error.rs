//! Why something could not be learned of a process.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    elf::ElfError,
    probed_code::{Changed, InMemory},
    refusal::Refusal,
};

/// Why something could not be learned of a process.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There was no such process to begin with.
    #[error(
        "no process has pid {pid}: it may have ended, or run in another pid namespace; `pgrep -a NAME` lists those that run"
    )]
    NoSuchProcess {
        /// What was asked for.
        pid: u32,
    },
    /// The process ended (or its pid went to another one) while it was looked at.
    #[error(
        "process {pid} ended while it was being examined; to trace it from its start: `highwater record -- COMMAND`"
    )]
    Gone {
        /// Pid of the process that ended.
        pid: u32,
    },
    /// The number is that of a thread.
    #[error(
        "{tid} is a thread of process {pid}, and only whole processes can be traced: use `-p {pid}`"
    )]
    IsThread {
        /// What was asked for.
        tid: u32,
        /// The process it belongs to.
        pid: u32,
    },
    /// The kernel did not let us look.
    #[error(
        "not permitted to read {}: {source}; it needs {}, which `sudo highwater record -p {pid}` has",
        path.display(), needs.capability()
    )]
    NotPermitted {
        /// Pid of the process that was to be read.
        pid: u32,
        /// What was to be read.
        path: PathBuf,
        /// Which privilege would have allowed it.
        needs: Privilege,
        /// What the kernel said.
        source: io::Error,
    },
    /// Any other failure to read.
    #[error("cannot read {} of process {pid}: {source}", path.display())]
    Read {
        /// Pid of the process that was to be read.
        pid: u32,
        /// What was to be read.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel wrote something that is not in the form it documents.
    #[error("{} does not have the form that the kernel documents ({what}); please report this with `uname -r`", path.display())]
    Malformed {
        /// Path of the file, below `/proc`.
        path: PathBuf,
        /// What could not be read from it.
        what: &'static str,
    },
    /// The file behind a mapping could not be reached: its path leads to another file now, or nowhere.
    #[error(
        "cannot open {}, which process {pid} maps: that path now leads to another file or to none, and the mapping itself \
         could not be opened ({source}); if the process is loading libraries, try again",
        path.display()
    )]
    FileReplaced {
        /// Pid of the process that maps the file.
        pid: u32,
        /// The path that it was mapped from.
        path: PathBuf,
        /// Why the mapping could not be opened through `map_files`.
        source: io::Error,
    },
    /// A mapped file is not an ELF file that we can read.
    #[error("cannot use {}: {source}", path.display())]
    Elf {
        /// Path of the mapped file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// A probe would be dangerous to the process, or useless.
    #[error("process {pid} ({command}) cannot be traced: {refusal}")]
    Refused {
        /// Pid of the process.
        pid: u32,
        /// Its command line.
        command: String,
        /// Why a probe must not go in.
        refusal: Refusal,
    },
    /// The process has other code in memory than its file has, and a probe there would kill it.
    #[error("process {pid} ({command}) cannot be traced: {}", patched(change, *debugger))]
    Patched {
        /// Pid of the process.
        pid: u32,
        /// Its command line.
        command: String,
        /// Who debugs it.
        debugger: Option<u32>,
        /// What was found.
        change: Changed,
    },
    /// The process has a library that patches or copies code, our breakpoints included.
    #[error(
        "process {pid} ({command}) cannot be traced: it has loaded {}, which patches or copies code while the program runs; a \
         breakpoint that is copied with it kills the program (SIGTRAP). Trace it without that library",
        library.display()
    )]
    Patcher {
        /// Pid of the process.
        pid: u32,
        /// Its command line.
        command: String,
        /// Path of the library that patches code.
        library: PathBuf,
    },
    /// It became another program while probes were being placed.
    #[error(
        "process {pid} became another program (exec) while it was being examined, again and again; try again"
    )]
    Executed {
        /// Pid of the process.
        pid: u32,
    },
}

/// What was found in place of a function's code, and what to do about it.
fn patched(change: &Changed, debugger: Option<u32>) -> String {
    let function = change.function.symbol();
    match (&change.found, debugger) {
        (InMemory::Breakpoints { .. }, Some(debugger)) => format!(
            "process {debugger} debugs it and has a breakpoint at {function}, where a probe would go; when either of the two \
             is removed, the other one is lost or left behind. Delete that breakpoint, or end the debugger, and try again"
        ),
        _ => format!(
            "its {function} was patched in memory: {change}. A probe there would kill it. Trace it without what patches it (an \
             agent that hooks malloc, a live patch)"
        ),
    }
}

/// What the kernel asks of whoever reads something of another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// `/proc/PID/{maps,exe,root}` of another user's process, or of one with more capabilities than we have
    /// (`ptrace_may_access`; no ptrace takes place).
    Inspect,
    /// The links of `/proc/PID/map_files`, which lead to mapped files.
    MapFiles,
    /// A file whose mode does not let us read it.
    ReadFile,
}

impl Privilege {
    /// The capabilities that grant it.
    pub const fn capability(self) -> &'static str {
        match self {
            Self::Inspect => "CAP_SYS_PTRACE",
            Self::MapFiles => "CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN",
            Self::ReadFile => "CAP_DAC_READ_SEARCH",
        }
    }
}

impl TargetError {
    /// Names the failure to read something of a process: gone, not permitted, or what else.
    pub(super) fn reading(pid: u32, path: &Path, needs: Privilege, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Self::Gone { pid },
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted {
                pid,
                path,
                needs,
                source,
            },
            _ => Self::Read { pid, path, source },
        }
    }

    /// Whether more privilege would have helped.
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::NotPermitted { .. })
    }
}
