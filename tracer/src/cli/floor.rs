//! `highwater __floor`: probes that do nothing, where `record` would place its own. What they cost is the least that
//! tracing can cost; `cargo xtask bench` holds `record` against it.

use std::num::NonZeroU32;

use clap::{Args, ValueEnum};

use super::DONE;
use crate::words::say;
use crate::{
    probe::{
        ProbeError, capability,
        kernel::Kernel,
        link::{Link, LinkKind, Whose},
        selftest::{self, Situation},
        sizes::Sizes,
    },
    session,
    target::{Target, allocator, safety},
};

/// Empty probes where `record` has its own, until Ctrl-C
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The process
    #[arg(short, long, value_name = "PID")]
    pid: u32,
    /// Which traps to pay
    #[arg(long)]
    mode: Mode,
}

/// Which traps a pair of malloc and free pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The entry and the return of malloc, and the entry of free: those of exact recording.
    Pair,
    /// The entries alone: those of calls that are not sampled.
    Entry,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    capability::check()?;
    session::spare_others();
    let target = Target::open(arguments.pid)?;
    let findings = safety::examine(&target)?;
    let allocator = allocator::find(&target)?;
    let mut kernel = Kernel::load(&Sizes::COUNTING)?;
    let situation = Situation {
        leader_gone: target.leader_gone,
        seccomp: findings.seccomp,
    };
    // Of the other kinds the floor is another one, and record does not use them where this works.
    // Links on one library reach into the returns of each other's processes.
    let _company = session::Company::join()?;
    selftest::works(&mut kernel, LinkKind::Session, situation).map_err(|failure| {
        ProbeError::NoWorkingLink {
            tried: format!("session: {failure}"),
        }
    })?;
    let mut sites = session::sites(&allocator);
    for site in &mut sites {
        site.returns &= arguments.mode == Mode::Pair;
    }
    let pid = NonZeroU32::new(target.pid).unwrap_or(NonZeroU32::MIN);
    let _link = Link::place_empty(
        &mut kernel,
        LinkKind::Session,
        allocator.library(),
        &sites,
        Whose::of(pid),
    )?;
    // Registered before we say so: whoever reads the line may interrupt us at once.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
        let places: Vec<String> = allocator
            .probes
            .iter()
            .map(|it| format!("{}+{}", it.function.symbol(), it.symbol_offset))
            .collect();
        say!("empty probes in {}: {}", arguments.pid, places.join(" "));
        interrupt.recv().await;
        Ok::<_, std::io::Error>(())
    })?;
    Ok(DONE)
}
