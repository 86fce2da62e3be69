//! Takes out breakpoints that an earlier tracer has left: a probe that is put into the same place and taken out again takes them
//! along.

use std::{num::NonZeroU32, thread::JoinHandle, time::Duration};

use super::{SessionError, company::Company};
use crate::{
    probe::{
        ProbeError,
        kernel::Kernel,
        link::{Link, LinkKind, Site},
    },
    target::{
        leftover::{self, Leftover},
        probed_code,
    },
};

/// Size of the event ring of a sweep, bytes: nothing is ever sent.
const RING_BYTES: u32 = 4096;
/// The kernel takes a probe out within some 100 ms.
const OUT_WITHIN: Duration = Duration::from_secs(2);

/// What was done about the breakpoints of one process.
#[derive(Debug)]
pub struct Healed {
    /// The process.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// How many of its functions had one.
    pub breakpoints: usize,
    /// Why they are still there.
    pub stay: Option<String>,
}

/// A look at all processes that is under way on a thread of its own.
pub(super) struct Sweep(Option<JoinHandle<(usize, Vec<Leftover>)>>);

impl Sweep {
    /// Starts it, unless another recorder is there: its probes look the same.
    pub(super) fn start(company: &mut Company) -> Self {
        if !company.is_only_one() {
            return Self(None);
        }
        let thread = std::thread::Builder::new().name("hw-sweep".to_owned());
        Self(
            thread
                .spawn(leftover::find)
                .inspect_err(|error| {
                    log::info!("no breakpoints of earlier tracers are looked for: {error}");
                })
                .ok(),
        )
    }

    /// Takes out what it found, and says so.
    pub(super) fn finish(self, kernel: &mut Kernel) {
        let Some((_, found)) = self.0.and_then(|thread| thread.join().ok()) else {
            return;
        };
        for healed in heal(kernel, found) {
            eprintln!("highwater: {}", healed.sentence());
        }
    }
}

impl Healed {
    /// What was done, in a sentence.
    pub fn sentence(&self) -> String {
        let Self {
            pid,
            command,
            breakpoints,
            ..
        } = self;
        let what = match breakpoints {
            1 => "1 breakpoint".to_owned(),
            n => format!("{n} breakpoints"),
        };
        match &self.stay {
            None => format!(
                "took out {what} that an earlier tracer had left in process {pid} ({command})"
            ),
            Some(why) => {
                format!("{what} of an earlier tracer stay in process {pid} ({command}): {why}")
            }
        }
    }
}

/// Looks into all processes and takes out what earlier tracers have left: how many were looked into, and what was done.
///
/// # Errors
///
/// The BPF programs cannot be loaded.
pub fn sweep() -> Result<(usize, Vec<Healed>), SessionError> {
    let _company = Company::join()?;
    let mut kernel = Kernel::load(RING_BYTES)?;
    let (looked_at, found) = leftover::find();
    Ok((looked_at, heal(&mut kernel, found)))
}

fn heal(kernel: &mut Kernel, found: Vec<Leftover>) -> Vec<Healed> {
    found
        .into_iter()
        // It may have ended since.
        .filter(|left| left.target.is_alive())
        .map(|left| Healed {
            pid: left.target.pid,
            command: left.target.command.clone(),
            breakpoints: left.points.len(),
            stay: take_out(kernel, &left).err(),
        })
        .collect()
}

fn take_out(kernel: &mut Kernel, left: &Leftover) -> Result<(), String> {
    let entry_only = |point| Site {
        returns: false,
        ..Site::from(point)
    };
    let sites: Vec<Site> = left.points.iter().map(entry_only).collect();
    let thread = NonZeroU32::new(left.target.live_tid).unwrap_or(NonZeroU32::MIN);
    let mut put = |kind| -> Result<Link, ProbeError> {
        Link::place_empty(kernel, kind, left.library(), &sites, thread)
    };
    let link = put(LinkKind::Multi).or_else(|_| put(LinkKind::Perf));
    drop(link.map_err(|error| error.to_string())?);
    if probed_code::await_probes_out(&[&left.code], OUT_WITHIN) {
        Ok(())
    } else {
        Err("another tracer uses them, or a debugger".to_owned())
    }
}
