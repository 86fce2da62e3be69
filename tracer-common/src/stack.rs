//! Stacks: sent once, on a ring of their own, and referred to by a 64-bit identity.

/// Deepest stack sent whole; deeper ones keep their leaf end and are counted.
pub const MAX_FRAMES: usize = 1024;

/// Head of a stack definition in the stack ring; `count` return addresses (u64, leaf first) follow, then `python`
/// [`PythonFrame`](crate::python::PythonFrame)s.
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
    /// A `CUT_*`: why the walk ended.
    pub cut: u16,
    /// Python frames that follow.
    pub python: u16,
    /// 1: there were more of them.
    pub python_cut: u16,
    /// Always zero: the layout has no implicit padding.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StackHead>() == 32);

/// The walk reached the end of the stack.
pub const CUT_NOT: u16 = 0;
/// The walk was cut at [`MAX_FRAMES`].
pub const CUT_DEPTH: u16 = 1;
/// The walk was cut where memory could not be read.
pub const CUT_UNREADABLE: u16 = 2;
/// The walk was cut in a file whose unwind table was not there yet.
pub const CUT_PENDING: u16 = 3;
/// The walk was cut in code that its file has no call frame information for.
pub const CUT_NO_RULE: u16 = 4;
/// The walk was cut at an address where no code is known to be.
pub const CUT_NO_CODE: u16 = 5;
/// The walk was cut in code with a rule that the tables cannot express.
pub const CUT_UNSUPPORTED: u16 = 6;
/// The walk was cut in code compiled at run time, which kept no frame pointers.
pub const CUT_FRAME_POINTER: u16 = 7;
