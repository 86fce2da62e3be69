//! Every developer's task is one command: `cargo xtask TASK`, from anywhere in the repository.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, io};

use anyhow::Result;

mod bench;
mod command;
mod crate_ids;
mod demo;
mod dist;
mod ebpf;
mod page;
mod setup;
mod test;
mod toolchain;
mod vm;

#[path = "../../tracer/build/source_hash.rs"]
mod source_hash;

const USAGE: &str = "\
Usage: cargo xtask TASK

  setup              install what a fresh Debian machine lacks to build and test highwater
  demo               attach to a bundled program by its PID and show who held its memory at the peak
  bench              measure what tracing costs, beside empty probes and other tools, in some ten minutes
  bench --quick      the same in two minutes; its figures say less
  bench NAME...      only these parts: pairs, rate, attach, blocks, recordings, python
  bench --against BINARY      this build beside another one of highwater, in turn
  test               rebuild the BPF object, lint everything and run every test, the privileged ones included
  test NAME...       run only the tests whose names contain one of these
  test --lint        run only the lints: fmt, clippy, doc
  vm [NAME...]       run the tests that trace on Debian's kernels 6.1 and 6.12, in virtual machines; or those named so
  vm --kernel 6.1 [NAME...]   the same on one kernel
  vm --smoke         run the part of them that `test` runs too
  dist               build one static binary and pack it with completions, manual and licences, into target/dist/
  dist --for-tests   build that binary unoptimised, for the tests, and say where it is
  ebpf               build the BPF object from source, into tracer/src/probe/
  ebpf --check       say whether the committed BPF object is older than its sources
  page               fetch the libraries that the page is drawn with from npm, into tracer/src/report/html/vendor/
";

fn main() -> ExitCode {
    if crate_ids::are_asked_for() {
        return crate_ids::run_rustc();
    }
    if vm::init::is_asked_for() {
        return vm::init::run();
    }
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["setup"] => {
            setup::run()?;
            setup::for_machines()?;
        }
        ["demo"] => demo::run()?,
        ["bench", "--quick", parts @ ..] if are_names(parts) => bench::run(true, parts)?,
        ["bench", "--against", other] => bench::run_against(Path::new(other), false)?,
        ["bench", "--quick", "--against", other] => bench::run_against(Path::new(other), true)?,
        ["bench", parts @ ..] if are_names(parts) => bench::run(false, parts)?,
        ["test", "--lint"] => test::lint()?,
        ["test", names @ ..] if are_names(names) => test::run(names)?,
        ["vm", "--smoke"] => vm::smoke()?,
        ["vm", "--kernel", series, names @ ..] if are_names(names) => {
            vm::run(Some(series), names)?;
        }
        ["vm", names @ ..] if are_names(names) => vm::run(None, names)?,
        ["dist"] => dist::run()?,
        ["dist", "--for-tests"] => println!("{}", dist::build_for_tests()?.display()),
        ["ebpf"] => ebpf::build()?,
        ["ebpf", "--check"] => ebpf::check()?,
        ["page"] => page::fetch()?,
        ["help" | "-h" | "--help"] => print!("{USAGE}"),
        _ => {
            eprint!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether these name tests, and no option is among them.
fn are_names(arguments: &[&str]) -> bool {
    arguments.iter().all(|argument| !argument.starts_with('-'))
}

/// The root of the repository that this xtask was compiled in.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask/ lies in the root of the repository")
}

/// Where cargo puts what it builds of the workspace.
fn target_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => repository().join(directory),
        None => repository().join("target"),
    }
}

/// Whether this runs in CI, where nothing that should run may be skipped.
fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Whether we may trace: as root, without asking for more.
fn is_root() -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}
