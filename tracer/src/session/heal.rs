//! Takes out breakpoints that an earlier tracer has left: a probe that is put into the same place and taken out again takes them
//! along.

use std::{
    num::NonZeroU32,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{SessionError, company::Company};
use crate::{
    priority,
    probe::{
        ProbeError,
        kernel::Kernel,
        link::{Link, LinkKind, Site, Whose},
        sizes::Sizes,
    },
    target::{
        leftover::{self, Leftover},
        probed_code,
    },
    words::say,
};

/// The kernel takes a probe out within some 100 ms.
const OUT_WITHIN: Duration = Duration::from_secs(2);
/// ... so that it is looked at again after this.
const LOOKED_AT_AFTER: Duration = Duration::from_millis(500);
/// How many processes are taken care of as a recording ends.
const FINISHED_AT_MOST: usize = 64;

/// What was done about the breakpoints of one process.
#[derive(Debug)]
pub struct Healed {
    /// Pid of the process that had the breakpoints.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// How many of its functions had one.
    pub breakpoints: usize,
    /// Why they are still there.
    pub stay: Option<String>,
}

/// A look at all processes while a recording is under way: nothing waits for it.
///
/// Probes of other recorders look the same as what was left behind, and are tried too: the kernel keeps them.
#[derive(Default)]
pub(super) struct Sweep {
    search: Option<JoinHandle<(usize, Vec<Leftover>)>>,
    found: Vec<Leftover>,
    /// What has been taken out if it could be, and when.
    tried: Vec<(Instant, Leftover)>,
}

impl Sweep {
    /// Starts the search on a thread of its own.
    pub(super) fn start() -> Self {
        let thread = std::thread::Builder::new().name("hw-sweep".to_owned());
        let search = || {
            priority::give_way();
            leftover::find()
        };
        let search = thread.spawn(search).inspect_err(|error| {
            log::info!("no breakpoints of earlier tracers are looked for: {error}");
        });
        Self {
            search: search.ok(),
            ..Self::default()
        }
    }

    /// Takes out the breakpoints of one process more, and says what has become of others.
    pub(super) fn go_on(&mut self, kernel: &mut Kernel) {
        if let Some(search) = self.search.take_if(|search| search.is_finished()) {
            self.found = search.join().unwrap_or_default().1;
        }
        if let Some(left) = self.found.pop().filter(|left| left.target.is_alive()) {
            match take_out(kernel, &left) {
                Ok(()) => self.tried.push((Instant::now(), left)),
                Err(why) => log::info!("breakpoints stay in process {}: {why}", left.target.pid),
            }
        }
        for (_, left) in self
            .tried
            .extract_if(.., |(at, _)| at.elapsed() > LOOKED_AT_AFTER)
        {
            if left.code.breakpoints().is_empty() {
                say!("{}", Healed::of(&left, None).sentence());
            }
        }
    }

    /// Does what is still to be done, of so many processes at most.
    pub(super) fn finish(&mut self, kernel: &mut Kernel) {
        for _ in 0..FINISHED_AT_MOST {
            self.go_on(kernel);
        }
        for (_, left) in self.tried.drain(..) {
            if probed_code::await_probes_out(&[&left.code], LOOKED_AT_AFTER) {
                say!("{}", Healed::of(&left, None).sentence());
            }
        }
    }
}

impl Healed {
    fn of(left: &Leftover, stay: Option<String>) -> Self {
        Self {
            pid: left.target.pid,
            command: left.target.command.clone(),
            breakpoints: left.points.len(),
            stay,
        }
    }

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
    let mut kernel = Kernel::load(&Sizes::COUNTING)?;
    let (looked_at, found) = leftover::find();
    Ok((looked_at, heal(&mut kernel, found)))
}

fn heal(kernel: &mut Kernel, found: Vec<Leftover>) -> Vec<Healed> {
    found
        .into_iter()
        // It may have ended since.
        .filter(|left| left.target.is_alive())
        .map(|left| {
            let stay = take_out(kernel, &left).err().or_else(|| {
                let are_out = probed_code::await_probes_out(&[&left.code], OUT_WITHIN);
                (!are_out).then(|| "another tracer uses them, or a debugger".to_owned())
            });
            Healed::of(&left, stay)
        })
        .collect()
}

/// Puts probes over the breakpoints and takes both out, if they are there still and nobody debugs the process by now: his
/// breakpoints would go with them.
fn take_out(kernel: &mut Kernel, left: &Leftover) -> Result<(), String> {
    if left.target.debugger().is_some() || left.target.catches_breakpoints() {
        return Err("a debugger is there".to_owned());
    }
    let there = left.code.breakpoints();
    let points = left.points.iter();
    let points = points.filter(|point| there.contains(&point.function));
    let entry_only = |point| Site {
        returns: false,
        ..Site::from(point)
    };
    let sites: Vec<Site> = points.map(entry_only).collect();
    if sites.is_empty() {
        return Ok(());
    }
    let thread = NonZeroU32::new(left.target.live_tid).unwrap_or(NonZeroU32::MIN);
    let mut put = |kind| -> Result<Link, ProbeError> {
        Link::place_empty(kernel, kind, left.library(), &sites, Whose::of(thread))
    };
    let link = put(LinkKind::Multi).or_else(|_| put(LinkKind::Perf));
    link.map(drop).map_err(|error| error.to_string())
}
