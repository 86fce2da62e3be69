//! What builds the BPF object: a Rust with the sources of `core`, the linker, and something to strip the result.
//!
//! The BPF target has no prebuilt `core`, so it takes `-Z build-std`, the sources, and the right to use unstable
//! options. Two routes lead there: Debian's `rustc-web` packages, and a rustup nightly with the component `rust-src`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

/// The linker has to read the bitcode of the compiler, so its LLVM (22) may not be older than rustc's; and each version
/// writes its own BTF, so it is pinned.
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";

/// Where Debian's `llvm-22-dev` lies.
pub(crate) const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// A Rust that can build for BPF.
pub(crate) struct Toolchain {
    /// Where its `bin` and `lib` are.
    pub sysroot: PathBuf,
}

impl Toolchain {
    /// Debian's packages if they are there, else rustup's nightly.
    pub(crate) fn find() -> Option<Self> {
        Self::in_sysroot("/usr".into()).or_else(|| {
            let mut rustc = Command::new("rustup");
            rustc.args(["run", "nightly", "rustc", "--print", "sysroot"]);
            Self::in_sysroot(command::output(&mut rustc)?.into())
        })
    }

    fn in_sysroot(sysroot: PathBuf) -> Option<Self> {
        let toolchain = Self { sysroot };
        let core = toolchain.sources().join("library/core/src/lib.rs");
        if !core.is_file() || !toolchain.cargo().is_file() {
            return None;
        }
        let version = command::output(Command::new(toolchain.rustc()).arg("--version"))?;
        is_recent(&version).then_some(toolchain)
    }

    pub(crate) fn cargo(&self) -> PathBuf {
        self.sysroot.join("bin/cargo")
    }

    pub(crate) fn rustc(&self) -> PathBuf {
        self.sysroot.join("bin/rustc")
    }

    /// The sources of the standard library.
    pub(crate) fn sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }
}

/// Whether `rustc 1.96.0 (…)` is at least the workspace's `rust-version`.
fn is_recent(version: &str) -> bool {
    let parse = |number: &str| -> Option<(u32, u32)> {
        let mut parts = number.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let found = version.split(' ').nth(1).and_then(parse);
    let needed = parse(env!("CARGO_PKG_RUST_VERSION"));
    found.is_some_and(|found| Some(found) >= needed)
}

/// The linker, on the `PATH` or where `cargo install` puts it, if it is of the right version and runs.
pub(crate) fn bpf_linker() -> Option<PathBuf> {
    let installed = cargo_home().map(|home| home.join("bin/bpf-linker"));
    let candidates = [command::find("bpf-linker"), installed];
    candidates.into_iter().flatten().find(|linker| {
        command::output(Command::new(linker).arg("--version"))
            .is_some_and(|version| version == format!("bpf-linker {BPF_LINKER_VERSION}"))
    })
}

/// LLVM's `objcopy`; GNU's knows no BPF.
pub(crate) fn llvm_objcopy() -> Option<PathBuf> {
    let of_debian = Path::new(LLVM_PREFIX).join("bin/llvm-objcopy");
    if of_debian.is_file() {
        return Some(of_debian);
    }
    ["llvm-objcopy", "rust-objcopy"]
        .into_iter()
        .find_map(command::find)
}

/// Where cargo keeps registries and installed programs.
pub(crate) fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toolchain_as_new_as_the_workspace_asks_for_is_recent_enough() {
        let needed = env!("CARGO_PKG_RUST_VERSION");
        assert!(is_recent(&format!(
            "rustc {needed}.0 (ac68faa20 2026-05-25)"
        )));
        assert!(is_recent("rustc 1.197.0-nightly (e50aa6fba 2026-05-19)"));
        assert!(is_recent("rustc 2.0.0"));
    }

    #[test]
    fn an_older_or_unreadable_toolchain_is_not() {
        assert!(!is_recent("rustc 1.63.0 (4b91a6ea7 2022-08-08)"));
        assert!(!is_recent("rustc"));
        assert!(!is_recent("rustc unknown"));
    }
}
