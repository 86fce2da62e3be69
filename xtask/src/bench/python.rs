//! Python programs: what tracing costs them beside what memray does, and how long a thread of theirs is held up as we come and go.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::figures::{self, median, median_ratio};
use super::memray::Memray;
use super::tracer::Tools;
use super::verdict::{Limit, Verdict};
use super::victim::{PATIENCE, Victim};
use super::{Part, Plan};
use crate::repository;

/// A load's name, how much of it, and what it is.
const LOADS: [(&str, u64, &str); 3] = [
    ("fib", 27, "calls that allocate nothing (`fib(27)`)"),
    ("json", 12, "12 times `json.loads` of 270 kB"),
    ("dicts", 4, "4 dicts of 50 000 strings and lists"),
];
/// The thread ticks for so long ...
const TICKING: Duration = Duration::from_millis(3500);
/// ... and until we come, and until we go.
const APART: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, PartialEq)]
enum Under {
    Nothing,
    Highwater,
    Memray(&'static [&'static str]),
}

const ALL: [(&str, Under); 4] = [
    ("untraced", Under::Nothing),
    ("highwater", Under::Highwater),
    ("memray", Under::Memray(&[])),
    ("memray --native", Under::Memray(&["--native"])),
];

pub(super) fn run(tools: &mut Tools, plan: Plan) -> Result<Part> {
    let memray = Memray::install(&tools.directory)?;
    let rounds = if plan.quick { 3 } else { 11 };
    // By load and by what it runs under: seconds of processor time of each round.
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut took = vec![vec![Vec::new(); ALL.len()]; LOADS.len()];
    for round in 0..rounds {
        // Each is first in its turn.
        for at in 0..ALL.len() {
            let at = (at + round) % ALL.len();
            let (seconds, alone) = measure(tools, &memray, ALL[at].1)?;
            for (load, seconds) in seconds.iter().enumerate() {
                took[load][at].push(*seconds);
            }
            if ALL[at].1 == Under::Highwater {
                before.push(alone);
                after.push(seconds[0]);
            }
        }
    }
    let (mut idle, mut pause) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        idle.push(longest_tick(tools, &memray, false)?);
        pause.push(longest_tick(tools, &memray, true)?);
    }

    let ratio = |load: usize, at: usize| median_ratio(&took[load][at], &took[load][0]);
    let head: Vec<String> = ["", "untraced, ms"]
        .into_iter()
        .chain(ALL[1..].iter().map(|(name, _)| *name))
        .map(str::to_owned)
        .collect();
    let rows: Vec<Vec<String>> = LOADS
        .iter()
        .enumerate()
        .map(|(load, (_, _, what))| {
            let untraced = median(took[load][0].iter().copied()).unwrap_or_default();
            let mut row = vec![(*what).to_owned(), format!("{:.1}", untraced * 1e3)];
            row.extend((1..ALL.len()).map(|at| {
                ratio(load, at).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"))
            }));
            row
        })
        .collect();
    let ticks: Vec<Vec<String>> = [
        ("untraced", &idle),
        ("attach and detach among them", &pause),
    ]
    .map(|(name, values)| {
        let middle = median(values.iter().copied()).unwrap_or_default();
        let most = values.iter().copied().fold(0.0, f64::max);
        vec![
            name.to_owned(),
            format!("{middle:.2}"),
            format!("{most:.2}"),
        ]
    })
    .into();
    Ok(Part {
        title: "Python",
        markdown: format!(
            "Processor time of the same loads in one process each, {rounds} rounds in turn: medians of what each round says of \
             traced / untraced. highwater attached, memray from the start.\n\n{}\nA thread that ticks each millisecond: the longest \
             between two ticks in {} s, milliseconds, {rounds} times.\n\n{}",
            figures::table(&head, &rows),
            TICKING.as_secs_f64(),
            figures::table(&["", "median", "most"].map(str::to_owned), &ticks),
        ),
        json: json!({
            "loads": LOADS.map(|(name, ..)| name),
            "under": ALL.map(|(name, _)| name),
            "processor_seconds": took,
            "before_attach": before,
            "after_attach": after,
            "longest_tick_untraced_ms": idle,
            "longest_tick_traced_ms": pause,
        }),
        verdicts: vec![
            Verdict {
                what: "Python that allocates nothing, after attach / before".to_owned(),
                limit: Limit::AtMost(1.01),
                // Within one process: where its memory happens to lie makes more than a hundredth of a difference.
                found: median_ratio(&after, &before),
            },
            Verdict {
                what: "longest pause of a ticking Python thread, ms".to_owned(),
                limit: Limit::AtMost(5.0),
                found: median(pause),
            },
        ],
    })
}

fn script() -> PathBuf {
    repository().join("tests/victims/python/loads.py")
}

/// What each load takes, seconds of processor time, and what the first takes before anything traces the process that memray does
/// not.
fn measure(tools: &Tools, memray: &Memray, under: Under) -> Result<(Vec<f64>, f64)> {
    let mut command = Command::new(memray.python());
    if let Under::Memray(options) = under {
        command.args(["-m", "memray", "run", "--quiet", "--force"]);
        command.args(options);
        command.arg("-o").arg(tools.directory.join("loads.bin"));
    }
    let mut victim = Victim::start(command.arg(script()))?;
    let run = |victim: &mut Victim, (name, number, _): (&str, u64, &str)| -> Result<f64> {
        // The first time fills caches, the interpreter's own among them.
        victim.tell(name, number)?;
        victim.facts(name)?;
        victim.tell(name, number)?;
        Ok(victim.facts(name)?.get("cpu_ns")? as f64 / 1e9)
    };
    let alone = run(&mut victim, LOADS[0])?;
    let mut recorder = None;
    if under == Under::Highwater {
        let recording = tools.record(victim.pid(), &[])?;
        recording.wait_for("tracing ", PATIENCE)?;
        recorder = Some(recording);
    }
    let took: Result<Vec<f64>> = LOADS.iter().map(|load| run(&mut victim, *load)).collect();
    let took = took?;
    if let Some(recorder) = recorder {
        ensure!(recorder.interrupt()?.success(), "the recorder failed");
    }
    victim.quit()?;
    Ok((took, alone))
}

/// The longest that a ticking thread waits for its next tick, milliseconds. `traced`: we come and go meanwhile.
fn longest_tick(tools: &Tools, memray: &Memray, traced: bool) -> Result<f64> {
    let mut victim = Victim::start(Command::new(memray.python()).arg(script()))?;
    victim.tell("tick", TICKING.as_millis() as u64)?;
    if traced {
        thread::sleep(APART);
        let recorder = tools.record(victim.pid(), &[])?;
        recorder.wait_for("tracing ", PATIENCE)?;
        thread::sleep(APART);
        ensure!(recorder.interrupt()?.success(), "the recorder failed");
    }
    let longest = victim.facts("tick")?.get("longest_ns")?;
    victim.quit()?;
    Ok(longest as f64 / 1e6)
}
