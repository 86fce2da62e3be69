//! Stacks: sent once, on a ring of their own, and referred to by a 64-bit identity.

/// Deepest stack sent whole; deeper ones keep their leaf end and are counted.
pub const MAX_FRAMES: usize = 1024;

/// Head of a stack definition in the stack ring; `count` return addresses (u64, leaf first) follow.
///
/// `identity` is a hash of the frames, the process and its epoch; `check` is a second, independent hash, so that a
/// collision is found instead of booked to a stranger.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct StackHead {
    /// The stack's identity, as events carry it.
    pub identity: u64,
    /// A second hash of the same frames.
    pub check: u32,
    /// The process, as in events.
    pub process: u32,
    /// Its mapping epoch.
    pub epoch: u32,
    /// Frames that follow.
    pub count: u16,
    /// 1 if the walk was cut at the depth limit, 2 if at memory that could not be read.
    pub cut: u16,
}

const _: () = assert!(size_of::<StackHead>() == 24);

/// The walk reached the end of the stack.
pub const CUT_NOT: u16 = 0;
/// The walk was cut at [`MAX_FRAMES`].
pub const CUT_DEPTH: u16 = 1;
/// The walk was cut where memory could not be read.
pub const CUT_UNREADABLE: u16 = 2;
