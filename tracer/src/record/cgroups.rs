//! Cgroups: each has one entry, and the processes in it tell its number.
//!
//! Processes of one scope are mostly in the same few, and a path may be longer than all else that is said of a process.

use std::sync::Arc;

use hashbrown::HashMap;

use super::damage::Damage;
use super::entries::CGROUP;
use super::fields::{Fields, put_optional_text};
use super::varint::{put, put_bytes};

/// A memory cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cgroup {
    /// Its path in its hierarchy, as `/proc/PID/cgroup` has it.
    pub path: String,
    /// The container that it is the cgroup of, by the id that its runtime gave it.
    pub container: Option<String>,
}

/// Digits of the id of a container: a SHA-256 in hexadecimal, or as many random ones.
const ID_DIGITS: usize = 64;

/// What runtimes put before the id in the name of a container's systemd scope: docker, containerd (under Kubernetes, and by nerdctl), cri-o,
/// podman.
const SCOPES: [&str; 5] = ["docker-", "cri-containerd-", "nerdctl-", "crio-", "libpod-"];

impl Cgroup {
    /// The cgroup at this path. Which container it is of is known by how docker, containerd, podman and cri-o name their cgroups.
    pub fn at(path: String) -> Self {
        let container = Self::container_in(&path).map(str::to_owned);
        Self { path, container }
    }

    /// The id of the innermost container that a cgroup's path goes through.
    pub fn container_in(path: &str) -> Option<&str> {
        let parts: Vec<&str> = path.split('/').collect();
        parts.iter().enumerate().rev().find_map(|(at, part)| {
            if let Some(scope) = part.strip_suffix(".scope") {
                let id = SCOPES
                    .iter()
                    .find_map(|scopes| scope.strip_prefix(scopes))?;
                return is_id(id).then_some(id);
            }
            // Without systemd the id is a directory of its own, in one that is named for who made it.
            let id = part.strip_prefix("libpod-").unwrap_or(part);
            let above = at.checked_sub(1).map_or("", |above| parts[above]);
            let is_made = ["docker", "libpod_parent"].contains(&above) || above.starts_with("pod");
            (is_made && is_id(id)).then_some(id)
        })
    }
}

fn is_id(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == ID_DIGITS && text.bytes().all(is_digit)
}

/// The cgroups of a recording so far, as it is written.
#[derive(Default)]
pub(super) struct Cgroups {
    numbers: HashMap<Arc<Cgroup>, u32>,
}

impl Cgroups {
    /// Its number, if it was written.
    pub(super) fn number(&self, cgroup: &Arc<Cgroup>) -> Option<u32> {
        self.numbers.get(cgroup).copied()
    }

    /// Appends the body of a new one, and gives its kind.
    pub(super) fn put(&self, to: &mut Vec<u8>, cgroup: &Cgroup) -> u8 {
        let Cgroup { path, container } = cgroup;
        put(to, self.numbers.len() as u64);
        put_bytes(to, path.as_bytes());
        put_optional_text(to, container.as_deref());
        CGROUP
    }

    /// It was written, and has this number.
    pub(super) fn add(&mut self, cgroup: &Arc<Cgroup>) -> u32 {
        let number = self.numbers.len() as u32;
        self.numbers.insert(Arc::clone(cgroup), number);
        number
    }
}

/// The cgroups of a recording so far, as it is read.
#[derive(Default)]
pub(super) struct KnownCgroups {
    by_number: HashMap<u32, Arc<Cgroup>>,
    /// The one that a process of an older version was in last.
    last: Option<Arc<Cgroup>>,
}

impl KnownCgroups {
    /// Reads the body of one.
    pub(super) fn read(&mut self, fields: &mut Fields<'_>) -> Result<(), Damage> {
        let number = fields.unsigned_32()?;
        let cgroup = Cgroup {
            path: fields.text()?,
            container: fields.optional_text()?,
        };
        self.by_number.insert(number, Arc::new(cgroup));
        Ok(())
    }

    pub(super) fn get(&self, number: u32) -> Result<Arc<Cgroup>, Damage> {
        let cgroup = self.by_number.get(&number);
        cgroup.map(Arc::clone).ok_or(Damage::Reference)
    }

    /// The one at this path: up to version 3 processes told it themselves.
    pub(super) fn at(&mut self, path: String) -> Arc<Cgroup> {
        match &self.last {
            Some(last) if last.path == path => Arc::clone(last),
            _ => Arc::clone(self.last.insert(Arc::new(Cgroup::at(path)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_how_its_runtime_names_its_cgroup() {
        let id = "0123456789abcdef".repeat(4);
        let other = "fedcba9876543210".repeat(4);
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/system.slice/docker-{id}.scope/init.scope"),
            format!("/docker/{other}/docker/{id}/app"),
            format!("/kubepods/burstable/pod0f1e-2d/{id}"),
            format!("/kubepods.slice/kubepods-pod0f1e.slice/cri-containerd-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod0f1e.slice/crio-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/libpod_parent/libpod-{id}"),
            format!("/system.slice/nerdctl-{id}.scope"),
        ] {
            assert_eq!(Cgroup::container_in(&path), Some(id.as_str()), "{path}");
        }
        for path in [
            "/".to_owned(),
            "/user.slice/user-0.slice/session-1.scope".to_owned(),
            // The monitor of a container, a build, a name that is no id.
            format!("/machine.slice/libpod-conmon-{id}.scope"),
            format!("/system.slice/run-{id}.scope"),
            format!("/data/{id}"),
            format!("/docker/{}", &id[1..]),
            format!("/docker/{}", id.to_uppercase()),
        ] {
            assert_eq!(Cgroup::container_in(&path), None, "{path}");
        }
    }
}
