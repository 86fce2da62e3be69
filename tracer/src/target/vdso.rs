//! The vdso: code of the kernel that every process has mapped, and no file system has.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

/// Most bytes taken for the vdso; it has two or three pages.
const MOST_BYTES: u64 = 1 << 20;

/// The kernel's image of the vdso, an ELF file: that of our own process, which all 64-bit processes share.
///
/// # Errors
///
/// `/proc/self` cannot be read, or the kernel maps no vdso (`vdso=0` on its command line).
pub fn image() -> io::Result<Vec<u8>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let (start, end) = maps
        .lines()
        .find(|line| line.ends_with("[vdso]"))
        .and_then(range)
        .ok_or(io::ErrorKind::NotFound)?;
    let length = end
        .checked_sub(start)
        .filter(|&length| length <= MOST_BYTES)
        .ok_or(io::ErrorKind::InvalidData)?;
    let mut image = vec![0; length as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut image, start)?;
    Ok(image)
}

/// The addresses of a line of `maps`.
fn range(line: &str) -> Option<(u64, u64)> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((address(start)?, address(end)?))
}
