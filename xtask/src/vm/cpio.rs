//! An archive in the "newc" format of cpio, which is what an initramfs is (Documentation/driver-api/early-userspace/
//! buffer-format.rst in the kernel's sources). It is not compressed: unpacking would cost an emulated machine more than
//! reading does.

use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Writes an archive entry by entry. A directory has to come before what is in it.
pub(super) struct Archive<W> {
    to: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, entries: 0 }
    }

    /// Names are without a leading slash.
    pub(super) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIRECTORY, &[])
    }

    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, EXECUTABLE, content)
    }

    /// An archive without this last entry is one that was cut short.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        self.entries += 1;
        // Inode, mode, user, group, links, time, size, four device numbers, size of the name, a checksum that is not used.
        let (inode, links) = (self.entries, 1);
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut head = b"070701".to_vec();
        for field in fields {
            write!(head, "{field:08x}")?;
        }
        head.extend_from_slice(name.as_bytes());
        head.push(0);
        for part in [&head[..], content] {
            self.to.write_all(part)?;
            let padding = part.len().next_multiple_of(4) - part.len();
            self.to.write_all(&[0; 3][..padding])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_and_every_content_begins_at_a_multiple_of_four() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.directory("bin").unwrap();
        archive.file("bin/true", b"#!ok\n").unwrap();
        archive.finish().unwrap();

        assert_eq!(bytes.len() % 4, 0);
        let starts: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(b"070701"))
            .collect();
        // A head is 110 bytes and the name with its zero, then comes the content; each padded.
        assert_eq!(starts, [0, 116, 116 + 120 + 8]);
        let content = &bytes[116 + 120..][..5];
        assert_eq!(content, b"#!ok\n");
        // The size of the file, in the seventh field.
        assert_eq!(&bytes[116 + 6 + 6 * 8..][..8], b"00000005");
    }
}
