//! `highwater doctor`: can this machine trace, at what cost, what is missing.

use std::{fs, io::Write as _, path::Path, time::Duration};

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use super::{DONE, FAILED, code_of, meant, told_once};
use crate::{
    probe::capability,
    session::{self, Checkup},
    target::namespace,
    words::{self, printable},
};

/// How long the calls of a process are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Say whether this machine (and a process) can be traced, at what cost, and what is missing
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 it can be traced, 4 rights are missing, 1 it cannot.\n\
    --json: one object, schema 1: can_trace, why_not, kernel {release, btf, lockdown, uprobe_events}, link, unfit_links \
    [{link, why}], cost_ns {counted, allocation, free}, allocator {library, build_id, functions [{function, offset, \
    emulated, past_null_check}]}, target {pid, command, seccomp, shadow_stack, leader_gone, allocations_per_s, \
    frees_per_s, cpu_ns_per_s, slowdown}, kernel_memory_bytes (what this look took). What is not known is null."
)]
pub(super) struct Arguments {
    /// Look at this running process too, and count its calls for a second
    #[arg(short, long, value_name = "PID", value_parser = meant::pid)]
    pid: Option<u32>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Take out breakpoints that a killed tracer has left in any process, and do nothing else
    #[arg(long, conflicts_with_all = ["pid", "json"])]
    heal: bool,
}

/// What can be told of the kernel without rights.
struct KernelFacts {
    release: String,
    btf: bool,
    lockdown: Option<String>,
    uprobe_events: bool,
}

impl KernelFacts {
    fn gather() -> Self {
        let uname = rustix::system::uname();
        Self {
            release: uname.release().to_string_lossy().into_owned(),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            // `none [integrity] confidentiality`: the one in brackets holds.
            lockdown: fs::read_to_string("/sys/kernel/security/lockdown")
                .ok()
                .and_then(|text| Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())),
            uprobe_events: Path::new("/sys/bus/event_source/devices/uprobe").exists(),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.heal {
        return heal();
    }
    let facts = KernelFacts::gather();
    let found = look(arguments.pid);
    let code = match &found {
        Ok(_) => DONE,
        Err(error) => code_of(error, false),
    };
    let mut out = Vec::new();
    if arguments.json {
        words::json(&as_json(&facts, &found), &mut out)?;
    } else {
        out.extend(as_text(&facts, &found).into_bytes());
    }
    std::io::stdout().write_all(&out)?;
    Ok(code)
}

/// Says what was found, and fails if something stays.
fn heal() -> anyhow::Result<u8> {
    capability::check()?;
    session::spare_others();
    let (looked_at, healed) = session::sweep()?;
    let mut text = String::new();
    for one in &healed {
        text += &format!("{}\n", one.sentence());
    }
    if healed.is_empty() {
        text = format!("no breakpoint is left in any of {looked_at} processes\n");
    }
    std::io::stdout().write_all(text.as_bytes())?;
    let stays = healed.iter().any(|one| one.stay.is_some());
    Ok(if stays { FAILED } else { DONE })
}

fn look(pid: Option<u32>) -> anyhow::Result<Checkup> {
    capability::check()?;
    namespace::check()?;
    session::spare_others();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    Ok(runtime.block_on(session::checkup(pid, WINDOW))?)
}

fn as_text(facts: &KernelFacts, found: &anyhow::Result<Checkup>) -> String {
    let yes = |has: bool| if has { "yes" } else { "no" }.to_owned();
    let mut rows: Vec<(String, String)> = vec![
        ("kernel".into(), facts.release.clone()),
        ("type information (BTF)".into(), yes(facts.btf)),
        (
            "lockdown".into(),
            facts.lockdown.clone().unwrap_or_else(|| "not known".into()),
        ),
        ("uprobe perf events".into(), yes(facts.uprobe_events)),
    ];
    let verdict = match found {
        Err(error) => format!("cannot trace: {}", told_once(error)),
        Ok(checkup) => {
            rows_of(checkup, &mut rows);
            match &checkup.target {
                Some(checked) => format!(
                    "can trace process {} ({})",
                    checked.target.pid, checked.target.command
                ),
                None => "this machine can trace".to_owned(),
            }
        }
    };
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = format!("{}\n\n", printable(&verdict));
    for (name, fact) in rows {
        text += &format!("{name:width$}  {}\n", printable(&fact));
    }
    text
}

fn rows_of(checkup: &Checkup, rows: &mut Vec<(String, String)>) {
    let mut row = |name: &str, fact: String| rows.push((name.to_owned(), fact));
    row("link", checkup.link.to_string());
    for (kind, why) in &checkup.unfit {
        row(&format!("not {kind}"), why.clone());
    }
    row("allocator", checkup.allocator.name.display().to_string());
    for probe in &checkup.allocator.probes {
        let how = if probe.emulated {
            "emulated by the kernel"
        } else {
            "single-stepped: a hit costs more here, in a virtual machine some 30 times"
        };
        let place = format!("+{:#x}", probe.symbol_offset);
        row(probe.function.symbol(), format!("{place:6} {how}"));
    }
    let cost = checkup.cost;
    row("a counted call costs", format!("{:.0} ns", cost.counted_ns));
    row(
        "an allocation costs",
        format!("{:.0} ns", cost.allocation_ns),
    );
    row("a free costs", format!("{:.0} ns", cost.free_ns));
    row(
        "... both after a pause",
        format!("{:.0} ns", cost.rare_pair_ns()),
    );
    let memory = crate::units::size::short(checkup.memory_bytes);
    row("kernel memory taken now", memory);
    let Some(checked) = &checkup.target else {
        return;
    };
    if checked.findings.seccomp {
        row(
            "seccomp filter",
            "yes; this link was tried under one".into(),
        );
    }
    if checked.findings.shadow_stack {
        row("shadow stack", "yes; this kernel keeps it right".into());
    }
    if checked.target.leader_gone {
        row(
            "first thread",
            "has ended; this link was tried without one".into(),
        );
    }
    let rate = checked.forecast.rate;
    row("allocations", format!("{:.0} /s", rate.allocations_per_s));
    row("frees", format!("{:.0} /s", rate.frees_per_s));
    let rate = checked.forecast.rate.calls_per_s();
    let sizes = session::sizes_for(rate);
    row(
        "record would take",
        format!(
            "{} of kernel memory, {} of it the event ring",
            crate::units::size::short(sizes.bytes()),
            crate::units::size::short(u64::from(sizes.ring())),
        ),
    );
    let rate = checked.forecast.rate;
    row(
        "slowdown to expect",
        format!(
            "{}{:.1} %",
            if rate.is_at_most { "at least " } else { "" },
            checked.forecast.slowdown() * 100.0
        ),
    );
}

fn as_json(facts: &KernelFacts, found: &anyhow::Result<Checkup>) -> Value {
    let checkup = found.as_ref().ok();
    json!({
        "schema": 1,
        "highwater": env!("CARGO_PKG_VERSION"),
        "can_trace": found.is_ok(),
        "why_not": found.as_ref().err().map(told_once),
        "kernel": {
            "release": facts.release,
            "btf": facts.btf,
            "lockdown": facts.lockdown,
            "uprobe_events": facts.uprobe_events,
        },
        "link": checkup.map(|checkup| checkup.link.to_string()),
        "unfit_links": checkup.map(|checkup| {
            let unfit = checkup.unfit.iter();
            unfit.map(|(kind, why)| json!({ "link": kind.to_string(), "why": why })).collect::<Vec<_>>()
        }),
        "cost_ns": checkup.map(|checkup| json!({
            "counted": checkup.cost.counted_ns,
            "allocation": checkup.cost.allocation_ns,
            "free": checkup.cost.free_ns,
            "pair_after_pause": checkup.cost.rare_pair_ns(),
        })),
        "allocator": checkup.map(|checkup| json!({
            "library": checkup.allocator.name.to_string_lossy(),
            "build_id": checkup.allocator.build_id,
            "functions": checkup.allocator.probes.iter().map(|probe| json!({
                "function": probe.function.symbol(),
                "offset": probe.symbol_offset,
                "emulated": probe.emulated,
                "past_null_check": probe.past_null_check,
            })).collect::<Vec<_>>(),
        })),
        "kernel_memory_bytes": checkup.map(|checkup| checkup.memory_bytes),
        "target": checkup.and_then(|checkup| checkup.target.as_ref()).map(|checked| json!({
            "pid": checked.target.pid,
            "command": checked.target.command,
            "seccomp": checked.findings.seccomp,
            "shadow_stack": checked.findings.shadow_stack,
            "leader_gone": checked.target.leader_gone,
            "allocations_per_s": checked.forecast.rate.allocations_per_s,
            "frees_per_s": checked.forecast.rate.frees_per_s,
            "cpu_ns_per_s": checked.forecast.rate.cpu_ns_per_s,
            "slowdown": checked.forecast.slowdown(),
        })),
    })
}
