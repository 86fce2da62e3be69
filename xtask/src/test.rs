//! `cargo xtask test`: everything that has to hold, on this machine.
//!
//! The BPF object is built from source first, and the tests run on what was built. In CI it has to be what is committed.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, ebpf, repository, setup, vm};

/// Lints, the smoke part of other kernels and all tests, or only the tests whose names contain one of `names`.
///
/// The last thing on standard output is what cargo says of the tests.
pub(crate) fn run(names: &[&str]) -> Result<()> {
    command::section("setup", setup::run)?;
    command::section("build the BPF object", || {
        // Before the build, which would hide it.
        if crate::in_ci() {
            ebpf::check()?;
        }
        ebpf::build()
    })?;
    // A lint that fails is no reason not to hear what the tests say.
    let linted = if names.is_empty() { lint() } else { Ok(()) };
    command::section("build highwater and the tests", || {
        command::run(command::cargo().args(["build", "--package", "highwater", "--bins"]))?;
        command::run(command::cargo().args(["test", "--workspace", "--no-run"]))
    })?;

    let smoked = if names.is_empty() {
        vm::smoke_if_possible()
    } else {
        Ok(())
    };

    println!("== test");
    let mut tests = command::cargo();
    tests.args(["test", "--workspace", "--no-fail-fast", "--"]);
    tests.args(names);
    run_tests_as_root(&mut tests)?;
    let tested = command::run(&mut tests);
    all_of([linted, smoked, tested])
}

/// Formatting, clippy and documentation; runs all three, whichever of them fail.
pub(crate) fn lint() -> Result<()> {
    let results = [
        command::section("fmt", || {
            command::run(command::cargo().args(["fmt", "--all", "--check"]))?;
            // Not a member of the workspace.
            command::run(
                command::cargo()
                    .args(["fmt", "--check"])
                    .current_dir(repository().join("tracer-ebpf")),
            )
        }),
        command::section("clippy", || {
            command::run(
                command::cargo()
                    .args(["clippy", "--workspace", "--all-targets"])
                    .args(["--", "-D", "warnings"]),
            )
        }),
        command::section("doc", || {
            command::run(
                command::cargo()
                    .args(["doc", "--workspace", "--no-deps"])
                    .env("RUSTDOCFLAGS", "-D warnings"),
            )
        }),
    ];
    all_of(results)
}

/// Fails as all that failed together.
fn all_of(results: [Result<()>; 3]) -> Result<()> {
    let failures: Vec<String> = results
        .into_iter()
        .filter_map(Result::err)
        .map(|error| format!("{error:#}"))
        .collect();
    if !failures.is_empty() {
        bail!("{}", failures.join("; "));
    }
    Ok(())
}

/// Lets cargo build as the user that we are, and run what it built as root. Without sudo the privileged tests have to say
/// themselves that they are skipped.
fn run_tests_as_root(cargo: &mut Command) -> Result<()> {
    if crate::is_root()? {
        return Ok(());
    }
    if command::find("sudo").is_none() {
        eprintln!("xtask: neither root nor sudo: tests that trace will be skipped");
        return Ok(());
    }
    command::run(Command::new("sudo").arg("--validate"))
        .context("the tests that trace run as root")?;
    cargo.env(
        "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
        "sudo --preserve-env",
    );
    Ok(())
}
