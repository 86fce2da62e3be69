//! Before probes go into a process that runs: what would they cost it?
//!
//! A count of at most a second, by programs that do nothing else, tells how often the allocator is called; the cost of a hit
//! is measured on a child of our own ([`crate::probe::calibrate`]). Together with the processor time that the processes took
//! meanwhile, that is the slowdown to expect ([`super::rate`]).

use std::{
    collections::HashMap,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use highwater_common::cookie::Function;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;
use tokio::time::Instant;

use super::{
    Options, SessionError, Signals, Subject, attach,
    attaching::whose,
    rate::{Counted, Rate},
    scope,
    several::{Tells, each_of},
};
use crate::words::say;
use crate::{
    probe::{
        calibrate,
        calibrate::HitCost,
        kernel::{Kernel, Rings},
        link::{Link, LinkKind},
        selftest::Situation,
    },
    target::{
        self, Target, allocator,
        probed_code::{self, ProbedCode},
    },
    units::size,
};

/// So many calls tell the rate well enough.
const ENOUGH_CALLS: u64 = 200_000;
/// How often the count is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The kernel takes the counting probes out within some 100 ms.
const COUNTING_OUT_WITHIN: Duration = Duration::from_millis(300);
/// Above this slowdown we ask first, if tracing takes that part of a processor, too: of a program that hardly runs, a fifth is
/// nothing.
const ASK_ABOVE: f64 = 0.20;
const ASK_ABOVE_OF_PROCESSOR: f64 = 0.05;

/// Most processes of a scope whose calls are counted.
const MOST_COUNTED: usize = 64;

/// Up to so many, what they cost each other is little beside what each costs itself.
const A_HANDFUL: usize = 4;

/// A smaller part of a processor is not told by its number.
const LEAST_TOLD: f64 = 0.001;

/// What to do before attaching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// Count for at most this long; zero: not at all.
    pub window: Duration,
    /// Go on whatever it says.
    pub go_on: bool,
}

/// The session was not begun.
#[derive(Debug, Error)]
pub enum Declined {
    /// The answer was no.
    #[error(
        "not attached, as you answered. Cheaper: --sample 512KiB follows one in many allocations; to go on without being \
         asked: --yes"
    )]
    Answered,
    /// Ctrl-C before the probes went in.
    #[error("not attached: interrupted before the probes went in")]
    Interrupted,
}

/// What the preflight found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// What a hit costs here.
    pub cost: HitCost,
    /// What the processes do.
    pub rate: Rate,
}

impl Forecast {
    /// How much more processor time the same work will take: 0.31 is 31 % more.
    pub fn slowdown(&self) -> f64 {
        self.rate.slowdown(&self.cost)
    }

    /// What tracing takes of one processor: 0.31 is 31 % of its time.
    pub fn of_processor(&self) -> f64 {
        self.rate.taken_ns_per_s(&self.cost) / 1e9
    }

    /// Whether it is so much that nobody may want it.
    fn is_much(&self) -> bool {
        self.slowdown() > ASK_ABOVE && self.of_processor() > ASK_ABOVE_OF_PROCESSOR
    }
}

/// What a hit costs, where there is no process yet to look at.
pub(super) fn cost(
    kernel: &mut Kernel,
    rings: &mut Rings,
    kinds: &mut HashMap<Situation, LinkKind>,
    options: &Options,
) -> Result<HitCost, SessionError> {
    let situation = Situation {
        leader_gone: false,
        seccomp: false,
    };
    let kind = attach::kind_in(kernel, kinds, options.link, situation)?;
    Ok(calibrate::measure(kernel, kind, rings)?)
}

/// What was counted, and of whom.
pub(super) struct Looked {
    pids: Vec<u32>,
    /// So many more processes were not counted.
    left_out: usize,
    kind: LinkKind,
    descendants: usize,
    counted: Counted,
}

impl Looked {
    /// All calls of the allocator.
    pub(super) fn calls_per_s(&self) -> f64 {
        Rate::of(&self.counted, &HitCost::default()).calls_per_s()
    }
}

/// Whose calls are counted.
pub(super) struct Whom {
    pids: Vec<u32>,
    /// So many more are in the scope: to count them all would take as long as to trace them.
    left_out: usize,
    /// They were asked for by number: one of them at least has to be such as can be traced.
    must_be: bool,
}

/// Who is there to be counted; `None` where nobody is.
pub(super) fn whom(subject: &Subject) -> Option<Whom> {
    match subject {
        Subject::Command { .. } => None,
        Subject::Running { pids } => Some(Whom {
            pids: pids.clone(),
            left_out: 0,
            must_be: true,
        }),
        Subject::Scope(scope) => {
            let mut pids = scope::there_now(scope);
            let left_out = pids.len().saturating_sub(MOST_COUNTED);
            pids.truncate(MOST_COUNTED);
            (!pids.is_empty()).then_some(Whom {
                pids,
                left_out,
                must_be: false,
            })
        }
    }
}

/// Counts what processes and their descendants call. One that cannot be traced is not counted: attaching will say so. `None`: none of
/// them could be.
pub(super) async fn look(
    kernel: &mut Kernel,
    kinds: &mut HashMap<Situation, LinkKind>,
    options: &Options,
    whom: &Whom,
    signals: &mut Signals,
) -> Result<Option<Looked>, SessionError> {
    let mut examine = |pid| {
        let (target, findings) = attach::settled(|| attach::examine(pid))?;
        let kind = attach::kind_for(kernel, kinds, options.link, &target, &findings)?;
        Ok((target, kind))
    };
    let nothing = Tells::Nothing;
    let roots = match each_of(nothing, whom.pids.iter().copied(), &mut examine) {
        Err(_) if !whom.must_be => return Ok(None),
        roots => roots?,
    };
    let (roots, mut targets): (Vec<u32>, Vec<(Target, LinkKind)>) = roots.into_iter().unzip();
    // Those of a scope that are there are in it themselves.
    if options.children && whom.must_be {
        for child in roots.iter().flat_map(|&pid| target::descendants(pid)) {
            if !targets.iter().any(|(target, _)| target.pid == child)
                && let Ok((target, findings)) = attach::examine(child)
                && let Ok(kind) = attach::kind_for(kernel, kinds, options.link, &target, &findings)
            {
                targets.push((target, kind));
            }
        }
    }
    let counted = match count(kernel, &targets, options.preflight.window, signals).await {
        Err(error) if !whom.must_be && !matches!(error, SessionError::Declined(_)) => {
            log::info!("the calls of the scope were not counted: {error}");
            return Ok(None);
        }
        counted => counted?,
    };
    Ok(Some(Looked {
        descendants: targets.len() - roots.len(),
        kind: targets[0].1,
        pids: roots,
        left_out: whom.left_out,
        counted,
    }))
}

/// Measures what a hit costs, says what tracing will cost, and asks where that is called for.
pub(super) async fn tell(
    kernel: &mut Kernel,
    rings: &mut Rings,
    looked: &Looked,
    go_on: bool,
    signals: &mut Signals,
) -> Result<Forecast, SessionError> {
    let cost = calibrate::measure(kernel, looked.kind, rings)?;
    let forecast = Forecast {
        cost,
        rate: Rate::of(&looked.counted, &cost),
    };
    say!("{}", told(&forecast, &looked.pids, looked.descendants));
    if looked.left_out > 0 {
        say!(
            "and what {} more processes call was not counted",
            looked.left_out
        );
    }
    let traced = looked.pids.len() + looked.descendants + looked.left_out;
    if traced > A_HANDFUL
        && let Some(line) = price_of_many(looked.kind, traced)
    {
        say!("{line}");
    }
    if forecast.is_much() {
        consent(go_on, signals).await?;
    }
    Ok(forecast)
}

/// Counts the calls of some processes. The first must be countable, the others may go.
pub(super) async fn count(
    kernel: &mut Kernel,
    targets: &[(Target, LinkKind)],
    window: Duration,
    signals: &mut Signals,
) -> Result<Counted, SessionError> {
    let mut links = Vec::with_capacity(targets.len());
    let mut codes = Vec::with_capacity(targets.len());
    for (index, (target, kind)) in targets.iter().enumerate() {
        match link(kernel, target, *kind) {
            Ok((link, code)) => {
                links.push(link);
                codes.extend(code);
            }
            Err(error) if index == 0 => return Err(error),
            Err(error) => log::info!("process {} is not counted: {error}", target.pid),
        }
    }
    let cpu = || targets.iter().map(|(target, _)| target.cpu_ns()).sum();
    let calls = |kernel: &Kernel, frees: bool| -> u64 {
        let functions = Function::ALL.into_iter();
        functions
            .filter(|function| function.frees() == frees)
            .map(|function| kernel.calls(function))
            .sum()
    };
    let now = |kernel: &Kernel| -> (u64, u64, u64, u64, Instant) {
        (
            calls(kernel, false),
            calls(kernel, true),
            kernel.rare_calls(),
            cpu(),
            Instant::now(),
        )
    };
    let begun = now(kernel);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = signals.next_end() => return Err(Declined::Interrupted.into()),
        }
        let (allocations, frees, rare, cpu_ns, at) = now(kernel);
        let counted = Counted {
            allocations: allocations - begun.0,
            frees: frees - begun.1,
            rare: rare - begun.2,
            cpu_ns: cpu_ns.saturating_sub(begun.3),
            window: at - begun.4,
        };
        if counted.window >= window || counted.allocations + counted.frees >= ENOUGH_CALLS {
            drop(links);
            // Who looks for foreign breakpoints next is not to find these.
            let ours: Vec<_> = codes.iter().filter(|code| !code.was_shared()).collect();
            probed_code::await_probes_out(&ours, COUNTING_OUT_WITHIN);
            return Ok(counted);
        }
    }
}

/// Has the calls of a process counted; what of its memory has the probes.
fn link(
    kernel: &mut Kernel,
    target: &Target,
    kind: LinkKind,
) -> Result<(Link, Option<ProbedCode>), SessionError> {
    let allocator = attach::settled(|| allocator::find(&target.refreshed()?))?;
    let sites = attach::sites(&allocator);
    let link = Link::count(kernel, kind, allocator.library(), &sites, whose(target))?;
    Ok((link, allocator.in_memory))
}

/// What it costs each process that others are traced beside it, where that was measured.
fn price_of_many(kind: LinkKind, traced: usize) -> Option<String> {
    let each_ns = match kind {
        LinkKind::Session => 70,
        LinkKind::Multi => 28,
        LinkKind::Perf => return None,
    };
    let all = each_ns * traced as u64;
    Some(format!(
        "each process traced adds about {each_ns} ns to every call of the others that use the same libc: {traced} of them some {:.1} us",
        all as f64 / 1000.0
    ))
}

/// One line for people.
fn told(forecast: &Forecast, pids: &[u32], descendants: usize) -> String {
    let processes = match pids {
        [pid] => format!("process {pid}"),
        pids => format!("{} processes", pids.len()),
    };
    let whose = match descendants {
        0 => processes,
        1 => format!("{processes} and 1 descendant"),
        n => format!("{processes} and {n} descendants"),
    };
    let us = |ns: f64| match ns {
        10_000.0.. => format!("{:.0} us", ns / 1000.0),
        _ => format!("{:.1} us", ns / 1000.0),
    };
    let cost = &forecast.cost;
    let calls = forecast.rate.calls_per_s();
    if calls <= 0.0 {
        return format!(
            "expects no calls of {whose}, and to take {} a malloc and free, {} after a pause",
            us(cost.pair_ns()),
            us(cost.rare_pair_ns())
        );
    }
    let rare = forecast.rate.rare_per_s * cost.rare_ns / (calls / 2.0);
    let pair = format!("{} a malloc and free", us(cost.pair_ns() + rare));
    let about = match forecast.rate.is_at_most {
        true => "at least",
        false => "about",
    };
    let taken = match forecast.of_processor() {
        share if share < LEAST_TOLD && !forecast.rate.is_at_most => {
            format!("less than {}", percent(LEAST_TOLD))
        }
        share => format!("{about} {}", percent(share)),
    };
    format!(
        "expects to take {} of a processor from {whose} (it uses {} now): {} calls/s, {pair}",
        taken,
        percent(forecast.rate.cpu_ns_per_s / 1e9),
        size::thousands(calls.round() as u64),
    )
}

/// `0.5 %`, `31 %`.
pub(crate) fn percent(share: f64) -> String {
    if share < 0.1 {
        format!("{:.1} %", share * 100.0)
    } else {
        format!("{:.0} %", share * 100.0)
    }
}

/// Asks on a terminal, unless that has been answered already; elsewhere says that we go on.
async fn consent(go_on: bool, signals: &mut Signals) -> Result<(), Declined> {
    if go_on {
        say!("going on, as --yes says");
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        say!("going on, for there is no terminal to ask on; --sample 512KiB would cost it less");
        return Ok(());
    }
    eprint!(
        "highwater: that is much. Cheaper: --sample 512KiB; to go on without being asked: --yes. Go on? [y/N] "
    );
    let _ = io::stderr().flush();
    let stdin = io::stdin();
    loop {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut input = [PollFd::new(&stdin, PollFlags::IN)];
        if poll(&mut input, Some(&now)).is_ok_and(|ready| ready > 0) {
            let mut answer = String::new();
            // The terminal hands over whole lines, so this does not wait.
            let _ = stdin.read_line(&mut answer);
            return match answer.trim() {
                "y" | "Y" | "yes" | "Yes" => Ok(()),
                _ => Err(Declined::Answered),
            };
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = signals.next_end() => {
                // Nobody may be listening: there is nothing to do about that.
                let _ = writeln!(io::stderr());
                return Err(Declined::Interrupted);
            }
        }
    }
}

#[cfg(test)]
mod tests;
