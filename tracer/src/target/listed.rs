//! The processes of the machine, each by as little as tells which scope it is in: two short files of `/proc`.

use std::path::Path;

use super::{
    TargetError,
    cgroup::{CGROUP_LIMIT, parse_paths},
    error::Privilege,
    process::numbered_entries,
    procfs::{self, STATUS_LIMIT},
};

/// What is known of a process by its place in `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its pid, as we see it.
    pub pid: u32,
    /// The process that made it, or took it over.
    pub parent: u32,
    /// When it started, clock ticks after boot: with the pid, its identity.
    pub start_ticks: u64,
    /// The name that the kernel has for it, up to 15 bytes, which it may have chosen itself.
    pub name: Vec<u8>,
    /// Its cgroups, one a hierarchy, as `/proc/PID/cgroup` names them.
    pub cgroups: Vec<String>,
    /// It is a thread of the kernel, and has no memory of its own.
    pub is_kernels: bool,
}

impl Listed {
    /// Looks a process up.
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`] if there is none, or if it only waits to be reaped.
    pub fn of(pid: u32) -> Result<Self, TargetError> {
        let dir = Path::new("/proc").join(pid.to_string());
        let read = |path: &Path, limit| {
            procfs::read(path, limit)
                .map_err(|source| TargetError::reading(pid, path, Privilege::Inspect, source))
        };
        let path = dir.join("stat");
        let text = read(&path, STATUS_LIMIT)?;
        let (Some(stat), Some(name)) = (procfs::parse_stat(&text), procfs::stat_name(&text)) else {
            let what = "too few fields";
            return Err(TargetError::Malformed { path, what });
        };
        if stat.is_dead() && !has_other_threads(&dir) {
            return Err(TargetError::Gone { pid });
        }
        Ok(Self {
            pid,
            parent: stat.parent,
            start_ticks: stat.start_ticks,
            name: name.to_vec(),
            // Without cgroups in the kernel there is no such file.
            cgroups: read(&dir.join("cgroup"), CGROUP_LIMIT)
                .map(|text| parse_paths(&text))
                .unwrap_or_default(),
            is_kernels: stat.is_kernel_thread(),
        })
    }
}

/// A leader that has ended, while other threads go on, is a zombie too.
fn has_other_threads(dir: &Path) -> bool {
    numbered_entries(&dir.join("task")).len() > 1
}

/// All processes that there are now, as far as we may know of them.
pub fn all() -> impl Iterator<Item = Listed> {
    let pids = numbered_entries(Path::new("/proc")).into_iter();
    pids.filter_map(|pid| Listed::of(pid).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::process::tests::Running;

    #[test]
    fn a_process_is_listed_with_its_name_its_parent_and_its_cgroups() {
        let cat = Running::cat();
        let target = cat.target();
        let found = all().find(|listed| listed.pid == target.pid);
        let found = found.expect("it runs");
        assert_eq!(found.name, b"cat");
        assert_eq!(found.parent, std::process::id());
        assert_eq!(found.start_ticks, target.start_ticks);
        assert!(!found.is_kernels);
        let ours = Listed::of(std::process::id()).expect("we run");
        assert_eq!(found.cgroups, ours.cgroups);
    }

    #[test]
    fn what_has_ended_is_gone() {
        let cat = Running::cat();
        let pid = cat.target().pid;
        drop(cat);
        assert!(matches!(Listed::of(pid), Err(TargetError::Gone { .. })));
    }
}
