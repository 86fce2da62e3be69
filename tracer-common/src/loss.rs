//! What a process's events lost to a ring that was full, and its share of the ring.

/// Value of the `LOSSES` map, keyed by the process's identity. Only processes that met a ring more than half full have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Losses {
    /// Allocations (and failed ones) for which there was no room.
    pub allocations: u64,
    /// ... and what they asked for, bytes.
    pub allocated_bytes: u64,
    /// Frees for which there was no room, not even apart.
    pub frees: u64,
    /// ... and how large the blocks were, as far as glibc's chunk headers tell, bytes.
    pub freed_bytes: u64,
    /// Of both, those for which there was room, but not for this process: it had taken its share.
    pub over_share: u64,
    /// Frees that went the long way and were not lost.
    pub spilled: u64,
    /// What the process has sent in the present window, bytes.
    pub sent: u64,
    /// The window: how far the reader has come, in eighths of the ring.
    pub window: u64,
}

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Losses {}
