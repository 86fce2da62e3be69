//! Whose a process is: its command, its cgroup, its container, its systemd unit.

use super::name;
use crate::record::Process;
use crate::words::printable;

/// What processes are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The program, or the script that an interpreter runs, by its name.
    Command,
    /// The cgroup, by its path.
    Cgroup,
    /// The container, by its id.
    Container,
    /// The systemd service or scope, by its name.
    Unit,
}

/// Hexadecimal digits of a container's id that are shown, as its runtimes do.
const SHOWN_OF_ID: usize = 12;

impl Owner {
    /// The name of a process's owner.
    pub fn of(self, process: &Process) -> String {
        let cgroup = process.cgroup.as_deref();
        match self {
            Self::Command => name::run_by(&process.command),
            Self::Cgroup => cgroup.map_or_else(
                || "(unknown cgroup)".to_owned(),
                |cgroup| printable(&cgroup.path).into_owned(),
            ),
            Self::Container => match cgroup.and_then(|cgroup| cgroup.container.as_deref()) {
                Some(id) => printable(id.get(..SHOWN_OF_ID).unwrap_or(id)).into_owned(),
                None => "(in no container)".to_owned(),
            },
            Self::Unit => match cgroup.and_then(|cgroup| unit(&cgroup.path)) {
                Some(unit) => printable(unit).into_owned(),
                None => "(in no unit)".to_owned(),
            },
        }
    }
}

/// The innermost service or scope that a cgroup's path goes through; slices are no units of processes
/// (<https://www.freedesktop.org/software/systemd/man/latest/systemd.slice.html>).
pub fn unit(path: &str) -> Option<&str> {
    let is_unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    path.rsplit('/').find(is_unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_the_innermost_service_or_scope() {
        for (path, expected) in [
            ("/system.slice/nginx.service", Some("nginx.service")),
            ("/system.slice/nginx.service/workers", Some("nginx.service")),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope",
                Some("run-7.scope"),
            ),
            ("/user.slice", None),
            ("/", None),
        ] {
            assert_eq!(unit(path), expected, "{path}");
        }
    }
}
