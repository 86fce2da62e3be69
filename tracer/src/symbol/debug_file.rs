//! Separate files of debug information, found as gdb finds them, and checked to be the right ones.
//!
//! blazesym looks for them too, but only where the module has a `.gnu_debuglink`, beside a path that for a file in
//! another mount namespace names a different file or none, and it gives the module up if the file that it finds there
//! is of another build. So the search is done here.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use super::elf::Elf;

/// Largest file whose CRC is computed, bytes: a second or two of reading.
const MOST_CRC_BYTES: u64 = 4 << 30;

/// The file of debug information of a module, open, or `None` where there is no right one.
///
/// Searched, in order: `DIR/.build-id/ab/cdef….debug` in each of `debug_dirs`; then, if the module names a file in its
/// `.gnu_debuglink`: that name beside the module (`file`'s own path as we see it) and in `.debug` there, and the same
/// below each of `debug_dirs` for the path as the target names it; then in each of `debug_dirs` itself.
///
/// For a target in another mount namespace `debug_dirs` would be `/proc/PID/root/usr/lib/debug` and `/proc/PID/root`:
/// the latter finds what lies beside the module there.
pub fn find(file: &File, elf: &Elf, path: &Path, debug_dirs: &[PathBuf]) -> Option<(File, Elf)> {
    let own = file.metadata().ok()?;
    candidates(file, elf, path, debug_dirs)
        .into_iter()
        .find_map(|candidate| {
            let debug_file = open_regular(&candidate).ok()?;
            let meta = debug_file.metadata().ok()?;
            if (meta.dev(), meta.ino()) == (own.dev(), own.ino()) {
                return None;
            }
            let debug_elf = Elf::read(&debug_file).ok()?;
            if !belongs(elf, &debug_file, &debug_elf) {
                log::debug!(
                    "{}: {} is of another build",
                    path.display(),
                    candidate.display()
                );
                return None;
            }
            Some((debug_file, debug_elf))
        })
}

fn candidates(file: &File, elf: &Elf, path: &Path, debug_dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Some((first, rest)) = elf.build_id.as_deref().and_then(<[u8]>::split_first) {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!(".build-id/{first:02x}/{rest}.debug");
        candidates.extend(debug_dirs.iter().map(|dir| dir.join(&name)));
    }
    if let Some(link) = &elf.debug_link {
        let seen_from_here = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        let beside = seen_from_here
            .as_deref()
            .and_then(Path::parent)
            .map(Path::to_owned);
        let below = path
            .parent()
            .map(|dir| dir.strip_prefix("/").unwrap_or(dir))
            .filter(|dir| !dir.components().any(|part| part.as_os_str() == ".."));
        let below = debug_dirs
            .iter()
            .filter_map(|dir| below.map(|below| dir.join(below)));
        for dir in beside.into_iter().chain(below) {
            candidates.push(dir.join(&link.file_name));
            candidates.push(dir.join(".debug").join(&link.file_name));
        }
        candidates.extend(debug_dirs.iter().map(|dir| dir.join(&link.file_name)));
    }
    candidates
}

/// Opens a regular file and nothing else: a path in a target's root may lead to a FIFO or a device of ours, and
/// merely opening those blocks or acts.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Whether the debug information is that of the module: by build id where both have one, else by CRC.
fn belongs(elf: &Elf, debug_file: &File, debug_elf: &Elf) -> bool {
    match (&elf.build_id, &debug_elf.build_id, &elf.debug_link) {
        (Some(id), Some(debug_id), _) => id == debug_id,
        (_, _, Some(link)) => crc(debug_file).is_ok_and(|crc| crc == link.crc),
        _ => false,
    }
}

fn crc(mut file: &File) -> io::Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut left = MOST_CRC_BYTES;
    loop {
        let got = file.read(&mut buffer)?;
        if got == 0 {
            return Ok(hasher.finalize());
        }
        left = left
            .checked_sub(got as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        hasher.update(&buffer[..got]);
    }
}
