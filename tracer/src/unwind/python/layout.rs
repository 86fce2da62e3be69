//! Where the members of CPython's structures lie, by version.
//!
//! The tables are from the headers of each version (`Include/cpython/*.h`, `Include/internal/*.h`): they do not change within
//! a minor version but by accident, and what is read by them is looked at before it is believed.

use std::fmt;

use highwater_common::python::{ENTRIES_ALL, ENTRIES_FLAG, ENTRIES_SHIM, Interpreter, NOWHERE};

/// A version of CPython.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u8,
    /// The second: layouts and line tables go with it.
    pub minor: u8,
}

impl Version {
    /// The version that `PY_VERSION_HEX` stands for.
    pub fn from_hex(hex: u64) -> Self {
        Self {
            major: (hex >> 24) as u8,
            minor: (hex >> 16) as u8,
        }
    }

    /// From the name of a library or program: `libpython3.9.so.1.0`, `python3.10`.
    pub fn from_file_name(name: &str) -> Option<Self> {
        let at = name.find("python")? + "python".len();
        let mut numbers = name[at..].split(|character: char| !character.is_ascii_digit());
        let version = Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        };
        Some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// Where everything lies in the structures of one interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// `_PyRuntime`: the first interpreter.
    pub runtime_interpreters: u64,
    /// `_PyRuntime`: the key of thread states, most likely.
    pub runtime_key: Option<u64>,
    /// `PyInterpreterState`: the next one.
    pub interpreter_next: u64,
    /// `PyInterpreterState`: its first thread.
    pub interpreter_threads: u64,
    /// `PyThreadState`: the next one.
    pub state_next: u64,
    /// `PyThreadState`: its interpreter.
    pub state_interpreter: u64,
    /// What the kernel side needs of it; addresses are zero.
    pub kernel: Interpreter,
}

/// Where glibc keeps the first block of thread-specific data in a thread's descriptor
/// (`struct pthread`, `specific_1stblock`, 2.21 to 2.42).
pub const THREAD_DATA: u32 = 0x310;

/// What the versions have in common.
const COMMON: Interpreter = Interpreter {
    state_key: 0,
    type_of_code: 0,
    thread_data: THREAD_DATA,
    state_thread: 0,
    state_frame: 0,
    indirect: NOWHERE,
    frame_size: 80,
    frame_code: 0,
    frame_previous: 8,
    frame_instruction: 56,
    frame_entry: 0,
    entries: ENTRIES_SHIM,
    instruction_unit: 0,
    code_size: 208,
    code_type: 8,
    code_first_line: 68,
    code_file: 112,
    code_name: 128,
    code_lines: 136,
    code_variables: 96,
    code_instructions: 0,
    code_first_traceable: NOWHERE,
    text_ascii: 40,
    text_other: 56,
    object_size: 16,
    bytes_data: 32,
    code_version: 92,
    code_flags: 48,
};

/// A minor version's table; `None`: it has none.
pub fn of_version(version: Version) -> Option<Layout> {
    let common = Layout {
        runtime_interpreters: 40,
        runtime_key: None,
        interpreter_next: 0,
        interpreter_threads: 16,
        state_next: 8,
        state_interpreter: 16,
        kernel: COMMON,
    };
    // `PyFrameObject`s, each run by an evaluation of its own; names are not qualified.
    let objects = Layout {
        runtime_interpreters: 32,
        runtime_key: Some(584),
        interpreter_threads: 8,
        kernel: Interpreter {
            state_thread: 176,
            state_frame: 24,
            frame_size: 112,
            frame_code: 32,
            frame_previous: 24,
            entries: ENTRIES_ALL,
            code_size: 128,
            code_first_line: 40,
            code_file: 104,
            code_name: 112,
            code_lines: 120,
            code_variables: 72,
            text_ascii: 48,
            text_other: 72,
            code_version: NOWHERE,
            code_flags: 36,
            ..COMMON
        },
        ..common
    };
    Some(match (version.major, version.minor) {
        (3, 9) => Layout {
            kernel: Interpreter {
                frame_instruction: 104,
                instruction_unit: 1,
                ..objects.kernel
            },
            ..objects
        },
        (3, 10) => Layout {
            kernel: Interpreter {
                frame_instruction: 96,
                instruction_unit: 2,
                ..objects.kernel
            },
            ..objects
        },
        (3, 11) => Layout {
            runtime_key: Some(592),
            kernel: Interpreter {
                state_thread: 152,
                state_frame: 56,
                indirect: 8,
                frame_size: 72,
                frame_code: 32,
                frame_previous: 48,
                frame_entry: 68,
                entries: ENTRIES_FLAG,
                code_size: 176,
                code_first_line: 72,
                code_instructions: 184,
                code_first_traceable: 168,
                text_ascii: 48,
                text_other: 72,
                code_version: NOWHERE,
                ..COMMON
            },
            ..common
        },
        (3, 12) => Layout {
            runtime_key: Some(1544),
            interpreter_threads: 72,
            kernel: Interpreter {
                state_thread: 136,
                state_frame: 56,
                indirect: 0,
                frame_size: 72,
                frame_entry: 70,
                code_size: 184,
                code_instructions: 192,
                code_first_traceable: 176,
                ..COMMON
            },
            ..common
        },
        _ => return None,
    })
}

/// Bytes of `_Py_DebugOffsets` that are read.
pub const DEBUG_OFFSETS_BYTES: usize = 4096;

/// What an interpreter says of itself at the start of `_PyRuntime`, from 3.13 on
/// (<https://github.com/python/cpython/blob/v3.13.0/Include/internal/pycore_runtime.h#L53>). `None`: it says nothing that we
/// understand.
pub fn of_debug_offsets(bytes: &[u8]) -> Option<(Version, Layout)> {
    if bytes.get(..8)? != b"xdebugpy" {
        return None;
    }
    let mut words = bytes[8..]
        .chunks_exact(8)
        .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    let hex = words.next()?;
    let version = Version::from_hex(hex);
    let free_threaded = words.next()? != 0;
    let words: Vec<u64> = words.collect();
    // Structures have grown from version to version; each is a run of words, its own size the first.
    let (interpreter, state, frame, code, object, bytes_object, text) =
        match (version.major, version.minor) {
            (3, 13) => (3, 16, 25, 31, 41, 61, 64),
            (3, 14) => (3, 19, 28, 36, 47, 71, 74),
            _ => return None,
        };
    let word = |at: usize| words.get(at).copied();
    let offset = |at: usize| word(at).and_then(|word| u32::try_from(word).ok());
    let first_instruction = offset(code + 9)?;
    let kernel = Interpreter {
        state_frame: offset(state + 4)?,
        state_thread: offset(state + 5)?,
        frame_previous: offset(frame + 1)?,
        frame_code: offset(frame + 2)?,
        frame_instruction: offset(frame + 3)?,
        frame_entry: offset(frame + 5)?,
        frame_size: offset(frame + 4)?,
        code_file: offset(code + 1)?,
        code_name: offset(code + 3)?,
        code_lines: offset(code + 4)?,
        code_first_line: offset(code + 5)?,
        code_variables: offset(code + 7)?,
        // Right before: nothing is said of it.
        code_version: offset(code + 7)?.checked_sub(4)?,
        code_instructions: first_instruction,
        code_type: offset(object + 1)?,
        object_size: offset(bytes_object + 1)?,
        bytes_data: offset(bytes_object + 2)?,
        text_ascii: offset(text + 3)?,
        // `PyCompactUnicodeObject`: two more words.
        text_other: offset(text + 3)?.checked_add(16)?,
        // Right before the two words (`co_extra`, and what specialises) that precede the instructions.
        code_first_traceable: first_instruction.checked_sub(16)?,
        ..COMMON
    };
    // The kernel side reads no more of a frame and of a code object than this.
    let code_size = first_instruction.min(252) & !7;
    let within = [
        kernel.code_file,
        kernel.code_name,
        kernel.code_lines,
        kernel.code_variables,
        kernel.code_type,
    ]
    .iter()
    .all(|at| at.is_multiple_of(8) && at + 8 <= code_size)
        && kernel.code_first_line + 4 <= code_size
        && [
            kernel.frame_previous,
            kernel.frame_code,
            kernel.frame_instruction,
        ]
        .iter()
        .all(|at| at.is_multiple_of(8) && at + 8 <= kernel.frame_size)
        && kernel.frame_entry < kernel.frame_size
        && kernel.frame_size <= 120
        && kernel.frame_size.is_multiple_of(8);
    // Without the lock, objects are laid out in another way than the parts that nothing is said of are known to be.
    if !within || free_threaded {
        return None;
    }
    let layout = Layout {
        runtime_interpreters: word(2)?,
        runtime_key: match version.minor {
            13 => Some(2160),
            14 => Some(2336),
            _ => None,
        },
        interpreter_next: word(interpreter + 2)?,
        interpreter_threads: word(interpreter + 3)?,
        state_next: word(state + 2)?,
        state_interpreter: word(state + 3)?,
        kernel: Interpreter {
            code_size,
            ..kernel
        },
    };
    Some((version, layout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_names_of_files() {
        let version = |name| Version::from_file_name(name).map(|version| version.to_string());
        assert_eq!(version("libpython3.9.so.1.0").as_deref(), Some("3.9"));
        assert_eq!(version("python3.10").as_deref(), Some("3.10"));
        assert_eq!(version("libpython3.so"), None);
        assert_eq!(version("python"), None);
    }

    #[test]
    fn what_says_nothing_of_itself_has_no_layout() {
        assert_eq!(of_debug_offsets(b""), None);
        assert_eq!(of_debug_offsets(&[0; 800]), None);
        let mut garbage = vec![0xff; 800];
        garbage[..8].copy_from_slice(b"xdebugpy");
        garbage[8..16].copy_from_slice(&0x030d_00f0_u64.to_le_bytes());
        assert_eq!(of_debug_offsets(&garbage), None);
    }
}
