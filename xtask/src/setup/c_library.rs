//! The C library of Debian 13; that of the next Debian comes with its Pythons.

use anyhow::Result;

use super::archive;

/// Unpacks it, unless it is there.
pub(super) fn fetch() -> Result<()> {
    let directory = crate::target_directory().join("debian-13");
    archive::unpack("trixie", &directory, |_| Ok(vec!["libc6".to_owned()]))
}
