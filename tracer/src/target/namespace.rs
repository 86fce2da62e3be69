//! Numbers of processes: the kernel's own are those of the initial PID namespace, and a process has another one in each namespace that it
//! is in.

use std::{fs, path::Path};

use super::{
    process::numbered_entries,
    procfs::{self, STATUS_LIMIT},
};

/// The inode of the initial PID namespace: a constant of the kernel, `PROC_PID_INIT_INO`
/// (<https://github.com/torvalds/linux/blob/v6.12/include/linux/proc_ns.h#L42>).
const INITIAL: &str = "pid:[4026531836]";

/// We are in a PID namespace of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is a PID namespace of its own, as in a container: the kernel side knows processes by their numbers on the host, which \
     cannot be seen from here, so that nothing could be traced. Give it the host's: `docker run --pid=host`, `hostPID: true` in a \
     pod, or run it on the host, where processes in containers can be traced too"
)]
pub struct OwnNamespace;

/// Fails in a PID namespace that is not the initial one.
///
/// # Errors
///
/// [`OwnNamespace`]
pub fn check() -> Result<(), OwnNamespace> {
    match fs::read_link("/proc/self/ns/pid") {
        Ok(ours) if ours != Path::new(INITIAL) => Err(OwnNamespace),
        // A kernel without such namespaces has one.
        _ => Ok(()),
    }
}

/// Processes that have this number in a PID namespace of their own: their pids as we see them.
pub fn elsewhere(number: u32) -> Vec<u32> {
    let has_it = |pid: &u32| {
        let path = Path::new("/proc").join(pid.to_string()).join("status");
        let status = procfs::read(&path, STATUS_LIMIT).unwrap_or_default();
        innermost(&status).is_some_and(|innermost| innermost == number && innermost != *pid)
    };
    let mut pids = numbered_entries(Path::new("/proc"));
    pids.retain(has_it);
    pids.sort_unstable();
    pids
}

/// A process's number in its innermost namespace, from the text of `/proc/PID/status`.
pub(super) fn innermost(status: &[u8]) -> Option<u32> {
    let pids = procfs::status_field(status, "NSpid")?;
    let last = pids.rsplit(u8::is_ascii_whitespace).next()?;
    u32::try_from(procfs::parse_number(last)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_number_is_the_last() {
        assert_eq!(innermost(b"Name:\tx\nNSpid:\t4242\t17\t1\n"), Some(1));
        assert_eq!(innermost(b"Name:\tx\nNSpid:\t4242\n"), Some(4242));
        for text in [&b"Name:\tx\n"[..], b"NSpid:\tx\n", b"NSpid:\n"] {
            assert_eq!(innermost(text), None);
        }
    }

    #[test]
    fn who_is_in_our_namespace_has_no_other_number() {
        assert!(!elsewhere(std::process::id()).contains(&std::process::id()));
    }
}
