//! How often a process loads a file of code. A plugin that is opened and closed again and again is one module of the recording, and
//! what each of its loads holds is one holder: that these are many has to be told.
//!
//! The kernel's records of mapped code are counted. A load maps each executable segment of the file once; that which was mapped
//! most often counts. What was mapped before a process came under trace is not heard of, so a plugin that it had open then has a load
//! more than is told; and where records were lost there may be more as well.

use std::collections::HashMap;

use super::Session;
use crate::{
    event::{Nanos, ProcessId},
    probe::sideband::Mapped,
    record::{Entry, Loads, ModuleIndex},
};

/// Segments of files that are counted of one process; those of more are not.
const MOST_SEGMENTS: usize = 4096;

/// A file, by device and inode, and where in it the mapping begins.
type Segment = ((u32, u32), u64, u64);

/// How often something was mapped, and when last.
#[derive(Debug, Default)]
struct Times {
    count: u64,
    last: Nanos,
}

/// What each traced process has mapped.
#[derive(Debug, Default)]
pub(super) struct MappedFiles {
    /// The process of each pid that is traced now.
    of_pid: HashMap<u32, ProcessId>,
    mapped: HashMap<ProcessId, OfProcess>,
}

#[derive(Debug)]
struct OfProcess {
    pid: u32,
    segments: HashMap<Segment, Times>,
}

impl MappedFiles {
    /// What this pid maps from here on counts for that process.
    pub(super) fn announce(&mut self, process: ProcessId, pid: u32) {
        self.of_pid.insert(pid, process);
        self.mapped.entry(process).or_insert_with(|| OfProcess {
            pid,
            segments: HashMap::new(),
        });
    }

    /// A process has mapped these files.
    pub(super) fn add(&mut self, pid: u32, files: &[Mapped]) {
        let process = self.of_pid.get(&pid);
        let Some(process) = process.and_then(|process| self.mapped.get_mut(process)) else {
            return;
        };
        let mapped = &mut process.segments;
        for file in files {
            let segment = (file.device, file.inode, file.offset);
            if mapped.len() == MOST_SEGMENTS && !mapped.contains_key(&segment) {
                continue;
            }
            let times = mapped.entry(segment).or_default();
            times.count += 1;
            times.last = times.last.max(Nanos(file.at_ns));
        }
    }

    /// The files that a process loaded more than once by the time of its end. What was mapped later, another program mapped.
    fn end(&mut self, process: ProcessId, at: Nanos) -> HashMap<((u32, u32), u64), u64> {
        let mut loads = HashMap::new();
        let Some(ended) = self.mapped.remove(&process) else {
            return loads;
        };
        if self.of_pid.get(&ended.pid) == Some(&process) {
            self.of_pid.remove(&ended.pid);
        }
        for ((device, inode, _), times) in ended.segments {
            let count = times.count - u64::from(times.last > at);
            if count > 1 {
                let most = loads.entry((device, inode)).or_default();
                *most = count.max(*most);
            }
        }
        loads
    }
}

impl Session {
    /// A process ends: what it loaded again and again is written down.
    pub(super) fn write_loads(&mut self, process: ProcessId, at: Nanos) {
        // The kernel has told of all that it mapped by then.
        self.hear();
        let loads = self.mapped_files.end(process, at).into_iter();
        let mut loads: Vec<(ModuleIndex, u64)> = loads
            .filter_map(|((device, inode), count)| {
                Some((self.modules.of_file(device, inode)?, count))
            })
            .collect();
        loads.sort_unstable();
        for (module, count) in loads {
            self.write(&Entry::Loads(Loads {
                process,
                module,
                count,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_one_however_many_segments_it_has_and_what_the_next_program_maps_is_none() {
        let mut files = MappedFiles::default();
        files.announce(ProcessId(1), 77);
        let mapped = |inode, offset, at_ns| Mapped {
            device: (8, 1),
            inode,
            offset,
            at_ns,
        };
        for at in 1..=3 {
            files.add(77, &[mapped(5, 0x1000, at), mapped(5, 0x9000, at)]);
        }
        files.add(77, &[mapped(6, 0, 2), mapped(6, 0, 11), mapped(7, 0, 3)]);
        files.add(78, &[mapped(7, 0, 4)]);
        let loads = files.end(ProcessId(1), Nanos(10));
        assert_eq!(loads, HashMap::from([(((8, 1), 5), 3)]));
        assert!(files.end(ProcessId(1), Nanos(10)).is_empty());
    }
}
