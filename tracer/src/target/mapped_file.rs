//! The file behind a mapping, whatever its path means to us.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use super::{
    Target,
    error::{Privilege, TargetError},
    maps::{Mapping, MappingName},
    named_file::{NamedFiles, NotOpened, Wanted},
};

/// The file behind a mapping, held open: its content stays reachable after the process has ended or the file has been
/// deleted.
#[derive(Debug)]
pub struct MappedFile {
    /// The file, open for reading.
    pub file: File,
    /// A path that leads to it from here, for as long as the mapping stands and the file is held.
    pub path: PathBuf,
}

/// Opens the file behind a mapping.
///
/// `/proc/TID/map_files` leads to the very file, be it deleted, replaced, on an overlay or in another mount namespace,
/// but takes privilege. Without it, the path is tried as one that the process names ([`NamedFiles`]), and what it leads to must
/// be the mapped inode.
///
/// # Errors
///
/// The file cannot be reached; the error names the privilege that would help. A mapping without a regular file behind
/// it is a [`TargetError::Read`].
pub fn open(target: &Target, mapping: &Mapping) -> Result<MappedFile, TargetError> {
    // The kernel knows map_files by thread (`/proc/TID`, never listed) but not below `task/`.
    let link = PathBuf::from(format!(
        "/proc/{}/map_files/{:x}-{:x}",
        target.live_tid, mapping.start, mapping.end
    ));
    let denied = match open_regular(&link) {
        Ok(file) => return Ok(MappedFile { file, path: link }),
        Err(error) => error,
    };
    let MappingName::File(name, deleted) = &mapping.path else {
        return Err(TargetError::reading(
            target.pid,
            &link,
            Privilege::MapFiles,
            denied,
        ));
    };
    if !deleted {
        match NamedFiles::of(target)?.open(name, Wanted::Any) {
            Ok(file) if is_mapped_inode(&file, mapping) => {
                // The name may lead elsewhere by the time that it is used.
                let path = descriptor_path(&file);
                return Ok(MappedFile { file, path });
            }
            Ok(_) => {}
            Err(NotOpened::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let source = match error {
                    NotOpened::Io(error) => error,
                    NotOpened::Refused(why) => io::Error::new(io::ErrorKind::PermissionDenied, why),
                };
                return Err(TargetError::reading(
                    target.pid,
                    name,
                    Privilege::ReadFile,
                    source,
                ));
            }
        }
    }
    if !target.is_alive() {
        return Err(TargetError::Gone { pid: target.pid });
    }
    let replaced = |source| TargetError::FileReplaced {
        pid: target.pid,
        path: name.clone(),
        source,
    };
    match TargetError::reading(target.pid, &link, Privilege::MapFiles, denied) {
        denied @ TargetError::NotPermitted { .. } => Err(denied),
        TargetError::Read { source, .. } => Err(replaced(source)),
        _ => Err(replaced(io::ErrorKind::NotFound.into())),
    }
}

/// Opens the program that the process runs.
///
/// # Errors
///
/// [`TargetError::NotPermitted`], [`TargetError::Gone`]; a kernel thread has none and is a `Gone` too.
pub fn open_program(target: &Target) -> Result<MappedFile, TargetError> {
    let path = target.proc_dir().join("exe");
    match open_regular(&path) {
        Ok(file) => Ok(MappedFile { file, path }),
        Err(source) => Err(TargetError::reading(
            target.pid,
            &path,
            Privilege::Inspect,
            source,
        )),
    }
}

impl MappedFile {
    /// A path that leads to the file from this process alone, for as long as the file is held open.
    pub fn descriptor_path(&self) -> PathBuf {
        descriptor_path(&self.file)
    }
}

fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Opens a regular file, and nothing else: opening a device or a pipe may have effects.
fn open_regular(path: &Path) -> io::Result<File> {
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    if !fs::metadata(path)?.is_file() {
        return Err(not_regular());
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(not_regular());
    }
    Ok(file)
}

/// Whether it is the inode that `maps` names.
///
/// Overlay file systems and btrfs show another device to `stat` than to `maps`, but the same inode.
fn is_mapped_inode(file: &File, mapping: &Mapping) -> bool {
    const OVERLAYFS: i64 = 0x794c_7630;
    const BTRFS: i64 = 0x9123_683e;
    let Ok(metadata) = file.metadata() else {
        return false;
    };
    if metadata.ino() != mapping.inode {
        return false;
    }
    let device = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    device == mapping.device
        || rustix::fs::fstatfs(file).is_ok_and(|system| matches!(system.f_type, OVERLAYFS | BTRFS))
}

/// Device and inode: which file it is, whatever it is called.
pub fn identity_of(file: &File) -> Option<(u64, u64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::{io::Read, process::Command};

    use super::*;
    use crate::target::{
        maps,
        process::tests::{Running, copy_program, leaderless},
    };

    fn code_of(target: &Target, name: &str) -> Mapping {
        let wanted = |map: &Mapping| {
            map.executable
                && matches!(&map.path, MappingName::File(path, _) if path.ends_with(name))
        };
        let maps = maps::read(&target.proc_dir()).unwrap();
        maps.into_iter().find(wanted).expect("it is mapped")
    }

    fn inode(file: &File) -> u64 {
        file.metadata().unwrap().ino()
    }

    #[test]
    fn the_file_behind_a_mapping_is_the_one_on_disk() {
        let cat = Running::cat();
        let target = cat.target();
        let opened = open(&target, &code_of(&target, "libc.so.6")).unwrap();
        let libc = fs::metadata("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
        assert_eq!(inode(&opened.file), libc.ino());
        assert_eq!(fs::metadata(&opened.path).unwrap().ino(), libc.ino());
        assert_eq!(
            fs::metadata(opened.descriptor_path()).unwrap().ino(),
            libc.ino()
        );
    }

    #[test]
    fn a_process_without_its_leader_still_has_its_files() {
        let (_dir, running) = leaderless();
        let target = running.target();
        open(&target, &code_of(&target, "libc.so.6")).unwrap();
        open_program(&target).unwrap();
    }

    #[test]
    fn a_deleted_program_is_still_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("short-lived");
        copy_program("/bin/cat", &path);
        let mut running = Running::start(&mut Command::new(&path));
        running.say("ready");
        running.line();
        fs::remove_file(&path).unwrap();
        let target = running.target();
        let mapping = code_of(&target, "short-lived");
        assert!(matches!(mapping.path, MappingName::File(_, true)));
        let opened = open(&target, &mapping);
        if !rustix::process::geteuid().is_root() {
            let text = opened.unwrap_err().to_string();
            assert!(text.contains("CAP_CHECKPOINT_RESTORE"), "{text}");
            return;
        }
        let mut magic = [0; 4];
        opened.unwrap().file.read_exact(&mut magic).unwrap();
        assert_eq!(&magic, b"\x7fELF");
    }

    #[test]
    fn without_map_files_the_path_must_lead_to_the_mapped_inode() {
        let cat = Running::cat();
        let target = cat.target();
        let mut mapping = code_of(&target, "libc.so.6");
        // No such range, as when the kernel denies map_files.
        mapping.end += 0x1000;
        let opened = open(&target, &mapping).unwrap();
        assert_eq!(opened.path, opened.descriptor_path());
        mapping.inode += 1;
        let error = open(&target, &mapping).unwrap_err();
        assert!(matches!(error, TargetError::FileReplaced { .. }), "{error}");
    }

    #[test]
    fn devices_are_not_opened() {
        assert_eq!(
            open_regular(Path::new("/dev/zero")).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
