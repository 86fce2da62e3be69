//! The thread that looks which processes are in the scope: all of them once a second, and each that the kernel side tells of at once.
//!
//! The kernel side's word comes in time, but may be left out where there is too much of it; the look at all of them finds what was left
//! out, and what was moved into the scope's cgroup, which nothing tells of.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::sync::Notify;

use crate::{
    event::{Nanos, decode::Stranger},
    follow::scope::{Known, Name, Scope, Whom},
    target::{
        cgroup,
        listed::{self, Listed},
    },
};

/// How often all processes are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Most that is given in either direction before it is taken.
const MOST: usize = 4096;

/// A process of the scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::session) struct Newcomer {
    pub(in crate::session) pid: u32,
    /// When it started, clock ticks after boot.
    pub(in crate::session) start_ticks: u64,
    /// When it became the program that it is, if that was heard of.
    pub(in crate::session) since: Option<Nanos>,
}

/// What the thread has found.
#[derive(Debug)]
pub(super) enum Found {
    Newcomer(Newcomer),
    /// All processes were looked at for the first time: so many were in the scope.
    LookedAtAll(usize),
    /// There is no such cgroup any more.
    CgroupRemoved,
}

/// The thread's end of things that the session keeps.
pub(super) struct Lookout {
    heard: Sender<Stranger>,
    found: Receiver<Found>,
    /// Something was found.
    pub(super) ready: Arc<Notify>,
    /// Processes that had ended before they were looked at, and may have been of the scope.
    unsure: Arc<AtomicU64>,
}

impl Lookout {
    /// Starts the thread, which looks at all processes at once.
    pub(super) fn start(scope: Scope) -> io::Result<Self> {
        let (heard, hears) = bounded(MOST);
        let (finds, found) = bounded(MOST);
        let ready = Arc::new(Notify::new());
        let unsure = Arc::new(AtomicU64::new(0));
        let mut looking = Looking {
            scope,
            us: std::process::id(),
            our_name: Listed::of(std::process::id())
                .map_or_else(|_| Name::new(&[]), |us| Name::new(&us.name)),
            told: HashMap::new(),
            finds,
            news: Arc::clone(&ready),
            unsure: Arc::clone(&unsure),
            is_removed: false,
        };
        thread::Builder::new()
            .name("hw-scope".to_owned())
            .spawn(move || {
                // It ends where nobody listens any more.
                let _ = looking.go_on(&hears);
            })?;
        Ok(Self {
            heard,
            found,
            ready,
            unsure,
        })
    }

    /// Has a process looked at.
    pub(super) fn hear(&self, stranger: Stranger) {
        if self.heard.try_send(stranger).is_err() {
            self.unsure.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn next(&self) -> Option<Found> {
        self.found.try_recv().ok()
    }

    pub(super) fn unsure(&self) -> u64 {
        self.unsure.load(Ordering::Relaxed)
    }
}

/// The session listens no more.
struct Over;

struct Looking {
    scope: Scope,
    us: u32,
    /// The name of our children, which come and go.
    our_name: Name,
    /// Processes that were told of, and when they started: the look at all of them tells of each once.
    told: HashMap<u32, u64>,
    finds: Sender<Found>,
    news: Arc<Notify>,
    unsure: Arc<AtomicU64>,
    is_removed: bool,
}

impl Looking {
    fn go_on(&mut self, hears: &Receiver<Stranger>) -> Result<(), Over> {
        let count = self.look_at_all()?;
        self.tell(Found::LookedAtAll(count))?;
        let mut due = Instant::now() + EVERY;
        loop {
            match hears.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(stranger) => self.look_at(&stranger)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // However much there is to hear.
            if Instant::now() >= due {
                self.look_at_all()?;
                self.look_for_cgroup()?;
                due = Instant::now() + EVERY;
            }
        }
    }

    fn tell(&self, found: Found) -> Result<(), Over> {
        self.finds.send(found).map_err(|_| Over)?;
        self.news.notify_one();
        Ok(())
    }

    /// Tells of all processes of the scope that were not told of yet. Gives how many it has.
    fn look_at_all(&mut self) -> Result<usize, Over> {
        let mut there = HashMap::new();
        for listed in listed::all() {
            if !is_admitted(&self.scope, self.us, &listed) {
                continue;
            }
            let Listed {
                pid, start_ticks, ..
            } = listed;
            there.insert(pid, start_ticks);
            if self.told.get(&pid) != Some(&start_ticks) {
                self.settle(&listed);
                self.tell(Found::Newcomer(Newcomer {
                    pid,
                    start_ticks,
                    since: None,
                }))?;
            }
        }
        self.told = there;
        Ok(self.told.len())
    }

    fn look_at(&mut self, stranger: &Stranger) -> Result<(), Over> {
        let Stranger {
            at,
            pid,
            name,
            has_executed,
        } = *stranger;
        let Ok(listed) = Listed::of(pid) else {
            // Most processes are forked and call exec at once: both are told of, and counted once.
            let name = Name::new(&name);
            if has_executed && name != self.our_name && self.scope.may_have_been(&name) {
                self.unsure.fetch_add(1, Ordering::Relaxed);
            }
            return Ok(());
        };
        if !is_admitted(&self.scope, self.us, &listed) {
            return Ok(());
        }
        let start_ticks = listed.start_ticks;
        self.settle(&listed);
        self.told.insert(pid, start_ticks);
        self.tell(Found::Newcomer(Newcomer {
            pid,
            start_ticks,
            since: has_executed.then_some(at),
        }))
    }

    /// The first digits of an id stand for the first container that they fit, and for no other from then on.
    fn settle(&mut self, listed: &Listed) {
        if let Whom::Container(id) = &mut self.scope.whom
            && let [whole] = &id.among(listed.cgroups.iter().map(String::as_str))[..]
        {
            *id = whole.clone();
        }
    }

    fn look_for_cgroup(&mut self) -> Result<(), Over> {
        let Whom::Cgroup(path) = &self.scope.whom else {
            return Ok(());
        };
        let was_removed = std::mem::replace(&mut self.is_removed, !cgroup::exists(path));
        if self.is_removed && !was_removed {
            self.tell(Found::CgroupRemoved)?;
        }
        Ok(())
    }
}

fn is_admitted(scope: &Scope, us: u32, listed: &Listed) -> bool {
    let known = Known {
        pid: listed.pid,
        parent: listed.parent,
        name: Name::new(&listed.name),
        cgroups: &listed.cgroups,
        is_kernels: listed.is_kernels,
    };
    scope.admit(us, &known).is_ok()
}

/// The processes that are in a scope now, the eldest first.
pub(in crate::session) fn there_now(scope: &Scope) -> Vec<u32> {
    let us = std::process::id();
    let mut there: Vec<Listed> = listed::all()
        .filter(|listed| is_admitted(scope, us, listed))
        .collect();
    there.sort_unstable_by_key(|listed| (listed.start_ticks, listed.pid));
    there.into_iter().map(|listed| listed.pid).collect()
}
