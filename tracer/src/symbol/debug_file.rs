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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fixture::{Fixture, INLINED, INLINED_C, names_at, returns_in, with_module};
    use super::super::resolver::Failures;
    use super::*;

    /// Compiles with debug information and moves it to `a.debug`; `link`: and says so in the program.
    fn split(fixture: &Fixture, arguments: &[&str], link: bool) -> (PathBuf, u64) {
        let file = fixture.compile(("a.c", INLINED_C), "a", arguments);
        let call = returns_in(&file, "outer")[0];
        fixture.run("objcopy", &["--only-keep-debug", "a", "a.debug"]);
        fixture.run("strip", &["a"]);
        if link {
            fixture.run("objcopy", &["--add-gnu-debuglink=a.debug", "a"]);
        }
        (file, call)
    }

    #[test]
    fn debug_information_is_found_by_build_id() {
        let fixture = Fixture::new();
        let (file, call) = split(
            &fixture,
            &["-g", "-O2", "-Wl,--build-id=0xabcdef0123456789"],
            false,
        );
        let dir = fixture.path("debug/.build-id/ab");
        fs::create_dir_all(&dir).unwrap();
        fs::rename(fixture.path("a.debug"), dir.join("cdef0123456789.debug")).unwrap();
        assert_eq!(
            names_at(&mut with_module(&file, &[]), call),
            Vec::<String>::new()
        );
        let dirs = [fixture.path("nowhere"), fixture.path("debug")];
        let mut resolver = with_module(&file, &dirs);
        // Held open: what the target's root had is used after it is gone.
        fs::remove_dir_all(fixture.path("debug")).unwrap();
        assert_eq!(names_at(&mut resolver, call), INLINED);
    }

    #[test]
    fn debug_information_is_found_by_debug_link() {
        for place in ["a.debug", ".debug/a.debug", "root/a.debug", "mirror"] {
            let fixture = Fixture::new();
            let (file, call) = split(&fixture, &["-g", "-O2", "-Wl,--build-id=none"], true);
            let to = if place == "mirror" {
                let below = file.parent().unwrap().strip_prefix("/").unwrap();
                fixture.path("root").join(below).join("a.debug")
            } else {
                fixture.path(place)
            };
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(fixture.path("a.debug"), &to).unwrap();
            let mut resolver = with_module(&file, &[fixture.path("root")]);
            assert_eq!(names_at(&mut resolver, call), INLINED, "{place}");
        }
    }

    #[test]
    fn debug_information_of_another_build_is_not_used() {
        let fixture = Fixture::new();
        for build_id in ["none", "0x0123456789abcdef"] {
            let id = format!("-Wl,--build-id={build_id}");
            fixture.compile(("o.c", "int main(void) { return 9; }"), "o", &["-g"]);
            fixture.run("objcopy", &["--only-keep-debug", "o", "other.debug"]);
            let (file, call) = split(&fixture, &["-g", "-O2", &id, "-rdynamic"], true);
            fs::rename(fixture.path("other.debug"), fixture.path("a.debug")).unwrap();
            let mut resolver = with_module(&file, &[]);
            assert_eq!(names_at(&mut resolver, call), ["outer"]);
            assert_eq!(resolver.failures(), Failures::default());
        }
    }

    #[test]
    fn a_debug_link_to_a_fifo_does_not_block() {
        let fixture = Fixture::new();
        let (file, call) = split(&fixture, &["-g", "-O2", "-rdynamic"], true);
        fs::remove_file(fixture.path("a.debug")).unwrap();
        fixture.run("mkfifo", &["a.debug"]);
        assert_eq!(names_at(&mut with_module(&file, &[]), call), ["outer"]);

        // blazesym would follow the link of a file that has its own debug information.
        let file = fixture.compile(("a.c", INLINED_C), "b", &["-g", "-O2"]);
        fs::write(fixture.path("empty"), "").unwrap();
        fixture.run("objcopy", &["--add-gnu-debuglink=empty", "b"]);
        fs::remove_file(fixture.path("empty")).unwrap();
        fixture.run("mkfifo", &["empty"]);
        let mut resolver = with_module(&file, &[]);
        assert_eq!(names_at(&mut resolver, call), ["outer"]);
        assert_eq!(resolver.failures().debug_info, 1);
    }
}
