//! Breakpoints that an earlier tracer has left at allocator functions: killed at the wrong instant, it could not take them out
//! ("leaking uprobe"). The process runs on, and pays for a trap at every call.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs::File,
    path::{Path, PathBuf},
};

use super::{
    Target,
    allocator::{self, Library, ProbePoint},
    mapped_file,
    maps::{self, Mapping, MappingName},
    probed_code::ProbedCode,
    process::numbered_entries,
};

/// A process with breakpoints of nobody, as far as can be known.
#[derive(Debug)]
pub struct Leftover {
    /// The process that has the breakpoints.
    pub target: Target,
    /// Its libc's file, open for reading.
    file: File,
    name: PathBuf,
    /// The functions that have one.
    pub points: Vec<ProbePoint>,
    /// What of its memory they lie in.
    pub code: ProbedCode,
}

impl Leftover {
    /// The file that they lie in.
    pub fn library(&self) -> Library<'_> {
        Library {
            file: &self.file,
            name: &self.name,
        }
    }
}

/// Looks into every process that we may look into: how many were looked at, and which of them have such breakpoints.
///
/// Not looked into: our own children, which we probe to try the kernel, and processes that are debugged, whose breakpoints are the
/// debugger's. A breakpoint that another tracer uses is found too; to take it out does no harm, since the kernel
/// keeps what somebody else uses.
pub fn find() -> (usize, Vec<Leftover>) {
    let mut points = HashMap::new();
    let mut looked_at = 0;
    let mut found = Vec::new();
    let own = std::process::id();
    let others = numbered_entries(Path::new("/proc"));
    for pid in others.into_iter().filter(|pid| *pid != own) {
        let Ok(target) = Target::open(pid) else {
            continue;
        };
        if target.parent() == Some(own) {
            continue;
        }
        let Ok(maps) = maps::read(&target.proc_dir()) else {
            continue;
        };
        looked_at += 1;
        let Some(libc) = maps
            .iter()
            .find(|map| map.executable && allocator::is_of_glibc(map))
        else {
            continue;
        };
        if let Some(left) = look_into(target, &maps, libc, &mut points)
            && left.target.debugger().is_none()
            && !left.target.catches_breakpoints()
        {
            found.push(left);
        }
    }
    (looked_at, found)
}

fn look_into(
    target: Target,
    maps: &[Mapping],
    libc: &Mapping,
    known: &mut HashMap<((u32, u32), u64), Vec<ProbePoint>>,
) -> Option<Leftover> {
    let points: &[ProbePoint] = match known.entry((libc.device, libc.inode)) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => {
            let file = mapped_file::open(&target, libc).ok()?.file;
            unknown.insert(allocator::points_of(&file).unwrap_or_default())
        }
    };
    let code = ProbedCode::of(&target, maps, libc, points).ok()?;
    let left = code.breakpoints_at_first();
    if left.is_empty() {
        return None;
    }
    let MappingName::File(name, _) = &libc.path else {
        return None;
    };
    Some(Leftover {
        file: mapped_file::open(&target, libc).ok()?.file,
        name: name.clone(),
        points: points
            .iter()
            .filter(|point| left.contains(&point.function))
            .cloned()
            .collect(),
        target,
        code,
    })
}
