//! What a process held before it was traced.

use serde::{Deserialize, Serialize};

use super::Process;
use crate::event::Nanos;
use crate::live::books::{Books, Held};

/// Where the baseline of a process comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::live) enum BaselineSource {
    /// Unknown: an event arrived before the process was opened.
    #[default]
    Unknown,
    /// It was held when tracing began.
    Own,
    /// It is a copy of the parent's. The memory itself is the parent's, shared until one of them writes, so what the
    /// child gives back counts in the child's books, not in those of all.
    Inherited,
}

impl Process {
    /// What is left of the baseline, bytes, and where that comes from.
    pub(in crate::live) fn baseline(&self) -> (u64, BaselineSource) {
        (self.baseline_left, self.baseline_source)
    }

    /// What it held before it was traced becomes known. What was inherited is known already, and better: the kernel
    /// cannot tell it from the parent's live blocks.
    pub(in crate::live) fn set_baseline(&mut self, bytes: u64) {
        if self.baseline_source == BaselineSource::Unknown {
            self.baseline_left = bytes;
            self.baseline_source = BaselineSource::Own;
        }
    }

    /// A block was freed that was not seen allocated; says by how much that reduces the baseline, bytes.
    pub(super) fn take_from_baseline(&mut self, all: &mut Books, header: Option<u64>) -> u64 {
        // With sampling, a block that is not known is most likely one that was not sampled.
        let bytes = header
            .and_then(chunk_size)
            .filter(|bytes| *bytes <= self.baseline_left && !self.is_sampled)
            .unwrap_or(0);
        if bytes > 0 {
            self.baseline_left -= bytes;
            self.books.retire(Held::default(), bytes);
            if self.baseline_source == BaselineSource::Own {
                all.retire(Held::default(), bytes);
                if let Some(journal) = &mut self.journal {
                    journal.of_baseline(false, bytes);
                }
            }
        }
        bytes
    }

    /// So much of the baseline was not freed after all, bytes.
    pub(super) fn put_back_to_baseline(&mut self, all: &mut Books, at: Nanos, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.baseline_left += bytes;
        self.books.restore_baseline(bytes, at);
        if self.baseline_source == BaselineSource::Own {
            all.restore_baseline(bytes, at);
            if let Some(journal) = &mut self.journal {
                journal.of_baseline(true, bytes);
            }
        }
    }
}

/// Bit of a chunk header: the chunk is a mapping of its own.
const IS_MMAPPED: u64 = 2;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// The memory that glibc's chunk header tells, if it can be one: at least 32 bytes and a multiple of 16, below three flag
/// bits. A block that glibc never made, or an overwritten header, tells nothing.
///
/// A chunk that is a mapping of its own is rounded up to whole pages beyond what was asked for, and the last of them is
/// touched or not: half a page is taken off, which is right on average.
///
/// `struct malloc_chunk` in <https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/malloc.c;hb=refs/tags/glibc-2.36>.
fn chunk_size(header: u64) -> Option<u64> {
    let size = header & !7;
    if size < 32 || !size.is_multiple_of(16) {
        return None;
    }
    let own_mapping = header & IS_MMAPPED != 0 && size > PAGE;
    Some(if own_mapping { size - PAGE / 2 } else { size })
}
