//! Ctrl-Z: a recorder that is stopped would leave its probes in, and nobody to take what they send. They are taken out first, and
//! put in again when it goes on; that nothing was seen meanwhile is written down.
//!
//! The kernel side goes on to follow lives: what its processes became is in the rings when they are looked at again.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{
    Session, SessionError,
    attach::examine,
    clock,
    follow::{Followed, Stage},
};
use crate::{event::Nanos, probe::drain::Batch, record::Pause, target::allocator};
use highwater_common::process::PROCESS_HELD;

/// So long after the stop there is nothing left in the rings of what came in it.
const QUIET: Duration = Duration::from_millis(60);
/// More pauses than this are told as one with the last.
const MOST_PAUSES: usize = 256;

impl Session {
    /// Takes the probes out, stops until SIGCONT, and puts them in again.
    pub(super) async fn pause(&mut self, batches: &mut mpsc::Receiver<Batch>) {
        let from = clock::monotonic();
        let paused = self.pause_probes();
        self.flush();
        // SAFETY: it stops this process, and returns when that goes on.
        unsafe { libc::raise(libc::SIGSTOP) };
        // What the processes have become comes first: which of them there are, and which programs they run.
        let on = clock::monotonic();
        while let Ok(Some(batch)) = tokio::time::timeout(QUIET, batches.recv()).await {
            let last = batch
                .events
                .last()
                .map_or(Nanos(0), |event| Nanos(event.at_ns));
            self.take(batch);
            if last > on {
                break;
            }
        }
        self.put_probes_in(&paused);
        self.write_down(from);
    }

    /// Gives the processes that had probes.
    fn pause_probes(&mut self) -> Vec<u32> {
        self.await_attached();
        let tgids: Vec<u32> = self.processes.keys().copied().collect();
        let mut paused = Vec::new();
        // One cut for all functions and processes: the probes themselves go one after another.
        for tgid in tgids {
            let Some(followed) = self.processes.remove(&tgid) else {
                continue;
            };
            if let Err(error) = self.declare(&followed, None, PROCESS_HELD) {
                log::info!("process {tgid} is followed until its probes are out: {error}");
            }
            if followed.link.is_some() {
                paused.push(tgid);
            }
            self.processes.insert(tgid, followed);
        }
        self.take_probes_out();
        self.kernel.unfollow_mappings();
        paused
    }

    fn put_probes_in(&mut self, paused: &[u32]) {
        if let Err(error) = self.kernel.follow_remapping() {
            log::info!("code whose addresses are given out anew is not seen off: {error}");
        }
        if self.options.mappings
            && let Err(error) = self.kernel.follow_mappings()
        {
            self.quality
                .note(format!("memory mappings were not traced any more: {error}"));
        }
        for tgid in paused {
            let Some(mut followed) = self.processes.remove(tgid) else {
                continue;
            };
            // What has called exec is looked at as every new program is.
            if followed.stage == Stage::Settled
                && followed.link.is_none()
                && followed.target.is_alive()
                && let Err(error) = self.relink(&mut followed)
            {
                self.quality.unfollowed_children += 1;
                self.quality.note(format!(
                    "nothing of process {tgid} ({}) is seen since the recorder was stopped: {error}",
                    followed.target.command
                ));
            }
            self.processes.insert(*tgid, followed);
        }
    }

    /// Puts probes into a process that had some before.
    pub(super) fn relink(&mut self, followed: &mut Followed) -> Result<(), SessionError> {
        followed.target = followed.target.refreshed()?;
        let findings = examine(followed.target.pid)?.1;
        let mut allocator = allocator::find_probed(&followed.target)?;
        let kind = self.kind_for(&followed.target, &findings)?;
        self.place_held(followed, kind, &mut allocator)
    }

    fn write_down(&mut self, Nanos(from_ns): Nanos) {
        let Nanos(to_ns) = clock::monotonic();
        let pauses = &mut self.quality.pauses;
        let is_full = pauses.len() >= MOST_PAUSES;
        match pauses.last_mut() {
            Some(last) if is_full => last.to_ns = to_ns,
            _ => pauses.push(Pause { from_ns, to_ns }),
        }
        log::warn!(
            "stopped for {}: nothing was seen in that time",
            crate::units::time::duration(to_ns.saturating_sub(from_ns))
        );
    }
}
