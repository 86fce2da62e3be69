//! Crate ids that do not depend on where the repository lies, so that the BPF object does not either.
//!
//! Every mangled name holds the id of its crate, which rustc derives from the `-C metadata` that cargo passes. For a path
//! dependency outside the workspace of the crate being built (`tracer-common`, for `tracer-ebpf`) cargo derives that
//! from the absolute path, and so for every crate that depends on it. While the object is built, xtask stands between
//! cargo and rustc (`RUSTC_WRAPPER`) and gives our crates an id made of nothing but their name.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// Set while xtask is to behave as rustc.
const ASKED: &str = "HIGHWATER_XTASK_IS_RUSTC";

/// Makes a cargo command give crate ids by name.
pub(crate) fn ask_for(cargo: &mut Command) -> Result<()> {
    let xtask = env::current_exe().context("cannot find the path of xtask itself")?;
    cargo.env("RUSTC_WRAPPER", xtask).env(ASKED, "1");
    Ok(())
}

/// Whether this process is to behave as rustc.
pub(crate) fn are_asked_for() -> bool {
    env::var_os(ASKED).is_some()
}

/// Becomes the rustc that the first argument names.
pub(crate) fn run_rustc() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    name_by_crate(&mut arguments);
    let Some((rustc, arguments)) = arguments.split_first() else {
        eprintln!("xtask: {ASKED} is set, but no rustc was named; unset it");
        return ExitCode::FAILURE;
    };
    let error = Command::new(rustc).args(arguments).exec();
    eprintln!("xtask: cannot run {rustc}: {error}");
    ExitCode::FAILURE
}

/// Replaces the metadata of our own crates by their names.
fn name_by_crate(arguments: &mut [String]) {
    let name = arguments
        .windows(2)
        .find(|pair| pair[0] == "--crate-name" && pair[1].starts_with("highwater"))
        .map(|pair| pair[1].clone());
    let metadata = arguments
        .iter_mut()
        .find(|argument| argument.starts_with("metadata="));
    if let (Some(name), Some(metadata)) = (name, metadata) {
        *metadata = format!("metadata={name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(arguments: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        name_by_crate(&mut arguments);
        arguments
    }

    #[test]
    fn our_crates_are_known_by_their_names() {
        let arguments = [
            "rustc",
            "--crate-name",
            "highwater_common",
            "-C",
            "metadata=f00d",
        ];
        assert_eq!(named(&arguments)[4], "metadata=highwater_common");
    }

    #[test]
    fn the_crates_of_others_are_left_alone() {
        let arguments = ["rustc", "--crate-name", "aya_ebpf", "-C", "metadata=f00d"];
        assert_eq!(named(&arguments), arguments);
        assert_eq!(named(&["rustc", "-vV"]), ["rustc", "-vV"]);
    }
}
