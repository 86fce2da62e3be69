//! `cargo xtask bench`: what tracing costs, beside empty probes and beside other tools, in one run.
//!
//! Machines differ and are never quiet, so all that is compared is measured in turn, many times in short stretches, and
//! ratios are what counts.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::{command, demo, setup};

mod against;
mod attach;
mod blocks;
mod figures;
mod machine;
mod memray;
mod pairs;
mod placed_libc;
mod process;
mod program;
mod python;
mod rate;
mod recordings;
mod tracer;
mod verdict;
mod victim;

use tracer::Tools;
use verdict::Verdict;

/// How much to measure.
#[derive(Clone, Copy, Debug)]
struct Plan {
    quick: bool,
}

impl Plan {
    /// How long a stretch of pairs is measured.
    fn stretch(self) -> Duration {
        Duration::from_millis(if self.quick { 100 } else { 150 })
    }
}

/// One of the things that are measured, and what came of it.
struct Part {
    title: &'static str,
    markdown: String,
    json: Value,
    verdicts: Vec<Verdict>,
}

type Measure = fn(&mut Tools, Plan) -> Result<Part>;

const PARTS: [(&str, Measure); 6] = [
    ("pairs", pairs::run),
    ("rate", rate::run),
    ("attach", attach::run),
    ("blocks", blocks::run),
    ("recordings", recordings::run),
    ("python", python::run),
];

/// Tools that were asked for and that Debian may lack.
const OTHERS: [(&str, &str); 1] = [("bytehound", "bytehound")];

/// Measures the parts of these names, or all; says it, and writes it to `target/bench/`.
pub(crate) fn run(quick: bool, names: &[&str]) -> Result<()> {
    if let Some(unknown) = names
        .iter()
        .find(|name| PARTS.iter().all(|(part, _)| part != *name))
    {
        let known = PARTS.map(|(part, _)| part).join(", ");
        bail!("bench has no part `{unknown}`; there are {known}");
    }
    let mut tools = tools()?;
    setup::for_comparison()?;
    let plan = Plan { quick };
    let mut parts = Vec::new();
    for (name, measure) in PARTS {
        if names.is_empty() || names.contains(&name) {
            eprintln!("== {name}");
            parts.push((name, measure(&mut tools, plan)?));
        }
    }
    let mut others = String::new();
    for (tool, package) in OTHERS {
        if command::output(Command::new("apt-cache").args(["show", package])).is_none() {
            others += &format!("{tool} is not compared: Debian has no package of it.\n\n");
        } else {
            others += &format!("{tool} is not compared: bench does not know how to run it.\n\n");
        }
    }
    tell(&tools, plan, &others, parts)
}

/// Measures this build beside another, whose binary is `other`, and says it as [`run`] does.
pub(crate) fn run_against(other: &Path, quick: bool) -> Result<()> {
    let tools = tools()?;
    let plan = Plan { quick };
    let part = against::run(&tools, other, plan)?;
    tell(&tools, plan, "", vec![("against", part)])
}

/// Builds what is measured and what it is measured on.
fn tools() -> Result<Tools> {
    ensure!(crate::is_root()?, "tracing takes root; run this as root");
    setup::for_programs()?;
    let directory = crate::target_directory().join("bench");
    Ok(Tools {
        highwater: demo::build_highwater()?,
        victim: victim::compile(&directory)?,
        directory,
        placement: None,
    })
}

/// Prints and writes down what was measured; `others` says of which tools nothing was.
fn tell(tools: &Tools, plan: Plan, others: &str, mut parts: Vec<(&str, Part)>) -> Result<()> {
    let quick = plan.quick;
    let machine = machine::describe();
    let verdicts: Vec<Verdict> = parts
        .iter_mut()
        .flat_map(|(_, part)| std::mem::take(&mut part.verdicts))
        .collect();

    let mut text = format!("{}\n", machine.markdown());
    if quick {
        text += "A quick run: fewer and shorter rounds.\n\n";
    }
    text += others;
    if !verdicts.is_empty() {
        text += &format!("## Targets\n\n{}\n", verdict::markdown(&verdicts));
    }
    for (_, part) in &parts {
        text += &format!("## {}\n\n{}\n", part.title, part.markdown);
    }
    let parts: serde_json::Map<String, Value> = parts
        .into_iter()
        .map(|(name, part)| (name.to_owned(), part.json))
        .collect();
    let json = json!({
        "machine": machine.json(),
        "quick": quick,
        "targets": verdicts.iter().map(Verdict::json).collect::<Vec<_>>(),
        "parts": parts,
    });
    fs::write(tools.directory.join("bench.md"), &text)?;
    fs::write(
        tools.directory.join("bench.json"),
        serde_json::to_string_pretty(&json)?,
    )?;
    print!("{text}");
    Ok(())
}
