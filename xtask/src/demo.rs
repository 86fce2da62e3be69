//! `cargo xtask demo`: attaches to a running program by its PID and shows who held its memory at the peak.
//!
//! The program (`tests/victims/demo.c`) knows its own peak, so the demo ends with a comparison: what the program says of
//! itself beside what highwater says of it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::{command, ebpf, repository, setup, source_hash};

/// What the recorder says once its probes are in.
const TRACING: &str = "highwater: tracing ";

/// Builds everything, records the program's life and holds the result against the program's own truth.
pub(crate) fn run() -> Result<()> {
    let highwater = command::section("build highwater", build_highwater)?;
    let directory = crate::target_directory().join("demo");
    let program = command::section("build the program to look at", || {
        fs::create_dir_all(&directory)?;
        compile(&directory)
    })?;

    let recording = program.with_extension("hwm");
    let flame_graph = program.with_extension("svg");
    for old in [&recording, &flame_graph] {
        if old.exists() {
            fs::remove_file(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let truth = command::section("record its life, some seven seconds", || {
        record(&highwater, &program, &recording)
    })?;
    command::run(
        Command::new(&highwater)
            .arg("flamegraph")
            .arg(&recording)
            .arg("-o")
            .arg(&flame_graph),
    )?;
    let report = Command::new(&highwater)
        .args(["report", "--json"])
        .arg(&recording)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(
        report.status.success(),
        "`highwater report --json` failed: {}",
        report.status
    );
    let report = serde_json::from_slice(&report.stdout)
        .context("`highwater report --json` printed something that is not JSON")?;

    let agrees = compare(&truth, &report)?;
    println!("Recording:   {}", recording.display());
    println!("Flame graph: {}", flame_graph.display());
    ensure!(agrees, "highwater and the program disagree");
    println!(
        "Verdict:     highwater and the program agree to the byte, at the peak and at the end."
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

fn compile(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("image-service");
    command::run(
        Command::new("gcc")
            .args(["-std=gnu11", "-Wall", "-Wextra", "-O1", "-g"])
            // Frame pointers, and no call turned into a jump: what stacks are made of.
            .args(["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"])
            .arg("-o")
            .arg(&program)
            .arg(repository().join("tests/victims/demo.c")),
    )?;
    Ok(program)
}

/// Starts the program, attaches to it once it runs, and lets it live when it is traced. Returns the program's truth.
fn record(highwater: &Path, program: &Path, recording: &Path) -> Result<Value> {
    let mut running = RunningProgram::start(program)?;
    println!("{} runs as PID {}", program.display(), running.pid());

    let mut recorder = command::as_root(highwater)?;
    recorder
        .args(["record", "-p", &running.pid().to_string(), "-o"])
        .arg(recording)
        // It lives for seconds: a second of counting beforehand would miss its peak.
        .args(["--preflight", "0"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    println!("$ {}", command::line(&recorder));
    let mut recorder = recorder.spawn().context("cannot start the recorder")?;
    let messages = recorder
        .stderr
        .take()
        .context("the recorder has no stderr")?;

    let mut is_tracing = false;
    for message in BufReader::new(messages).lines() {
        let message = message?;
        eprintln!("{message}");
        if !is_tracing && message.starts_with(TRACING) {
            is_tracing = true;
            running.go()?;
        }
    }
    let status = recorder.wait()?;
    ensure!(status.success(), "the recorder failed: {status}");
    ensure!(
        is_tracing,
        "the recorder ended without a line that begins with `{TRACING}`"
    );
    if !crate::is_root()? {
        give_to_us(recording)?;
    }
    running.truth()
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

/// The program, under way. A thread of ours waits for it, so that its end is not delayed by what the recorder does.
struct RunningProgram {
    pid: u32,
    stdin: ChildStdin,
    ended: JoinHandle<Result<String>>,
}

impl RunningProgram {
    /// Returns once the program has said READY: what it held so far, it held before anyone attached.
    fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdin = child.stdin.take().context("the program has no stdin")?;
        let stdout = child.stdout.take().context("the program has no stdout")?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        ensure!(line == "READY\n", "the program said {line:?} and not READY");
        Ok(Self {
            pid: child.id(),
            stdin,
            ended: thread::spawn(move || wait(child, stdout)),
        })
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn go(&mut self) -> Result<()> {
        self.stdin
            .write_all(b"go\n")
            .context("cannot tell the program to go")
    }

    /// What the program says of itself at its end.
    fn truth(self) -> Result<Value> {
        let output = self
            .ended
            .join()
            .map_err(|_| anyhow!("the thread that waits for the program panicked"))??;
        serde_json::from_str(&output).with_context(|| format!("the program said {output:?}"))
    }
}

fn wait(mut program: Child, mut stdout: impl Read) -> Result<String> {
    let mut output = String::new();
    stdout.read_to_string(&mut output)?;
    let status = program.wait()?;
    ensure!(status.success(), "the program failed: {status}");
    Ok(output)
}

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Holding {
    bytes: u64,
    blocks: u64,
}

impl Holding {
    fn of(json: &Value) -> Result<Self> {
        let count = |name: &str| {
            json[name]
                .as_u64()
                .with_context(|| format!("{name} is missing in {json}"))
        };
        Ok(Self {
            bytes: count("bytes")?,
            blocks: count("blocks")?,
        })
    }
}

/// Sets the program's truth beside highwater's figures; returns whether all are the same.
fn compare(truth: &Value, report: &Value) -> Result<bool> {
    println!(
        "\n{:<24} {:>29} {:>29}",
        "", "the program says", "highwater says"
    );
    let mut agrees = true;
    let mut row = |name: &str, truth: Holding, found: Holding| {
        let cell = |it: Holding| format!("{} B in {:>6}", it.bytes, it.blocks);
        let mark = if truth == found { "" } else { "  DIFFERS" };
        println!("{name:<24} {:>29} {:>29}{mark}", cell(truth), cell(found));
        agrees &= truth == found;
    };
    for moment in ["peak", "end"] {
        row(
            moment,
            Holding::of(&truth[moment])?,
            Holding::of(&report[moment])?,
        );
        for (site, truth) in sites(&truth[moment])? {
            let found = held_below(report, moment, site)?;
            row(&format!("  {site}"), truth, found);
        }
    }
    println!();
    Ok(agrees)
}

/// What the program says of each of its functions, largest first.
fn sites(truth: &Value) -> Result<Vec<(&str, Holding)>> {
    let sites = truth["sites"].as_object();
    let mut sites = sites
        .context("the program names no sites")?
        .iter()
        .map(|(site, truth)| Ok((site.as_str(), Holding::of(truth)?)))
        .collect::<Result<Vec<_>>>()?;
    sites.sort_by_key(|(_, held)| std::cmp::Reverse(held.bytes));
    Ok(sites)
}

/// What the stacks that run through a function held.
fn held_below(report: &Value, moment: &str, function: &str) -> Result<Holding> {
    let holders = report[moment]["holders"]
        .as_array()
        .with_context(|| format!("the report lists no holders for the {moment}"))?;
    let mut sum = Holding::default();
    for holder in holders {
        if runs_through(report, &holder["stack"], function)? {
            let held = Holding::of(holder)?;
            sum.bytes += held.bytes;
            sum.blocks += held.blocks;
        }
    }
    Ok(sum)
}

fn runs_through(report: &Value, stack: &Value, function: &str) -> Result<bool> {
    // A holder without a stack runs through nothing.
    let Some(stack) = stack.as_u64() else {
        return Ok(false);
    };
    let Some(frames) = report["stacks"][usize::try_from(stack)?].as_array() else {
        bail!("the report has a holder with stack {stack}, but no such stack");
    };
    Ok(frames.iter().any(|frame| {
        let frame = frame.as_u64().and_then(|it| usize::try_from(it).ok());
        frame.is_some_and(|frame| report["frames"][frame]["function"] == function)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Value {
        serde_json::json!({
            "frames": [{"function": "malloc_wrapper"}, {"function": "load"}, {"function": "resize"}],
            "stacks": [[0, 1], [0, 2], [1]],
            "peak": {"bytes": 111, "blocks": 3, "holders": [
                {"stack": 0, "bytes": 100, "blocks": 1},
                {"stack": 1, "bytes": 10, "blocks": 1},
                {"stack": 2, "bytes": 1, "blocks": 1},
                {"stack": null, "bytes": 0, "blocks": 0},
            ]},
            "end": {"bytes": 0, "blocks": 0, "holders": []},
        })
    }

    fn truth(load: u64) -> Value {
        serde_json::json!({
            "peak": {"bytes": 111, "blocks": 3, "sites": {
                "load": {"bytes": load, "blocks": 2},
                "resize": {"bytes": 10, "blocks": 1},
            }},
            "end": {"bytes": 0, "blocks": 0, "sites": {"load": {"bytes": 0, "blocks": 0}}},
        })
    }

    #[test]
    fn a_site_holds_what_all_stacks_through_it_hold() {
        assert!(compare(&truth(101), &report()).unwrap());
    }

    #[test]
    fn one_byte_is_a_difference() {
        assert!(!compare(&truth(100), &report()).unwrap());
    }

    #[test]
    fn a_report_without_holders_is_an_error() {
        assert!(compare(&truth(101), &serde_json::json!({})).is_err());
    }
}
