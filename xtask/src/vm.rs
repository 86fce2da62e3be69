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
const TOO_LONG: [&str; 1] = ["samples_are_kept_though_a_million_blocks_were_seen_before"];

/// Test executables that cannot run in the machines, or that another kernel has no part in; and why.
const NOT_THERE: [(&str, &str); 12] = [
    ("consumers", "needs other profilers"),
    ("contrib", "needs Python, cargo and cmake"),
    ("dist", "needs a compiler"),
    ("manual", "needs man, and no kernel has a part in that"),
    ("memray", "needs Python"),
    ("named_files", "needs Python"),
    ("page", "needs a browser"),
    (
        "programs",
        "reads kept recordings, and no kernel has a part in that",
    ),
    ("python", "needs Python"),
    (
        "recordings",
        "reads kept recordings, and no kernel has a part in that",
    ),
    (
        "small_answers",
        "reads kept recordings, and no kernel has a part in that",
    ),
    ("words", "needs a compiler and Python"),
];

/// The same of single tests.
const TESTS_NOT_THERE: [(&str, &str); 6] = [
    (
        "what_malloc_keeps_is_what_mallinfo_says",
        "reads heaps in a bounded time, in which an emulated processor does not get through",
    ),
    (
        "the_verdict_is_json_test_results_and_annotations",
        "needs Python",
    ),
    (
        "a_program_with_a_debuggers_breakpoint_where_a_probe_goes_is_refused",
        "needs gdb",
    ),
    (
        "a_debugger_that_comes_and_goes_while_we_record_is_told_and_what_it_takes_out_too",
        "needs gdb",
    ),
    (
        "a_debugger_that_stays_longer_than_we_do_is_told_and_what_it_writes_back_is_healed",
        "needs gdb",
    ),
    (
        "processes_that_flood_the_ring_take_no_room_from_a_quiet_one",
        "needs a reader that is faster than an emulated one",
    ),
];

/// How long a machine may take for the smoke part; it boots in ten seconds.
const SMOKE_LIMIT: Duration = Duration::from_secs(240);

/// How long a machine may take for everything: an hour where two processors have as much else to do.
const LIMIT: Duration = Duration::from_secs(5400);

/// One test executable to run in the machine, and the arguments it gets.
struct Run {
    name: String,
    executable: PathBuf,
    arguments: Vec<String>,
}

/// Runs the tests whose names contain one of `names`, and the test executables that have one of these names (all but [`TOO_LONG`], if
/// there are none), on every kernel, or on the series asked for. Builds what is missing.
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
    let skipped = TESTS_NOT_THERE
        .iter()
        .map(|(name, _)| *name)
        .chain(TOO_LONG.into_iter().filter(|_| names.is_empty()));
    let skipped: Vec<&str> = skipped.flat_map(|name| ["--skip", name]).collect();
    // A test executable that is named runs whole.
    let (executables, of_tests): (Vec<&str>, Vec<&str>) = names
        .iter()
        .partition(|name| tests.iter().any(|(it, _)| it == *name));
    let arguments = |executable: &str| -> Option<Vec<String>> {
        let is_whole = names.is_empty() || executables.contains(&executable);
        let filters = if is_whole { &[][..] } else { &of_tests[..] };
        (is_whole || !filters.is_empty()).then(|| {
            let words = filters.iter().chain(&skipped);
            words.map(|word| (*word).to_owned()).collect()
        })
    };
    say_what_is_left_out(names);
    let plan = tests
        .iter()
        .filter_map(|(name, executable)| {
            Some(Run {
                name: name.clone(),
                executable: executable.clone(),
                arguments: arguments(name)?,
            })
        })
        .collect::<Vec<_>>();
    on_each(&series, &plan, LIMIT)
}

/// Names what does not run, so that nobody takes it for tested.
fn say_what_is_left_out(names: &[&str]) {
    for (name, why) in NOT_THERE.iter().chain(&TESTS_NOT_THERE) {
        println!("left out: {name} ({why})");
    }
    for name in TOO_LONG.iter().filter(|_| names.is_empty()) {
        println!("left out: {name} (takes minutes; runs if it is named)");
    }
}

/// Runs the smoke part on every kernel, as a part of `cargo xtask test`. Outside of CI, a machine that cannot have QEMU
/// or the kernels does without.
pub(crate) fn smoke_if_possible() -> Result<()> {
    match fetch(&SERIES) {
        Err(reason) if !crate::in_ci() => {
            eprintln!("xtask: skipped what runs on other kernels: {reason:#}");
            Ok(())
        }
        Err(reason) => Err(reason),
        Ok(_) => smoke(),
    }
}

/// Runs the smoke part on every kernel.
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
    on_each(&SERIES, &plan, SMOKE_LIMIT)
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
    let (mut counts, mut failures) = (Vec::new(), Vec::new());
    for kernel in &kernels {
        let name = format!("kernel {}", kernel.series);
        match command::section(&name, || on(kernel, &initramfs, limit)) {
            Ok(passed) => counts.push(format!("{passed} tests on {}", kernel.series)),
            Err(error) => failures.push(format!("on kernel {}: {error:#}", kernel.series)),
        }
    }
    ensure!(
        failures.is_empty(),
        "the tests failed {}",
        failures.join("; ")
    );
    println!("vm: ran {}, and all passed", counts.join(" and "));
    Ok(())
}

/// Boots one kernel and says what its tests said; returns how many passed. The whole console stays in a file.
fn on(kernel: &Kernel, initramfs: &Path, limit: Duration) -> Result<u64> {
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
    tests.retain(|(name, _)| !NOT_THERE.iter().any(|(left_out, _)| left_out == name));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_here_is_there() {
        let directory = crate::repository().join("tests/tests");
        for (name, _) in NOT_THERE
            .into_iter()
            .chain(SMOKE.map(|(name, _)| (name, "")))
        {
            let file = directory.join(name).with_extension("rs");
            assert!(
                file.is_file() || directory.join(name).join("main.rs").is_file(),
                "{name}"
            );
        }
        let sources: String = fs::read_dir(directory)
            .expect("the tests lie there")
            .flatten()
            .filter_map(|file| fs::read_to_string(file.path()).ok())
            .collect();
        let left_out = TESTS_NOT_THERE.iter().map(|(name, _)| name);
        let named = SMOKE.iter().flat_map(|(_, names)| *names);
        for name in left_out.chain(&TOO_LONG).chain(named) {
            assert!(sources.contains(&format!("fn {name}()")), "{name}");
        }
    }
}
