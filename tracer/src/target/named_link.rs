//! The symbolic links that a name leads through, and when they were made: a deploy may switch one and touch no file.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStringExt as _},
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FileType, OFlags};

use super::named_file::{NotOpened, handle_below};

/// Most links that a name leads through; the kernel's own limit.
const MOST_LINKS: usize = 40;

/// When the newest of the links was made; `None`: the name leads through none.
pub(super) fn newest(root: &OwnedFd, path: &Path) -> Result<Option<SystemTime>, NotOpened> {
    let mut newest = None;
    let mut links = 0;
    // What is left of the name, and where the part before it leads to: a path without links.
    let mut left = parts_of(path);
    let mut real = PathBuf::from("/");
    while let Some(part) = left.pop_front() {
        if part == OsStr::new("..") {
            real.pop();
            continue;
        }
        let place = real.join(&part);
        let handle = handle_below(
            root,
            &place,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        )?;
        let status = rustix::fs::fstat(&handle).map_err(io::Error::from)?;
        if FileType::from_raw_mode(status.st_mode) != FileType::Symlink {
            real = place;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(NotOpened::Refused("its name leads through too many links"));
        }
        let seconds = Duration::from_secs(u64::try_from(status.st_ctime).unwrap_or(0));
        let rest = Duration::from_nanos(status.st_ctime_nsec);
        newest = newest.max(UNIX_EPOCH.checked_add(seconds + rest));
        let leads_to = rustix::fs::readlinkat(&handle, "", Vec::new()).map_err(io::Error::from)?;
        let leads_to = PathBuf::from(OsString::from_vec(leads_to.into_bytes()));
        if leads_to.is_absolute() {
            real = PathBuf::from("/");
        }
        for part in parts_of(&leads_to).into_iter().rev() {
            left.push_front(part);
        }
    }
    Ok(newest)
}

fn parts_of(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    });
    parts.collect()
}
