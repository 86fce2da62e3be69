//! Pythons newer than Debian 12's, out of the packages of the next Debian, which come with its C library.

use anyhow::{Result, ensure};

use super::archive;
use crate::command;

/// The oldest that is fetched: the second number of its version.
const OLDEST: u32 = 13;

/// Unpacks them, unless they are there.
pub(super) fn fetch() -> Result<()> {
    let directory = crate::target_directory().join("newer-pythons");
    archive::unpack("testing", &directory, |apt| {
        let names = command::captured(apt("apt-cache").args(["pkgnames", "python3."]))?;
        let pythons: Vec<String> = names
            .lines()
            .filter(|name| minor(name).is_some_and(|minor| minor >= OLDEST))
            .map(str::to_owned)
            .collect();
        ensure!(
            !pythons.is_empty(),
            "it has no python3.{OLDEST} or newer one"
        );
        Ok(pythons)
    })
}

/// 14 of `python3.14`; other packages are not interpreters.
fn minor(name: &str) -> Option<u32> {
    name.strip_prefix("python3.")?.parse().ok()
}
