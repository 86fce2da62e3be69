//! `/proc/PID/maps`: what a process has mapped.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{
    error::{Privilege, TargetError},
    procfs,
};

/// Longest `maps` that we read, bytes. A process has 65 530 mappings at most by default, of some 100 bytes each.
const MAPS_LIMIT: u64 = 256 << 20;

/// One line of `/proc/PID/maps`: a range of addresses, and what is mapped there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// Whether it can be read.
    pub readable: bool,
    /// Whether it can be written.
    pub writable: bool,
    /// Whether it can be executed.
    pub executable: bool,
    /// Device of the file, major and minor; `(0, 0)` without one.
    pub device: (u32, u32),
    /// Inode of the file; 0 without one.
    pub inode: u64,
    /// What is mapped.
    pub path: MappingName,
}

/// What is mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingName {
    /// A file, by its path in the process's root, and whether the kernel calls that name deleted.
    ///
    /// The text is ambiguous in two ways: a file's name may itself end in ` (deleted)`, and may hold the four
    /// characters `\012`. So a path is for people to read; a file is opened by its inode
    /// ([`super::mapped_file::open`]).
    File(PathBuf, bool),
    /// What the kernel names: `[heap]`, `[stack]`, `[vdso]`, `[anon:...]`, `anon_inode:...`.
    Special(String),
    /// Nothing: anonymous memory.
    Anonymous,
}

/// A line of `maps` that is not in the documented form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of maps cannot be read")]
pub struct MalformedLine {
    /// Its number, from 1.
    pub line: usize,
}

/// Reads what a process has mapped; `proc_dir` is [`super::Target::proc_dir`].
///
/// Each line is consistent, but mappings that come and go while we read may be missing.
///
/// # Errors
///
/// [`TargetError::Gone`], or [`TargetError::NotPermitted`]. The list of a process that has ended is empty, not an
/// error.
pub fn read(proc_dir: &Path) -> Result<Vec<Mapping>, TargetError> {
    let pid = pid_of(proc_dir);
    let path = proc_dir.join("maps");
    let text = procfs::read(&path, MAPS_LIMIT)
        .map_err(|source| TargetError::reading(pid, &path, Privilege::Inspect, source))?;
    parse(&text).map_err(|MalformedLine { .. }| TargetError::Malformed {
        path,
        what: "a line without its address, mode, offset, device and inode",
    })
}

/// Whose directory it is; our own if it names no pid (`/proc/self`).
fn pid_of(proc_dir: &Path) -> u32 {
    proc_dir
        .iter()
        .find_map(|part| part.to_str()?.parse().ok())
        .unwrap_or_else(std::process::id)
}

/// Parses the text of `maps` (`proc_pid_maps(5)`).
///
/// # Errors
///
/// The first line that is not in the documented form. File names cannot cause one: the kernel escapes the only
/// character in them that would end a line.
pub fn parse(text: &[u8]) -> Result<Vec<Mapping>, MalformedLine> {
    text.split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| parse_line(line).ok_or(MalformedLine { line: index + 1 }))
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    // Five fields, blanks, and the name to the end of the line, blanks and all.
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let (start, end) = split_once(fields.next()?, b'-')?;
    let (start, end) = (hexadecimal(start)?, hexadecimal(end)?);
    let &[read, write, execute, _shared] = fields.next()? else {
        return None;
    };
    let offset = hexadecimal(fields.next()?)?;
    let (major, minor) = split_once(fields.next()?, b':')?;
    let device = (
        u32::try_from(hexadecimal(major)?).ok()?,
        u32::try_from(hexadecimal(minor)?).ok()?,
    );
    let inode = procfs::parse_number(fields.next()?)?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    (start < end).then_some(Mapping {
        start,
        end,
        offset,
        readable: read == b'r',
        writable: write == b'w',
        executable: execute == b'x',
        device,
        inode,
        path: parse_name(name),
    })
}

fn parse_name(name: &[u8]) -> MappingName {
    if name.is_empty() {
        return MappingName::Anonymous;
    }
    if name[0] != b'/' {
        return MappingName::Special(String::from_utf8_lossy(name).into_owned());
    }
    let (path, deleted) = match name.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (name, false),
    };
    MappingName::File(
        PathBuf::from(OsString::from_vec(unescape_line_ends(path))),
        deleted,
    )
}

/// The kernel writes a line end as `\012`, and nothing else in another form: not even the backslash
/// (<https://github.com/torvalds/linux/blob/v6.12/fs/proc/task_mmu.c#L290>).
fn unescape_line_ends(mut text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        match text.strip_prefix(b"\\012") {
            Some(rest) => {
                plain.push(b'\n');
                text = rest;
            }
            None => {
                plain.push(byte);
                text = rest;
            }
        }
    }
    plain
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

fn hexadecimal(text: &[u8]) -> Option<u64> {
    // `from_str_radix` would take a sign.
    text.first().filter(|byte| byte.is_ascii_hexdigit())?;
    u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;
    use crate::target::process::tests::{Running, copy_program};

    fn name_of(line: &[u8]) -> MappingName {
        parse(line).unwrap().remove(0).path
    }

    fn file(path: &[u8], deleted: bool) -> MappingName {
        MappingName::File(
            Path::new(std::ffi::OsStr::from_bytes(path)).to_owned(),
            deleted,
        )
    }

    #[test]
    fn a_real_line_is_read_whole() {
        let line = b"7f2c8a828000-7f2c8a97d000 r-xp 00026000 fe:01 1311                       /usr/lib/x86_64-linux-gnu/libc.so.6\n";
        assert_eq!(
            parse(line).unwrap(),
            [Mapping {
                start: 0x7f2c_8a82_8000,
                end: 0x7f2c_8a97_d000,
                offset: 0x26000,
                readable: true,
                writable: false,
                executable: true,
                device: (0xfe, 1),
                inode: 1311,
                path: file(b"/usr/lib/x86_64-linux-gnu/libc.so.6", false),
            }]
        );
    }

    #[test]
    fn names_are_files_specials_or_nothing() {
        assert_eq!(
            name_of(b"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]"),
            MappingName::Special("[vsyscall]".to_owned())
        );
        assert_eq!(
            name_of(b"1000-2000 rw-p 00000000 00:00 0 "),
            MappingName::Anonymous
        );
        assert_eq!(
            name_of(b"1000-2000 rw-p 00000000 00:00 0"),
            MappingName::Anonymous
        );
        assert_eq!(
            name_of(b"1000-2000 rw-p 0 00:00 0 [anon: a b ]"),
            MappingName::Special("[anon: a b ]".to_owned())
        );
        assert_eq!(
            name_of(b"1000-2000 rw-s 0 00:01 5 /memfd:jit (deleted)"),
            file(b"/memfd:jit", true)
        );
    }

    #[test]
    fn odd_file_names_survive() {
        assert_eq!(
            name_of(b"1000-2000 r-xp 0 00:01 5   /a b\\012c  d (deleted)"),
            file(b"/a b\nc  d", true)
        );
        assert_eq!(
            name_of(b"1000-2000 r-xp 0 00:01 5 /\xff\xfe"),
            file(b"/\xff\xfe", false)
        );
        assert_eq!(
            name_of(b"1000-2000 r-xp 0 00:01 5 /x\\134\\01"),
            file(b"/x\\134\\01", false),
            "the kernel escapes nothing but line ends"
        );
    }

    #[test]
    fn a_line_that_makes_no_sense_is_named() {
        let good = "1000-2000 rw-p 0 00:00 0 \n";
        for bad in [
            "nonsense",
            "2000-1000 rw-p 0 00:00 0 ",
            "1000-2000 rw 0 00:00 0 ",
            "1000-2000 rw-p 0 00:00 -1 ",
            "+1000-2000 rw-p 0 00:00 0 ",
            "1000-20000000000000000 rw-p 0 00:00 0 ",
            "1000-2000 rw-p 0 100000000:00 0 ",
        ] {
            let text = format!("{good}{bad}\n");
            assert_eq!(
                parse(text.as_bytes()),
                Err(MalformedLine { line: 2 }),
                "{bad}"
            );
        }
    }

    #[test]
    fn our_own_maps_hold_our_code_and_our_stack() {
        let code = our_own_maps_hold_our_code_and_our_stack as fn() as usize as u64;
        let maps = read(Path::new("/proc/self")).unwrap();
        let holding = maps
            .iter()
            .find(|map| (map.start..map.end).contains(&code))
            .unwrap();
        assert!(holding.executable);
        let program = std::env::current_exe().unwrap();
        assert_eq!(holding.path, MappingName::File(program, false));
        assert!(
            maps.iter()
                .any(|map| map.path == MappingName::Special("[stack]".to_owned()))
        );
    }

    #[test]
    fn a_mapped_file_with_a_line_end_in_its_name_is_one_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("one\ntwo");
        copy_program("/bin/cat", &path);
        let mut running = Running::start(&mut std::process::Command::new(&path));
        running.say("ready");
        running.line();
        let target = running.target();
        let maps = read(&target.proc_dir()).unwrap();
        assert!(
            maps.iter()
                .any(|map| map.path == MappingName::File(path.clone(), false))
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: Vec<u8>) {
            let _ = parse(&text);
        }

        #[test]
        fn near_misses_never_panic(text in "[0-9a-f]{0,17}-?[0-9a-f]{0,17} [rwxps-]{0,5} [0-9a-f]{0,17} [0-9a-f:]{0,9} [0-9]{0,21} {0,3}[/\\[a-z 012\\\\()]{0,20}") {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn what_the_kernel_would_write_comes_back(start in 0..u64::MAX - 1, length in 1u64.., offset: u64, inode: u64, bits in 0u8..8, name in "/[ -~\n]{0,30}") {
            prop_assume!(!name.contains("\\012") && !name.ends_with(" (deleted)"));
            let end = start.saturating_add(length);
            let flag = |bit: u8, letter: char| if bits & bit != 0 { letter } else { '-' };
            let text = format!(
                "{start:08x}-{end:08x} {}{}{}p {offset:08x} fe:01 {inode} {:>20}{}\n",
                flag(1, 'r'), flag(2, 'w'), flag(4, 'x'), "", name.replace('\n', "\\012")
            );
            let expected = Mapping {
                start, end, offset, inode, device: (0xfe, 1),
                readable: bits & 1 != 0, writable: bits & 2 != 0, executable: bits & 4 != 0,
                path: file(name.as_bytes(), false),
            };
            prop_assert_eq!(parse(text.as_bytes()).unwrap(), vec![expected]);
        }
    }
}
