//! Files that we write: whole or not at all, readable by whoever asked for them and nobody else.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::{
        fd::AsRawFd as _,
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use thiserror::Error;

use crate::{session::Identity, words::say};

/// The command line asks for what cannot be.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// Makes a new file, readable by its owner only; under sudo that is the user who called it.
pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot make {} ({})", path.display(), hint(path)))?;
    give_to_user(&file, path)?;
    Ok(file)
}

/// What becomes of a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Former {
    /// It stays, and nothing is written.
    Kept,
    /// The new one takes its place. What is no file, such as a pipe, is written to.
    Replaced,
}

/// Writes a file, or `-`, standard output. The file is readable by its owner only (under sudo that is the user who called it), and
/// gets its name once it is whole: a view that fails or is killed leaves nothing.
pub(super) fn write(
    path: &Path,
    former: Former,
    write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if path.as_os_str() == "-" {
        let mut out = BufWriter::new(io::stdout().lock());
        write(&mut out)?;
        return Ok(out.flush()?);
    }
    let failed = || format!("cannot write {}", path.display());
    match fs::metadata(path) {
        Ok(metadata) if former == Former::Replaced && !metadata.is_file() => {
            let mut out = BufWriter::new(
                OpenOptions::new()
                    .write(true)
                    .open(path)
                    .with_context(failed)?,
            );
            write(&mut out)?;
            out.flush().with_context(failed)?;
        }
        Ok(_) if former == Former::Kept => return Err(exists(path)),
        _ => {
            let draft = Draft::beside(path)
                .with_context(|| format!("cannot make {} ({})", path.display(), hint(path)))?;
            give_to_user(draft.file(), path)?;
            let mut out = BufWriter::new(draft.file());
            write(&mut out)?;
            out.flush().with_context(failed)?;
            drop(out);
            draft
                .take(path, former)
                .map_err(|error| match (former, error.kind()) {
                    (Former::Kept, io::ErrorKind::AlreadyExists) => exists(path),
                    _ => anyhow::Error::new(error).context(failed()),
                })?;
        }
    }
    say!("wrote {}", path.display());
    Ok(())
}

/// A file that has no name yet.
enum Draft {
    /// None at all: it goes with us, even if we are killed.
    Nameless(File),
    /// One of its own, where file systems know no others or `/proc` is missing.
    Named(tempfile::NamedTempFile),
}

impl Draft {
    fn beside(path: &Path) -> io::Result<Self> {
        use rustix::fs::{Mode, OFlags, open};
        let directory = directory_of(path);
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        if Path::new(OWN_FILES).exists()
            && let Ok(file) = open(directory, flags, Mode::RUSR | Mode::WUSR)
        {
            return Ok(Self::Nameless(file.into()));
        }
        let mut named = tempfile::Builder::new();
        named.prefix(PREFIX);
        named.permissions(fs::Permissions::from_mode(0o600));
        Ok(Self::Named(named.tempfile_in(directory)?))
    }

    fn file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Gives it its name.
    fn take(self, path: &Path, former: Former) -> io::Result<()> {
        let file = match self {
            Self::Nameless(file) => file,
            Self::Named(file) => {
                let taken = match former {
                    Former::Replaced => file.persist(path),
                    Former::Kept => file.persist_noclobber(path),
                };
                return taken.map(drop).map_err(|error| error.error);
            }
        };
        let opened = format!("{OWN_FILES}/{}", file.as_raw_fd());
        let link = |name: &Path| {
            let (here, follow) = (rustix::fs::CWD, rustix::fs::AtFlags::SYMLINK_FOLLOW);
            rustix::fs::linkat(here, &opened, here, name, follow)
        };
        match link(path) {
            Err(rustix::io::Errno::EXIST) if former == Former::Replaced => {
                let named = tempfile::Builder::new()
                    .prefix(PREFIX)
                    .make_in(directory_of(path), |name| Ok(link(name)?))?;
                named.persist(path).map_err(|error| error.error)
            }
            linked => Ok(linked?),
        }
    }
}

/// What files that are not whole are called, where they have to have a name.
const PREFIX: &str = ".highwater-";

/// Our open files.
const OWN_FILES: &str = "/proc/self/fd";

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!("cannot make {} ({})", path.display(), hint(path))
}

/// What to do about a file that cannot be made.
fn hint(path: &Path) -> &'static str {
    match path.parent() {
        _ if path.exists() => {
            "it exists already and is never overwritten: choose another name with -o"
        }
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            "its directory does not exist: make it first, or choose another place with -o"
        }
        _ => "choose another place with -o",
    }
}

/// Gives what we made to the user who called us by sudo.
pub(super) fn give_to_user(file: &File, path: &Path) -> anyhow::Result<()> {
    if let Some(Identity { uid, gid, .. }) = Identity::invoking() {
        std::os::unix::fs::fchown(file, Some(uid), Some(gid))
            .with_context(|| format!("cannot give {} to its user (uid {uid})", path.display()))?;
    }
    Ok(())
}

/// The name of a recording that was given none: `COMMAND-PID-20261122T031405Z.hwm`.
pub(super) fn recording_name(command: &str, pid: u32, now: jiff::Timestamp) -> PathBuf {
    let program = command.split(' ').next().unwrap_or_default();
    let base = Path::new(program)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let safe: String = base
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'))
        .take(64)
        .collect();
    let safe = safe.trim_start_matches(['.', '-']);
    let safe = if safe.is_empty() { "process" } else { safe };
    PathBuf::from(format!(
        "{safe}-{pid}-{}.hwm",
        now.strftime("%Y%m%dT%H%M%SZ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(command: &str) -> String {
        let now = jiff::Timestamp::from_second(1_795_317_245).expect("a moment in 2026");
        recording_name(command, 42, now).display().to_string()
    }

    #[test]
    fn a_recording_is_named_for_its_command_pid_and_moment() {
        assert_eq!(
            name("/usr/bin/python3 app.py"),
            "python3-42-20261122T031405Z.hwm"
        );
    }

    #[test]
    fn a_hostile_command_cannot_choose_the_directory() {
        assert_eq!(
            name("../../etc/.shadow; rm"),
            "shadow-42-20261122T031405Z.hwm"
        );
        assert_eq!(name("[kworker/0:1]"), "01-42-20261122T031405Z.hwm");
        assert_eq!(name(""), "process-42-20261122T031405Z.hwm");
    }
}
