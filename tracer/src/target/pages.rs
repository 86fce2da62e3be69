//! A process's memory as its page tables have it: what is resident, and reading that.
//!
//! Reading memory that is not there would bring it in: from swap, or as a page of zeros. So the page tables are asked first
//! (`/proc/PID/pagemap`), and only what is resident is read.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::malloc;

/// Entries of the page table that are read at once.
const ENTRIES: u64 = 512;
/// Bits of an entry (<https://docs.kernel.org/admin-guide/mm/pagemap.html>).
const PRESENT: u64 = 1 << 63;

/// The clock is looked at once in so many readings: to ask for a thread's processor time is a system call.
const READINGS: u32 = 16;
/// By how much longer than its processor time a reading may take: where others keep the processors busy, it mostly waits.
const WAITS: u32 = 8;

/// The memory of a process that runs on, read for so long.
#[derive(Debug)]
pub struct Pages {
    memory: File,
    map: File,
    page: u64,
    /// Number of the first page whose entry is in `entries`.
    first: u64,
    entries: Vec<u64>,
    /// Of this thread's processor time.
    until: Duration,
    latest: Instant,
    readings: u32,
    is_spent: bool,
}

impl Pages {
    /// Opens it; `proc_dir` is [`super::Target::proc_dir`]. Reading ends when the thread that calls has taken so much processor
    /// time.
    ///
    /// # Errors
    ///
    /// The process is gone, or not ours to read.
    pub fn open(proc_dir: &Path, limit: Duration) -> io::Result<Self> {
        Ok(Self {
            memory: File::open(proc_dir.join("mem"))?,
            map: File::open(proc_dir.join("pagemap"))?,
            page: rustix::param::page_size() as u64,
            first: 0,
            entries: Vec::new(),
            until: processor_time() + limit,
            latest: Instant::now() + limit * WAITS,
            readings: 0,
            is_spent: false,
        })
    }

    /// Size of a page, bytes.
    pub fn page(&self) -> u64 {
        self.page
    }

    /// Whether something more may be read.
    fn may_read(&mut self) -> bool {
        self.readings += 1;
        if self.readings >= READINGS {
            self.readings = 0;
            self.is_spent |= processor_time() >= self.until || Instant::now() >= self.latest;
        }
        !self.is_spent
    }

    fn is_present(&mut self, page: u64) -> bool {
        let known = self.first..self.first + self.entries.len() as u64;
        if !known.contains(&page) {
            self.look_up(page);
        }
        let entry = page.checked_sub(self.first);
        let entry = entry.and_then(|index| self.entries.get(usize::try_from(index).ok()?));
        entry.is_some_and(|entry| entry & PRESENT != 0)
    }

    fn look_up(&mut self, page: u64) {
        let mut bytes = [0; 8 * ENTRIES as usize];
        self.first = page / ENTRIES * ENTRIES;
        self.entries.clear();
        let Some(offset) = self.first.checked_mul(8) else {
            return;
        };
        let read = self.map.read_at(&mut bytes, offset).unwrap_or(0);
        let (entries, _) = bytes[..read].as_chunks();
        self.entries
            .extend(entries.iter().map(|entry| u64::from_le_bytes(*entry)));
    }
}

impl malloc::Memory for Pages {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> usize {
        let end = at.saturating_add(buffer.len() as u64);
        let mut readable = at;
        while readable < end && self.may_read() && self.is_present(readable / self.page) {
            readable = (readable / self.page + 1)
                .saturating_mul(self.page)
                .min(end);
        }
        let length = (readable - at) as usize;
        match self.memory.read_exact_at(&mut buffer[..length], at) {
            Ok(()) => length,
            Err(_) => 0,
        }
    }

    fn resident(&mut self, range: Range<u64>) -> u64 {
        let (mut page, end) = (range.start / self.page, range.end / self.page);
        let mut resident = 0;
        while page < end && self.may_read() {
            if !self.is_present(page) && self.entries.is_empty() {
                // Nothing can be there.
                break;
            }
            let known = end
                .min(self.first + self.entries.len() as u64)
                .max(page + 1);
            let index = |page: u64| (page - self.first) as usize;
            let entries = self.entries.get(index(page)..index(known));
            let present = entries.unwrap_or_default().iter();
            resident += present.filter(|entry| *entry & PRESENT != 0).count() as u64;
            page = known;
        }
        resident.saturating_mul(self.page)
    }

    fn is_spent(&self) -> bool {
        self.is_spent
    }
}

/// Processor time of the thread that calls.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
