//! Python frames: what the kernel side must know of a process's interpreter to read them, and how it sends them.
//!
//! CPython keeps a thread's frames in a list that hangs on the thread's state, and that in thread-specific data. The
//! layouts differ from version to version; the user side says where everything lies.

/// A CPython interpreter in a traced process: addresses in that process, and offsets in its structures.
///
/// `T`: a thread's descriptor, which its `fsbase` points to. `S`: `PyThreadState`. `F`: a frame. `C`: a code object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Interpreter {
    /// Where the key lies under which threads keep their `S`: a `Py_tss_t`. Below [`MOST_KEYS`]: the key itself.
    pub state_key: u64,
    /// `PyCode_Type`: what a code object has in [`Interpreter::code_type`].
    pub type_of_code: u64,
    /// `T`: the first block of thread-specific data.
    pub thread_data: u32,
    /// `S.thread_id`: the address of `T`.
    pub state_thread: u32,
    /// `S`: the frame that runs, or what [`Interpreter::indirect`] says.
    pub state_frame: u32,
    /// `S.cframe`: where in that the frame is. [`NOWHERE`]: `S` has the frame itself.
    pub indirect: u32,
    /// Bytes to read of `F`.
    pub frame_size: u32,
    /// `F`: its code object.
    pub frame_code: u32,
    /// `F`: its caller.
    pub frame_previous: u32,
    /// `F`: its instruction.
    pub frame_instruction: u32,
    /// `F`: a byte that tells entries, as [`Interpreter::entries`] says.
    pub frame_entry: u32,
    /// An `ENTRIES_*`.
    pub entries: u32,
    /// Bytes for each step of `F`'s instruction, if that is an index; 0: it is an address.
    pub instruction_unit: u32,
    /// Bytes to read of `C`.
    pub code_size: u32,
    /// `C.ob_type`
    pub code_type: u32,
    /// `C.co_firstlineno`
    pub code_first_line: u32,
    /// `C.co_filename`
    pub code_file: u32,
    /// `C.co_qualname`, or `C.co_name` where there is none.
    pub code_name: u32,
    /// `C.co_linetable`
    pub code_lines: u32,
    /// `C`: the names of its variables. A word of the check, no more.
    pub code_variables: u32,
    /// `C`: its instructions.
    pub code_instructions: u32,
    /// `C._co_firsttraceable`, or [`NOWHERE`].
    pub code_first_traceable: u32,
    /// Strings of one byte a character: where that is.
    pub text_ascii: u32,
    /// ... and other ones.
    pub text_other: u32,
    /// Objects: `ob_size`.
    pub object_size: u32,
    /// `bytes`: where its bytes are.
    pub bytes_data: u32,
}

const _: () = assert!(size_of::<Interpreter>() == 112);

/// Keys of thread-specific data that glibc has.
pub const MOST_KEYS: u64 = 1024;

/// No such member.
pub const NOWHERE: u32 = u32::MAX;

/// Each frame is run by an evaluation of its own.
pub const ENTRIES_ALL: u32 = 0;
/// The byte is not 0 in the outermost frame of an evaluation.
pub const ENTRIES_FLAG: u32 = 1;
/// The byte is [`SHIM`] or more in a frame that is none: it lies between the outermost frame of an evaluation and the caller.
pub const ENTRIES_SHIM: u32 = 2;

/// The least [`Interpreter::frame_entry`] of a frame that is none.
pub const SHIM: u64 = 3;
/// ... of a generator's or coroutine's.
pub const GENERATOR: u64 = 1;

/// Most interpreters at once; the first place stands for none.
pub const MAX_INTERPRETERS: u32 = 4096;

/// Most Python frames of a stack; deeper ones keep their inner end and are counted.
pub const MAX_PYTHON_FRAMES: usize = 1024;

/// A Python frame as it is sent, behind a stack's return addresses; leaf first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PythonFrame {
    /// The code object's address, with `PYTHON_*` in its low bits. Without an address: an evaluation that has no frame just
    /// now.
    pub code: u64,
    /// Bytes from the code's first instruction to the one that runs.
    pub instruction: i32,
    /// The code object's check word: see [`CodeHead`].
    pub check: u32,
}

const _: () = assert!(size_of::<PythonFrame>() == 16);

/// The outermost frame of an evaluation: the native frame of that evaluation calls it.
pub const PYTHON_ENTRY: u64 = 1;
/// The frame is a generator's or a coroutine's.
pub const PYTHON_GENERATOR: u64 = 2;
/// The bits of [`PythonFrame::code`] that are no address.
pub const PYTHON_FLAGS: u64 = 7;

/// A code object, sent to the ring of stacks when a frame of it is first sent. Its file's name, its own name and its line
/// table follow, in [`CodeRecord`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CodeHead {
    /// Zero: a stack, which is sent to the same ring, has its identity here.
    pub zero: u64,
    /// Its address.
    pub code: u64,
    /// The process, as in events.
    pub process: u32,
    /// A hash of what tells it from another one that is given the same address later.
    pub check: u32,
    /// Its first line.
    pub first_line: u32,
    /// Code units before the first that a traceback would show.
    pub first_traceable: u32,
    /// The address of its line table's bytes.
    pub lines: u64,
    /// How many these are.
    pub lines_size: u32,
    /// How many of them are here: all, or none.
    pub lines_here: u32,
    /// Its file's name.
    pub file: TextHead,
    /// Its own name.
    pub name: TextHead,
}

/// A Python string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TextHead {
    /// Characters in all.
    pub length: u32,
    /// Bytes a character: 1, 2 or 4. 0: it could not be read.
    pub width: u16,
    /// Bytes of it that are here.
    pub here: u16,
}

const _: () = assert!(size_of::<CodeHead>() == 64);

/// Most bytes of a file's name.
pub const MAX_FILE_BYTES: usize = 512;
/// Most bytes of a function's name.
pub const MAX_NAME_BYTES: usize = 256;
/// Bytes of a line table, fewer than this; longer ones are left to the user side.
pub const MAX_LINE_BYTES: usize = 16 << 10;

/// A code object as it is sent; what of the line table is not there is not sent.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CodeRecord {
    /// What follows.
    pub head: CodeHead,
    /// The file's name.
    pub file: [u8; MAX_FILE_BYTES],
    /// The function's.
    pub name: [u8; MAX_NAME_BYTES],
    /// The line table.
    pub lines: [u8; MAX_LINE_BYTES],
}

const _: () = assert!(size_of::<CodeRecord>() == 64 + 512 + 256 + (16 << 10));

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Interpreter {}
