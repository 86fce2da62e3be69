//! Which recording a view reads.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::Context as _;
use clap::Args;

use super::output::Usage;
use crate::session::Identity;
use crate::words::say;

/// The recording that is asked.
#[derive(Debug, Args)]
pub(super) struct Recording {
    /// The recording; `-` is standard input (default: the newest *.hwm here)
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Recording {
    /// Its path; where none is named, that of the newest in this directory, which is said.
    pub(super) fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let Some(newest) = newest_in(Path::new("."))? else {
            let said = "no FILE is named, and no recording (*.hwm) of yours is here; `highwater record -p PID` makes one";
            return Err(Usage(said.to_owned()).into());
        };
        say!("reading {}, the newest recording here", newest.display());
        Ok(newest)
    }
}

/// The recording that was written to last. Only files of our own, of root, or of who called sudo: whoever else may write to a shared
/// directory does not choose what we read. A symbolic link is no such file.
fn newest_in(directory: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut owners = vec![0, rustix::process::geteuid().as_raw()];
    owners.extend(Identity::invoking().map(|user| user.uid));
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    let entries = fs::read_dir(directory).context("cannot list this directory; name a FILE")?;
    for entry in entries.flatten() {
        let name = PathBuf::from(entry.file_name());
        // Of the entry itself, not of what a link leads to.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let is_recording = name.extension().is_some_and(|ending| ending == "hwm")
            && metadata.is_file()
            && owners.contains(&metadata.uid());
        let Some(changed) = metadata.modified().ok().filter(|_| is_recording) else {
            continue;
        };
        let candidate = (changed, name);
        if newest.as_ref().is_none_or(|newest| *newest < candidate) {
            newest = Some(candidate);
        }
    }
    Ok(newest.map(|(_, name)| name))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use super::*;

    #[test]
    fn the_newest_recording_is_a_file_of_ours_and_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        assert_eq!(newest_in(directory.path()).unwrap(), None);
        let start = SystemTime::now() - Duration::from_secs(1000);
        for (seconds, name) in [(10, "b.hwm"), (20, "a.hwm"), (30, "notes.txt"), (40, "hwm")] {
            let file = fs::File::create(at(name)).unwrap();
            file.set_modified(start + Duration::from_secs(seconds))
                .unwrap();
        }
        fs::create_dir(at("folder.hwm")).unwrap();
        symlink(at("notes.txt"), at("link.hwm")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("pipe.hwm"),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        assert_eq!(newest_in(directory.path()).unwrap(), Some("a.hwm".into()));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(at("a.hwm"), Some(12345), None).unwrap();
            assert_eq!(newest_in(directory.path()).unwrap(), Some("b.hwm".into()));
        }
    }
}
