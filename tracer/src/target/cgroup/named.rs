//! Cgroups as people name them.

use std::path::{Path, PathBuf};

use super::{MOUNTS_LIMIT, mount_of, unescape};
use crate::target::procfs;

/// There is no such cgroup.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no cgroup {path}: {}; `systemd-cgls` and `cat /proc/PID/cgroup` name those that there are",
    looked(looked_in)
)]
pub struct NoCgroup {
    /// The cgroup, as `/proc/PID/cgroup` would name it.
    pub path: String,
    /// The directories that would be it.
    looked_in: Vec<PathBuf>,
}

/// Most directories that are named in which a cgroup was looked for.
const MOST_NAMED: usize = 2;

fn looked(dirs: &[PathBuf]) -> String {
    if dirs.is_empty() {
        return "no cgroup file system is mounted here that has it".to_owned();
    }
    let named = dirs.iter().take(MOST_NAMED);
    let named: Vec<_> = named.map(|dir| dir.display().to_string()).collect();
    let more = match dirs.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(", nor in {more} more hierarchies"),
    };
    format!("no directory {}{more}", named.join(", nor "))
}

/// A cgroup that a person has named, as `/proc/PID/cgroup` names it: such a name, or a path in the file system, mostly below
/// `/sys/fs/cgroup`.
///
/// # Errors
///
/// There is none.
pub fn find(named: &str) -> Result<String, NoCgroup> {
    let mounts = all_mounts();
    let path = name_of(named, &mounts);
    match dirs_of(&path, &mounts) {
        dirs if dirs.iter().any(|dir| dir.is_dir()) => Ok(path),
        looked_in => Err(NoCgroup { path, looked_in }),
    }
}

/// Whether there is a cgroup of that name, as `/proc/PID/cgroup` has it, now.
pub fn exists(path: &str) -> bool {
    let dirs = dirs_of(path, &all_mounts());
    dirs.iter().any(|dir| dir.is_dir())
}

/// Where hierarchies are mounted, whatever controllers they have: their roots, and where these are seen.
fn all_mounts() -> Vec<(PathBuf, PathBuf)> {
    // What cannot be read has no mounts.
    let text = procfs::read(Path::new("/proc/self/mountinfo"), MOUNTS_LIMIT).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n');
    lines
        .filter_map(mount_of)
        .filter(|(kind, ..)| kind.starts_with(b"cgroup"))
        .map(|(_, _, root, point)| (unescape(root), unescape(point)))
        .collect()
}

/// A cgroup's name in its hierarchy, for a path that may be one in the file system.
fn name_of(named: &str, mounts: &[(PathBuf, PathBuf)]) -> String {
    let named = Path::new(named);
    // A hierarchy may be mounted below another one's place.
    let mounts = mounts.iter();
    let in_files = mounts
        .filter_map(|(root, point)| Some((point, root, named.strip_prefix(point).ok()?)))
        .max_by_key(|(point, ..)| point.components().count());
    let (root, below) = match in_files {
        Some((_, root, below)) => (root.as_path(), below),
        None => (Path::new("/"), named.strip_prefix("/").unwrap_or(named)),
    };
    // Without the slash at its end that a shell's completion leaves.
    let parts = root.join(below);
    let parts: PathBuf = parts.components().collect();
    parts.to_string_lossy().into_owned()
}

fn dirs_of(path: &str, mounts: &[(PathBuf, PathBuf)]) -> Vec<PathBuf> {
    let below = |(root, point): &(PathBuf, PathBuf)| {
        let below = Path::new(path).strip_prefix(root).ok()?;
        Some(point.join(below))
    };
    mounts.iter().filter_map(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_may_be_named_by_its_place_in_the_file_system_or_in_its_hierarchy() {
        let mounts: Vec<(PathBuf, PathBuf)> = [
            ("/", "/sys/fs/cgroup"),
            ("/", "/sys/fs/cgroup/memory"),
            ("/docker/abc", "/mnt/cgroup"),
        ]
        .map(|(root, point)| (root.into(), point.into()))
        .into();
        for (named, expected) in [
            ("/sys/fs/cgroup/a/b", "/a/b"),
            ("/sys/fs/cgroup/memory/a/b/", "/a/b"),
            ("/mnt/cgroup/x", "/docker/abc/x"),
            ("/a/b", "/a/b"),
            ("a/b/", "/a/b"),
            ("/sys/fs/cgroup", "/"),
            ("/", "/"),
            ("", "/"),
        ] {
            assert_eq!(name_of(named, &mounts), expected, "{named}");
        }
        let dirs = dirs_of("/docker/abc/x", &mounts[1..]);
        let expected = ["/sys/fs/cgroup/memory/docker/abc/x", "/mnt/cgroup/x"];
        assert_eq!(dirs, expected.map(PathBuf::from));
    }

    #[test]
    fn a_cgroup_that_is_not_there_is_told_with_where_it_was_looked_for() {
        let missing = find("/highwater/no/such").unwrap_err();
        assert_eq!(missing.path, "/highwater/no/such");
        let said = missing.to_string();
        assert!(
            said.starts_with("there is no cgroup /highwater/no/such: no "),
            "{said}"
        );
    }
}
