//! Files that we write: never overwritten, owned by whoever asked for them.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use thiserror::Error;

use crate::session::Identity;

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
        .with_context(|| {
            let hint = match path.parent() {
                _ if path.exists() => {
                    "it exists already and is never overwritten: choose another name with -o"
                }
                Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
                    "its directory does not exist: make it first, or choose another place with -o"
                }
                _ => "choose another place with -o",
            };
            format!("cannot make {} ({hint})", path.display())
        })?;
    if let Some(Identity { uid, gid, .. }) = Identity::invoking() {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))
            .with_context(|| format!("cannot give {} to its user (uid {uid})", path.display()))?;
    }
    Ok(file)
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
