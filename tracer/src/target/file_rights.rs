//! The rights with which a process opens files, and how a thread of ours takes them.

use rustix::{
    process::{Gid, getgroups},
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups},
};

use super::{named_file::NotOpened, procfs};

/// Everything by which the kernel decides whether a process may read a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    user: u32,
    group: u32,
    /// Supplementary groups, sorted.
    groups: Vec<u32>,
    /// Those of its capabilities that count where files are opened.
    capabilities: CapabilitySet,
}

/// Capabilities that let a process read what modes and access lists forbid.
const READING: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH);

impl Rights {
    /// From the text of `/proc/PID/status`. `None`: it does not say.
    ///
    /// `in_our_namespace`: it has the user namespace that we have. The capabilities of others reach only what is mapped into theirs,
    /// and are left out.
    pub(super) fn of(status: &[u8], in_our_namespace: bool) -> Option<Self> {
        // Real, effective, saved, and that of files.
        let last = |name| {
            let ids = procfs::status_field(status, name)?;
            let id = ids.rsplit(u8::is_ascii_whitespace).next()?;
            u32::try_from(procfs::parse_number(id)?).ok()
        };
        let mut groups = procfs::status_field(status, "Groups")?
            .split(u8::is_ascii_whitespace)
            .filter(|group| !group.is_empty())
            .map(|group| u32::try_from(procfs::parse_number(group)?).ok())
            .collect::<Option<Vec<_>>>()?;
        groups.sort_unstable();
        let effective = str::from_utf8(procfs::status_field(status, "CapEff")?).ok()?;
        let effective = u64::from_str_radix(effective, 16).ok()?;
        let capabilities = CapabilitySet::from_bits_retain(effective) & READING;
        Some(Self {
            user: last("Uid")?,
            group: last("Gid")?,
            groups,
            capabilities: if in_our_namespace {
                capabilities
            } else {
                CapabilitySet::empty()
            },
        })
    }

    /// Those of this thread.
    #[cfg(test)]
    pub(super) fn our_own() -> Self {
        let status = std::fs::read("/proc/thread-self/status").unwrap();
        Self::of(&status, true).unwrap()
    }

    /// The user who owns the files that it makes.
    pub(super) fn user(&self) -> u32 {
        self.user
    }

    /// Gives this thread these rights and no others. It does not get its own back.
    pub(super) fn take(&self) -> Result<(), NotOpened> {
        const REFUSED: NotOpened = NotOpened::Refused("the rights of its process cannot be taken");
        let mut groups: Vec<u32> = getgroups()
            .map_err(std::io::Error::from)?
            .into_iter()
            .map(Gid::as_raw)
            .collect();
        groups.sort_unstable();
        if groups != self.groups {
            let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
            set_thread_groups(&groups).map_err(|_| REFUSED)?;
        }
        // Neither call says whether it worked; each tells what was before.
        // SAFETY: they take numbers, and change this thread alone.
        let taken = unsafe {
            libc::setfsgid(self.group);
            libc::setfsuid(self.user);
            (libc::setfsgid(u32::MAX), libc::setfsuid(u32::MAX))
        };
        if taken != (self.group.cast_signed(), self.user.cast_signed()) {
            return Err(REFUSED);
        }
        let allowed = capabilities(None).map_err(std::io::Error::from)?.permitted;
        let kept = allowed & self.capabilities;
        let sets = CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        };
        Ok(set_capabilities(None, sets).map_err(std::io::Error::from)?)
    }
}
