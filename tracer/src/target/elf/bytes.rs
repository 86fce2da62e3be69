//! Bounded reads from a file that someone else wrote and may still be writing.

use std::{fs::File, io, os::unix::fs::FileExt};

use object::pod::{self, Pod};

/// Records read from a file, aligned as their type asks.
pub(super) struct Records {
    words: Vec<u64>,
}

impl Records {
    /// Reads `count` records of `T` at `offset`. The caller has bounded `count`.
    pub(super) fn read<T: Pod>(file: &File, offset: u64, count: usize) -> io::Result<Self> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or_else(too_large)?;
        let mut words = vec![0; bytes.div_ceil(size_of::<u64>())];
        file.read_exact_at(&mut pod::bytes_of_slice_mut(&mut words)[..bytes], offset)?;
        Ok(Self { words })
    }

    /// The records, and whatever fills the last word.
    pub(super) fn get<T: Pod>(&self, count: usize) -> &[T] {
        // No type read here asks for more than eight bytes of alignment.
        pod::slice_from_bytes(pod::bytes_of_slice(&self.words), count)
            .map_or(&[], |(records, _)| records)
    }
}

/// Reads one record.
pub(super) fn read_one<T: Pod>(file: &File, offset: u64) -> io::Result<T> {
    let records = Records::read::<T>(file, offset, 1)?;
    records.get(1).first().copied().ok_or_else(too_large)
}

/// Reads `length` bytes. The caller has bounded `length`.
pub(super) fn read_bytes(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Reads up to the NUL that ends a string of at most `limit` bytes.
pub(super) fn read_string(file: &File, offset: u64, limit: usize) -> io::Result<Vec<u8>> {
    let mut text = vec![0; limit];
    let mut length = 0;
    while length < limit {
        let at = offset.checked_add(length as u64).ok_or_else(too_large)?;
        let read = file.read_at(&mut text[length..], at)?;
        if let Some(end) = text[length..length + read]
            .iter()
            .position(|&byte| byte == 0)
        {
            text.truncate(length + end);
            return Ok(text);
        }
        if read == 0 {
            break;
        }
        length += read;
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

fn too_large() -> io::Error {
    io::ErrorKind::FileTooLarge.into()
}
