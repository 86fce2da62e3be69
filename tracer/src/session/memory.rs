//! What the kernel says of the traced processes' memory.

use super::{PROBES_LOST, Session, clock};
use crate::{
    record::{Entry, MemorySample},
    target::cgroup::MemoryCgroup,
};

impl Session {
    /// Samples every followed process.
    pub(super) fn sample_all(&mut self) {
        if self.kernel.has_lost_its_links() && self.root_ended.is_none() {
            self.quality.note(
                "hw-guard, which held the probes, was killed: nothing was seen from then on"
                    .to_owned(),
            );
            self.root_ended = Some(PROBES_LOST);
        }
        let all: Vec<u32> = self.processes.keys().copied().collect();
        for tgid in all {
            self.sample(tgid);
            self.check_end(tgid);
        }
    }

    /// Samples one process, and looks now and then whether its code has moved.
    pub(super) fn sample(&mut self, tgid: u32) {
        let Some(mut followed) = self.processes.remove(&tgid) else {
            return;
        };
        if followed.is_written()
            && let Some(memory) = followed
                .sampler
                .as_mut()
                .and_then(|sampler| sampler.sample().ok())
        {
            let cgroup = followed.cgroup.as_ref();
            followed.rss = memory.rss;
            self.write_pending();
            self.write(&Entry::Memory(MemorySample {
                at: clock::monotonic(),
                process: followed.id,
                rss: memory.rss,
                anon: memory.anon,
                file: memory.file,
                shmem: memory.shmem,
                swap: memory.swap,
                cgroup_current: cgroup.and_then(MemoryCgroup::charge),
                cgroup_limit: cgroup.and_then(MemoryCgroup::limit),
            }));
            if self.sideband.is_none() && followed.is_due_for_reading() {
                self.read_code(&mut followed);
            }
        }
        self.processes.insert(tgid, followed);
    }

    /// Resident memory of the target at the last sample, bytes.
    pub(super) fn root_rss(&self) -> Option<u64> {
        self.processes.get(&self.root)?.rss
    }
}
