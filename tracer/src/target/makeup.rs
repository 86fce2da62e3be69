//! What a process's resident memory is made of, as far as malloc and the kernel tell.

use std::{collections::HashSet, fs, ops::Range, path::Path, time::Duration};

use super::{
    Target, TargetError,
    error::Privilege,
    malloc::{self, Heaps, Memory as _, Places},
    maps::{self, Mapping, MappingName},
    pages::Pages,
    procfs::{self, STATUS_LIMIT},
};

/// Most threads whose stacks are looked for.
const MOST_THREADS: usize = 4096;
/// A larger mapping is not taken for a stack because a stack pointer is in it, bytes.
const LARGEST_STACK: u64 = 256 << 20;
/// Most mappings that are looked through for chunks, and listed.
const MOST_MAPPINGS: usize = 65_536;
const LISTED: usize = 8;

/// What a process's resident memory is made of. `None`: not known, which is not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Makeup {
    /// Resident memory: `VmRSS`.
    pub rss: Option<u64>,
    /// Page tables: `VmPTE`.
    pub page_tables: Option<u64>,
    /// What glibc's heaps keep; nothing where they could not be read.
    pub heaps: Option<Heaps>,
    /// Stacks of threads.
    pub stacks: Option<Stacks>,
    /// Large blocks of glibc, each a mapping of its own; looked for where all was asked for.
    pub mapped: Option<malloc::Chunks>,
    /// The largest of the other anonymous mappings, by what of them is resident; likewise.
    pub others: Vec<Resident>,
}

/// Stacks of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stacks {
    /// How much of them is resident, bytes.
    pub bytes: u64,
    /// How many there are, those that are kept for threads to come among them.
    pub count: u32,
}

/// A mapping of the target and how much of it is resident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resident {
    /// Where it is.
    pub range: Range<u64>,
    /// How much of it is resident, bytes.
    pub bytes: u64,
    /// What the kernel calls it, if anything.
    pub name: String,
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Heaps and stacks.
    Shallow,
    /// Large blocks and other mappings too.
    All,
}

/// Looks at a process that runs on, for so long.
///
/// # Errors
///
/// [`TargetError::Gone`], or [`TargetError::NotPermitted`].
pub fn look(target: &Target, depth: Depth, limit: Duration) -> Result<Makeup, TargetError> {
    let dir = target.proc_dir();
    let mut pages = Pages::open(&dir, limit).map_err(|source| {
        TargetError::reading(target.pid, &dir.join("pagemap"), Privilege::Inspect, source)
    })?;
    let break_start = target.stat()?.break_start;
    let maps = maps::read(&dir)?;
    let places = places(&maps, break_start, pages.page());
    let heaps = malloc::read(&mut pages, &places);
    let in_heap = |mapping: &Mapping| {
        let ranges = heaps.iter().flat_map(|heaps| &heaps.ranges);
        ranges
            .into_iter()
            .any(|range| range.start < mapping.end && mapping.start < range.end)
    };
    let mut stacks = stack_mappings(&maps, &stack_pointers(target), &in_heap);
    let is_stack = |mapping: &Mapping| stacks.iter().any(|stack| stack.start == mapping.start);
    let status = procfs::read(&dir.join("status"), STATUS_LIMIT).unwrap_or_default();
    let mut makeup = Makeup {
        rss: procfs::status_bytes(&status, "VmRSS"),
        page_tables: procfs::status_bytes(&status, "VmPTE"),
        ..Makeup::default()
    };
    if depth == Depth::All {
        let others = maps.iter().filter(|mapping| {
            is_anonymous(mapping) && mapping.writable && !in_heap(mapping) && !is_stack(mapping)
        });
        let mut mapped = malloc::Chunks::default();
        for mapping in others.take(MOST_MAPPINGS) {
            let range = mapping.start..mapping.end;
            let blocks = malloc::mapped_blocks(&mut pages, range.clone(), &mut mapped);
            let rest = mapping.start + blocks..mapping.end;
            let bytes = pages.resident(rest.clone());
            let name = match &mapping.path {
                MappingName::Special(name) => name.clone(),
                MappingName::File(..) | MappingName::Anonymous => String::new(),
            };
            makeup.others.push(Resident {
                range: rest,
                bytes,
                name,
            });
        }
        makeup.mapped = Some(mapped);
        makeup.others.retain(|other| other.bytes > 0);
        makeup
            .others
            .sort_by_key(|other| std::cmp::Reverse(other.bytes));
        makeup.others.truncate(LISTED);
    }
    let stack_count = stacks.len();
    let count = stack_count as u32;
    let bytes = stacks.drain(..).map(|stack| pages.resident(stack)).sum();
    // Where threads run on at each look and look like no other, their stacks are missing.
    let is_whole = !pages.is_spent() && stack_count >= target.threads().len();
    makeup.stacks = is_whole.then_some(Stacks { bytes, count });
    makeup.heaps = heaps;
    Ok(makeup)
}

/// Where malloc is to be looked for.
fn places(maps: &[Mapping], break_start: u64, page: u64) -> Places {
    let is_libc = |mapping: &Mapping| match &mapping.path {
        MappingName::File(path, _) => path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libc.so") || name.starts_with("libc-2")
        }),
        _ => false,
    };
    let data = maps
        .iter()
        .filter(|mapping| mapping.writable && is_libc(mapping));
    let heap = |mapping: &&Mapping| mapping.path == MappingName::Special("[heap]".to_owned());
    let start = maps.iter().find(heap).map(|mapping| mapping.start);
    let end = maps.iter().rfind(heap).map(|mapping| mapping.end);
    Places {
        data: data.map(|mapping| mapping.start..mapping.end).collect(),
        below_break: start.zip(end).map(|(start, end)| {
            // Without randomised addresses the program's own variables are in the same mapping.
            break_start.clamp(start, end)..end
        }),
        page,
    }
}

fn is_anonymous(mapping: &Mapping) -> bool {
    match &mapping.path {
        MappingName::Anonymous => true,
        MappingName::Special(name) => name.starts_with("[anon:"),
        MappingName::File(..) => false,
    }
}

/// Where the threads' stack pointers are; of a thread that runs at this moment that is not told.
fn stack_pointers(target: &Target) -> Vec<u64> {
    let tasks = Path::new("/proc").join(target.pid.to_string()).join("task");
    let threads = target.threads().into_iter().take(MOST_THREADS);
    threads
        .filter_map(|thread| {
            let path = tasks.join(thread.to_string()).join("syscall");
            stack_pointer(&fs::read(path).ok()?)
        })
        .collect()
}

/// The last but one of the words of `/proc/PID/task/TID/syscall` (`proc_pid_syscall(5)`).
fn stack_pointer(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let word = text.split_ascii_whitespace().rev().nth(1)?;
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// The mappings that are stacks: those with a stack pointer, and others that look like them: as long, and above a guard. These are
/// of threads that run at this moment, or kept by libc for threads to come.
fn stack_mappings(
    maps: &[Mapping],
    pointers: &[u64],
    in_heap: &dyn Fn(&Mapping) -> bool,
) -> Vec<Range<u64>> {
    let mut lengths = HashSet::new();
    let mut stacks = Vec::new();
    let may_be = |mapping: &Mapping| {
        is_anonymous(mapping)
            && mapping.writable
            && mapping.end - mapping.start <= LARGEST_STACK
            && !in_heap(mapping)
    };
    let is_guarded = |index: usize| {
        let below = index.checked_sub(1).and_then(|below| maps.get(below));
        below.is_some_and(|below| {
            !below.readable && !below.writable && below.end == maps[index].start
        })
    };
    let mut holds_pointer = vec![false; maps.len()];
    for pointer in pointers {
        let after = maps.partition_point(|mapping| mapping.start <= *pointer);
        if let Some(index) = after.checked_sub(1)
            && *pointer < maps[index].end
        {
            holds_pointer[index] = true;
        }
    }
    let is_first = |mapping: &Mapping| mapping.path == MappingName::Special("[stack]".to_owned());
    for (index, mapping) in maps.iter().enumerate() {
        if holds_pointer[index] && may_be(mapping) && is_guarded(index) {
            lengths.insert(mapping.end - mapping.start);
        }
    }
    for (index, mapping) in maps.iter().enumerate() {
        let alike = lengths.contains(&(mapping.end - mapping.start)) && is_guarded(index);
        if is_first(mapping) || may_be(mapping) && (holds_pointer[index] || alike) {
            stacks.push(mapping.start..mapping.end);
        }
    }
    stacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_pointer_is_told_of_threads_that_wait_and_of_no_others() {
        let waits = b"0 0x0 0x7ffd 0x400 0x0 0x0 0x0 0x7ffd12345678 0x7f1234567890\n";
        assert_eq!(stack_pointer(waits), Some(0x7ffd_1234_5678));
        assert_eq!(
            stack_pointer(b"-1 0x7ffd12345678 0x7f1234567890\n"),
            Some(0x7ffd_1234_5678)
        );
        assert_eq!(stack_pointer(b"running\n"), None);
        assert_eq!(stack_pointer(b""), None);
    }

    #[test]
    fn stacks_are_told_by_a_stack_pointer_or_by_looking_like_one_that_has_one() {
        let text = b"\
            1000-2000 ---p 0 00:00 0\n\
            2000-9000 rw-p 0 00:00 0\n\
            a000-b000 ---p 0 00:00 0\n\
            b000-12000 rw-p 0 00:00 0\n\
            20000-27000 rw-p 0 00:00 0\n\
            30000-31000 ---p 0 00:00 0\n\
            31000-33000 rw-p 0 00:00 0\n\
            40000-50000 rw-p 0 00:00 0 [stack]\n";
        let maps = maps::parse(text).unwrap();
        let stacks = stack_mappings(&maps, &[0x2100, 0x4_1000], &|_| false);
        assert_eq!(
            stacks,
            [0x2000..0x9000, 0xb000..0x1_2000, 0x4_0000..0x5_0000],
            "one without a guard, and one of another length, are none"
        );
    }
}
