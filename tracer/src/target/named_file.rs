//! Files that a process names: source text, perf maps, debug information. We run as root, and the process chooses the names.
//!
//! There is one rule. A file is opened below the root that the process has now and nowhere else, with the process's own rights
//! (by a thread that takes its user, its groups and its capabilities first, so that access lists count too), and only if it is
//! a regular file of a file system that stores files. What a process may not read is never read for it.

use std::{
    fs::{File, Metadata},
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use thiserror::Error;

use super::{Target, TargetError, file_rights::Rights, named_link};

/// How long one file may take to open: a file system that a program serves may never answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most openings that have not come back. With so many, further files are refused at once.
const MOST_STUCK: usize = 4;
/// Most different rights of one process. With more, its files are refused.
const MOST_RIGHTS: usize = 4;
/// How exactly the start of a process is known: a clock tick.
const START_IS_WITHIN: Duration = Duration::from_millis(10);
/// How often a look-up is tried that the process disturbs by renaming.
const TRIES: usize = 8;

/// Openings that are under way or have not come back.
static OPENING: AtomicUsize = AtomicUsize::new(0);

/// Opens the files that one process names.
#[derive(Debug)]
pub struct NamedFiles {
    /// `None`: a directory stands in for its root, with our own rights.
    target: Option<Target>,
    /// When the program began that its memory is of, in itself or in a process that it was forked from.
    program_began: SystemTime,
    seen: Mutex<Seen>,
}

/// What was last seen of a process; it stays in use once the process has ended.
#[derive(Debug)]
struct Seen {
    root: Arc<OwnedFd>,
    /// All rights that it had when we looked. A file must be open to each of them: a process that becomes root after it has named a
    /// file gets nothing by it.
    rights: Vec<Rights>,
}

/// What is asked of a file beside the rule for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: its contents are checked by the reader.
    Any,
    /// The name is no symbolic link: others may write to its directory.
    NoLink,
    /// Neither it nor a symbolic link on the way to it has changed since the program began.
    Unchanged,
}

/// Why a file that a process names was not opened.
#[derive(Debug, Error)]
pub enum NotOpened {
    /// It is not there, or cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is there, and not used.
    #[error("{0}")]
    Refused(&'static str),
}

impl NamedFiles {
    /// Looks at a process's root and rights; they are looked at again whenever a file is opened.
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`], or [`TargetError::NotPermitted`].
    pub fn of(target: &Target) -> Result<Self, TargetError> {
        let (root, rights) = look(target)?;
        Ok(Self {
            program_began: UNIX_EPOCH + Duration::from_nanos(target.program_began_unix_ns()),
            target: Some(target.clone()),
            seen: Mutex::new(Seen {
                root: Arc::new(root),
                rights: vec![rights],
            }),
        })
    }

    /// Files below a directory, with our own rights, as if a process that began at that time had it for its root.
    #[cfg(test)]
    pub(crate) fn below(root: &Path, program_began: SystemTime) -> Self {
        Self {
            target: None,
            program_began,
            seen: Mutex::new(Seen {
                root: Arc::new(File::open(root).unwrap().into()),
                rights: vec![Rights::our_own()],
            }),
        }
    }

    /// Opens a file by the absolute name that it has for the process.
    ///
    /// # Errors
    ///
    /// It is not there, or it is refused.
    pub fn open(&self, path: &Path, wanted: Wanted) -> Result<File, NotOpened> {
        if !path.is_absolute() {
            // The working directory may have been another when the name was made.
            return Err(NotOpened::Refused("its name is relative"));
        }
        let (root, rights) = self.refreshed()?;
        let mut opened: Option<File> = None;
        for rights in rights {
            let (root, path, began) = (Arc::clone(&root), path.to_owned(), self.program_began);
            let file = beside(move || {
                rights.take()?;
                open_below(&root, &path, wanted, began)
            })?;
            if let Some(other) = &opened
                && inode(&other.metadata()?) != inode(&file.metadata()?)
            {
                return Err(NotOpened::Refused("it changed while it was opened"));
            }
            opened = Some(file);
        }
        opened.ok_or(NotOpened::Refused(
            "the rights of its process are not known",
        ))
    }

    /// Reads source text: of a file that has not changed since the program began, and is at most so many bytes long.
    ///
    /// # Errors
    ///
    /// As [`NamedFiles::open`]; and it is longer, or changes while it is read.
    pub fn read_text(&self, path: &Path, most: u64) -> Result<Vec<u8>, NotOpened> {
        let file = self.open(path, Wanted::Unchanged)?;
        if file.metadata()?.len() > most {
            return Err(NotOpened::Refused("it is too long"));
        }
        let mut text = Vec::new();
        (&file).take(most).read_to_end(&mut text)?;
        if changed(&file.metadata()?) > self.program_began + START_IS_WITHIN {
            return Err(NotOpened::Refused(CHANGED));
        }
        Ok(text)
    }

    /// The root and the rights by which a file is to be opened now.
    fn refreshed(&self) -> Result<(Arc<OwnedFd>, Vec<Rights>), NotOpened> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = &self.target
            && let Ok(target) = target.refreshed()
            && let Ok((root, rights)) = look(&target)
            // Its pid may have become another's between the looks.
            && target.is_alive()
        {
            seen.root = Arc::new(root);
            if !seen.rights.contains(&rights) {
                if seen.rights.len() == MOST_RIGHTS {
                    return Err(NotOpened::Refused("its process changes its rights often"));
                }
                seen.rights.push(rights);
            }
        }
        Ok((Arc::clone(&seen.root), seen.rights.clone()))
    }
}

fn look(target: &Target) -> Result<(OwnedFd, Rights), TargetError> {
    Ok((target.root()?, target.file_rights()?))
}

/// Runs it on a thread of its own, whose rights it may give up, and waits for it no longer than is good for us.
fn beside<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, NotOpened> + Send + 'static,
) -> Result<T, NotOpened> {
    if OPENING.fetch_add(1, Ordering::Relaxed) >= MOST_STUCK {
        OPENING.fetch_sub(1, Ordering::Relaxed);
        return Err(NotOpened::Refused(
            "too many files have not been opened yet",
        ));
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new()
        .name("hw-open".to_owned())
        .spawn(move || {
            let opened = open();
            OPENING.fetch_sub(1, Ordering::Relaxed);
            // Nobody may be waiting any more.
            let _ = sender.send(opened);
        });
    if let Err(error) = spawned {
        OPENING.fetch_sub(1, Ordering::Relaxed);
        return Err(error.into());
    }
    receiver
        .recv_timeout(PATIENCE)
        .unwrap_or(Err(NotOpened::Refused("opening it took too long")))
}

const CHANGED: &str = "it changed after the program began";

fn open_below(
    root: &OwnedFd,
    path: &Path,
    wanted: Wanted,
    program_began: SystemTime,
) -> Result<File, NotOpened> {
    let latest = program_began + START_IS_WITHIN;
    if wanted == Wanted::Unchanged && named_link::newest(root, path)? > Some(latest) {
        return Err(NotOpened::Refused(
            "a link to it changed after the program began",
        ));
    }
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, wanted == Wanted::NoLink);
    let handle = handle_below(root, path, flags)?;
    // Only looked at so far: opening a pipe or a device may wait or act.
    let status = rustix::fs::fstat(&handle).map_err(io::Error::from)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(NotOpened::Refused("not a regular file"));
    }
    if !stores_files(&handle)? {
        return Err(NotOpened::Refused("its file system stores no files"));
    }
    let by_handle = format!("/proc/thread-self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(by_handle, flags, Mode::empty()).map_err(refused_or_failed)?;
    let file = File::from(file);
    if wanted == Wanted::Unchanged && changed(&file.metadata()?) > latest {
        return Err(NotOpened::Refused(CHANGED));
    }
    Ok(file)
}

/// Looks a name up below a directory that no link leads out of.
pub(super) fn handle_below(
    root: &OwnedFd,
    path: &Path,
    flags: OFlags,
) -> Result<OwnedFd, NotOpened> {
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), within) {
            Err(rustix::io::Errno::AGAIN) => {}
            result => return result.map_err(refused_or_failed),
        }
    }
    Err(NotOpened::Refused("its directories are being moved"))
}

fn refused_or_failed(error: rustix::io::Errno) -> NotOpened {
    use rustix::io::Errno;
    match error {
        Errno::ACCESS | Errno::PERM => NotOpened::Refused("its process may not read it"),
        Errno::LOOP | Errno::XDEV => {
            NotOpened::Refused("its name leads through links that are not followed")
        }
        other => NotOpened::Io(other.into()),
    }
}

/// Whether it lies in a file system whose files are contents that somebody stored. In `/proc` a name such as `self` means the
/// one who reads it, which is us; opening a file of a kernel interface may act; and what a program serves (FUSE) may never
/// come.
fn stores_files(handle: &OwnedFd) -> io::Result<bool> {
    /// Magic numbers of `linux/magic.h`, and of `fs/fuse/inode.c`.
    const KERNEL_INTERFACES: [u64; 22] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x1cd1,      // devpts
        0x1980_0202, // mqueue
        0x6e73_6673, // nsfs
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x6265_6570, // configfs
        0xf97c_ff8c, // selinuxfs
        0x4341_5d53, // smackfs
        0x4249_4e4d, // binfmt_misc
        0x5049_5045, // pipefs
        0x0765_5821, // resctrl
        0x0904_1934, // anonymous inodes
        0x6573_5543, // fusectl
        0x6573_5546, // FUSE
    ];
    let system = rustix::fs::fstatfs(handle)?;
    // The field is wider than the numbers, and signed.
    let magic = u64::from(system.f_type as u32);
    Ok(!KERNEL_INTERFACES.contains(&magic))
}

fn inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// When its contents or what is known of it changed last. The first can be set back, the second cannot.
fn changed(metadata: &Metadata) -> SystemTime {
    let at = |seconds: i64, nanoseconds: i64| {
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let rest = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
        UNIX_EPOCH.checked_add(seconds + rest).unwrap_or(UNIX_EPOCH)
    };
    at(metadata.mtime(), metadata.mtime_nsec()).max(at(metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(test)]
mod tests;
