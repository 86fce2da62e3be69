//! `cargo xtask vm`: runs the tests that trace on other kernels, Debian's, each in a virtual machine of its own.
//!
//! The machine is QEMU without KVM, so that it runs wherever QEMU does, if slowly. All it has is an initramfs: the tests and
//! highwater as they were built here, the victims, their libraries, and this very program as its first process ([`init`]).
//! What it prints on its serial console, the plan's end markers among it, is all that comes back ([`console`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{command, setup};

mod console;
mod cpio;
pub(crate) mod init;
mod initramfs;
mod kernel;
mod machine;

use self::console::Verdict;
use self::kernel::Kernel;

/// The Debian kernels that highwater is tested on.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// Those on which the smoke part has to pass. Not 6.1 for now: its verifier gives up on `hw_call_ends` (a million instructions), so that
/// mappings are not followed there, every recording says so, and no test that wants all to be seen passes.
const SMOKE_SERIES: [&str; 1] = ["6.12"];

/// What shows in a minute that programs load, links are made and stacks are walked: test executables, and the tests in them.
const SMOKE: [(&str, &[&str]); 2] = [
    (
        "heap_calls",
        &["eight_call_sites_hold_at_the_peak_and_at_the_end_what_they_say"],
    ),
    (
        "stacks",
        &[
            "frames_of_every_shape_are_walked_to_the_first_function",
            "a_stack_is_not_taken_for_another_that_left_its_traces_at_the_same_addresses",
        ],
    ),
];

/// What takes an emulated machine five minutes and more each; they run if they are named.
const TOO_LONG: [&str; 2] = [
    "a_recorder_killed_at_any_instant_leaves_no_trace_in_the_target",
    "threads_inside_malloc_at_attach_and_at_detach_are_left_unharmed",
];

/// Test executables that need what the machines lack: a browser, other profilers, a compiler, Python.
const NOT_THERE: [&str; 5] = ["page", "consumers", "dist", "python", "memray"];

/// How long a machine may take for the smoke part; it boots in ten seconds.
const SMOKE_LIMIT: Duration = Duration::from_secs(240);

/// How long a machine may take for everything.
const LIMIT: Duration = Duration::from_secs(3600);

/// One test executable to run in the machine, and the arguments it gets.
struct Run {
    name: String,
    executable: PathBuf,
    arguments: Vec<String>,
}

/// Runs the tests whose names contain one of `names` (all but [`TOO_LONG`], if there are none) on every kernel, or on the series asked
/// for. Builds what is missing.
pub(crate) fn run(series: Option<&str>, names: &[&str]) -> Result<()> {
    let series = match series {
        None => SERIES.to_vec(),
        Some(wanted) => vec![
            *SERIES
                .iter()
                .find(|it| **it == wanted)
                .with_context(|| format!("no kernel {wanted}; there are {}", SERIES.join(", ")))?,
        ],
    };
    let tests = command::section("build highwater and the tests", build)?;
    let arguments: Vec<String> = match names {
        [] => TOO_LONG
            .iter()
            .flat_map(|name| ["--skip", name].map(ToOwned::to_owned))
            .collect(),
        names => names.iter().map(ToString::to_string).collect(),
    };
    let plan = tests
        .into_iter()
        .map(|(name, executable)| Run {
            name,
            executable,
            arguments: arguments.clone(),
        })
        .collect::<Vec<_>>();
    on_each(&series, &plan, LIMIT)
}

/// Runs the smoke part on every kernel, as a part of `cargo xtask test`. Outside of CI, a machine that cannot have QEMU
/// or the kernels does without.
pub(crate) fn smoke_if_possible() -> Result<()> {
    match fetch(&SMOKE_SERIES) {
        Err(reason) if !crate::in_ci() => {
            eprintln!("xtask: skipped what runs on other kernels: {reason:#}");
            Ok(())
        }
        Err(reason) => Err(reason),
        Ok(_) => smoke(),
    }
}

/// Runs the smoke part on every kernel that has to pass it.
pub(crate) fn smoke() -> Result<()> {
    let tests = command::section("build highwater and the tests", build)?;
    let plan = SMOKE
        .iter()
        .map(|(name, arguments)| {
            let (_, executable) = tests
                .iter()
                .find(|(test, _)| test == name)
                .with_context(|| format!("there is no tests/tests/{name}.rs"))?;
            Ok(Run {
                name: (*name).to_owned(),
                executable: executable.clone(),
                arguments: arguments.iter().map(ToString::to_string).collect(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    on_each(&SMOKE_SERIES, &plan, SMOKE_LIMIT)
}

/// Where kernels, the initramfs and what consoles said are kept.
fn directory() -> PathBuf {
    crate::target_directory().join("vm")
}

/// Gets the kernels, and what boots them.
fn fetch(series: &[&str]) -> Result<Vec<Kernel>> {
    setup::for_machines()?;
    fs::create_dir_all(directory())?;
    command::section("fetch the kernels", || {
        series
            .iter()
            .map(|series| Kernel::fetch(series, &directory()))
            .collect()
    })
}

fn on_each(series: &[&str], plan: &[Run], limit: Duration) -> Result<()> {
    let kernels = fetch(series)?;
    let initramfs = command::section("make the initramfs", || {
        let highwater = crate::target_directory().join("debug/highwater");
        initramfs::make(&directory(), &highwater, &build_victims()?, plan)
    })?;
    let failures: Vec<String> = kernels
        .iter()
        .filter_map(|kernel| {
            let name = format!("kernel {}", kernel.series);
            let error = command::section(&name, || on(kernel, &initramfs, limit)).err()?;
            Some(format!("on kernel {}: {error:#}", kernel.series))
        })
        .collect();
    ensure!(
        failures.is_empty(),
        "the tests failed {}",
        failures.join("; ")
    );
    Ok(())
}

/// Boots one kernel and says what its tests said. The whole console stays in a file.
fn on(kernel: &Kernel, initramfs: &Path, limit: Duration) -> Result<()> {
    let log = initramfs.with_file_name(format!("{}.log", kernel.series));
    let mut verdict = Verdict::default();
    let ended = machine::boot(&kernel.image, initramfs, &log, limit, |line| {
        if let Some(news) = verdict.hear(line) {
            println!("{news}");
        }
    });
    ended
        .and_then(|()| verdict.conclude())
        .with_context(|| format!("see {}", log.display()))
}

/// Builds highwater, the tests and the victims; returns the tests that trace, by name.
fn build() -> Result<Vec<(String, PathBuf)>> {
    command::run(command::cargo().args(["build", "--package", "highwater", "--bins"]))?;
    let mut cargo = command::cargo();
    cargo
        .args(["test", "--package", "highwater-tests", "--test", "*"])
        .args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let messages = command::captured(&mut cargo)?;
    let mut tests: Vec<(String, PathBuf)> = messages
        .lines()
        .filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let executable = message["executable"].as_str()?;
            let target = &message["target"];
            (target["kind"][0] == "test")
                .then(|| Some((target["name"].as_str()?.to_owned(), executable.into())))?
        })
        .collect();
    if tests.is_empty() {
        bail!("cargo built no tests");
    }
    tests.retain(|(name, _)| !NOT_THERE.contains(&name.as_str()));
    tests.sort();
    Ok(tests)
}

/// Builds every victim; returns the directory that they are in.
fn build_victims() -> Result<PathBuf> {
    let said = command::captured(command::cargo().args([
        "run",
        "--quiet",
        "--package",
        "highwater-tests",
        "--example",
        "build_victims",
    ]))?;
    Ok(said.trim().into())
}
