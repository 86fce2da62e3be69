//! What can be wrong inside a recording.

use thiserror::Error;

/// What a reader found where it expected something else.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// The file header does not match its checksum.
    #[error("the checksum of the file header does not match")]
    FileHeader,
    /// The file header asks for something that this version does not know.
    #[error("unknown flags {0:#06x} in the file header")]
    FileFlags(u16),
    /// Flags of a chunk that this version does not know.
    #[error("unknown flags {0:#08x} of a chunk")]
    ChunkFlags(u32),
    /// A type of chunk that may not be skipped.
    #[error("unknown type of chunk {0}")]
    ChunkType(u8),
    /// A chunk says that it is longer than any chunk may be.
    #[error("a chunk of {0} bytes, more than a chunk may have")]
    ChunkLength(u32),
    /// A chunk does not match its checksum.
    #[error("the checksum of a chunk does not match")]
    Checksum,
    /// The content of a chunk does not unpack to the length that its header tells.
    #[error("the content of a chunk does not unpack")]
    Compression,
    /// More events in a chunk than there may be.
    #[error("{0} events in one chunk, more than a chunk may have")]
    EventCount(usize),
    /// Fewer columns than any version has.
    #[error("{0} columns in a chunk, fewer than there have to be")]
    ColumnCount(u64),
    /// Something reaches past the end of what holds it.
    #[error("something reaches past the end of what holds it")]
    Overrun,
    /// A chunk holds more than its entries account for.
    #[error("bytes are left over at the end of a chunk")]
    LeftOver,
    /// An integer that is too large for its field.
    #[error("an integer is too large for its field")]
    LongInteger,
    /// An event that means nothing.
    #[error("unknown call or function {0:#04x} of an event")]
    Call(u8),
    /// A kind of event that may not be passed over, or one without the function that it has to tell.
    #[error("unknown kind of event {0}, or one without its function")]
    Kind(u8),
    /// A reference to something that was not there before.
    #[error("a reference to an address, thread, tag or cgroup that did not come before")]
    Reference,
    /// A kind of entry that may not be skipped.
    #[error("unknown kind of entry {0}")]
    Entry(u8),
    /// A field with a value that means nothing.
    #[error("the value {value} of the field `{field}` means nothing")]
    Field {
        /// Name of the field, as the format's page has it.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// Text that is not UTF-8.
    #[error("a name is not UTF-8")]
    Text,
    /// A part of a fold that does not say what it should.
    #[error("a part of a fold is not what it should be")]
    Fold,
    /// A JSON entry that does not say what it should.
    #[error("an entry is not the JSON that it should be: {0}")]
    Json(String),
}
