//! Which processes have mapped new code: the kernel's side band of performance events (`PERF_RECORD_MMAP2`), which needs no
//! program of ours.
//!
//! One ring a processor, for all processes: threads and children are covered without a gap, and executable mappings are
//! rare everywhere. A thread reads them as they come and keeps whose they were; what is mapped is then read from
//! `/proc/PID/maps`, which also tells what went away. Whoever must know at once what a process has mapped (it may have ended) reads
//! them itself: the kernel writes them before the mapping's system call ends.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering, fence},
    },
    thread::JoinHandle,
};

use aya_obj::generated::perf_event_mmap_page;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use tokio::sync::Notify;

use super::sys;

/// Bytes of one processor's ring: some 400 records.
const RING_BYTES: usize = 64 << 10;
const PAGE: usize = 4096;

const RECORD_LOST: u32 = 2;
const RECORD_MMAP2: u32 = 10;

/// What the kernel tells, and what of it was heard and not taken yet.
struct Heard {
    rings: Mutex<Vec<Ring>>,
    mapped: Mutex<HashMap<u32, Vec<Mapped>>>,
    /// Records were lost: any process may have mapped code.
    lost: AtomicBool,
    stop: AtomicBool,
}

/// A file that a process has mapped as code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Major and minor number of the file's device.
    pub device: (u32, u32),
    /// Inode number of the file.
    pub inode: u64,
    /// Where in the file the mapping begins, bytes.
    pub offset: u64,
    /// When, nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
}

impl Mapped {
    /// What a record says, behind its header, and whose it is: the fields up to the inode come first, the time last.
    fn read(body: &[u8]) -> Option<(u32, Self)> {
        let word = |at: usize| Some(u64::from_ne_bytes(*body.get(at..)?.first_chunk()?));
        let half = |at: usize| Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?));
        let mapped = Self {
            device: (half(32)?, half(36)?),
            inode: word(40)?,
            offset: word(24)?,
            at_ns: word(body.len().checked_sub(8)?)?,
        };
        Some((half(0)?, mapped))
    }
}

/// Listens for new code until it is dropped.
pub struct Sideband {
    heard: Arc<Heard>,
    /// Told when there is something to take.
    pub ready: Arc<Notify>,
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Sideband {
    /// Opens the rings and starts the thread.
    ///
    /// # Errors
    ///
    /// The kernel refuses: `CAP_PERFMON` is missing, or `perf_event_paranoid` forbids it.
    pub fn start() -> io::Result<Self> {
        let mut rings = Vec::new();
        for cpu in 0..possible_processors()? {
            match Ring::open(cpu) {
                Ok(ring) => rings.push(ring),
                // It is offline. If it comes while we trace, what is mapped on it is noticed a little later: by the first
                // stack that is cut in it, or as the mappings are read anyhow, each second.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        let events = rings.iter().map(|ring| ring.event.try_clone());
        let events = events.collect::<io::Result<Vec<OwnedFd>>>()?;
        let heard = Arc::new(Heard {
            rings: Mutex::new(rings),
            mapped: Mutex::default(),
            lost: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let ready = Arc::new(Notify::new());
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let listener = (Arc::clone(&heard), Arc::clone(&ready), Arc::clone(&wake));
        let thread = std::thread::Builder::new()
            .name("hw-sideband".into())
            .spawn(move || {
                let (heard, ready, wake) = listener;
                listen(&events, &heard, &ready, &wake);
            })?;
        Ok(Self {
            heard,
            ready,
            wake,
            thread: Some(thread),
        })
    }

    /// The processes that have mapped code since the last time, with what they mapped, and whether records were lost: then any
    /// other may have, too. Nothing is missing that a process mapped before whatever else the kernel has told of it by now.
    pub fn take(&self) -> (HashMap<u32, Vec<Mapped>>, bool) {
        self.heard.drain();
        let mapped = self.heard.mapped.lock();
        let mapped = std::mem::take(&mut *mapped.unwrap_or_else(PoisonError::into_inner));
        (mapped, self.heard.lost.swap(false, Ordering::Relaxed))
    }
}

impl Drop for Sideband {
    fn drop(&mut self) {
        self.heard.stop.store(true, Ordering::Relaxed);
        let woken = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        if woken.is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// How many processors there may be, online or not.
fn possible_processors() -> io::Result<u32> {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = possible.trim().rsplit(['-', ',']).next().unwrap_or("0");
    last.parse::<u32>()
        .map(|last| last + 1)
        .map_err(|_| io::ErrorKind::InvalidData.into())
}

fn listen(events: &[OwnedFd], heard: &Heard, ready: &Notify, wake: &OwnedFd) {
    while !heard.stop.load(Ordering::Relaxed) {
        let events = events.iter().chain([wake]);
        let mut waiting: Vec<PollFd<'_>> = events
            .map(|event| PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN))
            .collect();
        if poll(&mut waiting, None).is_ok() && heard.drain() {
            ready.notify_one();
        }
    }
}

impl Heard {
    /// Takes in what the kernel has told by now; says whether that is anything.
    fn drain(&self) -> bool {
        let mut any = false;
        let mut rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner);
        let mut mapped = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        for ring in rings.iter_mut() {
            ring.drain(|kind, body| {
                any = true;
                match (kind, Mapped::read(body)) {
                    (RECORD_MMAP2, Some((tgid, file))) => {
                        mapped.entry(tgid).or_default().push(file);
                    }
                    (RECORD_LOST, _) => self.lost.store(true, Ordering::Relaxed),
                    _ => {}
                }
            });
        }
        any
    }
}

/// One processor's ring.
struct Ring {
    event: OwnedFd,
    /// The control page, with the data right behind it.
    page: NonNull<perf_event_mmap_page>,
}

// SAFETY: the mapping belongs to this value alone, and is used by whoever has it, one at a time.
unsafe impl Send for Ring {}

impl Ring {
    fn open(cpu: u32) -> io::Result<Self> {
        let event = sys::open_mapping_events(cpu)?;
        // SAFETY: a new mapping at an address that the kernel chooses; nothing of ours is replaced.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE + RING_BYTES,
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
                &event,
                0,
            )
        }?;
        let page = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { event, page })
    }

    /// Hands over each record (its type, and what follows its header), and gives its room back.
    fn drain(&mut self, mut take: impl FnMut(u32, &[u8])) {
        let page = self.page.as_ptr();
        // SAFETY: both words lie in the mapped control page, aligned; the kernel writes the first and reads the second,
        // whole words at a time.
        let (head, tail) = unsafe {
            (
                &*(&raw const (*page).data_head).cast::<AtomicU64>(),
                &*(&raw const (*page).data_tail).cast::<AtomicU64>(),
            )
        };
        let end = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        let mut record = Vec::new();
        while end.wrapping_sub(at) >= 8 {
            let header = self.copy(at, 8, &mut record);
            let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let size = u64::from(u16::from_ne_bytes([header[6], header[7]]));
            if size < 8 || size > end.wrapping_sub(at) {
                // Not what the kernel writes: the rest is passed over.
                at = end;
                break;
            }
            let body = self.copy(at + 8, size as usize - 8, &mut record);
            take(kind, body);
            at = at.wrapping_add(size);
        }
        fence(Ordering::AcqRel);
        tail.store(at, Ordering::Release);
    }

    /// `length` bytes from a position on; the ring goes round.
    fn copy<'a>(&self, from: u64, length: usize, to: &'a mut Vec<u8>) -> &'a [u8] {
        to.clear();
        let data = self.page.as_ptr().cast::<u8>().wrapping_add(PAGE);
        let start = from as usize % RING_BYTES;
        let first = length.min(RING_BYTES - start);
        // SAFETY: `data` is RING_BYTES long, both pieces lie within it (a record is at most 64 KiB), and the kernel does
        // not write to what was not given back.
        unsafe {
            to.extend_from_slice(std::slice::from_raw_parts(data.wrapping_add(start), first));
            to.extend_from_slice(std::slice::from_raw_parts(
                data,
                (length - first).min(RING_BYTES),
            ));
        }
        to
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`, whole; no reference into it is left.
        let _ = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), PAGE + RING_BYTES) };
    }
}
