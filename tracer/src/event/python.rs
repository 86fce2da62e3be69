//! What the kernel side sends of Python: frames behind a stack, and code objects before their first frame.

use highwater_common::python::{
    CodeHead, MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_NAME_BYTES, PYTHON_ENTRY, PYTHON_FLAGS,
    PYTHON_GENERATOR, TextHead,
};

use super::{Address, ProcessId, fields::Fields};

/// A Python frame as it was when its stack was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The code object that it runs. Zero: it is none, only an evaluation that has no frame just now.
    pub code: Address,
    /// What tells that code object from others at the address.
    pub check: u32,
    /// Bytes from the code's first instruction to the one that runs.
    pub instruction: i32,
    /// It is the outermost of its evaluation: one native frame goes with all up to here.
    pub is_entry: bool,
    /// It is a generator's or coroutine's.
    pub is_generator: bool,
}

impl Frame {
    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (code, instruction) = (fields.u64()?, fields.u32()?);
        Some(Self {
            code: Address(code & !PYTHON_FLAGS),
            check: fields.u32()?,
            instruction: instruction as i32,
            is_entry: code & PYTHON_ENTRY != 0,
            is_generator: code & PYTHON_GENERATOR != 0,
        })
    }
}

/// A code object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeDefinition {
    /// Address of the object in its process.
    pub code: Address,
    /// What tells it from others at that address.
    pub check: u32,
    /// The process that has the object.
    pub process: ProcessId,
    /// Its first line.
    pub first_line: u32,
    /// Bytes before the first instruction that a traceback would show.
    pub first_traceable: i32,
    /// Its file's name; `None`: that could not be read.
    pub file: Option<String>,
    /// Its own name.
    pub name: Option<String>,
    /// Where its line table is, and how long.
    pub lines_at: (Address, u32),
    /// The line table; `None`: it was too long to be sent, or could not be read.
    pub lines: Option<Vec<u8>>,
}

/// Whether a record of the stack ring is a code object.
pub fn is_code(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0; 8])
}

/// Reads a record of a code object; `None`: it is none, or too short.
pub fn code_definition(bytes: &[u8]) -> Option<CodeDefinition> {
    let mut fields = Fields(bytes);
    let head = CodeHead {
        zero: fields.u64()?,
        code: fields.u64()?,
        process: fields.u32()?,
        check: fields.u32()?,
        first_line: fields.u32()?,
        first_traceable: fields.u32()?,
        lines: fields.u64()?,
        lines_size: fields.u32()?,
        lines_here: fields.u32()?,
        file: text_head(&mut fields)?,
        name: text_head(&mut fields)?,
    };
    let file = fields.bytes(MAX_FILE_BYTES)?;
    let name = fields.bytes(MAX_NAME_BYTES)?;
    let here = head.lines_here as usize;
    if here >= MAX_LINE_BYTES || here != 0 && head.lines_here != head.lines_size {
        return None;
    }
    let lines = fields.bytes(here)?;
    Some(CodeDefinition {
        code: Address(head.code),
        check: head.check,
        process: ProcessId(head.process),
        first_line: head.first_line,
        first_traceable: (head.first_traceable as i32).saturating_mul(2),
        file: text(head.file, file),
        name: text(head.name, name),
        lines_at: (Address(head.lines), head.lines_size),
        lines: (here != 0 || head.lines_size == 0).then(|| lines.to_vec()),
    })
}

fn text_head(fields: &mut Fields<'_>) -> Option<TextHead> {
    let (length, rest) = (fields.u32()?, fields.u32()?);
    Some(TextHead {
        length,
        width: rest as u16,
        here: (rest >> 16) as u16,
    })
}

/// A Python string; what was cut of it shows as an ellipsis.
fn text(head: TextHead, bytes: &[u8]) -> Option<String> {
    let bytes = bytes.get(..usize::from(head.here))?;
    let character = |point: u32| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut text: String = match head.width {
        1 => bytes.iter().map(|byte| char::from(*byte)).collect(),
        2 => bytes
            .chunks_exact(2)
            .map(|pair| character(u16::from_le_bytes([pair[0], pair[1]]).into()))
            .collect(),
        4 => bytes
            .chunks_exact(4)
            .map(|four| character(u32::from_le_bytes([four[0], four[1], four[2], four[3]])))
            .collect(),
        _ => return None,
    };
    let whole = u64::from(head.length) * u64::from(head.width);
    if whole > bytes.len() as u64 {
        text.push('…');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(length: u32, width: u16, here: u16) -> TextHead {
        TextHead {
            length,
            width,
            here,
        }
    }

    #[test]
    fn strings_of_every_width_are_read() {
        assert_eq!(text(head(3, 1, 3), b"caf").as_deref(), Some("caf"));
        assert_eq!(text(head(1, 1, 1), &[0xe9]).as_deref(), Some("é"));
        assert_eq!(text(head(1, 2, 2), &[0xac, 0x20]).as_deref(), Some("€"));
        assert_eq!(
            text(head(1, 4, 4), &[0x00, 0xf6, 0x01, 0x00]).as_deref(),
            Some("😀")
        );
    }

    #[test]
    fn a_string_that_was_cut_says_so() {
        assert_eq!(text(head(9, 1, 3), b"abc").as_deref(), Some("abc…"));
    }

    #[test]
    fn a_string_that_could_not_be_read_is_none() {
        assert_eq!(text(head(0, 0, 0), b""), None);
    }

    proptest! {
        #[test]
        fn no_record_makes_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..1200)) {
            let start = bytes.len().min(8);
            bytes[..start].fill(0);
            let _ = code_definition(&bytes);
        }
    }
}
