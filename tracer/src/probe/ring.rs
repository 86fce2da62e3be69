//! A ring that the kernel side writes, and how far both sides have come in it.
//!
//! aya hands over records; that there is none says two things: the ring is empty, or its next record has its place and is still
//! being written, by a thread that was interrupted in the midst of it. Then what others have written behind it is hidden. Who
//! puts two rings in order must know which of them it is, and the two positions tell.

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{MapData, RingBuf};

/// The reading side of one of the kernel's ring buffers, mapped into our memory.
pub struct Ring {
    records: RingBuf<MapData>,
    positions: Positions,
}

impl Ring {
    /// Takes a ring over from aya.
    pub(super) fn new(records: RingBuf<MapData>) -> io::Result<Self> {
        let positions = Positions::map(records.as_fd())?;
        Ok(Self { records, positions })
    }

    /// The next record, if it is there and written to its end.
    pub fn take(&mut self) -> Option<impl Deref<Target = [u8]> + '_> {
        self.records.next()
    }

    /// The position behind the last record that has its place by now, written or not.
    pub(super) fn end(&self) -> Position {
        Position(self.positions.word(1).load(Ordering::Acquire))
    }

    /// Whether all records before that position were taken.
    pub(super) fn has_come_to(&self, end: Position) -> bool {
        // Positions only grow, and both are of the kernel's machine word.
        self.positions.word(0).load(Ordering::Relaxed) >= end.0
    }

    /// Whether no record is in it, not even one that is still being written.
    pub(super) fn is_empty(&self) -> bool {
        self.has_come_to(self.end())
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }
}

/// A place in a ring: bytes since its beginning, however often it went round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position(u64);

/// The two pages before a ring's data, each of which begins with a position: the reader's, then the writers'
/// (<https://github.com/torvalds/linux/blob/v6.18/kernel/bpf/ringbuf.c#L30>).
struct Positions(NonNull<u8>);

const PAGE: usize = 4096;

// SAFETY: what it points to is a mapping of its own, which no thread in particular owns.
unsafe impl Send for Positions {}

impl Positions {
    fn map(ring: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses; nothing of ours is replaced.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                2 * PAGE,
                rustix::mm::ProtFlags::READ,
                rustix::mm::MapFlags::SHARED,
                ring,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self(start))
    }

    /// The first word of one of the pages.
    fn word(&self, page: usize) -> &AtomicU64 {
        // SAFETY: both pages are mapped as long as this value lives, and their first words are aligned; whoever writes them, aya
        // for us and the kernel, writes whole words.
        unsafe { &*self.0.as_ptr().wrapping_add(page.min(1) * PAGE).cast() }
    }
}

impl Drop for Positions {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, whole; no reference into it is left.
        let _ = unsafe { rustix::mm::munmap(self.0.as_ptr().cast(), 2 * PAGE) };
    }
}
