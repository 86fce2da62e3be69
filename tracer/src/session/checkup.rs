//! Whether and at what cost this machine, and a process, can be traced: what a session would find out, without one.

use std::{collections::HashMap, time::Duration};

use super::{
    Forecast, SessionError, afford, attach, company::Company, descriptors, preflight, rate::Rate,
    signals::Signals,
};
use crate::{
    probe::{
        calibrate::{self, HitCost},
        kernel::Kernel,
        link::LinkKind,
        selftest::{self, Situation},
        sizes::Sizes,
    },
    target::{
        Target, TargetError,
        allocator::{self, Allocator},
        safety::Findings,
    },
};

/// The event ring of a checkup, bytes: the child's events are few.
const RING_BYTES: u32 = 1 << 20;

/// What was found.
#[derive(Debug)]
pub struct Checkup {
    /// The kind of link that a session would use.
    pub link: LinkKind,
    /// Better kinds, and why they do not serve.
    pub unfit: Vec<(LinkKind, String)>,
    /// What a hit costs.
    pub cost: HitCost,
    /// Where probes would go: into the process's allocator, or this machine's own.
    pub allocator: Allocator,
    /// Kernel memory that this took, bytes.
    pub memory_bytes: u64,
    /// The process that was asked for.
    pub target: Option<CheckedTarget>,
}

/// What was found of a process.
#[derive(Debug)]
pub struct CheckedTarget {
    /// The process that was looked at.
    pub target: Target,
    /// What is dangerous on some kernels; the link was tried under these conditions.
    pub findings: Findings,
    /// What it calls, and what tracing it would cost.
    pub forecast: Forecast,
}

/// What a recording would take for a rate of calls, where nothing else is asked for.
pub fn sizes_for(calls_per_s: f64) -> Sizes {
    Sizes::for_rate(calls_per_s, false, processors())
}

/// Processors of this machine that we may use.
pub(super) fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u32)
}

/// Looks at this machine and, if asked, at a process, whose calls are counted for at most `window`.
///
/// # Errors
///
/// What would keep a session from tracing.
pub async fn checkup(pid: Option<u32>, window: Duration) -> Result<Checkup, SessionError> {
    descriptors::raise();
    let mut signals = Signals::new().map_err(|source| SessionError::Start {
        what: "await signals",
        source,
    })?;
    let _company = Company::join()?;
    let examined = pid.map(attach::examine).transpose()?;
    let sizes = afford::afford(Sizes::with_ring(RING_BYTES, false, processors()))?;
    let mut kernel = Kernel::load(&sizes)?;
    // The end of the child on which costs are measured is to be heard of.
    kernel.follow_processes()?;
    let mut rings = kernel.take_rings()?;
    let own = || -> Result<Target, TargetError> { Target::open(std::process::id()) };
    let (target, findings) = match &examined {
        Some((target, findings)) => (target.clone(), *findings),
        None => (own()?, Findings::default()),
    };
    let link = attach::kind_for(&mut kernel, &mut HashMap::new(), None, &target, &findings)?;
    let situation = Situation {
        leader_gone: target.leader_gone,
        seccomp: findings.seccomp,
    };
    let unfit = LinkKind::LADDER
        .into_iter()
        .take_while(|kind| *kind != link)
        .filter_map(|kind| Some((kind, selftest::works(&mut kernel, kind, situation).err()?)))
        .collect();
    let cost = calibrate::measure(&mut kernel, link, &mut rings)?;
    let allocator = allocator::find(&target)?;
    let target = match examined {
        None => None,
        Some((target, findings)) => {
            let targets = [(target, link)];
            let counted = preflight::count(&mut kernel, &targets, window, &mut signals).await?;
            let [(target, _)] = targets;
            let rate = Rate::of(&counted, &cost);
            Some(CheckedTarget {
                target,
                findings,
                forecast: Forecast { cost, rate },
            })
        }
    };
    Ok(Checkup {
        link,
        unfit,
        cost,
        allocator,
        memory_bytes: kernel.memory_bytes(),
        target,
    })
}
