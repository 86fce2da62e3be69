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
use crate::target::named_file::{NamedFiles, Wanted};

/// Largest file whose CRC is computed, bytes: a second or two of reading.
const MOST_CRC_BYTES: u64 = 4 << 30;

/// Where a system keeps debug information, ours and a target's.
pub(super) const DEBUG_DIR: &str = "/usr/lib/debug";

/// The file of debug information of a module, open, or `None` where there is no right one.
///
/// Searched, in order, among the files that the target names: `/usr/lib/debug/.build-id/ab/cdef….debug`; then, if the module
/// names a file in its `.gnu_debuglink`, that name beside the module (`path`, as the target calls it), in `.debug` there, in the
/// same directory below `/usr/lib/debug`, and in `/usr/lib/debug` itself. Last comes our own `/usr/lib/debug`, by build id alone: that
/// is a number, and no name that the target chose.
pub fn find(
    file: &File,
    elf: &Elf,
    path: &Path,
    named: Option<&NamedFiles>,
) -> Option<(File, Elf)> {
    let own = file.metadata().ok()?;
    let by_build_id = by_build_id(elf);
    let of_target = by_build_id.iter().cloned().chain(by_link(elf, path));
    let of_target = of_target.filter_map(|name| {
        let file = named?.open(&name, Wanted::Any).ok()?;
        Some((name, file))
    });
    let of_ours = by_build_id
        .iter()
        .filter_map(|name| Some((name.clone(), open_regular(name).ok()?)));
    of_target
        .chain(of_ours)
        .find_map(|(candidate, debug_file)| {
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

fn by_build_id(elf: &Elf) -> Option<PathBuf> {
    let (first, rest) = elf.build_id.as_deref()?.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!(".build-id/{first:02x}/{rest}.debug");
    Some(Path::new(DEBUG_DIR).join(name))
}

fn by_link(elf: &Elf, path: &Path) -> Vec<PathBuf> {
    let (Some(link), Some(dir)) = (&elf.debug_link, path.parent()) else {
        return Vec::new();
    };
    let mirrored = Path::new(DEBUG_DIR).join(dir.strip_prefix("/").unwrap_or(dir));
    [dir, &dir.join(".debug"), &mirrored, Path::new(DEBUG_DIR)]
        .iter()
        .map(|dir| dir.join(&link.file_name))
        .collect()
}

/// Opens a regular file of ours and nothing else: merely opening a FIFO or a device blocks or acts. What a target names is opened by
/// [`NamedFiles`].
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

    use super::super::fixture::{
        Fixture, INLINED, INLINED_C, names_at, returns_in, with_module, with_module_in,
    };
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
        let dir = fixture.path("usr/lib/debug/.build-id/ab");
        fs::create_dir_all(&dir).unwrap();
        fs::rename(fixture.path("a.debug"), dir.join("cdef0123456789.debug")).unwrap();
        assert_eq!(
            names_at(&mut with_module(&file), call),
            Vec::<String>::new()
        );
        let mut resolver = with_module_in(&file, &fixture.path(""));
        // Held open: what the target's root had is used after it is gone.
        fs::remove_dir_all(fixture.path("usr")).unwrap();
        assert_eq!(names_at(&mut resolver, call), INLINED);
    }

    #[test]
    fn debug_information_is_found_by_debug_link() {
        for place in ["", "/.debug", "usr/lib/debug", "usr/lib/debug/"] {
            let fixture = Fixture::new();
            let (file, call) = split(&fixture, &["-g", "-O2", "-Wl,--build-id=none"], true);
            let beside = file.parent().unwrap().strip_prefix("/").unwrap();
            let below = match place {
                "usr/lib/debug" => place.into(),
                "usr/lib/debug/" => Path::new(place).join(beside),
                _ => beside.join(place.trim_start_matches('/')),
            };
            let to = fixture.path("root").join(below).join("a.debug");
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::rename(fixture.path("a.debug"), &to).unwrap();
            let mut resolver = with_module_in(&file, &fixture.path("root"));
            assert_eq!(names_at(&mut resolver, call), INLINED, "{place}");
        }
    }

    #[test]
    fn debug_information_outside_the_root_of_its_target_is_not_used() {
        let fixture = Fixture::new();
        let (file, call) = split(&fixture, &["-g", "-O2", "-rdynamic"], true);
        let beside = file.parent().unwrap().strip_prefix("/").unwrap();
        let dir = fixture.path("root").join(beside);
        fs::create_dir_all(&dir).unwrap();
        let link = dir.join("a.debug");
        std::os::unix::fs::symlink(fixture.path("a.debug"), link).unwrap();
        let mut resolver = with_module_in(&file, &fixture.path("root"));
        assert_eq!(names_at(&mut resolver, call), ["outer"]);
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
            let mut resolver = with_module(&file);
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
        assert_eq!(names_at(&mut with_module(&file), call), ["outer"]);

        // blazesym would follow the link of a file that has its own debug information.
        let file = fixture.compile(("a.c", INLINED_C), "b", &["-g", "-O2"]);
        fs::write(fixture.path("empty"), "").unwrap();
        fixture.run("objcopy", &["--add-gnu-debuglink=empty", "b"]);
        fs::remove_file(fixture.path("empty")).unwrap();
        fixture.run("mkfifo", &["empty"]);
        let mut resolver = with_module(&file);
        assert_eq!(names_at(&mut resolver, call), ["outer"]);
        assert_eq!(resolver.failures().debug_info, 1);
    }
}
