//! Whether the probes of followed processes are still where they were put, and that they are out in the end.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use highwater_common::cookie::Function;

use super::{Session, follow::Followed};
use crate::target::{
    Target,
    maps::{Mapping, MappingName},
    probed_code::{self, InMemory, ProbedCode},
};
use crate::words::say;

/// How often the probes of a process are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many processes are looked at in one go, each within some 20 us.
const AT_ONCE: usize = 64;
/// The kernel takes probes out within some 100 ms, those of perf events within seconds.
const OUT_WITHIN: Duration = Duration::from_secs(4);
/// How long it is waited where a breakpoint was there before ours: it may be another tracer's, which stays.
const SHARED_OUT_WITHIN: Duration = Duration::from_millis(300);

/// The probed code of a process that has probes in it.
#[derive(Debug)]
pub(super) struct Probed {
    code: ProbedCode,
    /// Functions whose probes are known to be lost.
    lost: HashSet<Function>,
    /// The debugger that has been spoken of.
    debugger: Option<u32>,
    looked_at: Instant,
}

impl Probed {
    pub(super) fn new(code: ProbedCode) -> Self {
        Self {
            code,
            lost: HashSet::new(),
            debugger: None,
            looked_at: Instant::now(),
        }
    }

    /// The functions whose probes are gone since the last look, and what is there instead.
    fn newly_lost(&mut self) -> Vec<(Function, InMemory)> {
        self.looked_at = Instant::now();
        // What cannot be read has ended, or become another program: its end is on its way.
        let Ok(found) = self.code.look() else {
            return Vec::new();
        };
        let is_lost = |found: &InMemory| *found != InMemory::Breakpoints { at_place: true };
        found
            .into_iter()
            .filter(|(function, found)| is_lost(found) && self.lost.insert(*function))
            .collect()
    }

    /// A debugger that was not there at the last look.
    fn new_debugger(&mut self, target: &Target) -> Option<u32> {
        let debugger = target.debugger();
        let is_new = debugger.is_some() && debugger != self.debugger;
        self.debugger = debugger;
        debugger.filter(|_| is_new)
    }
}

/// One sentence on a probe that is not there any more.
fn lost(function: Function, found: &InMemory) -> String {
    let function = function.symbol();
    match found {
        InMemory::Patched(_) => format!(
            "{function} was patched in memory, over the probe: its calls are not seen since"
        ),
        _ => format!(
            "the probe at {function} was overwritten (a debugger does that when it deletes its own breakpoint there): its calls \
             are not seen since"
        ),
    }
}

impl Session {
    /// Looks at the probes of those processes that were not looked at for a while.
    pub(super) fn look_at_probes(&mut self) {
        let due = |followed: &&mut Followed| {
            followed.link.is_some()
                && followed
                    .probed
                    .as_ref()
                    .is_some_and(|probed| probed.looked_at.elapsed() >= LOOK_EVERY)
        };
        let at = crate::units::time::offset(self.started.elapsed().as_nanos() as u64);
        let mut losses = Vec::new();
        for followed in self.processes.values_mut().filter(due).take(AT_ONCE) {
            let Some(probed) = &mut followed.probed else {
                continue;
            };
            let (pid, command) = (followed.target.pid, &followed.target.command);
            for (function, found) in probed.newly_lost() {
                let what = lost(function, &found);
                losses.push(format!("at {at}, in process {pid} ({command}): {what}"));
            }
            if let Some(debugger) = probed.new_debugger(&followed.target) {
                say!(
                    "process {debugger} debugs {pid} now. If it has a breakpoint at an allocator function, delete that \
                     while highwater still records: deleted later, it leaves a trap behind that kills {pid}, unless `highwater \
                     doctor --heal` takes it out first"
                );
            }
        }
        for loss in losses {
            self.quality.lost_probes += 1;
            self.quality.note(loss);
        }
    }

    /// Remembers a process that has loaded a library which patches or copies code.
    pub(super) fn note_patcher(&mut self, followed: &Followed, mappings: &[Mapping]) {
        let patcher = mappings.iter().find_map(|mapping| match &mapping.path {
            MappingName::File(path, _) if probed_code::is_patcher(path) => Some(path),
            _ => None,
        });
        let is_probed = followed.link.is_some() || followed.stage.is_placing();
        if let (Some(library), true) = (patcher, is_probed) {
            let tgid = followed.target.pid;
            self.patchers.insert(tgid, library.clone());
        }
    }

    /// Takes the probes out of such processes before our breakpoints are copied.
    pub(super) fn let_patchers_go(&mut self) {
        for (tgid, library) in std::mem::take(&mut self.patchers) {
            let why = format!(
                "it has loaded {}, which patches or copies code while the program runs; a breakpoint that is copied with it would \
                 kill it",
                library.display()
            );
            self.let_one_go(tgid, &why);
        }
    }

    /// Takes all probes out, and waits until they are.
    pub(super) fn take_probes_out(&mut self) {
        for followed in self.processes.values_mut() {
            if let Some(probed) = &mut followed.probed {
                probed.looked_at -= LOOK_EVERY;
            }
        }
        self.look_at_probes();
        for followed in self.processes.values_mut() {
            followed.unlink();
        }
        let probed = self.processes.values().filter_map(|it| it.probed.as_ref());
        let codes = probed.map(|probed| &probed.code);
        let (shared, ours): (Vec<_>, Vec<_>) = codes.partition(|code| code.was_shared());
        probed_code::await_probes_out(&ours, OUT_WITHIN);
        probed_code::await_probes_out(&shared, SHARED_OUT_WITHIN);
        for followed in self.processes.values() {
            let probed = followed.probed.as_ref();
            let left = probed.map(|probed| probed.code.breakpoints());
            for function in left.unwrap_or_default() {
                say!(
                    "a breakpoint stands at {} of process {}: another tracer's, or a debugger's; if neither is there, \
                     `highwater doctor --heal` takes it out",
                    function.symbol(),
                    followed.target.pid
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_probe_is_told_by_what_took_its_place() {
        let patched = lost(Function::Malloc, &InMemory::Patched([0xe9].into()));
        assert!(patched.starts_with("malloc was patched"), "{patched}");
        let deleted = lost(Function::Free, &InMemory::Original);
        assert!(
            deleted.contains("the probe at free was overwritten"),
            "{deleted}"
        );
    }
}
