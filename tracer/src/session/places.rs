//! Where the probes of a process are, so that they can be put in again at once.
//!
//! A link names a thread, whose memory the kernel compares with that of whoever maps or runs the probed file. Where another thread than
//! the leader calls exec, it takes the leader's number, the leader is gone, and with it all that the link can see. The new program
//! maps its libc within a millisecond, so what is needed for new links is at hand: the file, and the places in it. What cannot be
//! helped is that the kernel waits for a grace period of RCU before it places the first of them (`dup_mmap_sem`,
//! in `register_for_each_vma` of `kernel/events/uprobes.c`), 12 to 15 ms as measured; the others take 20 us each.

use std::{
    fs::File,
    num::NonZeroU32,
    path::PathBuf,
    sync::{Arc, Weak},
};

use highwater_common::{
    event::{EventKind, FLAG_FROM_THREAD, RawEvent},
    process::PROCESS_CALLS_HELD,
};

use super::{Session, attach::sites, clock, follow::Followed};
use crate::{
    event::{Nanos, ProcessId},
    probe::{
        ProbeError,
        link::{Link, LinkKind, Site, Whose},
    },
    target::{
        allocator::{Allocator, Library},
        mapped_file::identity_of,
    },
};

/// Probes in a library.
#[derive(Debug)]
pub(super) struct Place {
    kind: LinkKind,
    file: File,
    /// Device and inode.
    identity: Option<(u64, u64)>,
    name: PathBuf,
    sites: Vec<Site>,
}

/// The places of all processes: most have the same.
#[derive(Debug, Default)]
pub(super) struct Places(Vec<Weak<Place>>);

impl Places {
    /// Where the probes of one process are. `None` where its file cannot be held open once more.
    pub(super) fn remember(&mut self, kind: LinkKind, allocator: &Allocator) -> Option<Arc<Place>> {
        let (identity, sites) = (identity_of(&allocator.file), sites(allocator));
        self.0.retain(|place| place.strong_count() > 0);
        let known =
            self.0.iter().filter_map(Weak::upgrade).find(|place| {
                place.kind == kind && place.identity == identity && place.sites == sites
            });
        if let Some(known) = known {
            return Some(known);
        }
        let place = Arc::new(Place {
            kind,
            file: allocator.file.try_clone().ok()?,
            identity,
            name: allocator.name.clone(),
            sites,
        });
        self.0.push(Arc::downgrade(&place));
        Some(place)
    }
}

impl Session {
    /// Looks for execs by threads that are not leaders, before anything else is done about what a look at the rings has found.
    pub(super) fn link_again(&mut self, events: &[RawEvent]) {
        let executed = |event: &&RawEvent| {
            event.kind == EventKind::Executed as u8 && event.flags & FLAG_FROM_THREAD != 0
        };
        for event in events.iter().filter(executed) {
            let tgid = self.tgid_of(ProcessId(event.process));
            let Some(mut followed) = tgid.and_then(|tgid| self.processes.remove(&tgid)) else {
                continue;
            };
            self.link_new_leader(
                &mut followed,
                Nanos(event.at_ns),
                ProcessId(event.address as u32),
            );
            self.processes.insert(followed.target.pid, followed);
        }
    }

    /// The thread that called exec, at that time, has become the leader of a new program: the probes are put in again, where the
    /// program before had them. Calls count from the moment at which all of them are in.
    pub(super) fn link_new_leader(&mut self, old: &mut Followed, at: Nanos, next: ProcessId) {
        if old.linked_at > at {
            return;
        }
        // Until the new links are there: the breakpoints stay, and are not put in once more.
        let before = old.link.take();
        let (Some(_), Some(place)) = (&before, &old.place) else {
            return;
        };
        let place = Arc::clone(place);
        let tgid = old.target.pid;
        match self.place_anew(tgid, next, &place) {
            Ok(Some(link)) => {
                old.link = Some(link);
                old.linked_at = clock::monotonic();
            }
            // It has ended meanwhile, or is yet another program.
            Ok(None) => {}
            // It is looked at in a moment as every new program is.
            Err(error) => log::info!("no probes in the new program of process {tgid} yet: {error}"),
        }
    }

    fn place_anew(
        &mut self,
        tgid: u32,
        next: ProcessId,
        place: &Place,
    ) -> Result<Option<Link>, ProbeError> {
        let flags = self.options.children_flag();
        if !self
            .kernel
            .set_flags(tgid, next, flags | PROCESS_CALLS_HELD)?
        {
            return Ok(None);
        }
        let library = Library {
            file: &place.file,
            name: &place.name,
        };
        let pid = NonZeroU32::new(tgid).unwrap_or(NonZeroU32::MIN);
        let link = Link::place(
            &mut self.kernel,
            place.kind,
            library,
            &place.sites,
            Whose::of(pid),
        );
        self.kernel.set_flags(tgid, next, flags)?;
        link.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_with_the_same_probes_share_one_open_file_until_the_last_has_ended() {
        let library = std::env::current_exe().expect("we have a program");
        let allocator = Allocator {
            name: library.clone(),
            file: File::open(&library).expect("it can be opened"),
            build_id: None,
            text: 0..0,
            own_code: 0..0,
            probes: Vec::new(),
            interposed_by: None,
            unexamined: Vec::new(),
            patched: Vec::new(),
            in_memory: None,
        };
        let mut places = Places::default();
        let mut remember = |kind| places.remember(kind, &allocator).expect("one more file");
        let (first, second) = (remember(LinkKind::Session), remember(LinkKind::Session));
        assert!(Arc::ptr_eq(&first, &second));
        // Its probes are of another kind.
        let third = remember(LinkKind::Perf);
        assert!(!Arc::ptr_eq(&first, &third));
        drop((first, second));
        let fourth = remember(LinkKind::Perf);
        assert!(Arc::ptr_eq(&third, &fourth));
        assert_eq!(places.0.len(), 1);
    }
}
