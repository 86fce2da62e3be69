//! `cargo xtask demo`: who holds the memory of a Python program that runs already, and whether its repair helped.
//!
//! The program (`tests/victims/python/story.py`) is expected to need two arrays of 100 MB at once, and needs four. The demo
//! attaches to it by its PID, shows who holds the four, draws them, and holds the program and two repaired versions of
//! it to a budget of two.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{command, ebpf, repository, setup, source_hash};

/// What the recorder says once its probes are in.
const TRACING: &str = "highwater: tracing ";

/// How large each array is, MB.
const MEGABYTES: &str = "100";

/// Two arrays, and 2 %.
const BUDGET: &str = "204MB";

/// `highwater check` says that a budget was not kept.
const OVER_BUDGET: i32 = 3;

/// The steps that make the arrays alive at the peak, as the program names them.
const STEPS: [&str; 4] = [
    "subtract_scalar",
    "raise_to_power",
    "duplicate_data",
    "add_scalar",
];

/// Builds highwater, tells the story, and fails unless all of it is true.
pub(crate) fn run() -> Result<()> {
    let highwater = command::section("build highwater", build_highwater)?;
    let python = find_python()?;
    let directory = crate::target_directory().join("demo");
    fs::create_dir_all(&directory)?;
    let recording = directory.join("story.hwm");
    let flame_graph = recording.with_extension("html");
    for old in [&recording, &flame_graph] {
        if old.exists() {
            fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }

    let array = command::section("attach to a Python program while it runs", || {
        record(&highwater, &python, &recording)
    })?;
    let drawn = [Path::new("-o"), &flame_graph];
    command::run(
        Command::new(&highwater)
            .arg("flamegraph")
            .arg(&recording)
            .args(drawn),
    )?;
    compare(&highwater, &recording, array)?;

    println!(
        "\nIts author expects two arrays. Does it keep to {BUDGET}? Do the repaired versions?"
    );
    for (version, status) in [("written", OVER_BUDGET), ("nested", 0), ("one-name", 0)] {
        check(&highwater, &python, version, status)?;
    }
    println!("\nRecording:   {}", recording.display());
    println!("Flame graph: {}", flame_graph.display());
    println!(
        "Verdict:     four arrays at once, named by function and line; two after either repair."
    );
    Ok(())
}

/// The release build. The committed BPF object will do, unless someone is working on its sources.
pub(crate) fn build_highwater() -> Result<PathBuf> {
    setup::for_programs()?;
    if source_hash::staleness(repository())?.is_some() {
        setup::run()?;
        ebpf::build()?;
    }
    command::run(command::cargo().args(["build", "--release", "--package", "highwater"]))?;
    Ok(crate::target_directory().join("release/highwater"))
}

/// The interpreter itself: what is on the `PATH` may be a script that looks for one.
fn find_python() -> Result<PathBuf> {
    setup::for_python()?;
    let mut python = Command::new("python3");
    let says = command::captured(python.args(["-c", "import sys; print(sys.executable)"]))?;
    Ok(PathBuf::from(says.trim()))
}

fn story() -> PathBuf {
    repository().join("tests/victims/python/story.py")
}

/// Starts the program, attaches to it once it runs, and has it work when it is traced. Returns how large it says that an
/// array is.
fn record(highwater: &Path, python: &Path, recording: &Path) -> Result<u64> {
    let mut program = Program::start(python)?;
    println!(
        "{} story.py runs as PID {}",
        python.display(),
        program.child.id()
    );

    let mut recorder = command::as_root(highwater)?;
    recorder
        .args(["record", "-p", &program.child.id().to_string(), "-o"])
        .arg(recording)
        // It waits for us: there is nothing to count beforehand.
        .args(["--preflight", "0"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    println!("$ {}", command::line(&recorder));
    let mut recorder = recorder.spawn().context("cannot start the recorder")?;
    let messages = recorder
        .stderr
        .take()
        .context("the recorder has no stderr")?;

    let mut array = None;
    for message in BufReader::new(messages).lines() {
        let message = message?;
        eprintln!("{message}");
        if array.is_none() && message.starts_with(TRACING) {
            array = Some(program.work()?);
        }
    }
    let status = recorder.wait()?;
    ensure!(status.success(), "the recorder failed: {status}");
    if !crate::is_root()? {
        give_to_us(recording)?;
    }
    array.with_context(|| format!("the recorder ended without a line that begins with `{TRACING}`"))
}

/// A recording made through sudo is root's.
fn give_to_us(recording: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let us = fs::metadata("/proc/self")?;
    command::run(
        command::as_root(Path::new("chown"))?
            .arg(format!("{}:{}", us.uid(), us.gid()))
            .arg(recording),
    )
}

/// The program, under way.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Returns once the program has said READY: what it held so far, it held before anyone attached.
    fn start(python: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .arg(story())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", python.display()))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("the program has no stdout")?;
        let mut program = Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        };
        program.await_line("READY")?;
        Ok(program)
    }

    /// Has it do its work and end.
    fn work(&mut self) -> Result<u64> {
        let mut stdin = self.stdin.take().context("the program was told already")?;
        writeln!(stdin, "process {MEGABYTES}").context("cannot tell the program to go")?;
        let truth = self.await_line("TRUTH array=")?;
        self.await_line("DONE")?;
        drop(stdin);
        let status = self.child.wait()?;
        ensure!(status.success(), "the program failed: {status}");
        truth
            .parse()
            .with_context(|| format!("the program said {truth:?}"))
    }

    /// The rest of the next line, which begins so.
    fn await_line(&mut self, start: &str) -> Result<String> {
        let line = self.lines.next().context("the program ended")??;
        match line.strip_prefix(start) {
            Some(rest) => Ok(rest.to_owned()),
            None => bail!("the program said {line:?} and not {start}"),
        }
    }
}

/// Sets what the program says beside what highwater says: the peak, and who holds it.
fn compare(highwater: &Path, recording: &Path, array: u64) -> Result<()> {
    let report = Command::new(highwater)
        .args(["report", "--json"])
        .arg(recording)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        report.status.success(),
        "`highwater report --json` failed: {}",
        report.status
    );
    let report: Value = serde_json::from_slice(&report.stdout)
        .context("`highwater report --json` printed something that is not JSON")?;
    let peak = report["peak"]["bytes"].as_u64().context("no peak")?;
    println!(
        "\n{:<20} {:>18} {:>18}",
        "", "the program says", "highwater says"
    );
    println!("{:<20} {:>16} B {peak:>16} B", "at the peak", 4 * array);
    ensure!(
        is_near(peak, 4 * array),
        "the peak is not that of four arrays"
    );
    for step in STEPS {
        let (bytes, line) = held_by(&report, step)?;
        println!("{step:<20} {array:>16} B {bytes:>16} B   story.py:{line}");
        ensure!(is_near(bytes, array), "{step} does not hold one array");
    }
    Ok(())
}

/// Within 1 %: the interpreter allocates too, and an array's header lies elsewhere than its bytes.
fn is_near(found: u64, truth: u64) -> bool {
    found.abs_diff(truth) <= truth / 100
}

/// What the stacks hold at whose leaf is this Python function, and its line in the largest.
fn held_by(report: &Value, function: &str) -> Result<(u64, u64)> {
    let holders = report["peak"]["holders"]
        .as_array()
        .context("the report lists no holders")?;
    let (mut sum, mut line) = (0, None);
    for holder in holders {
        let Some(frame) = python_leaf(report, holder) else {
            continue;
        };
        if frame["function"] == function {
            sum += holder["bytes"].as_u64().context("a holder without bytes")?;
            line = line.or(frame["line"].as_u64());
        }
    }
    let line = line.with_context(|| format!("nobody at the peak is called {function}"))?;
    Ok((sum, line))
}

/// The innermost Python frame of a holder's stack.
fn python_leaf<'r>(report: &'r Value, holder: &Value) -> Option<&'r Value> {
    let stack = usize::try_from(holder["stack"].as_u64()?).ok()?;
    report["stacks"][stack]
        .as_array()?
        .iter()
        .filter_map(|frame| usize::try_from(frame.as_u64()?).ok())
        .map(|frame| &report["frames"][frame])
        .find(|frame| frame["kind"] == "python")
}

/// Holds a version of the program to the budget.
fn check(highwater: &Path, python: &Path, version: &str, expected: i32) -> Result<()> {
    let mut check = command::as_root(highwater)?;
    check
        // The program names the span of its work: what the interpreter holds before does not count.
        .args(["check", "--mark", "process", "--max-peak", BUDGET, "--"])
        .arg(python)
        .arg(story())
        .args([version, MEGABYTES]);
    println!("\n$ {}", command::line(&check));
    let status = check.status().context("cannot run highwater")?;
    println!("exit status {}", status.code().unwrap_or(-1));
    ensure!(
        status.code() == Some(expected),
        "the version `{version}` was to give exit status {expected}, not {status}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Value {
        serde_json::json!({
            "frames": [
                {"function": "_PyBytes_New", "kind": "native"},
                {"function": "add_scalar", "kind": "python", "line": 40},
                {"function": "process_data", "kind": "python", "line": 50},
            ],
            "stacks": [[0, 1, 2], [0, 2], [0]],
            "peak": {"bytes": 111, "holders": [
                {"stack": 0, "bytes": 100},
                {"stack": 1, "bytes": 10},
                {"stack": 2, "bytes": 1},
                {"stack": null, "bytes": 5},
            ]},
        })
    }

    #[test]
    fn a_step_holds_what_was_allocated_in_its_own_lines() {
        assert_eq!(held_by(&report(), "add_scalar").unwrap(), (100, 40));
        assert_eq!(held_by(&report(), "process_data").unwrap(), (10, 50));
        assert!(held_by(&report(), "raise_to_power").is_err());
    }

    #[test]
    fn one_percent_is_near_and_more_is_not() {
        assert!(is_near(101, 100) && is_near(99, 100));
        assert!(!is_near(102, 100) && !is_near(98, 100));
    }
}
