//! What the kernel says of the current process's memory areas: where a system call's arguments do not say what it came to.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_probe_read_kernel};
use aya_ebpf::helpers::{bpf_get_current_task_btf, bpf_loop};

use crate::maps::KERNEL_OFFSETS;

/// Areas of one range that are looked at, and tries while another thread changes the address space.
const STEPS: u32 = 512;

/// `VM_READ`, `VM_WRITE` and `VM_EXEC`.
const ACCESS: u64 = 7;

const PAGE: u64 = 4096;

/// What the areas have in common that are looked for.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Alike {
    /// They can be accessed.
    Accessible = 0,
    /// They cannot be accessed.
    Inaccessible = 1,
    /// They are of the file of the first, at places that follow from its own.
    Segment = 2,
}

/// Areas that follow one upon the other. Nothing of it is ever a number that the verifier knows: it would look at each.
#[repr(C)]
struct Search {
    /// The first address.
    start: u64,
    /// How far the areas are alike.
    at: u64,
    /// How far to look.
    end: u64,
    /// What they have in common: one of [`Alike`].
    alike: u64,
    /// Of [`Alike::Segment`]: the first one's file.
    file: u64,
    /// How far they are with the area at `at`; `at`, if that is another one, or none.
    next: u64,
    /// What the kernel answered of that area: not 0 if there is none, or none that can be looked at now.
    answer: i64,
}

/// The kernel could not say.
pub struct Busy;

/// How many bytes from `start` on can be accessed, or cannot: up to `length`.
#[inline(always)]
pub fn as_accessible(start: u64, length: u64, accessible: bool) -> Result<u64, Busy> {
    let alike = if accessible {
        Alike::Accessible
    } else {
        Alike::Inaccessible
    };
    search(start, start.saturating_add(length), alike)
}

/// How long the segment of shared memory is that is attached at `start`; 0: none is.
#[inline(always)]
pub fn segment(start: u64) -> Result<u64, Busy> {
    search(start, u64::MAX, Alike::Segment)
}

/// File systems whose files are memory and nothing else: `TMPFS_MAGIC`, of `memfd_create`, of what is in `/dev/shm`, and of
/// `mmap`'s own shared memory; and `HUGETLBFS_MAGIC`.
const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;

/// Tries at a look at one area while another thread changes the address space.
const TRIES: u32 = 64;

/// What is asked of the file that is mapped at an address. As in [`Search`], nothing is a number that the verifier knows.
#[repr(C)]
struct Named {
    start: u64,
    /// Which kind of file system it is in; `start` as long as that is not known.
    magic: u64,
}

/// Whether what is mapped there is a file that is memory and nothing else. Where the kernel cannot say, it is none.
#[inline(always)]
pub fn is_of_memory(start: u64) -> bool {
    let mut named = Named {
        start,
        magic: start,
    };
    unsafe {
        bpf_loop(TRIES, ask_file as *mut c_void, (&raw mut named).cast(), 0);
    }
    matches!(named.magic, TMPFS | HUGETLBFS)
}

/// Looks at the area's file, or once more.
extern "C" fn ask_file(_: u64, context: *mut c_void) -> i64 {
    let named = unsafe { &*context.cast::<Named>() };
    let answer = unsafe {
        bpf_find_vma(
            bpf_get_current_task_btf(),
            named.start,
            look_at_file as *mut c_void,
            context,
            0,
        )
    };
    (answer != -EBUSY) as i64
}

/// The file system of the file of the area.
extern "C" fn look_at_file(_: *const c_void, area: *const c_void, context: *mut c_void) -> i64 {
    let named = unsafe { &mut *context.cast::<Named>() };
    let offsets = KERNEL_OFFSETS.load();
    let file = word(area, offsets.area_file) as *const c_void;
    let inode = word(file, offsets.file_inode) as *const c_void;
    let system = word(inode, offsets.inode_super) as *const c_void;
    named.magic = word(system, offsets.super_magic);
    0
}

#[inline(always)]
fn search(start: u64, end: u64, alike: Alike) -> Result<u64, Busy> {
    match hw_areas(start, end, alike as u64) {
        BUSY => Err(Busy),
        length => Ok(length),
    }
}

const BUSY: u64 = u64::MAX;
const EBUSY: i64 = 16;

/// How many bytes from `start` on, and before `end`, are of areas that are alike, or [`BUSY`]. A function of its own: several ways
/// lead to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_areas(start: u64, end: u64, alike: u64) -> u64 {
    let mut search = Search {
        start,
        at: start,
        end,
        alike,
        file: start,
        next: start,
        answer: start as i64,
    };
    unsafe {
        bpf_loop(STEPS, step as *mut c_void, (&raw mut search).cast(), 0);
    }
    if search.answer == -EBUSY {
        return BUSY;
    }
    search.at.min(end).wrapping_sub(start)
}

/// Looks at one area, or once more.
extern "C" fn step(_: u64, context: *mut c_void) -> i64 {
    let search = unsafe { &mut *context.cast::<Search>() };
    if search.at >= search.end {
        return 1;
    }
    search.next = search.at;
    search.answer = unsafe {
        bpf_find_vma(
            bpf_get_current_task_btf(),
            search.at,
            look as *mut c_void,
            context,
            0,
        )
    };
    if search.answer == -EBUSY {
        return 0;
    }
    let is_last = search.next == search.at;
    search.at = search.next;
    is_last as i64
}

/// The area at that address.
extern "C" fn look(_: *const c_void, area: *const c_void, context: *mut c_void) -> i64 {
    let search = unsafe { &mut *context.cast::<Search>() };
    let offsets = KERNEL_OFFSETS.load();
    let start = word(area, offsets.area_start);
    let end = word(area, offsets.area_end);
    let flags = word(area, offsets.area_flags);
    let file = word(area, offsets.area_file);
    let place = word(area, offsets.area_place);
    const ACCESSIBLE: u64 = Alike::Accessible as u64;
    const INACCESSIBLE: u64 = Alike::Inaccessible as u64;
    let is_one = match search.alike {
        ACCESSIBLE => flags & ACCESS != 0,
        INACCESSIBLE => flags & ACCESS == 0,
        _ if search.at == search.start => {
            search.file = file;
            file != 0 && start == search.start
        }
        _ => file == search.file && place == (start - search.start) / PAGE,
    };
    if is_one {
        search.next = end.max(search.at);
    }
    0
}

/// A member of the area, or of what it leads to; 0 where it cannot be read, which no area ends at. Whether it could is not asked: two ways each.
#[inline(always)]
fn word(of: *const c_void, offset: u32) -> u64 {
    let mut word = 0u64;
    if offset != u32::MAX {
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut word).cast(),
                size_of::<u64>() as u32,
                of.byte_add(offset as usize),
            )
        };
    }
    word
}
