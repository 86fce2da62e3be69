//! Python code objects: what is to be known of one is sent when a frame of it is first sent, before the process can end or
//! the object be freed.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_loop, generated::bpf_probe_read_user as gen_probe_read_user},
};
use highwater_common::{
    counter::Counter,
    python::{
        CodeHead, CodeKey, CodeRecord, Interpreter, MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_NAME_BYTES,
        NOWHERE, PYTHON_FLAGS, TextHead,
    },
};

use super::{Walk, memory::Memory};
use crate::{
    emit::count,
    maps::{INTERPRETERS, SENT_CODE, STACKS},
};

/// Sends the code objects of the Python frames that were read and not sent before, and puts the frames down behind the
/// return addresses.
#[inline(always)]
pub fn all(walk: &mut Walk) {
    unsafe {
        bpf_loop(
            walk.memory().python.count as u32,
            one as *mut c_void,
            (&raw mut *walk).cast(),
            0,
        );
    }
}

extern "C" fn one(index: u64, context: *mut c_void) -> i64 {
    let walk = unsafe { &*context.cast::<Walk>() };
    let memory = walk.memory();
    let frame = *memory.python.at(index);
    let to = memory.head.count as u64 + 2 * index;
    memory.put_address(to, frame.code);
    memory.put_address(
        to + 1,
        frame.instruction as u32 as u64 | (frame.check as u64) << 32,
    );
    let code = frame.code & !PYTHON_FLAGS;
    if code == 0 {
        return 0;
    }
    let key = CodeKey {
        code,
        process: memory.head.process,
        check: frame.check,
    };
    if unsafe { SENT_CODE.get(key) }.is_some() {
        return 0;
    }
    let Some(interpreter) = INTERPRETERS.get(memory.python.interpreter) else {
        return 1;
    };
    if send(memory, interpreter, &key) {
        let _ = SENT_CODE.insert(key, 1, 0);
    } else {
        count(Counter::LostPythonCode);
    }
    0
}

/// Whether it is on its way.
#[inline(always)]
fn send(memory: &mut Memory, interpreter: &Interpreter, key: &CodeKey) -> bool {
    // The thread is in us: no code object of a frame of its own goes away meanwhile.
    if !memory.python.read_code(interpreter, key.code) {
        return false;
    }
    let python = &memory.python;
    let record = &mut memory.code;
    let traceable = interpreter.code_first_traceable;
    let lines = python.code_word(interpreter.code_lines);
    record.head = CodeHead {
        zero: 0,
        code: key.code,
        process: key.process,
        check: key.check,
        first_line: python.code_half(interpreter.code_first_line),
        first_traceable: if traceable == NOWHERE {
            0
        } else {
            python.code_half(traceable)
        },
        lines: lines.wrapping_add(interpreter.bytes_data as u64),
        lines_size: 0,
        lines_here: 0,
        file: TextHead::default(),
        name: TextHead::default(),
    };
    let (file, name) = (
        python.code_word(interpreter.code_file),
        python.code_word(interpreter.code_name),
    );
    record.head.file = text(
        interpreter,
        file,
        record.file.as_mut_ptr(),
        MAX_FILE_BYTES as u64,
    );
    record.head.name = text(
        interpreter,
        name,
        record.name.as_mut_ptr(),
        MAX_NAME_BYTES as u64,
    );
    let mut size = 0u64;
    read(
        (&raw mut size).cast(),
        8,
        lines.wrapping_add(interpreter.object_size as u64),
    );
    record.head.lines_size = size as u32;
    let mut here = 0;
    if size < MAX_LINE_BYTES as u64 {
        let (at, to) = (record.head.lines, record.lines.as_mut_ptr());
        if read(to, size, at) {
            here = size;
        }
    }
    record.head.lines_here = here as u32;
    let whole = (size_of::<CodeRecord>() - MAX_LINE_BYTES) as u64 + bounded(here);
    let bytes = unsafe {
        core::slice::from_raw_parts((&raw const memory.code).cast::<u8>(), whole as usize)
    };
    STACKS
        .output::<[u8]>(bytes, BPF_RB_NO_WAKEUP as u64)
        .is_ok()
}

/// Reads a string, as much of it as there is room for.
#[inline(always)]
fn text(interpreter: &Interpreter, object: u64, to: *mut u8, room: u64) -> TextHead {
    // The object's head: reference count, type, length, hash, and how the text is kept
    // (<https://github.com/python/cpython/blob/v3.13.0/Include/cpython/unicodeobject.h#L54>).
    let mut head = [0u64; 5];
    if !read((&raw mut head).cast(), 40, object) {
        return TextHead::default();
    }
    let (length, state) = (head[2], head[4] as u32);
    let (kind, compact, ascii) = (state >> 2 & 7, state >> 5 & 1, state >> 6 & 1);
    if compact == 0 || !matches!(kind, 1 | 2 | 4) {
        return TextHead::default();
    }
    let data = if ascii != 0 {
        interpreter.text_ascii
    } else {
        interpreter.text_other
    };
    let bytes = length.wrapping_mul(kind as u64);
    let here = if bytes > room { room } else { bytes };
    if !read(to, here, object.wrapping_add(data as u64)) {
        return TextHead::default();
    }
    TextHead {
        length: length as u32,
        width: kind as u16,
        here: here as u16,
    }
}

/// Reads less than 16 KiB.
#[inline(always)]
fn read(to: *mut u8, size: u64, from: u64) -> bool {
    unsafe { gen_probe_read_user(to.cast(), bounded(size) as u32, from as *const c_void) == 0 }
}

/// A size that the verifier sees the bound of.
#[inline(always)]
fn bounded(size: u64) -> u64 {
    const _: () =
        assert!(MAX_LINE_BYTES == 0x4000 && MAX_FILE_BYTES < 0x4000 && MAX_NAME_BYTES < 0x4000);
    let mut size = size;
    unsafe { core::arch::asm!("{0} &= 16383", inout(reg) size, options(pure, nomem, nostack)) };
    size
}
