//! Memory that we are done with goes back to the kernel at once: the allocator would keep it for later use, at the cost of whoever
//! shares our cgroup.

/// Gives back what this thread, and threads that have ended, no longer use.
pub(crate) fn give_back() {
    // SAFETY: it frees pages without blocks in them, and may be called at any time. Where another allocator is in use (tests of this
    // library), it finds nothing.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
