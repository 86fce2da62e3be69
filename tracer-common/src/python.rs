//! Python frames: what the kernel side must know of a process's interpreter to read them, and how it sends them.
//!
//! CPython keeps a thread's frames in a list that hangs on the thread's state, and that in thread-specific data. The
//! layouts differ from version to version; the user side says where everything lies.

use crate::hash::mix;

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
    /// How entries are told: one of `ENTRIES_*`.
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
    /// `C.co_version`: no two code objects of an interpreter have the same. [`NOWHERE`]: there is none.
    pub code_version: u32,
    /// `C.co_flags`
    pub code_flags: u32,
}

const _: () = assert!(size_of::<Interpreter>() == 120);

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

/// What tells a code object from another one that is given the same address later.
///
/// Where it belongs is not enough: a function that is compiled, called and dropped again and again (templates, data classes, cells of
/// a notebook) has its code object, name and line table at the addresses of the one before. From 3.12 on, `co_version` numbers
/// the code objects of an interpreter; it is the word, unless numbers have run out (0). Before that, contents have to do: the
/// sizes in the object ([`CODE_SIZES`]) and the name, and of code that is no function's ([`IS_FUNCTION`]: modules and what is
/// given to `exec` have one name) file and line table too, as far as [`Content`] goes. To read these of each function took longer
/// than all else of its frame together, for the sake of functions that agree in name, line and sizes.
#[derive(Clone, Copy, Debug)]
pub struct Check(u64);

impl Check {
    /// Of the words of the object itself: where it belongs.
    #[inline(always)]
    pub fn new(first_line: u32, file: u64, name: u64, lines: u64, variables: u64) -> Self {
        let mut check = Self(0x9e37_79b9_7f4a_7c15);
        check.take(u64::from(first_line));
        check.take(file);
        check.take(name);
        check.take(lines);
        check.take(variables);
        check
    }

    /// Takes one word more.
    #[inline(always)]
    pub fn take(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word, 0x9fb2_1c65_1e98_df25);
    }

    /// Takes the length of a string and its first characters.
    #[inline(always)]
    pub fn take_text(&mut self, text: &Content) {
        /// Compact, and nothing but ASCII: the characters follow. Those of others lie farther off.
        const IS_HERE: u64 = 3 << 5;
        let [length, _hash, state, _, data @ ..] = *text;
        let here = if state & IS_HERE == IS_HERE {
            length
        } else {
            0
        };
        self.take(length);
        self.take_data(data, here);
    }

    /// Takes the length of a line table and its first bytes.
    #[inline(always)]
    pub fn take_bytes(&mut self, bytes: &Content) {
        let [length, _hash, data @ ..] = *bytes;
        self.take(length);
        self.take_data(data, length);
    }

    /// Takes so many bytes of these, as far as they go.
    #[inline(always)]
    fn take_data<const WORDS: usize>(&mut self, data: [u64; WORDS], length: u64) {
        let mut index = 0;
        while index < WORDS {
            self.take(part(data[index], length, index));
            index += 1;
        }
    }

    /// The check word of all that was taken.
    #[inline(always)]
    pub fn finish(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Where a code object has words that tell its sizes, and where its parts are, up to 3.11.
pub const CODE_SIZES: [u32; 3] = [16, 24, 32];
/// Where a string has the hash of its characters, up to 3.11.
pub const TEXT_HASH: u64 = 24;
/// [`Interpreter::code_flags`]: `CO_OPTIMIZED`, which functions have alone.
pub const IS_FUNCTION: u32 = 1;

/// A string or `bytes` object from [`Interpreter::object_size`] on, as it is up to 3.11.
pub type Content = [u64; 8];

/// What of a word belongs to the object, if `length` bytes do in all and the word is one of them, from 0.
#[inline(always)]
const fn part(word: u64, length: u64, index: usize) -> u64 {
    let before = index as u64 * 8;
    if length <= before {
        return 0;
    }
    let bytes = length - before;
    if bytes >= 8 {
        return word;
    }
    word & ((1 << (bytes * 8)) - 1)
}

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
    /// Address of the code object.
    pub code: u64,
    /// The process, as in events.
    pub process: u32,
    /// What tells it from another one that is given the same address later: see [`Check`].
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

/// Which code object: what the kernel side knows those by that it has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct CodeKey {
    /// Address of the code object.
    pub code: u64,
    /// The process, as in events.
    pub process: u32,
    /// The check word of the object's head; see [`CodeHead`].
    pub check: u32,
}

const _: () = assert!(size_of::<CodeKey>() == 16);

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
    /// The head of the code object that the names are of.
    pub head: CodeHead,
    /// The file's name.
    pub file: [u8; MAX_FILE_BYTES],
    /// The function's name, UTF-8, cut at this length.
    pub name: [u8; MAX_NAME_BYTES],
    /// The line table.
    pub lines: [u8; MAX_LINE_BYTES],
}

const _: () = assert!(size_of::<CodeRecord>() == 64 + 512 + 256 + (16 << 10));

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Interpreter {}

// SAFETY: as above.
#[cfg(feature = "user")]
unsafe impl aya::Pod for CodeKey {}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPACT_ASCII: u64 = 0b110_0100;

    fn word_of_text(content: &Content) -> u32 {
        let mut check = Check::new(1, 2, 3, 4, 5);
        check.take_text(content);
        check.finish()
    }

    fn word_of_bytes(content: &Content) -> u32 {
        let mut check = Check::new(1, 2, 3, 4, 5);
        check.take_bytes(content);
        check.finish()
    }

    /// The bytes of the data that tell an object of this length from others, by what the word makes of a change.
    fn telling(content: Content, first: usize, word: fn(&Content) -> u32) -> usize {
        let tells = |byte: &usize| {
            let mut other = content;
            other[first + byte / 8] ^= 0xff << (byte % 8 * 8);
            word(&other) != word(&content)
        };
        let data = (content.len() - first) * 8;
        let count = (0..data).filter(tells).count();
        assert!((0..count).all(|byte| tells(&byte)));
        count
    }

    #[test]
    fn characters_tell_strings_apart_and_what_follows_them_does_not() {
        for length in 0..40 {
            let content = [length, u64::MAX, COMPACT_ASCII, 0, 7, 7, 7, 7];
            let expected = (length as usize).min(32);
            assert_eq!(telling(content, 4, word_of_text), expected);
        }
    }

    #[test]
    fn bytes_tell_line_tables_apart_and_what_follows_them_does_not() {
        for length in 0..60 {
            let content = [length, u64::MAX, 7, 7, 7, 7, 7, 7];
            let expected = (length as usize).min(48);
            assert_eq!(telling(content, 2, word_of_bytes), expected);
        }
    }

    #[test]
    fn what_an_interpreter_fills_in_later_does_not_change_the_word() {
        let content = [5, u64::MAX, COMPACT_ASCII, 0, 7, 7, 7, 7];
        // The hash, whether it is interned, the wide characters.
        let later = [5, 12345, COMPACT_ASCII | 1, 0x7f00_0000, 7, 7, 7, 7];
        assert_eq!(word_of_text(&content), word_of_text(&later));
        // Wider ones have more between here and the characters.
        let wide = [5, 1, 0b10_1000, 0, 7, 7, 7, 7];
        let later = [5, 1, 0b10_1000, 0, 8, 8, 8, 8];
        assert_eq!(word_of_text(&wide), word_of_text(&later));
    }
}
