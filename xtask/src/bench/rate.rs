//! How many events a second go through without loss, and what that costs us: processor time, memory, disk.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::figures;
use super::process;
use super::tracer::Tools;
use super::verdict::{Limit, Verdict};
use super::victim::{PATIENCE, Setting, Shape};
use super::{Part, Plan};

/// What one recording was like.
struct Recorded {
    setting: Setting,
    seconds: f64,
    events: u64,
    lost: u64,
    /// Resident memory of the recorder by seconds of recording, bytes.
    resident: Vec<(f64, u64)>,
    consumer_ns: u64,
    file_bytes: u64,
}

/// Two threads as fast as they can.
pub(super) fn run(tools: &mut Tools, plan: Plan) -> Result<Part> {
    let seconds: u64 = if plan.quick { 4 } else { 10 };
    let looks: &[u64] = if plan.quick { &[1, 2, 4] } else { &[1, 5, 10] };
    let recorded = [Shape::SameStack, Shape::ManyStacks]
        .map(|shape| {
            let setting = Setting {
                depth: 10,
                threads: 2,
                shape,
            };
            record(tools, setting, Duration::from_secs(seconds), looks)
        })
        .into_iter()
        .collect::<Result<Vec<Recorded>>>()?;
    let head = [
        "",
        "events/s",
        "events",
        "lost",
        "tracer's processor time an event, ns",
        "recording, bytes an event",
        "tracer's resident memory, MiB",
    ]
    .map(str::to_owned);
    let rows: Vec<Vec<String>> = recorded.iter().map(Recorded::row).collect();
    let first = &recorded[0];
    let verdicts = vec![
        Verdict {
            what: "events a second from two threads".to_owned(),
            limit: Limit::AtLeast(1e6),
            found: Some(first.per_second()),
        },
        Verdict {
            what: "of these lost".to_owned(),
            limit: Limit::AtMost(0.0),
            found: Some(first.lost as f64),
        },
        Verdict {
            what: "resident memory at the end / after a second".to_owned(),
            limit: Limit::AtMost(1.05),
            found: first.growth(),
        },
    ];
    Ok(Part {
        title: "Events without loss",
        markdown: format!(
            "Two threads as fast as they can for {seconds} s, one recording each.\n\n{}",
            figures::table(&head, &rows)
        ),
        json: recorded.iter().map(Recorded::json).collect(),
        verdicts,
    })
}

fn record(tools: &Tools, setting: Setting, time: Duration, looks: &[u64]) -> Result<Recorded> {
    let mut victim = tools.victim()?;
    victim.set(setting)?;
    let recorder = tools.record(victim.pid(), &[])?;
    recorder.wait_for("tracing ", PATIENCE)?;
    let family = process::family(recorder.pid());
    let consumed = || -> Result<u64> { family.iter().map(|it| process::processor_time(*it)).sum() };
    let before = consumed()?;
    let began = Instant::now();
    victim.begin(time)?;
    let mut resident = Vec::new();
    for look in looks {
        let due = Duration::from_secs(*look);
        thread::sleep(due.saturating_sub(began.elapsed()));
        resident.push((
            began.elapsed().as_secs_f64(),
            process::resident(recorder.pid())?,
        ));
    }
    let pairs = victim.pairs()?;
    thread::sleep(Duration::from_millis(100));
    let consumer_ns = consumed()?.saturating_sub(before);
    let status = recorder.interrupt()?;
    ensure!(status.success(), "the recorder failed: {status}");
    victim.quit()?;
    let report = Command::new(&tools.highwater)
        .args(["report", "--json"])
        .arg(tools.recording())
        .stderr(Stdio::inherit())
        .output()?;
    let report: Value = serde_json::from_slice(&report.stdout)
        .context("`highwater report --json` printed something that is not JSON")?;
    let number = |path: &str| {
        report
            .pointer(path)
            .and_then(Value::as_u64)
            .with_context(|| format!("the report has no {path}"))
    };
    Ok(Recorded {
        setting,
        seconds: pairs.wall_ns as f64 / f64::from(setting.threads) / 1e9,
        events: number("/totals/allocations")? + number("/totals/frees")?,
        lost: number("/quality/lost_events")?,
        resident,
        consumer_ns,
        file_bytes: fs::metadata(tools.recording())?.len(),
    })
}

impl Recorded {
    fn per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    fn per_event(&self, amount: u64) -> f64 {
        amount as f64 / self.events.max(1) as f64
    }

    fn growth(&self) -> Option<f64> {
        let (_, first) = self.resident.first()?;
        let (_, last) = self.resident.last()?;
        Some(*last as f64 / *first as f64)
    }

    fn row(&self) -> Vec<String> {
        let resident: Vec<String> = self
            .resident
            .iter()
            .map(|(at, bytes)| format!("{:.1} at {at:.0} s", *bytes as f64 / f64::from(1 << 20)))
            .collect();
        vec![
            self.setting.to_string(),
            figures::whole(self.per_second()),
            figures::whole(self.events as f64),
            self.lost.to_string(),
            figures::whole(self.per_event(self.consumer_ns)),
            format!("{:.1}", self.per_event(self.file_bytes)),
            resident.join(", "),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "shape": format!("{:?}", self.setting.shape),
            "threads": self.setting.threads,
            "depth": self.setting.depth,
            "seconds": self.seconds,
            "events": self.events,
            "lost_events": self.lost,
            "tracer_cpu_ns": self.consumer_ns,
            "recording_bytes": self.file_bytes,
            "resident": self.resident,
        })
    }
}
