//! The memory cgroup of a process: what it is charged, and where the kernel would stop it.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::{ffi::OsStringExt, fs::FileExt},
    path::{Path, PathBuf},
};

mod named;

pub use named::{NoCgroup, exists, find};

use super::{Target, TargetError, error::Privilege, procfs};

/// Longest `/proc/PID/cgroup` that we read, bytes.
pub(super) const CGROUP_LIMIT: u64 = 1 << 20;
/// Longest `mountinfo` that we read, bytes: hosts of many containers have thousands of lines.
pub(super) const MOUNTS_LIMIT: u64 = 16 << 20;
/// cgroup v1 writes "no limit" as the largest number of pages that it can count.
pub(super) const NO_LIMIT: u64 = 1 << 62;

/// Which of the two interfaces a cgroup has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `memory.usage_in_bytes` and its like.
    V1,
    /// `memory.current` and its like.
    V2,
}

/// The memory cgroup of a process, its files held open so that sampling is a few small reads.
#[derive(Debug)]
pub struct MemoryCgroup {
    /// Its path in its hierarchy, as `/proc/PID/cgroup` has it.
    pub path: String,
    /// Version of the kernel's cgroup interface.
    pub version: Version,
    /// Its directory in the cgroup file system, as we see it.
    pub dir: PathBuf,
    charge: File,
    /// Of the cgroup and of each one above it: the tightest holds.
    limits: Vec<File>,
    events: Option<File>,
}

impl MemoryCgroup {
    /// Finds the cgroup that a process's memory is charged to. `None` where there is none, where it is the root (which
    /// has neither charge nor limit on v2), or where it lies outside of what is mounted here.
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`]; or our own `/proc` cannot be read.
    pub fn of(target: &Target) -> Result<Option<Self>, TargetError> {
        let cgroup_path = target.proc_dir().join("cgroup");
        let memberships = procfs::read(&cgroup_path, CGROUP_LIMIT).map_err(|source| {
            TargetError::reading(target.pid, &cgroup_path, Privilege::Inspect, source)
        })?;
        let mounts_path = Path::new("/proc/self/mountinfo");
        let mounts =
            procfs::read(mounts_path, MOUNTS_LIMIT).map_err(|source| TargetError::Read {
                pid: std::process::id(),
                path: mounts_path.to_owned(),
                source,
            })?;
        let mounts = parse_mounts(&mounts);
        Ok(parse_memberships(&memberships)
            .into_iter()
            .find_map(|membership| Self::open(&membership, &mounts)))
    }

    fn open(membership: &Membership, mounts: &[CgroupMount]) -> Option<Self> {
        let names = Names::of(membership.version);
        mounts
            .iter()
            .filter(|mount| mount.version == membership.version)
            .find_map(|mount| {
                let below = membership.path.strip_prefix(&mount.root).ok()?;
                // Up to the mount point, and no further.
                let depth = below.components().count() + 1;
                let own = mount.point.join(below);
                let dirs: Vec<&Path> = own.ancestors().take(depth).collect();
                // On v2 a cgroup without the memory controller is charged to the next one above that has it.
                let (level, charge) = dirs.iter().enumerate().find_map(|(level, dir)| {
                    Some((level, File::open(dir.join(names.charge)).ok()?))
                })?;
                Some(Self {
                    path: membership.path.to_string_lossy().into_owned(),
                    version: membership.version,
                    dir: dirs[level].to_owned(),
                    charge,
                    limits: dirs[level..]
                        .iter()
                        .filter_map(|dir| File::open(dir.join(names.limit)).ok())
                        .collect(),
                    events: File::open(dirs[level].join(names.events)).ok(),
                })
            })
    }

    /// What it is charged now, bytes. `None` once it has been removed.
    pub fn charge(&self) -> Option<u64> {
        procfs::parse_number(&read_small(&self.charge)?)
    }

    /// The tightest limit of it and of those above it, bytes. `None` without one.
    pub fn limit(&self) -> Option<u64> {
        let limit_of = |file: &File| parse_limit(&read_small(file)?);
        self.limits.iter().filter_map(limit_of).min()
    }

    /// How many processes in it the kernel has killed for want of memory (since 4.13).
    pub fn oom_kills(&self) -> Option<u64> {
        let text = read_small(self.events.as_ref()?)?;
        text.split(|&byte| byte == b'\n')
            .find_map(|line| procfs::parse_number(line.strip_prefix(b"oom_kill ")?))
    }
}

/// The files of an interface.
struct Names {
    charge: &'static str,
    limit: &'static str,
    events: &'static str,
}

impl Names {
    const fn of(version: Version) -> Self {
        match version {
            Version::V1 => Self {
                charge: "memory.usage_in_bytes",
                limit: "memory.limit_in_bytes",
                events: "memory.oom_control",
            },
            Version::V2 => Self {
                charge: "memory.current",
                limit: "memory.max",
                events: "memory.events",
            },
        }
    }
}

/// `max` and the largest number that v1 writes are no limit.
pub(super) fn parse_limit(text: &[u8]) -> Option<u64> {
    procfs::parse_number(text).filter(|&limit| limit < NO_LIMIT)
}

fn read_small(file: &File) -> Option<Vec<u8>> {
    let mut text = vec![0; 1024];
    let length = file.read_at(&mut text, 0).ok()?;
    text.truncate(length);
    Some(text)
}

/// The cgroups in the text of `/proc/PID/cgroup`, whatever hierarchy they are of, each once.
pub(super) fn parse_paths(text: &[u8]) -> Vec<String> {
    let mut paths = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Some(path) = line.splitn(3, |&byte| byte == b':').nth(2) else {
            continue;
        };
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        let path = String::from_utf8_lossy(path).into_owned();
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// A cgroup that a process is in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Membership {
    pub(super) version: Version,
    pub(super) path: PathBuf,
}

/// Parses `/proc/PID/cgroup` (`cgroups(7)`): lines `id:controllers:path`. The hierarchy that has the memory controller
/// comes first: v1's, if it is there.
pub(super) fn parse_memberships(text: &[u8]) -> Vec<Membership> {
    let mut found: Vec<Membership> = text
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.splitn(3, |&byte| byte == b':');
            let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let version = if controllers
                .split(|&byte| byte == b',')
                .any(|name| name == b"memory")
            {
                Version::V1
            } else if id == b"0" && controllers.is_empty() {
                Version::V2
            } else {
                return None;
            };
            // The cgroup of a process may have been removed meanwhile.
            let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            Some(Membership {
                version,
                path: PathBuf::from(OsString::from_vec(path.to_vec())),
            })
        })
        .collect();
    found.sort_by_key(|membership| membership.version == Version::V2);
    found
}

/// A place where a hierarchy that can have the memory controller is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CgroupMount {
    pub(super) version: Version,
    /// The cgroup that is mounted there.
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
}

/// Parses `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`), the widest view first.
pub(super) fn parse_mounts(text: &[u8]) -> Vec<CgroupMount> {
    let mut mounts: Vec<_> = text
        .split(|&byte| byte == b'\n')
        .filter_map(parse_mount)
        .collect();
    mounts.sort_by_key(|mount| mount.root.components().count());
    mounts
}

/// Kind, options, root and place of what is mounted.
type MountFields<'a> = (&'a [u8], &'a [u8], &'a [u8], &'a [u8]);

fn mount_of(line: &[u8]) -> Option<MountFields<'_>> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (root, point) = (fields.nth(3)?, fields.next()?);
    // Optional fields end with a lone dash.
    fields.find(|&field| field == b"-")?;
    Some((fields.next()?, fields.nth(1)?, root, point))
}

fn parse_mount(line: &[u8]) -> Option<CgroupMount> {
    let (kind, options, root, point) = mount_of(line)?;
    let version = match kind {
        b"cgroup2" => Version::V2,
        b"cgroup"
            if options
                .split(|&byte| byte == b',')
                .any(|option| option == b"memory") =>
        {
            Version::V1
        }
        _ => return None,
    };
    Some(CgroupMount {
        version,
        root: unescape(root),
        point: unescape(point),
    })
}

/// `mountinfo` writes blanks, line ends and backslashes as three octal digits.
fn unescape(mut text: &[u8]) -> PathBuf {
    let mut plain = Vec::with_capacity(text.len());
    while let Some((&byte, rest)) = text.split_first() {
        match *text {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                text = &text[4..];
            }
            _ => {
                plain.push(byte);
                text = rest;
            }
        }
    }
    PathBuf::from(OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::target::process::tests::Running;

    const MOUNTS: &[u8] = b"\
24 31 0:22 / /proc rw - proc proc rw
35 30 0:29 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
36 30 0:30 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
37 30 0:31 /docker/abc /mnt/a\\040b rw - cgroup2 cgroup2 rw
38 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn mounts_are_read_with_escapes_and_optional_fields() {
        let mount = |version, root: &str, point: &str| CgroupMount {
            version,
            root: root.into(),
            point: point.into(),
        };
        assert_eq!(
            parse_mounts(MOUNTS),
            [
                mount(Version::V1, "/", "/sys/fs/cgroup/memory"),
                mount(Version::V2, "/", "/sys/fs/cgroup/unified"),
                mount(Version::V2, "/docker/abc", "/mnt/a b"),
            ]
        );
    }

    #[test]
    fn the_hierarchy_with_the_memory_controller_is_asked_first() {
        let text = b"0::/user.slice\n9:name=systemd:/\n4:hugetlb,memory:/a:b\n1:cpu:/x\n";
        let member = |version, path: &str| Membership {
            version,
            path: path.into(),
        };
        assert_eq!(
            parse_memberships(text),
            [
                member(Version::V1, "/a:b"),
                member(Version::V2, "/user.slice")
            ]
        );
        assert_eq!(parse_memberships(b"0::/\n"), [member(Version::V2, "/")]);
    }

    #[test]
    fn a_process_is_in_one_cgroup_a_hierarchy_and_each_is_told_once() {
        let text = b"9:name=systemd:/\n4:memory:/a:b\n1:cpu:/\n0::/gone (deleted)\nx\n";
        assert_eq!(parse_paths(text), ["/", "/a:b", "/gone"]);
    }

    #[test]
    fn no_limit_is_none_in_both_interfaces() {
        assert_eq!(parse_limit(b"max\n"), None);
        assert_eq!(parse_limit(b"9223372036854771712\n"), None);
        assert_eq!(parse_limit(b"268435456\n"), Some(256 << 20));
    }

    /// A tree as the kernel would show it, in a directory of its own.
    fn tree(version: Version, files: &[(&str, &str)]) -> (tempfile::TempDir, CgroupMount) {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let mount = CgroupMount {
            version,
            root: "/pods".into(),
            point: dir.path().to_owned(),
        };
        (dir, mount)
    }

    #[test]
    fn the_tightest_limit_above_holds_and_the_charge_is_that_of_the_controller() {
        let (dir, mount) = tree(
            Version::V2,
            &[
                ("a/memory.current", "5000\n"),
                ("a/memory.max", "max\n"),
                ("a/memory.events", "low 0\nmax 3\noom 2\noom_kill 1\n"),
                ("a/b/memory.current", "4096\n"),
                ("a/b/memory.max", "300\n"),
                ("memory.max", "200\n"),
                ("a/leaf/cgroup.procs", ""),
            ],
        );
        let open = |path: &str| {
            let membership = Membership {
                version: Version::V2,
                path: path.into(),
            };
            MemoryCgroup::open(&membership, std::slice::from_ref(&mount))
        };
        let cgroup = open("/pods/a/b").unwrap();
        assert_eq!((cgroup.charge(), cgroup.limit()), (Some(4096), Some(200)));
        assert_eq!(cgroup.oom_kills(), None);
        let cgroup = open("/pods/a/leaf").unwrap();
        assert_eq!((cgroup.charge(), cgroup.limit()), (Some(5000), Some(200)));
        assert_eq!(cgroup.oom_kills(), Some(1));
        assert_eq!(cgroup.dir, dir.path().join("a"));
        assert!(open("/elsewhere").is_none(), "not below what is mounted");
        assert!(open("/pods").is_none(), "no charge at the root");
    }

    #[test]
    fn our_own_cgroup_is_charged() {
        let cat = Running::cat();
        // Machines without a memory controller have none.
        let Some(cgroup) = MemoryCgroup::of(&cat.target()).unwrap() else {
            return;
        };
        assert!(cgroup.dir.is_dir());
        assert!(cgroup.charge().unwrap() > 0);
        if let Some(limit) = cgroup.limit() {
            assert!(limit >= 1 << 20);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text: Vec<u8>, fields in "[0-9 :,/a-z\\\\\n-]{0,200}") {
            for text in [&text[..], fields.as_bytes()] {
                parse_mounts(text);
                parse_memberships(text);
                parse_paths(text);
                parse_limit(text);
                unescape(text);
            }
        }
    }
}
