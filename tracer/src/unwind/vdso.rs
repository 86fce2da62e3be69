//! The kernel's own shared object, which every process has mapped and no file holds.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use crate::target::maps::{self, MappingName};

/// Longest vdso that we read, bytes; it has two to four pages.
const MOST_VDSO: u64 = 1 << 20;

/// The vdso as our own process has it: the same for every process that runs 64-bit code on this kernel.
pub fn vdso_image() -> Option<Vec<u8>> {
    let vdso = maps::read(Path::new("/proc/self"))
        .ok()?
        .into_iter()
        .find(|mapping| mapping.path == MappingName::Special("[vdso]".to_owned()))?;
    let length = vdso
        .end
        .checked_sub(vdso.start)
        .filter(|&length| length <= MOST_VDSO)?;
    let mut image = vec![0; usize::try_from(length).ok()?];
    let memory = File::open("/proc/self/mem").ok()?;
    memory.read_exact_at(&mut image, vdso.start).ok()?;
    Some(image)
}
