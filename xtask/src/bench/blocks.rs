//! What a live block costs the recorder.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use super::figures;
use super::process;
use super::tracer::Tools;
use super::victim::PATIENCE;
use super::{Part, Plan};

/// Until the last event has been taken.
const SETTLE: Duration = Duration::from_millis(500);

/// What a number of live blocks took.
pub(super) struct Once {
    blocks: u64,
    /// Resident memory of the recorder before and after, bytes.
    before: u64,
    after: u64,
}

impl Once {
    /// Bytes a live block.
    pub(super) fn each(&self) -> f64 {
        self.after.saturating_sub(self.before) as f64 / self.blocks as f64
    }
}

/// Has a traced program hold so many blocks.
pub(super) fn once(tools: &Tools, blocks: u64) -> Result<Once> {
    let mut victim = tools.victim()?;
    let recorder = tools.record(victim.pid(), &[])?;
    recorder.wait_for("tracing ", PATIENCE)?;
    thread::sleep(SETTLE);
    let before = process::resident(recorder.pid())?;
    victim.hold(blocks)?;
    thread::sleep(SETTLE);
    let after = process::resident(recorder.pid())?;
    let status = recorder.interrupt()?;
    ensure!(status.success(), "the recorder failed: {status}");
    victim.quit()?;
    Ok(Once {
        blocks,
        before,
        after,
    })
}

pub(super) fn run(tools: &mut Tools, plan: Plan) -> Result<Part> {
    let once = once(tools, if plan.quick { 200_000 } else { 1_000_000 })?;
    let Once {
        blocks,
        before,
        after,
    } = once;
    Ok(Part {
        title: "Memory of the recorder",
        markdown: format!(
            "{} live blocks: {:.1} MiB more resident, {:.0} bytes a block.\n",
            figures::whole(blocks as f64),
            after.saturating_sub(before) as f64 / f64::from(1 << 20),
            once.each(),
        ),
        json: json!({ "blocks": blocks, "resident_before": before, "resident_after": after }),
        verdicts: Vec::new(),
    })
}
