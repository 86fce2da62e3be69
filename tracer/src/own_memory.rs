//! Memory that we are done with goes back to the kernel at once: the allocator would keep it for later use, at the cost of whoever
//! shares our cgroup.

use std::sync::atomic::{AtomicBool, Ordering};

/// The kernel gave us huge pages until we asked it not to.
static HAD_HUGE_PAGES: AtomicBool = AtomicBool::new(false);

/// From here on the kernel gives us small pages alone. Of huge ones, some 2 MiB are resident for every few blocks that stay of what
/// was freed: of a recorder that holds 3 MB, 26.
pub(crate) fn use_small_pages() {
    // SAFETY: these requests have no memory preconditions.
    unsafe {
        if libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
        {
            HAD_HUGE_PAGES.store(true, Ordering::Relaxed);
        }
    }
}

/// In a child that is to become another program, which would inherit that: what it would have had without us. Makes one system call
/// at most, and may be called between fork and exec.
pub(crate) fn use_huge_pages_again() {
    if HAD_HUGE_PAGES.load(Ordering::Relaxed) {
        // SAFETY: as above.
        unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0) };
    }
}

/// Gives back what this thread, and threads that have ended, no longer use.
pub(crate) fn give_back() {
    // SAFETY: it frees pages without blocks in them, and may be called at any time. Where another allocator is in use (tests of this
    // library), it finds nothing.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
