//! How many moments a process may name.

/// log2 of the time over which marks are counted, nanoseconds: about a second.
pub const SLICE_SHIFT: u32 = 30;

/// Marks that a process may make in such a time.
pub const MARKS_IN_A_SLICE: u32 = 1024;

/// Processes whose marks the kernel side counts at once. One that is pushed out begins anew; the user side counts too.
pub const MAX_MARKING: u32 = 1024;

/// Value of the `MARKING` map, by tgid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Marking {
    /// Which slice of time it was last: nanoseconds >> [`SLICE_SHIFT`].
    pub slice: u64,
    /// Marks of the process in that slice.
    pub count: u64,
}
