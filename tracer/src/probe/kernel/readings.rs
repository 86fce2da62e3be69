//! What the kernel side has counted, and what it costs.

use std::{collections::HashMap, fs, io, os::fd::AsFd as _};

use highwater_common::{cookie::Function, counter::Counter, loss::Losses};

use super::Kernel;
use crate::{
    event::ProcessId,
    probe::sys::{self, Purpose},
};

impl Kernel {
    /// A counter, summed over all processors.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters
            .get(&(counter as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }

    /// Calls of a function that [counting links](crate::probe::link::Link::count) have seen since this was loaded.
    pub fn calls(&self, function: Function) -> u64 {
        self.calls
            .get(&(function as u32), 0)
            .map_or(0, |values| values.iter().sum())
    }

    /// How many of them came after a pause on their processor.
    pub fn rare_calls(&self) -> u64 {
        self.calls
            .get(&Function::RARE, 0)
            .map_or(0, |values| values.iter().sum())
    }

    /// What each program image lost so far.
    pub fn losses(&self) -> Vec<(ProcessId, Losses)> {
        let known = self.losses.iter().filter_map(Result::ok);
        known.map(|(id, losses)| (ProcessId(id), losses)).collect()
    }

    /// What a program image lost, of which no event will come any more: its counters are free for another one.
    pub fn take_losses(&mut self, image: ProcessId) -> Option<Losses> {
        let losses = self.losses.get(&image.0, 0).ok()?;
        // Only what was there can be removed, and nobody else removes it.
        let _ = self.losses.remove(&image.0);
        Some(losses)
    }

    /// What our maps, programs and unwind tables cost now, bytes of kernel memory, charged to our cgroup.
    pub fn memory_bytes(&self) -> u64 {
        let maps_and_programs = memory_of_descriptors()
            .inspect_err(|error| log::info!("our kernel memory is not known: {error}"))
            .unwrap_or(0);
        maps_and_programs + self.tables.bytes()
    }

    /// Whether a thread of the process has its alternate signal stack above its ordinary one. `None` where this kernel
    /// cannot tell (iterators came with 5.8, and need its type information).
    pub fn has_alternate_stack_above(&mut self, tgid: u32) -> Option<bool> {
        let scanned = self.scan_threads(tgid);
        if let Err(error) = &scanned {
            log::info!("the threads of process {tgid} could not be looked at: {error}");
        }
        scanned.ok()
    }

    fn scan_threads(&mut self, tgid: u32) -> io::Result<bool> {
        let unknown = |what: &str| io::Error::new(io::ErrorKind::Unsupported, what.to_owned());
        let target = *self
            .types
            .functions
            .get("bpf_iter_task")
            .ok_or_else(|| unknown("no task iterator"))?;
        let program = self
            .load_program("hw_threads", Purpose::TaskIterator(target))
            .map_err(io::Error::other)?;
        for (index, value) in [(0, u64::from(tgid)), (1, 0), (2, 0)] {
            self.scan.set(index, value, 0).map_err(io::Error::other)?;
        }
        sys::run_iterator(program.as_fd())?;
        let read = |index| self.scan.get(&index, 0).map_err(io::Error::other);
        if read(2)? == 0 {
            return Err(io::Error::other("no thread of it was seen"));
        }
        Ok(read(1)? > 0)
    }
}

/// Kernel memory of all maps and programs that we hold, as the kernel itself states it for each descriptor; each counts once.
fn memory_of_descriptors() -> io::Result<u64> {
    let mut each = HashMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        // Closed meanwhile, by another thread.
        let Ok(text) = fs::read_to_string(entry?.path()) else {
            continue;
        };
        let field = |name: &str| -> Option<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line?.trim().parse().ok()
        };
        let (map, program) = (field("map_id:"), field("prog_id:"));
        // A link names its program, but holds no memory of it.
        if let Some(bytes) = field("memlock:") {
            each.insert((map, program), bytes);
        }
    }
    Ok(each.values().sum())
}
