//! What may be taken of the memory that is left to our cgroups, and what is refused because it is not.
//!
//! What we take there, others in it cannot have; where the traced program is one of them and it is full, the kernel kills the
//! program. So a quarter of the room stays for those others, and the rest has to hold what we take at our most.

use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{
    probe::sizes::Sizes,
    target::room::{Bound, Room},
    units::size,
    words::say,
};

/// Kernel memory while the verifier works on our largest program, with the programs themselves, bytes. 6 MiB by measurement on
/// Linux 6.18; that of 6.1 looks at three times as many instructions.
const VERIFYING: u64 = 24 << 20;
/// Memory of the recorder and of its helpers without the rings, bytes.
const OURSELVES: u64 = 40 << 20;
/// What tracing still needs once everything was loaded: unwind tables, batches and names, bytes.
const GOING_ON: u64 = 16 << 20;

/// There is too little room for us beside those who use it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", self.words())]
pub struct NoRoom {
    /// What is left, and to whom.
    room: Room,
    /// What is needed at least, bytes.
    needed: u64,
    /// Programs and maps are loaded already.
    is_loaded: bool,
}

impl NoRoom {
    fn words(&self) -> String {
        let Room { bytes, bound } = &self.room;
        let (left, needed) = (size::short(*bytes), size::short(self.needed));
        let takes = match self.is_loaded {
            true => format!("tracing would take {needed} more"),
            false => format!("this takes {needed} at least"),
        };
        match bound {
            Bound::Cgroup { dir, limit, top } => format!(
                "too little room for the recorder in its own cgroup: {} has {left} left of {}, of which a quarter stays for others, and {takes}. \
                 Beyond that the kernel would kill a process in it, perhaps the one to be traced; no probe went in.\n\
                 Run highwater outside of that cgroup: from the host, by `systemd-run --scope highwater ...`, or from a shell \
                 that was moved by `echo $$ > {}`",
                dir.display(),
                size::short(*limit),
                processes_file(dir, top).display(),
            ),
            Bound::Machine => format!(
                "too little memory for the recorder: this machine has {left} available, of which a quarter stays for others, and \
                 {takes}. Beyond that the kernel would kill a process, perhaps the one to be traced; no probe went in.\n\
                 Free some memory first, or record on a machine with more of it"
            ),
        }
    }
}

/// Where a pid is written to leave the cgroup; in a container its own may be all that there is.
fn processes_file(dir: &Path, top: &Path) -> PathBuf {
    match dir == top {
        true => Path::new("/sys/fs/cgroup").join("...").join("cgroup.procs"),
        false => top.join("cgroup.procs"),
    }
}

/// The largest of these sizes, or of smaller ones, for which there is room.
///
/// # Errors
///
/// There is no room for the smallest.
pub(super) fn afford(wanted: Sizes) -> Result<Sizes, NoRoom> {
    let Some(room) = Room::own() else {
        return Ok(wanted);
    };
    let sizes = fit(wanted, &room)?;
    if sizes != wanted {
        let whose = match &room.bound {
            Bound::Cgroup { dir, .. } => dir.display().to_string(),
            Bound::Machine => "this machine".to_owned(),
        };
        let ring = |sizes: Sizes| size::short(u64::from(sizes.ring()));
        say!(
            "{whose} has {} left: the event ring has {} in place of {}, and tables are smaller",
            size::short(room.bytes),
            ring(sizes),
            ring(wanted),
        );
    }
    Ok(sizes)
}

/// Whether there is room at all, before it is known what is wanted.
///
/// # Errors
///
/// There is no room for the smallest sizes.
pub(super) fn check(wanted: Sizes) -> Result<(), NoRoom> {
    match Room::own() {
        Some(room) => fit(wanted, &room).map(drop),
        None => Ok(()),
    }
}

fn fit(wanted: Sizes, room: &Room) -> Result<Sizes, NoRoom> {
    let ours = room.bytes / 4 * 3;
    let taken = |sizes: &Sizes| sizes.bytes() + VERIFYING + OURSELVES;
    let mut sizes = wanted;
    while taken(&sizes) > ours {
        let Some(smaller) = sizes.smaller() else {
            return Err(NoRoom {
                room: room.clone(),
                needed: taken(&sizes),
                is_loaded: false,
            });
        };
        sizes = smaller;
    }
    Ok(sizes)
}

/// A last look, with everything loaded, before probes go in: others may have taken the room meanwhile.
///
/// # Errors
///
/// Too little is left to go on.
pub(super) fn still_fits() -> Result<(), NoRoom> {
    match Room::own() {
        Some(room) if room.bytes / 4 * 3 < GOING_ON => Err(NoRoom {
            room,
            needed: GOING_ON,
            is_loaded: true,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(mebibytes: u64) -> Room {
        Room {
            bytes: mebibytes << 20,
            bound: Bound::Cgroup {
                dir: "/sys/fs/cgroup/pod/web".into(),
                limit: 512 << 20,
                top: "/sys/fs/cgroup".into(),
            },
        }
    }

    #[test]
    fn three_quarters_of_the_room_hold_whatever_is_taken() {
        let wanted = Sizes::with_ring(64 << 20, false, 2);
        for mebibytes in 0..1000 {
            if let Ok(sizes) = fit(wanted, &room(mebibytes)) {
                let taken = sizes.bytes() + VERIFYING + OURSELVES;
                assert!(taken <= (mebibytes << 20) * 3 / 4, "{mebibytes} MiB");
            }
        }
        assert_eq!(fit(wanted, &room(300)), Ok(wanted));
        let less = fit(wanted, &room(200)).unwrap();
        assert!(less.ring() < 64 << 20 && less.ring() >= 8 << 20, "{less:?}");
    }

    #[test]
    fn a_refusal_names_the_room_what_is_needed_and_where_to_go() {
        let wanted = Sizes::with_ring(1 << 20, false, 2);
        let words = fit(wanted, &room(80)).unwrap_err().to_string();
        for part in [
            "/sys/fs/cgroup/pod/web has 80.0 MiB left of 512.0 MiB",
            "at least",
            "from the host",
            "systemd-run --scope",
            "echo $$ > /sys/fs/cgroup/cgroup.procs",
        ] {
            assert!(words.contains(part), "{part:?} is not in {words:?}");
        }
    }
}
