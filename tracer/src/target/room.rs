//! How much more memory may be charged to our own cgroups before the kernel has to kill somebody in them.
//!
//! All that we take is charged to the cgroup that we run in, BPF maps too. Where that is the traced program's own (a shell in
//! its container, the same unit), what we take is missing there.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    cgroup::{self, Version},
    procfs,
};

/// Longest file of a cgroup, and longest `meminfo`, that we read, bytes.
const TEXT_LIMIT: u64 = 64 << 10;

/// What may still be taken, and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may be taken until the bound is reached. Of the charge, the page cache that was not used lately counts as room:
    /// the kernel drops that before it kills.
    pub bytes: u64,
    /// What bounds it.
    pub bound: Bound,
}

/// What bounds the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A limit of a cgroup of ours, or of one above it.
    Cgroup {
        /// Directory of the cgroup that has the limit.
        dir: PathBuf,
        /// The limit, bytes.
        limit: u64,
        /// Where the hierarchy is mounted: a process is moved to the top by writing its pid to `cgroup.procs` there.
        top: PathBuf,
    },
    /// The machine's memory (`MemAvailable`).
    Machine,
}

/// The files that say a limit and what is charged against it, and whether page cache is charged too.
type Limits = &'static [(&'static str, &'static str, bool)];

const fn limits(version: Version) -> Limits {
    match version {
        Version::V1 => &[
            ("memory.limit_in_bytes", "memory.usage_in_bytes", true),
            (
                "memory.memsw.limit_in_bytes",
                "memory.memsw.usage_in_bytes",
                true,
            ),
            (
                "memory.kmem.limit_in_bytes",
                "memory.kmem.usage_in_bytes",
                false,
            ),
        ],
        // Above `memory.high` everybody in the cgroup is made to sleep, the traced program too.
        Version::V2 => &[
            ("memory.max", "memory.current", true),
            ("memory.high", "memory.current", true),
        ],
    }
}

impl Room {
    /// The room of this process: the least of what each cgroup above it and the machine have left. `None` where nothing can be
    /// read of either.
    pub fn own() -> Option<Self> {
        let cgroups = own_levels()
            .inspect_err(|error| log::info!("our own cgroups could not be read: {error}"))
            .unwrap_or_default();
        let cgroups = cgroups.iter().filter_map(Level::room);
        cgroups.chain(machine()).min_by_key(|room| room.bytes)
    }
}

/// What the kernel can give without swapping (`MemAvailable` of `/proc/meminfo`).
fn machine() -> Option<Room> {
    let text = procfs::read(Path::new("/proc/meminfo"), TEXT_LIMIT).ok()?;
    Some(Room {
        bytes: number_of(&text, b"MemAvailable:")? << 10,
        bound: Bound::Machine,
    })
}

/// A cgroup that we are charged to.
struct Level {
    version: Version,
    dir: PathBuf,
    top: PathBuf,
    /// It is our own, not one above it.
    is_own: bool,
}

/// Our own cgroup and those above it, as far up as they are mounted: in a container often only our own is.
fn own_levels() -> io::Result<Vec<Level>> {
    let memberships = procfs::read(Path::new("/proc/self/cgroup"), cgroup::CGROUP_LIMIT)?;
    let mounts = procfs::read(Path::new("/proc/self/mountinfo"), cgroup::MOUNTS_LIMIT)?;
    Ok(levels_of(&memberships, &mounts))
}

fn levels_of(memberships: &[u8], mounts: &[u8]) -> Vec<Level> {
    let mounts = cgroup::parse_mounts(mounts);
    let memberships = cgroup::parse_memberships(memberships);
    // Both hierarchies may be mounted; the memory controller is in one of them, and the other has no files of it.
    let found = memberships.iter().flat_map(|membership| {
        let mounts = mounts.iter();
        mounts
            .filter(|mount| mount.version == membership.version)
            .find_map(|mount| {
                let below = membership.path.strip_prefix(&mount.root).ok()?;
                let own = mount.point.join(below);
                let depth = below.components().count() + 1;
                let dirs = own.ancestors().take(depth).map(Path::to_owned);
                Some((dirs.collect::<Vec<_>>(), membership.version, &mount.point))
            })
    });
    found
        .flat_map(|(dirs, version, top)| {
            dirs.into_iter().enumerate().map(move |(up, dir)| Level {
                version,
                dir,
                top: top.clone(),
                is_own: up == 0,
            })
        })
        .collect()
}

impl Level {
    /// What its tightest limit leaves. `None` without a limit.
    fn room(&self) -> Option<Room> {
        let stat = self.read("memory.stat").unwrap_or_default();
        let idle_cache = match self.version {
            Version::V1 => number_of(&stat, b"total_inactive_file"),
            Version::V2 => number_of(&stat, b"inactive_file"),
        };
        let idle_cache = idle_cache.unwrap_or(0);
        let mut found = Vec::new();
        for &(limit, charge, with_cache) in limits(self.version) {
            if let (Some(limit), Some(charge)) = (
                self.read(limit).as_deref().and_then(cgroup::parse_limit),
                self.read(charge).as_deref().and_then(procfs::parse_number),
            ) {
                found.push((limit, charge, with_cache));
            }
        }
        // The tightest limit above, also of cgroups that are not mounted here; what else is charged against it is not known.
        if self.version == Version::V1
            && self.is_own
            && let Some(limit) = number_of(&stat, b"hierarchical_memory_limit")
            && limit < cgroup::NO_LIMIT
            && let Some(charge) = self
                .read("memory.usage_in_bytes")
                .as_deref()
                .and_then(procfs::parse_number)
        {
            found.push((limit, charge, true));
        }
        let rooms = found.into_iter().map(|(limit, charge, with_cache)| {
            let held = charge.saturating_sub(if with_cache { idle_cache } else { 0 });
            Room {
                bytes: limit.saturating_sub(held),
                bound: Bound::Cgroup {
                    dir: self.dir.clone(),
                    limit,
                    top: self.top.clone(),
                },
            }
        });
        rooms.min_by_key(|room| room.bytes)
    }

    fn read(&self, file: &str) -> Option<Vec<u8>> {
        // A cgroup without the memory controller has no such file.
        procfs::read(&self.dir.join(file), TEXT_LIMIT).ok()
    }
}

/// The number behind a name at the beginning of a line.
fn number_of(text: &[u8], name: &[u8]) -> Option<u64> {
    text.split(|&byte| byte == b'\n').find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix(b" ")?.trim_ascii();
        let digits = rest.split(|&byte| byte == b' ').next()?;
        procfs::parse_number(digits)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The rooms of a process in a cgroup of a tree of files, which is mounted as a container would see it.
    fn rooms(version: Version, root: &str, own: &str, files: &[(&str, &str)]) -> Vec<u64> {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let point = dir.path().display();
        let (membership, mount) = match version {
            Version::V1 => (
                format!("4:memory:{own}\n0::/\n"),
                format!("35 30 0:29 {root} {point} rw - cgroup cgroup rw,memory\n"),
            ),
            Version::V2 => (
                format!("0::{own}\n"),
                format!("35 30 0:29 {root} {point} rw - cgroup2 cgroup2 rw\n"),
            ),
        };
        let levels = levels_of(membership.as_bytes(), mount.as_bytes());
        levels
            .iter()
            .filter_map(Level::room)
            .map(|room| room.bytes)
            .collect()
    }

    #[test]
    fn each_cgroup_above_ours_leaves_its_own_room() {
        let files = [
            ("a/b/memory.max", "max\n"),
            ("a/b/memory.current", "700\n"),
            ("a/memory.max", "1000\n"),
            ("a/memory.high", "900\n"),
            ("a/memory.current", "850\n"),
            (
                "a/memory.stat",
                "anon 5\ninactive_file 100\nactive_file 400\n",
            ),
            ("memory.max", "5000\n"),
            ("memory.current", "1500\n"),
        ];
        assert_eq!(
            rooms(Version::V2, "/", "/a/b", &files),
            [150, 3500],
            "of a: memory.high, and the cache that nobody used lately"
        );
    }

    #[test]
    fn in_a_container_the_mounted_cgroup_is_ours() {
        let files = [("memory.max", "1000\n"), ("memory.current", "400\n")];
        assert_eq!(rooms(Version::V2, "/", "/", &files), [600]);
        assert_eq!(
            rooms(Version::V2, "/pod/c1", "/pod/c1", &files),
            [600],
            "without a namespace of its own"
        );
        assert_eq!(rooms(Version::V2, "/pod/c1", "/elsewhere", &files), [0; 0]);
    }

    #[test]
    fn version_1_tells_limits_that_are_not_mounted_here_and_those_of_kernel_memory_and_swap() {
        const NONE: &str = "9223372036854771712\n";
        let mut files = vec![
            ("memory.limit_in_bytes", NONE),
            ("memory.usage_in_bytes", "400\n"),
            (
                "memory.stat",
                "inactive_file 7\nhierarchical_memory_limit 1000\ntotal_inactive_file 50\n",
            ),
        ];
        assert_eq!(rooms(Version::V1, "/d/x", "/d/x", &files), [650]);
        files.push(("memory.memsw.limit_in_bytes", "900\n"));
        files.push(("memory.memsw.usage_in_bytes", "500\n"));
        assert_eq!(rooms(Version::V1, "/d/x", "/d/x", &files), [450]);
        files.push(("memory.kmem.limit_in_bytes", "300\n"));
        files.push(("memory.kmem.usage_in_bytes", "200\n"));
        assert_eq!(rooms(Version::V1, "/d/x", "/d/x", &files), [100]);
        files.retain(|(file, _)| !file.contains("kmem") && !file.contains("memsw"));
        files[0].1 = "390\n";
        assert_eq!(
            rooms(Version::V1, "/d/x", "/d/x", &files),
            [40],
            "its own limit"
        );
    }

    #[test]
    fn a_charge_above_the_limit_leaves_nothing() {
        let files = [("memory.max", "1000\n"), ("memory.current", "1200\n")];
        assert_eq!(rooms(Version::V2, "/", "/", &files), [0]);
    }

    #[test]
    fn this_machine_has_room() {
        let room = Room::own().expect("/proc/meminfo can be read");
        assert!(room.bytes > 0, "{room:?}");
    }
}
