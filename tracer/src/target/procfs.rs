//! The text of `/proc`: bounded reads, and the parsers of `stat` and `status`.

use std::{fs::File, io, io::Read, path::Path};

/// Reads a whole file of `/proc`; one longer than `limit` bytes is an error.
pub(super) fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let length = File::open(path)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut text)?;
    if length as u64 > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {limit} bytes"),
        ));
    }
    Ok(text)
}

/// `stat` is one short line and `status` a page, but for its list of groups: at most 65 536 of them.
pub(super) const STATUS_LIMIT: u64 = 1 << 20;

/// What we use of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// `R`, `S`, `D`, `T`, `Z`, `X`, ...
    pub(super) state: u8,
    pub(super) parent: u32,
    /// `PF_*` of the kernel.
    pub(super) flags: u64,
    /// Clock ticks after boot.
    pub(super) start_ticks: u64,
    /// Where its stack began: with randomised addresses another one after each exec. 0 where we may not know.
    pub(super) stack_start: u64,
    /// Where the memory below its program break began. 0 where we may not know.
    pub(super) break_start: u64,
}

impl Stat {
    /// Ended, and only waits to be reaped.
    pub(super) const fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// It has ended, or is about to: `PF_EXITING` (<https://github.com/torvalds/linux/blob/v6.12/include/linux/sched.h#L1672>).
    pub(super) const fn is_ending(&self) -> bool {
        self.is_dead() || self.flags & 0x4 != 0
    }

    /// `PF_KTHREAD`: <https://github.com/torvalds/linux/blob/v6.12/include/linux/sched.h#L1687>
    pub(super) const fn is_kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }
}

/// Parses `/proc/PID/stat`. The name in parentheses may itself hold spaces and parentheses, so fields count from the
/// last one (`proc_pid_stat(5)`).
pub(super) fn parse_stat(text: &[u8]) -> Option<Stat> {
    let name_end = text.iter().rposition(|&byte| byte == b')')?;
    let rest = str::from_utf8(text.get(name_end + 1..)?).ok()?;
    // The first field of `rest` is the third of the line.
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let flags = fields.nth(4)?.parse().ok()?;
    let start_ticks = fields.nth(12)?.parse().ok()?;
    let stack_start = fields.nth(5).and_then(|field| field.parse().ok());
    let break_start = fields.nth(18).and_then(|field| field.parse().ok());
    Some(Stat {
        state,
        parent,
        flags,
        start_ticks,
        stack_start: stack_start.unwrap_or(0),
        break_start: break_start.unwrap_or(0),
    })
}

/// The process's name in the text of `/proc/PID/stat`, as the kernel has it.
pub(super) fn stat_name(text: &[u8]) -> Option<&[u8]> {
    let start = text.iter().position(|&byte| byte == b'(')? + 1;
    let end = text.iter().rposition(|&byte| byte == b')')?;
    text.get(start..end)
}

/// The value of a line `Name:\tvalue` of `/proc/PID/status`, without surrounding blanks.
///
/// The kernel escapes line ends in the process's name (the first line), so that a name cannot fake a field.
pub(super) fn status_field<'a>(status: &'a [u8], name: &str) -> Option<&'a [u8]> {
    status.split(|&byte| byte == b'\n').find_map(|line| {
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b":")?;
        Some(value.trim_ascii())
    })
}

/// A field that holds a number.
pub(super) fn status_number(status: &[u8], name: &str) -> Option<u64> {
    parse_number(status_field(status, name)?)
}

/// A field such as `VmRSS:  1788 kB`, in bytes.
pub(super) fn status_bytes(status: &[u8], name: &str) -> Option<u64> {
    let value = status_field(status, name)?.strip_suffix(b"kB")?;
    parse_number(value)?.checked_mul(1024)
}

/// A decimal number with blanks around it.
pub(super) fn parse_number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &[u8] = b"4242 (a) R (b c)) S 17 4242 4242 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 987654 3133440 447 1 94 95 140 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 201 202 203 0\n";

    #[test]
    fn a_name_is_what_lies_between_the_first_and_the_last_parenthesis() {
        assert_eq!(stat_name(STAT), Some(&b"a) R (b c)"[..]));
        assert_eq!(stat_name(b"1 () S"), Some(&b""[..]));
        for text in [&b""[..], b"1 a S", b"1 )(", b"1 (a"] {
            assert_eq!(stat_name(text), None);
        }
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let stat = parse_stat(STAT).unwrap();
        assert_eq!(
            stat,
            Stat {
                state: b'S',
                parent: 17,
                flags: 4_194_560,
                start_ticks: 987_654,
                stack_start: 140,
                break_start: 203,
            }
        );
        assert!(!stat.is_kernel_thread());
    }

    #[test]
    fn status_fields_are_found_by_their_whole_name() {
        let status =
            b"Name:\tVmRSS:\nVmRSSX:\t1 kB\nVmRSS:\t   1788 kB\nVmSwap:\t x kB\nSeccomp:\t2\n";
        assert_eq!(status_bytes(status, "VmRSS"), Some(1788 * 1024));
        assert_eq!(status_bytes(status, "VmSwap"), None);
        assert_eq!(status_bytes(status, "RssAnon"), None);
        assert_eq!(status_number(status, "Seccomp"), Some(2));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: Vec<u8>, cut in 0..STAT.len()) {
            parse_stat(&text);
            parse_stat(&STAT[..cut]);
            status_bytes(&text, "VmRSS");
        }
    }
}
