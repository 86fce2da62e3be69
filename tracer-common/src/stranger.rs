//! Processes that are not traced, and that the kernel side tells of where the session follows a scope that they may come to be in.

/// log2 of the time over which they are counted, nanoseconds: about a second.
pub const SLICE_SHIFT: u32 = 30;

/// How many forks and execs of them are told of in such a time: more than a machine has in use, and too few to fill a ring.
pub const TOLD_IN_A_SLICE: u64 = 2048;

/// Bytes of a process's name in the kernel, the zero at its end included (`TASK_COMM_LEN`).
pub const NAME_BYTES: usize = 16;

/// The one value of the `STRANGERS` map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Strangers {
    /// Not 0: their forks and execs are to be told of.
    pub wanted: u64,
    /// Which slice of time the latest was in: nanoseconds >> [`SLICE_SHIFT`].
    pub slice: u64,
    /// How many were told of in that slice.
    pub told: u64,
}

const _: () = assert!(size_of::<Strangers>() == 24);

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Strangers {}
