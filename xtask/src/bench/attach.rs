//! How long attaching and detaching take, and the longest that the program is held up by them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::figures::{self, median};
use super::tracer::Tools;
use super::victim::{PATIENCE, Setting, Shape};
use super::{Part, Plan};

/// The program is busy all the while.
const TIME: Duration = Duration::from_millis(2500);
const SETTING: Setting = Setting {
    depth: 10,
    threads: 1,
    shape: Shape::SameStack,
};

/// What one attach and its detach took, milliseconds.
pub(super) struct Once {
    /// From the start of the recorder to `tracing`.
    pub(super) attach: f64,
    /// From Ctrl-C to the end, the answer printed.
    pub(super) detach: f64,
    /// The longest that 64 pairs took, untraced.
    untraced: f64,
    /// The same with attach and detach among them.
    pause: f64,
}

/// Attaches to a busy program and detaches.
pub(super) fn once(tools: &Tools) -> Result<Once> {
    let mut victim = tools.victim()?;
    victim.set(SETTING)?;
    let untraced = victim.go(TIME)?.longest_ns as f64 / 1e6;
    victim.begin(TIME)?;
    thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    let recorder = tools.record(victim.pid(), &[])?;
    recorder.wait_for("tracing ", PATIENCE)?;
    let attach = began.elapsed().as_secs_f64() * 1e3;
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    let status = recorder.interrupt()?;
    let detach = began.elapsed().as_secs_f64() * 1e3;
    ensure!(status.success(), "the recorder failed: {status}");
    let pause = victim.pairs()?.longest_ns as f64 / 1e6;
    victim.quit()?;
    Ok(Once {
        attach,
        detach,
        untraced,
        pause,
    })
}

pub(super) fn run(tools: &mut Tools, plan: Plan) -> Result<Part> {
    let rounds = if plan.quick { 2 } else { 5 };
    let (mut attach, mut detach, mut untraced, mut pause) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let once = once(tools)?;
        attach.push(once.attach);
        detach.push(once.detach);
        untraced.push(once.untraced);
        pause.push(once.pause);
    }
    let rows: Vec<Vec<String>> = [
        ("from start to `tracing`", &attach),
        ("from Ctrl-C to the end, the answer printed", &detach),
        ("longest that 64 pairs took, untraced", &untraced),
        (
            "longest that 64 pairs took, attach and detach among them",
            &pause,
        ),
    ]
    .map(|(name, values)| {
        let middle = median(values.iter().copied()).unwrap_or_default();
        let most = values.iter().copied().fold(0.0, f64::max);
        vec![
            name.to_owned(),
            figures::whole(middle),
            figures::whole(most),
        ]
    })
    .into();
    Ok(Part {
        title: "Attach and detach",
        markdown: format!(
            "Of a busy program, {rounds} times; milliseconds.\n\n{}",
            figures::table(&["", "median", "most"].map(str::to_owned), &rows)
        ),
        json: json!({
            "attach_ms": attach,
            "detach_ms": detach,
            "longest_untraced_ms": untraced,
            "longest_traced_ms": pause,
        }),
        verdicts: Vec::new(),
    })
}
