//! What a recording takes: bytes an event of real programs, beside what heaptrack and memray write of the same; the time until it is
//! reported; how fast it is written; and a report of a hundred million events.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::figures;
use super::memray::Memray;
use super::process::{self, Cost};
use super::tracer::Tools;
use super::verdict::{Limit, Verdict};
use super::{Part, Plan};
use crate::{command, repository};

const SQL: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, n INTEGER);
WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 150000)
  INSERT INTO t SELECT x, 'name' || (x * 7919 % 99991), x * 31 % 1009 FROM c;
CREATE INDEX i ON t(name);
SELECT n, count(*), max(name), group_concat(id % 10) FROM t GROUP BY n ORDER BY 2, 1;
SELECT count(*) FROM t a JOIN t b ON a.name = b.name;";

const PERL: &str = "my %h; for my $i (1..120000) { push @{$h{$i * 7919 % 9973}}, 'v' . $i }
my @s = sort { @{$h{$a}} <=> @{$h{$b}} || $a <=> $b } keys %h; print join(',', map { scalar @{$h{$_}} } @s[0..99]), qq(\\n);
my $t = join ' ', map { join '-', @{$h{$_}} } @s; my %w; $w{$_}++ for split /[- ]/, $t; print scalar(keys %w), qq(\\n);";

const PYTHON: &str = "import json, re
rows = [{'id': i, 'name': f'name {i * 7919 % 99991}', 'tags': [str(i % 7), 'x' * (i % 50)], 'n': i / 7} for i in range(60000)]
text = json.dumps(rows)
back = json.loads(text)
words = {}
for word in re.findall(r'[a-z]+ [0-9]+', text):
    words.setdefault(word, []).append(len(word))
print(len(back), len(words), len(text))
";

/// A program that allocates as programs do.
struct Load {
    name: &'static str,
    command: Vec<String>,
}

fn loads(directory: &Path, python: &Path) -> Result<Vec<Load>> {
    let script = directory.join("load.py");
    fs::write(&script, PYTHON)?;
    // heaptrack's own script trips over `perl -e`.
    let perl = directory.join("load.pl");
    fs::write(&perl, PERL)?;
    let text = |path: &Path| path.display().to_string();
    let load = |name, words: &[&str]| Load {
        name,
        command: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    let source = repository().join("tests/victims/heap_calls.c");
    Ok(vec![
        load("sqlite3", &["sqlite3", ":memory:", SQL]),
        load("perl", &["perl", &text(&perl)]),
        load(
            "git log",
            &[
                "git",
                "-C",
                &text(repository()),
                "log",
                "-p",
                "--stat",
                "--no-color",
                "-n",
                "300",
            ],
        ),
        load(
            "gcc",
            &["gcc", "-O2", "-w", "-S", "-o", "/dev/null", &text(&source)],
        ),
        load("python3", &[&text(python), &text(&script)]),
    ])
}

/// What one tool made of one load.
struct Written {
    events: u64,
    bytes: u64,
    report: Cost,
}

impl Written {
    fn per_event(&self) -> f64 {
        self.bytes as f64 / self.events.max(1) as f64
    }

    fn cells(&self) -> [String; 4] {
        [
            figures::whole(self.events as f64),
            figures::whole(self.bytes as f64),
            format!("{:.2}", self.per_event()),
            format!("{:.2}", self.report.seconds),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "events": self.events,
            "bytes": self.bytes,
            "report_seconds": self.report.seconds,
            "report_resident": self.report.resident,
        })
    }
}

pub(super) fn run(tools: &mut Tools, plan: Plan) -> Result<Part> {
    let memray = Memray::install(&tools.directory)?;
    let loads = loads(&tools.directory, &memray.python())?;
    let head = ["", "events", "bytes", "bytes an event", "report, s"].map(str::to_owned);
    let (mut rows, mut found) = (Vec::new(), Vec::new());
    let (mut events, mut bytes) = (0, 0);
    let mut longest: Option<(u64, std::path::PathBuf)> = None;
    for load in &loads {
        eprintln!("   {}", load.name);
        let file = tools
            .directory
            .join(format!("{}.hwm", load.name.replace(' ', "-")));
        let ours = record(tools, load, &file)?;
        (events, bytes) = (events + ours.events, bytes + ours.bytes);
        // One process alone can be repeated; of those this is the costliest.
        if load.name == "perl" {
            longest = Some((ours.events, file));
        }
        let mut all = vec![("highwater".to_owned(), ours)];
        all.extend(heaptrack(tools, load)?);
        if load.name == "python3" {
            all.extend(memray.measure(&load.command[1])?.into_iter().map(
                |(name, (events, bytes, report))| {
                    (
                        name,
                        Written {
                            events,
                            bytes,
                            report,
                        },
                    )
                },
            ));
        }
        for (tool, written) in all {
            let mut row = vec![format!("{}: {tool}", load.name)];
            row.extend(written.cells());
            rows.push(row);
            found.push(json!({ "load": load.name, "tool": tool, "written": written.json() }));
        }
    }
    let (in_one, recording) = longest.context("no load to repeat")?;
    let repeated = Repeated::measure(tools, plan, &recording)?;
    let markdown = format!(
        "Each tool ran each program once, whole. Events are allocations and frees (highwater: of mappings too). heaptrack writes zst or \
         gz, whichever is installed: both are of the same run. Reports: `highwater report`, `heaptrack_print`, `memray stats` (and \
         `flamegraph` where it says so).\n\n{}\nThe {} events of perl's recording, again and again:\n\n{}",
        figures::table(&head, &rows),
        figures::whole(in_one as f64),
        repeated.markdown(),
    );
    let mut verdicts = vec![Verdict {
        what: "bytes an event of these programs together".to_owned(),
        limit: Limit::AtMost(1.0),
        found: Some(bytes as f64 / events.max(1) as f64),
    }];
    verdicts.extend(repeated.verdicts(plan));
    Ok(Part {
        title: "Recordings",
        markdown,
        json: json!({ "loads": found, "repeated": repeated.json() }),
        verdicts,
    })
}

fn record(tools: &Tools, load: &Load, file: &Path) -> Result<Written> {
    if file.exists() {
        fs::remove_file(file)?;
    }
    command::run(
        Command::new(&tools.highwater)
            .args(["record", "-o"])
            .arg(file)
            .arg("--")
            .args(&load.command)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let report = command::captured(
        Command::new(&tools.highwater)
            .args(["report", "--json", "--top", "1"])
            .arg(file),
    )?;
    let report: Value = serde_json::from_str(&report)?;
    let total = |name: &str| report["totals"][name].as_u64().unwrap_or(0);
    let lost = report["quality"]["lost_events"].as_u64();
    ensure!(
        lost == Some(0),
        "of {} {lost:?} events were lost",
        load.name
    );
    Ok(Written {
        events: [
            "allocations",
            "failed_allocations",
            "frees",
            "unmatched_frees",
            "mmaps",
            "unmaps",
        ]
        .map(total)
        .iter()
        .sum(),
        bytes: fs::metadata(file)?.len(),
        report: process::cost(Command::new(&tools.highwater).arg("report").arg(file))?,
    })
}

/// heaptrack's file as zstd and as gzip pack it.
fn heaptrack(tools: &Tools, load: &Load) -> Result<Vec<(String, Written)>> {
    // It follows no children, and gcc is a driver of others.
    if load.name == "gcc" {
        return Ok(Vec::new());
    }
    let base = tools.directory.join("heaptrack-load");
    let file = tools.directory.join("heaptrack-load.zst");
    if file.exists() {
        fs::remove_file(&file)?;
    }
    command::run(
        Command::new("heaptrack")
            .arg("-o")
            .arg(&base)
            .args(&load.command)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let mut unpacked = Command::new("zstd")
        .arg("-dc")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()?;
    let stream = unpacked.stdout.take().context("no pipe")?;
    // A line begins with what it tells: `+` an allocation, `-` a free.
    let mut events = 0;
    for line in BufReader::new(stream).split(b'\n') {
        events += u64::from(matches!(line?.as_slice(), [b'+' | b'-', b' ', ..]));
    }
    unpacked.wait()?;
    let mut unpacked = Command::new("zstd")
        .arg("-dc")
        .arg(&file)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut gzip = Command::new("gzip")
        .arg("-c")
        .stdin(unpacked.stdout.take().context("no pipe")?)
        .stdout(Stdio::piped())
        .spawn()?;
    let mut gz = 0;
    let mut stream = gzip.stdout.take().context("no pipe")?;
    let mut piece = vec![0; 1 << 16];
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            read => gz += read as u64,
        }
    }
    gzip.wait()?;
    unpacked.wait()?;
    let report = process::cost(Command::new("heaptrack_print").arg("-f").arg(&file))?;
    let written = |bytes| Written {
        events,
        bytes,
        report,
    };
    Ok(vec![
        (
            "heaptrack, zst".to_owned(),
            written(fs::metadata(&file)?.len()),
        ),
        ("heaptrack, gz".to_owned(), written(gz)),
    ])
}

/// A recording whose events are written again and again.
struct Repeated {
    /// Written to nowhere: events, and processor time.
    written: (u64, u64),
    /// The long recording: events, bytes, and its report.
    long: (u64, u64, Cost),
}

impl Repeated {
    fn measure(tools: &Tools, plan: Plan, recording: &Path) -> Result<Self> {
        command::run(command::cargo().args([
            "build",
            "--release",
            "--package",
            "highwater",
            "--example",
            "repeat_recording",
        ]))?;
        let program = tools
            .highwater
            .with_file_name("examples")
            .join("repeat_recording");
        let repeat = |events: u64, output: Option<&Path>| -> Result<(u64, u64, u64)> {
            let mut command = Command::new(&program);
            command.arg(recording).arg(events.to_string()).args(output);
            let said: Value = serde_json::from_str(&command::captured(&mut command)?)?;
            let number = |name: &str| said[name].as_u64().with_context(|| format!("no {name}"));
            Ok((number("events")?, number("processor_ns")?, number("bytes")?))
        };
        let (events, ns, _) = repeat(20_000_000, None)?;
        let long = tools.directory.join("long.hwm");
        let (many, _, bytes) = repeat(plan.long(), Some(&long))?;
        let report = process::cost(Command::new(&tools.highwater).arg("report").arg(&long))?;
        fs::remove_file(&long)?;
        Ok(Self {
            written: (events, ns),
            long: (many, bytes, report),
        })
    }

    fn per_second(&self) -> f64 {
        let (events, ns) = self.written;
        events as f64 / (ns as f64 / 1e9)
    }

    fn markdown(&self) -> String {
        let (events, bytes, report) = &self.long;
        figures::table(
            &[
                "",
                "events",
                "bytes an event",
                "seconds",
                "events/s",
                "resident, MiB",
            ]
            .map(str::to_owned),
            &[
                vec![
                    "written by one thread".to_owned(),
                    figures::whole(self.written.0 as f64),
                    String::new(),
                    String::new(),
                    format!("{:.1}", self.written.1 as f64 / 1e9),
                    figures::whole(self.per_second()),
                    String::new(),
                ],
                vec![
                    "`highwater report`".to_owned(),
                    figures::whole(*events as f64),
                    format!("{:.2}", *bytes as f64 / *events as f64),
                    format!("{:.1}", report.seconds),
                    format!("{:.1}", report.processor),
                    figures::whole(*events as f64 / report.seconds),
                    format!("{:.0}", report.resident as f64 / f64::from(1 << 20)),
                ],
            ],
        )
    }

    fn verdicts(&self, plan: Plan) -> Vec<Verdict> {
        let (_, _, report) = &self.long;
        let mut verdicts = vec![Verdict {
            what: "events a second written by one thread".to_owned(),
            limit: Limit::AtLeast(3e6),
            found: Some(self.per_second()),
        }];
        if !plan.quick {
            verdicts.push(Verdict {
                what: "seconds to report 100 000 000 events".to_owned(),
                limit: Limit::AtMost(15.0),
                found: Some(report.seconds),
            });
            verdicts.push(Verdict {
                what: "megabytes resident as they are reported".to_owned(),
                limit: Limit::AtMost(600.0),
                found: Some(report.resident as f64 / 1e6),
            });
        }
        verdicts
    }

    fn json(&self) -> Value {
        let (events, bytes, report) = &self.long;
        json!({
            "written": { "events": self.written.0, "processor_ns": self.written.1 },
            "long": {
                "events": events,
                "bytes": bytes,
                "report_seconds": report.seconds,
                "report_processor_seconds": report.processor,
                "report_resident": report.resident,
            },
        })
    }
}

impl Plan {
    /// Events of the long recording.
    fn long(self) -> u64 {
        if self.quick { 10_000_000 } else { 100_000_000 }
    }
}
