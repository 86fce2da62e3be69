//! Launching a command so that nothing of it is missed.
//!
//! What is spawned is this executable itself, with a hidden verb: it says that it is there, waits to be told to go on, takes on
//! the invoking user's identity, and becomes the command by exec. Meanwhile probes are placed in the libc that the command will
//! map. The pid stays the same over exec, so the link does too.
//!
//! That it is there has to be said: that it was spawned means only that its exec cannot fail any more. The kernel may still be
//! about to tell of that exec, and if the child was declared held by then, it would be taken for the command's.

use std::{
    ffi::OsString,
    fs,
    fs::File,
    io,
    io::{Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
};

use thiserror::Error;

use super::{descriptors, first_to_die, signals};
use crate::own_memory;
use crate::target::launch;
use crate::words::say;

/// The hidden verb of this executable that becomes the command.
pub const VERB: &str = "__launch";

/// Why a command could not be launched.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// There is no such command, or it cannot be executed or traced.
    #[error(transparent)]
    Command(#[from] launch::LaunchError),
    /// A child process could not be made.
    #[error("cannot start a process for {command}: {source}")]
    Spawn {
        /// The command that was to be run.
        command: String,
        /// What the system said.
        source: io::Error,
    },
}

impl LaunchError {
    /// The status that a shell gives for it: 126 or 127 for the command's own failure, 125 for ours.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Command(error) => error.exit_code(),
            Self::Spawn { .. } => 125,
        }
    }
}

/// Who runs a command: under sudo, the user who called it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the user.
    pub uid: u32,
    /// Id of the user's main group.
    pub gid: u32,
    /// Login name, for the supplementary groups.
    pub name: String,
}

impl Identity {
    /// The user who called sudo, if we are root because of that.
    pub fn invoking() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
        let (uid, gid) = (number("SUDO_UID")?, number("SUDO_GID")?);
        let name = std::env::var("SUDO_USER").ok()?;
        (uid != 0).then_some(Self { uid, gid, name })
    }
}

/// A child of ours that waits to become a command.
pub(super) struct Launched {
    child: Child,
    connection: UnixStream,
    library: PathBuf,
    program: PathBuf,
}

impl Launched {
    /// Makes the child; it does nothing until [`Launched::release`]. It has these variables beside the caller's.
    pub(super) fn hold(
        command: &[String],
        variables: &[(&str, &str)],
    ) -> Result<Self, LaunchError> {
        let name = command.first().cloned().unwrap_or_default();
        let environment = caller_environment();
        let path = environment
            .iter()
            .find(|(key, _)| key == "PATH")
            .map_or_else(
                || std::env::var_os("PATH"),
                |(_, value)| Some(value.clone()),
            );
        let program = launch::resolve_command(name.as_ref(), path.as_deref(), Path::new("."))?;
        let library = launch::predict_libc(&program)?;
        let failed = |source| LaunchError::Spawn {
            command: name.clone(),
            source,
        };
        let (connection, theirs) = UnixStream::pair().map_err(failed)?;
        let mut child = Command::new("/proc/self/exe");
        child.arg(VERB).arg(theirs.as_raw_fd().to_string());
        child.arg(
            first_to_die::original().map_or_else(|| "-".to_owned(), |value| value.to_string()),
        );
        match Identity::invoking() {
            Some(identity) => {
                child
                    .arg(identity.uid.to_string())
                    .arg(identity.gid.to_string())
                    .arg(&identity.name);
                child.env_clear().envs(environment);
            }
            None => {
                child.args(["-", "-", "-"]);
            }
        }
        child.envs(variables.iter().copied());
        child.arg(&program).args(command);
        let child = inherit(&mut child, &theirs).spawn().map_err(failed)?;
        Ok(Self {
            child,
            connection,
            library,
            program,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The files that the command is expected to map, with their names.
    pub(super) fn files(&self) -> Vec<(PathBuf, File)> {
        launch::expect_files(&self.program)
    }

    /// The libc that the command is expected to map.
    pub(super) fn library(&self) -> &Path {
        &self.library
    }

    /// Waits until the child is there: until its own exec is over in every respect.
    pub(super) fn await_child(&self) -> Result<(), LaunchError> {
        (&self.connection)
            .read_exact(&mut [0])
            .map_err(|source| self.failed(source))
    }

    /// Lets the child become the command.
    pub(super) fn release(&self) -> Result<(), LaunchError> {
        (&self.connection)
            .write_all(b"g")
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> LaunchError {
        LaunchError::Spawn {
            command: format!("process {}", self.child.id()),
            source,
        }
    }

    /// Passes a signal on.
    pub(super) fn forward(&self, number: i32) {
        // On a terminal, Ctrl-C, Ctrl-\ and Ctrl-Z went to the whole foreground group already.
        let by_terminal = matches!(number, libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP);
        if by_terminal && io::IsTerminal::is_terminal(&io::stdin()) {
            return;
        }
        if let (Some(pid), Some(signal)) = (
            rustix::process::Pid::from_raw(self.child.id() as i32),
            rustix::process::Signal::from_named_raw(number),
        ) {
            // It may have ended meanwhile, which is what the signal was for.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// How the command ended. Waits for that if `patiently`; otherwise it may run on.
    pub(super) fn wait(mut self, patiently: bool) -> Option<ExitStatus> {
        if patiently {
            self.child.wait().ok()
        } else {
            self.child.try_wait().ok().flatten()
        }
    }
}

/// Lets the child keep its end of the connection over exec, and gives it the limits and signals that we were started with.
fn inherit<'a>(command: &'a mut Command, theirs: &UnixStream) -> &'a mut Command {
    let fd = theirs.as_raw_fd();
    let files = descriptors::before();
    let ignored_before = signals::ignored_before();
    let keep = move || {
        rustix::process::setrlimit(rustix::process::Resource::Nofile, files)?;
        let heard = signals::IGNORED
            .iter()
            .map(|number| (number, libc::SIG_DFL));
        let before = ignored_before.iter().map(|number| (number, libc::SIG_IGN));
        for (number, default) in heard.chain(before) {
            // SAFETY: no handler is set.
            unsafe { libc::signal(*number, default) };
        }
        own_memory::use_huge_pages_again();
        // SAFETY: fcntl on an open descriptor is async-signal-safe, and `theirs` is open until after spawn.
        match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // SAFETY: `keep` makes nothing but system calls between fork and exec.
    unsafe { command.pre_exec(keep) }
}

/// The environment that sudo was called with, which sudo itself has thinned out for us; without sudo, nothing.
///
/// sudo stays as our parent (or its parent) and the kernel keeps the environment that it was started with.
fn caller_environment() -> Vec<(OsString, OsString)> {
    if Identity::invoking().is_none() {
        return Vec::new();
    }
    let mut pid = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    for _ in 0..3 {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim_end() == "sudo" {
            let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            return parse_environment(&text);
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        pid = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .and_then(|value| value.trim().parse().ok())
            .unwrap_or(0);
    }
    // Not found: ours without what sudo added, and the user's home.
    let identity = Identity::invoking();
    std::env::vars_os()
        .filter(|(key, _)| !key.as_bytes().starts_with(b"SUDO_"))
        .map(|(key, value)| match (key.to_str(), &identity) {
            (Some("USER" | "LOGNAME"), Some(identity)) => (key, identity.name.clone().into()),
            (Some("HOME"), Some(identity)) => (key, home_of(identity.uid).unwrap_or(value)),
            _ => (key, value),
        })
        .collect()
}

fn parse_environment(text: &[u8]) -> Vec<(OsString, OsString)> {
    text.split(|&byte| byte == 0)
        .filter_map(|entry| {
            let equals = entry.iter().position(|&byte| byte == b'=')?;
            let (key, value) = (&entry[..equals], &entry[equals + 1..]);
            let os = |bytes| std::ffi::OsStr::from_bytes(bytes).to_owned();
            (!key.is_empty()).then(|| (os(key), os(value)))
        })
        .collect()
}

/// A user's home directory, from the password file.
fn home_of(uid: u32) -> Option<OsString> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| fields.get(5).map(OsString::from))?
    })
}

/// What the child does: `__launch FD OOM_SCORE_ADJ UID GID NAME PROGRAM ARG0 ARGS…`. Returns the status of a failure.
pub fn become_command(arguments: &[OsString]) -> u8 {
    let text = |index: usize| arguments.get(index).and_then(|argument| argument.to_str());
    let (Some(fd), Some(program), Some(arg0)) = (
        text(0).and_then(|fd| fd.parse::<i32>().ok()),
        arguments.get(5),
        arguments.get(6),
    ) else {
        return 125;
    };
    // SAFETY: the parent left this descriptor open for us and told its number.
    let mut parent = unsafe { UnixStream::from(OwnedFd::from_raw_fd(fd)) };
    if parent.write_all(b"h").is_err() || parent.read_exact(&mut [0]).is_err() {
        // The parent is gone: without it there is nothing to run for.
        return 125;
    }
    drop(parent);
    // Before the rights for it are given up.
    if let Some(original) = text(1).and_then(|value| value.parse().ok())
        && let Err(error) = first_to_die::restore(original)
    {
        say!(
            "{} is killed first where memory runs out, as the recorder is: its oom_score_adj cannot be set to {original}: {error}",
            program.display()
        );
    }
    let identity = text(2)
        .and_then(|uid| uid.parse().ok())
        .zip(text(3).and_then(|gid| gid.parse().ok()))
        .zip(text(4));
    if let Some(((uid, gid), name)) = identity
        && let Err(error) = become_user(uid, gid, name)
    {
        say!("cannot run {} as {name}: {error}", program.display());
        return 125;
    }
    let error = Command::new(program)
        .arg0(arg0)
        .args(&arguments[7..])
        .exec();
    say!("cannot run {}: {error}", program.display());
    if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    }
}

fn become_user(uid: u32, gid: u32, name: &str) -> io::Result<()> {
    let checked = |result| {
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: plain calls; this process has one thread. Groups first: after setuid they could no longer be changed.
    unsafe {
        checked(take_groups_of(name, gid))?;
        checked(libc::setgid(gid))?;
        checked(libc::setuid(uid))
    }
}

/// Takes on the supplementary groups of a user.
///
/// # Safety
///
/// Nothing else may be running in this process.
#[cfg(not(target_feature = "crt-static"))]
unsafe fn take_groups_of(name: &str, gid: u32) -> i32 {
    let Ok(name) = std::ffi::CString::new(name) else {
        return -1;
    };
    // SAFETY: the name ends in a null byte.
    unsafe { libc::initgroups(name.as_ptr(), gid) }
}

/// The same by the file of groups alone: a static glibc would load the system's own libraries to ask elsewhere, and those may be
/// of another version.
///
/// # Safety
///
/// Nothing else may be running in this process.
#[cfg(target_feature = "crt-static")]
unsafe fn take_groups_of(name: &str, gid: u32) -> i32 {
    let text = fs::read_to_string("/etc/group").unwrap_or_default();
    let groups = groups_of(&text, name, gid);
    // SAFETY: as many groups are read as there are.
    unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }
}

/// The groups of a user, by the text of the file of groups; the first is their own.
#[cfg(any(test, target_feature = "crt-static"))]
fn groups_of(text: &str, name: &str, gid: u32) -> Vec<u32> {
    let others = text.lines().filter_map(|line| {
        let mut fields = line.split(':').skip(2);
        let group = fields.next()?.parse().ok()?;
        let is_member = fields
            .next()?
            .split(',')
            .any(|member| member.trim() == name);
        (is_member && group != gid).then_some(group)
    });
    std::iter::once(gid).chain(others).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_those_that_name_the_user_and_the_users_own() {
        let text =
            "root:x:0:\nadm:x:4:ann,bob\nbroken\nann:x:1000:\nvideo:x:44: ann\nann2:x:7:ann2\n";
        assert_eq!(groups_of(text, "ann", 1000), [1000, 4, 44]);
        assert_eq!(groups_of("", "ann", 1000), [1000]);
    }

    #[test]
    fn an_environment_is_read_up_to_the_first_equals_sign() {
        let parsed = parse_environment(b"A=1\0B=x=y\0=odd\0broken\0C=\0");
        let expected = [("A", "1"), ("B", "x=y"), ("C", "")];
        assert_eq!(parsed.len(), expected.len());
        for ((key, value), (expected_key, expected_value)) in parsed.iter().zip(expected) {
            assert_eq!(
                (key.to_str(), value.to_str()),
                (Some(expected_key), Some(expected_value))
            );
        }
    }

    #[test]
    fn root_has_a_home() {
        assert_eq!(home_of(0).as_deref(), Some(std::ffi::OsStr::new("/root")));
    }
}
