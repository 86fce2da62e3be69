//! The frame of the file: its header, the headers of its chunks, and the limits. `docs/recording-format.md` describes the
//! file byte by byte.

use super::damage::Damage;

/// First bytes of every recording. As in PNG, the byte above 127, the two kinds of line end and the end-of-text byte tell
/// at once when something took the file for text and changed it.
pub(super) const MAGIC: [u8; 8] = *b"\x89HWM\r\n\x1a\n";

/// The version of the format that is written here. Version 2 added the calls about the address space; version 3 has chunks of its
/// own for events, names blocks by number, tells time in microseconds, and keeps stacks as a trie; version 4 has entries for functions,
/// runtimes and cgroups, and passes over events that it does not know.
pub const VERSION: u16 = 4;

/// The oldest version that is read here: chunks and entries tell by themselves how they are to be read.
pub(super) const OLDEST_VERSION: u16 = 1;

/// Bytes of the file header, in every version.
pub(super) const FILE_HEADER: usize = 16;

/// Bytes of the header of a chunk.
pub(super) const CHUNK_HEADER: usize = 16;

/// Most bytes of a chunk, as stored and unpacked alike. A reader needs room for two of this.
pub(super) const MAX_CHUNK: usize = 16 << 20;

/// Most events in one chunk. Decoded they are some thirty times as large as the least that they can be packed into, so
/// the length of a chunk alone would not bound them.
pub(super) const MAX_EVENTS: usize = 1 << 18;

/// Most bytes of one entry.
pub(super) const MAX_ENTRY: usize = 4 << 20;

/// Type of chunk, of versions 1 and 2: entries of all kinds, events among them.
pub(super) const OLDER: u8 = 1;

/// Type of chunk: entries other than events.
pub(super) const ENTRIES: u8 = 2;

/// Type of chunk, of version 3: events as in [`EVENTS`], but for what tags mean.
pub(super) const THIRD_EVENTS: u8 = 3;

/// Type of chunk: events. If a chunk of entries comes before it, they belong among those.
pub(super) const EVENTS: u8 = 4;

/// What a reader does about a type of chunk, or a kind of entry or event, that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It cannot go on.
    Refuse,
    /// It passes over it, and says so: what is left may be wrong.
    Tell,
    /// It passes over it.
    Skip,
}

/// What a reader does about this type or kind, if it does not know it.
pub(super) fn unknown(kind: u8) -> Unknown {
    match kind {
        0..64 => Unknown::Refuse,
        64..128 => Unknown::Tell,
        128.. => Unknown::Skip,
    }
}

/// Flag of a chunk: its content is packed as one zstd frame.
const PACKED: u8 = 1;

/// The file header: magic, version, flags (none yet), checksum of these.
pub(super) fn file_header() -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    let checksum = crc32fast::hash(&header[..12]);
    header[12..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// What stands before the payload of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkHeader {
    /// [`ENTRIES`], [`EVENTS`], [`OLDER`], or something of a later writer.
    pub(super) kind: u8,
    /// Whether the content is packed.
    pub(super) packed: bool,
    /// Bytes that follow this header.
    pub(super) stored: u32,
    /// Bytes of the content, unpacked.
    pub(super) unpacked: u32,
    /// The checksum that it tells; not looked at as it is encoded.
    pub(super) checksum: u32,
}

impl ChunkHeader {
    /// The header as it stands before `payload`.
    pub(super) fn encode(self, payload: &[u8]) -> [u8; CHUNK_HEADER] {
        let Self {
            kind,
            packed,
            stored,
            unpacked,
            checksum: _,
        } = self;
        let mut header = [0; CHUNK_HEADER];
        header[0] = kind;
        header[1] = if packed { PACKED } else { 0 };
        header[4..8].copy_from_slice(&stored.to_le_bytes());
        header[8..12].copy_from_slice(&unpacked.to_le_bytes());
        let checksum = checksum(&header, payload);
        header[12..].copy_from_slice(&checksum.to_le_bytes());
        header
    }

    /// Reads a header; its lengths are within the limits, its checksum is not looked at yet.
    pub(super) fn decode(header: &[u8; CHUNK_HEADER]) -> Result<Self, Damage> {
        let [kind, flags, reserved_0, reserved_1, lengths @ ..] = *header;
        let [s0, s1, s2, s3, u0, u1, u2, u3, c0, c1, c2, c3] = lengths;
        let stored = u32::from_le_bytes([s0, s1, s2, s3]);
        let unpacked = u32::from_le_bytes([u0, u1, u2, u3]);
        if let Some(&length) = [stored, unpacked].iter().find(|&&l| l as usize > MAX_CHUNK) {
            return Err(Damage::ChunkLength(length));
        }
        if flags & !PACKED != 0 || reserved_0 != 0 || reserved_1 != 0 {
            let flags = u32::from_le_bytes([flags, reserved_0, reserved_1, 0]);
            return Err(Damage::ChunkFlags(flags));
        }
        Ok(Self {
            kind,
            packed: flags & PACKED != 0,
            stored,
            unpacked,
            checksum: u32::from_le_bytes([c0, c1, c2, c3]),
        })
    }
}

/// The checksum that a chunk has to carry in the last four bytes of its header.
pub(super) fn checksum(header: &[u8; CHUNK_HEADER], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..12]);
    hasher.update(payload);
    hasher.finalize()
}
