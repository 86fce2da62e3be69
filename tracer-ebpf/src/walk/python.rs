//! The Python frames of the thread: read from its own state, each time.
//!
//! A thread's state hangs on its thread-specific data, whether it holds the interpreter's lock or not; that it is the
//! thread's own is looked at each time. From the frame that runs on, each frame leads to its caller's. That every frame has
//! an object of the type of code objects keeps garbage out: where the offsets are wrong, it is found out here.
//!
//! **Nothing of this is taken over from a moment ago.** That the native stack is still what it was says nothing of the Python
//! line that runs in it: an evaluation goes through a thousand lines, and through calls of Python functions by Python
//! functions, without touching one return address. So the frames are read anew at each event, and what was read (code object,
//! its check word, instruction, order) goes into the stack's identity by a hash of its own; the native part may be taken over or
//! not, and the stack sent before may be named again only if both are what they were. Which native frame goes with which
//! Python frames follows from the two lists alone (each evaluation has one native frame and ends with one entry), so two
//! stacks with the same identity are merged in the same way, and the user side can do it.

use core::{arch::asm, ffi::c_void};

use aya_ebpf::helpers::{
    bpf_get_current_task, bpf_loop, bpf_probe_read_user,
    generated::bpf_probe_read_user as gen_probe_read_user,
};
use highwater_common::{
    counter::Counter,
    hash::mix,
    python::{
        CODE_SIZES, Check, Content, ENTRIES_ALL, ENTRIES_FLAG, ENTRIES_SHIM, GENERATOR,
        IS_FUNCTION, Interpreter, MAX_PYTHON_FRAMES, MOST_KEYS, NOWHERE, PYTHON_ENTRY,
        PYTHON_FLAGS, PYTHON_GENERATOR, PythonFrame, SHIM, TEXT_HASH,
    },
};

use super::{Walk, step::kernel_word};
use crate::{
    emit::{add, count},
    maps::{INTERPRETERS, KERNEL_OFFSETS},
};

/// Words that are read at once: callers' frames lie below, side by side, mostly (from 3.11 on).
const WINDOW_WORDS: usize = 128;
/// Words of a code object.
pub const CODE_WORDS: usize = 32;

/// Reading a thread's Python frames, under way. It lies in the walk's memory, of which the verifier knows nothing.
#[repr(C)]
pub struct Python {
    /// Which of `INTERPRETERS`.
    pub interpreter: u32,
    /// A `Counter` of what went wrong; 0: nothing did.
    fault: u32,
    /// The frame to be read, 0 for none.
    frame: u64,
    /// Frames read: so many of `frames`.
    pub count: u64,
    /// Whether the last one was an entry.
    closed: u64,
    /// Two hashes of all of them; 0: there are none.
    pub hash: u64,
    pub check: u64,
    /// Where `window` was read, and how many bytes of it.
    window_start: u64,
    window_bytes: u64,
    window: [u64; WINDOW_WORDS],
    /// The frame's code object.
    pub code: [u64; CODE_WORDS],
    /// One of the code object's strings.
    content: Content,
    /// The frames found, the innermost first.
    pub frames: [PythonFrame; MAX_PYTHON_FRAMES],
}

impl Python {
    /// A frame that was read.
    #[inline(always)]
    pub fn at(&mut self, index: u64) -> &mut PythonFrame {
        const _: () = assert!(MAX_PYTHON_FRAMES == 1024);
        let mut index = index;
        unsafe {
            asm!("{0} &= 1023", inout(reg) index, options(pure, nomem, nostack));
            self.frames.get_unchecked_mut(index as usize)
        }
    }

    /// The word at an offset in the frame at `at`, which lies in the window.
    #[inline(always)]
    fn word(&self, at: u64, offset: u32) -> u64 {
        const _: () = assert!(WINDOW_WORDS == 128);
        let into = at.wrapping_sub(self.window_start);
        let mut index = into.wrapping_add(offset as u64) >> 3;
        unsafe {
            asm!("{0} &= 127", inout(reg) index, options(pure, nomem, nostack));
            *self.window.get_unchecked(index as usize)
        }
    }

    /// Has the frame at `at` in the window. Whether it can be read.
    #[inline(always)]
    fn look_at(&mut self, interpreter: &Interpreter, at: u64) -> bool {
        /// Less than fits, so that a mask bounds it.
        const WINDOW: u64 = WINDOW_WORDS as u64 * 8 - 8;
        const PAGE: u64 = 4096;
        let size = interpreter.frame_size as u64;
        let into = at.wrapping_sub(self.window_start);
        if into < WINDOW && into + size <= self.window_bytes {
            return true;
        }
        // Not beyond the page: to find that nothing is mapped there costs more than all that is read.
        let mut start = at;
        if interpreter.entries != ENTRIES_ALL {
            let (lowest, page) = (at.wrapping_add(size).wrapping_sub(WINDOW), at & !(PAGE - 1));
            start = if lowest > page { lowest } else { page };
        }
        self.window_start = start;
        self.window_bytes = at.wrapping_add(size).wrapping_sub(start);
        let bytes = bounded(self.window_bytes as u32, 1023);
        let to: *mut c_void = self.window.as_mut_ptr().cast();
        unsafe { gen_probe_read_user(to, bytes, start as *const c_void) == 0 }
    }

    /// The word at an offset in the code object.
    #[inline(always)]
    pub fn code_word(&self, offset: u32) -> u64 {
        const _: () = assert!(CODE_WORDS == 32);
        let mut index = (offset >> 3) as u64;
        unsafe {
            asm!("{0} &= 31", inout(reg) index, options(pure, nomem, nostack));
            *self.code.get_unchecked(index as usize)
        }
    }

    /// Half a word of it.
    #[inline(always)]
    pub fn code_half(&self, offset: u32) -> u32 {
        (self.code_word(offset) >> ((offset & 4) * 8)) as u32
    }

    /// Reads a code object. Whether it is one.
    #[inline(always)]
    pub fn read_code(&mut self, interpreter: &Interpreter, code: u64) -> bool {
        let size = bounded(interpreter.code_size, 255);
        let read = unsafe {
            gen_probe_read_user(self.code.as_mut_ptr().cast(), size, code as *const c_void)
        };
        read == 0 && self.code_word(interpreter.code_type) == interpreter.type_of_code
    }

    /// What tells the code object that was read from another at the same address.
    #[inline(always)]
    pub fn check_of_code(&mut self, interpreter: &Interpreter) -> u32 {
        let is_numbered = interpreter.code_version != NOWHERE;
        if is_numbered {
            let version = self.code_half(interpreter.code_version);
            if version != 0 {
                return version;
            }
        }
        let (file, name, lines) = (
            self.code_word(interpreter.code_file),
            self.code_word(interpreter.code_name),
            self.code_word(interpreter.code_lines),
        );
        let first_line = self.code_half(interpreter.code_first_line);
        let variables = self.code_word(interpreter.code_variables);
        let mut check = Check::new(first_line, file, name, lines, variables);
        if is_numbered {
            return check.finish();
        }
        for offset in CODE_SIZES {
            check.take(self.code_word(offset));
        }
        check.take(user_word(name.wrapping_add(TEXT_HASH)).unwrap_or(0));
        if self.code_half(interpreter.code_flags) & IS_FUNCTION != 0 {
            return check.finish();
        }
        self.read_content(interpreter, file);
        check.take_text(&self.content);
        self.read_content(interpreter, lines);
        check.take_bytes(&self.content);
        check.finish()
    }

    /// Reads a string or a line table. What cannot be read is zero.
    #[inline(always)]
    fn read_content(&mut self, interpreter: &Interpreter, object: u64) {
        let from = object.wrapping_add(interpreter.object_size as u64);
        let to: *mut c_void = self.content.as_mut_ptr().cast();
        // The helper zeroes what it cannot fill.
        unsafe { gen_probe_read_user(to, size_of::<Content>() as u32, from as *const c_void) };
    }
}

/// A size that the verifier sees the bound of.
#[inline(always)]
fn bounded(size: u32, mask: u32) -> u32 {
    let mut size = size as u64;
    let mask = mask as u64;
    unsafe { asm!("{0} &= {1}", inout(reg) size, in(reg) mask, options(pure, nomem, nostack)) };
    size as u32
}

/// Reads the Python frames of this thread, if it has any.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hw_walk_python(place: u64) -> u64 {
    let Some(mut walk) = Walk::at(place) else {
        return 0;
    };
    let python = &mut walk.memory().python;
    let Some(interpreter) = INTERPRETERS.get(python.interpreter) else {
        return 0;
    };
    match current_frame(interpreter) {
        Ok(0) => return 0,
        Ok(frame) => python.frame = frame,
        Err(counter) => {
            count(counter);
            return 0;
        }
    }
    unsafe {
        bpf_loop(
            // Shims are frames to it, too.
            2 * MAX_PYTHON_FRAMES as u32,
            step as *mut c_void,
            (&raw mut walk).cast(),
            0,
        );
    }
    let python = &mut walk.memory().python;
    add(Counter::PythonFrames, python.count);
    if python.fault != 0 {
        count(Counter::PythonUnreadable);
    } else if python.frame != 0 {
        count(Counter::PythonDepth);
    }
    0
}

impl Python {
    /// No frame has been read.
    #[inline(always)]
    pub fn begin(&mut self, interpreter: u32) {
        self.count = 0;
        self.hash = 0;
        self.check = 0;
        self.closed = 1;
        self.fault = 0;
        self.window_bytes = 0;
        self.interpreter = interpreter;
    }

    /// Whether there are frames beyond those that were read.
    #[inline(always)]
    pub fn is_cut(&self) -> bool {
        self.count != 0 && (self.fault != 0 || self.frame != 0)
    }
}

/// The frame that runs in this thread; 0: it runs no Python.
#[inline(always)]
fn current_frame(interpreter: &Interpreter) -> Result<u64, Counter> {
    const UNKNOWN: Counter = Counter::PythonStateUnknown;
    /// Keys whose data lie in the descriptor itself; the others' in blocks of as many.
    const KEYS_A_BLOCK: u64 = 32;
    let mut key = interpreter.state_key;
    if key >= MOST_KEYS {
        let word = user_word(key).ok_or(UNKNOWN)?;
        if word as u32 == 0 {
            // Python has not begun.
            return Ok(0);
        }
        key = word >> 32;
    }
    if key >= MOST_KEYS {
        return Err(UNKNOWN);
    }
    let thread = kernel_word(
        unsafe { bpf_get_current_task() },
        KERNEL_OFFSETS.load().task_fsbase,
    );
    let mut block = thread.wrapping_add(interpreter.thread_data as u64);
    if key >= KEYS_A_BLOCK {
        let table = block.wrapping_add(KEYS_A_BLOCK * 16);
        block = user_word(table.wrapping_add(key / KEYS_A_BLOCK * 8)).ok_or(UNKNOWN)?;
        if block == 0 {
            return Ok(0);
        }
    }
    let slot = block.wrapping_add(key % KEYS_A_BLOCK * 16 + 8);
    let state = user_word(slot).ok_or(UNKNOWN)?;
    if state == 0 {
        return Ok(0);
    }
    let owner = user_word(state.wrapping_add(interpreter.state_thread as u64)).ok_or(UNKNOWN)?;
    if owner != thread {
        return Err(UNKNOWN);
    }
    let frame = user_word(state.wrapping_add(interpreter.state_frame as u64)).ok_or(UNKNOWN)?;
    if interpreter.indirect == NOWHERE || frame == 0 {
        return Ok(frame);
    }
    user_word(frame.wrapping_add(interpreter.indirect as u64)).ok_or(UNKNOWN)
}

#[inline(always)]
fn user_word(address: u64) -> Option<u64> {
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// Reads one frame, and goes to its caller.
extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let python = &mut walk.memory().python;
    let at = python.frame;
    if at == 0 || python.count >= MAX_PYTHON_FRAMES as u64 {
        return 1;
    }
    let Some(interpreter) = INTERPRETERS.get(python.interpreter) else {
        return 1;
    };
    // Frames are words side by side.
    if at & 7 != 0 || !python.look_at(interpreter, at) {
        python.fault = 1;
        return 1;
    }
    // Newer versions mark references in low bits.
    let code = python.word(at, interpreter.frame_code) & !PYTHON_FLAGS;
    python.frame = python.word(at, interpreter.frame_previous);
    let mark =
        python.word(at, interpreter.frame_entry) >> ((interpreter.frame_entry & 7) * 8) & 0xff;
    let shim = interpreter.entries == ENTRIES_SHIM && mark >= SHIM;
    if shim {
        if python.closed == 0 {
            let last = python.count.wrapping_sub(1);
            python.at(last).code |= PYTHON_ENTRY;
            python.closed = 1;
            fold(python, PYTHON_ENTRY, 0);
            return 0;
        }
        // An evaluation that is about to end: it has no frame any more.
        let next = python.count;
        *python.at(next) = PythonFrame {
            code: PYTHON_ENTRY,
            instruction: 0,
            check: 0,
        };
        python.count = next + 1;
        fold(python, PYTHON_ENTRY, 1);
        return 0;
    }
    if code == 0 || !python.read_code(interpreter, code) {
        python.fault = 1;
        return 1;
    }
    let at = python.word(at, interpreter.frame_instruction);
    let instruction = if interpreter.instruction_unit != 0 {
        let index = (at >> ((interpreter.frame_instruction & 7) * 8)) as i32;
        index.wrapping_mul(interpreter.instruction_unit as i32)
    } else {
        at.wrapping_sub(code.wrapping_add(interpreter.code_instructions as u64)) as i32
    };
    let entry = match interpreter.entries {
        ENTRIES_FLAG => mark != 0,
        ENTRIES_SHIM => false,
        _ => true,
    };
    let mut flags = if entry { PYTHON_ENTRY } else { 0 };
    if interpreter.entries == ENTRIES_SHIM && mark == GENERATOR {
        flags |= PYTHON_GENERATOR;
    }
    let check = python.check_of_code(interpreter);
    let next = python.count;
    *python.at(next) = PythonFrame {
        code: code | flags,
        instruction,
        check,
    };
    python.count = next + 1;
    python.closed = entry as u64;
    fold(
        python,
        code | flags,
        (check as u64) << 32 | instruction as u32 as u64,
    );
    0
}

/// Takes something more into the hashes.
#[inline(always)]
fn fold(python: &mut Python, first: u64, second: u64) {
    python.hash = mix(
        mix(python.hash ^ first, 0x9fb2_1c65_1e98_df25) ^ second,
        0xd6e8_feb8_6659_fd93,
    );
    python.check = mix(
        mix(python.check.rotate_left(23) ^ second, 0xd6e8_feb8_6659_fd93) ^ first,
        0x9fb2_1c65_1e98_df25,
    );
}
