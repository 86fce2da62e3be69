//! What the resident memory of the traced processes is made of: looked at from outside as they come under trace, now and then, and
//! at the end.
//!
//! That takes longer than a sample of `status`, so a thread of low priority does it. While the processes are traced it takes at most
//! [`SHARE_OF_TIME`] of the time; at the end each process has [`AT_THE_END`] of processor time, and all together are done
//! [`WITHIN`] that time.

use std::{
    thread,
    time::{Duration, Instant as Clock},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::time::Instant;

use super::{Session, clock};
use crate::{
    event::{Nanos, ProcessId},
    priority,
    record::{ChunkSum, Entry, HeldBefore, HeldMapping, Makeup, Malloc, SizeClass},
    target::{
        Target,
        makeup::{self, Depth},
        malloc::{Amount, Chunks},
    },
};

/// How long a process is looked at as it comes under trace, at most; of processor time, as the others.
const AT_ATTACH: Duration = Duration::from_secs(1);
/// ... and while it is traced.
const MEANWHILE: Duration = Duration::from_millis(50);
/// ... and at the end.
const AT_THE_END: Duration = Duration::from_millis(100);
/// After so long at the end, no other process is looked at.
const WITHIN: Duration = Duration::from_millis(500);

/// They are looked at at most this often,
const LEAST_INTERVAL: Duration = Duration::from_millis(250);
/// ... at least this often, however long the recording gets,
const MOST_INTERVAL: Duration = Duration::from_secs(60);
/// ... and for at most this part of the time.
const SHARE_OF_TIME: u32 = 200;

/// Most processes that are looked at in turn.
const MOST: usize = 256;

struct Asked {
    process: ProcessId,
    target: Target,
    depth: Depth,
    limit: Duration,
}

struct Seen {
    makeup: Option<Makeup>,
    took: Duration,
}

/// The thread that looks.
pub(super) struct Makeups {
    asked: Sender<Asked>,
    seen: Receiver<Seen>,
    /// Asked for and not seen.
    under_way: usize,
    /// What those took that have been seen of this turn.
    took: Duration,
    due: Instant,
}

impl Makeups {
    pub(super) fn start() -> std::io::Result<Self> {
        let (asked, requests) = bounded::<Asked>(MOST);
        let (answers, seen) = bounded(MOST);
        let work = move || {
            priority::give_way();
            for asked in requests {
                let began = Clock::now();
                let makeup = look(&asked);
                let took = began.elapsed();
                if answers.send(Seen { makeup, took }).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("hw-makeup".to_owned())
            .spawn(work)?;
        Ok(Self {
            asked,
            seen,
            under_way: 0,
            took: Duration::ZERO,
            due: Instant::now() + LEAST_INTERVAL,
        })
    }

    fn ask(&mut self, asked: Asked) {
        if self.under_way < MOST && self.asked.try_send(asked).is_ok() {
            self.under_way += 1;
        }
    }
}

impl Session {
    /// Asks what a process holds that has just come under trace.
    pub(super) fn look_at_attach(&mut self, tgid: u32) {
        if let Some(followed) = self.processes.get(&tgid) {
            self.makeups.ask(Asked {
                process: followed.id,
                target: followed.target.clone(),
                depth: Depth::All,
                limit: AT_ATTACH,
            });
        }
    }

    /// Writes down what was seen, and asks again if it is time to.
    pub(super) fn look_at_makeups(&mut self) {
        while let Ok(seen) = self.makeups.seen.try_recv() {
            self.take_makeup(seen);
            if self.makeups.under_way == 0 {
                let interval = (self.started.elapsed() / 3600).clamp(LEAST_INTERVAL, MOST_INTERVAL);
                let pause = interval.max(self.makeups.took * SHARE_OF_TIME);
                self.makeups.due = Instant::now() + pause;
                self.makeups.took = Duration::ZERO;
            }
        }
        if self.makeups.under_way > 0 || Instant::now() < self.makeups.due {
            return;
        }
        let announced = self.processes.values();
        let announced = announced.filter(|followed| self.images.is_announced(followed.id));
        let all: Vec<Asked> = announced
            .take(MOST)
            .map(|followed| Asked {
                process: followed.id,
                target: followed.target.clone(),
                depth: Depth::Shallow,
                limit: MEANWHILE,
            })
            .collect();
        for asked in all {
            self.makeups.ask(asked);
        }
    }

    /// The probes are out: a last look, once those under way are over, which may be what was held before attach.
    pub(super) fn look_at_the_end(&mut self, running: &[u32]) {
        let patience = Clock::now() + AT_ATTACH;
        while self.makeups.under_way > 0 {
            let left = patience.saturating_duration_since(Clock::now());
            let Ok(seen) = self.makeups.seen.recv_timeout(left) else {
                break;
            };
            self.take_makeup(seen);
        }
        let until = Clock::now() + WITHIN;
        for tgid in running {
            if Clock::now() >= until {
                break;
            }
            let Some(followed) = self.processes.get(tgid) else {
                continue;
            };
            let seen = look(&Asked {
                process: followed.id,
                target: followed.target.clone(),
                depth: Depth::Shallow,
                limit: AT_THE_END,
            });
            if let Some(makeup) = seen {
                self.write_makeup(makeup);
            }
        }
    }

    /// One that was under way has come back.
    fn take_makeup(&mut self, Seen { makeup, took }: Seen) {
        self.makeups.under_way = self.makeups.under_way.saturating_sub(1);
        self.makeups.took += took;
        log::debug!("a look at what memory is made of took {took:?}");
        if let Some(makeup) = makeup {
            self.write_makeup(makeup);
        }
    }

    fn write_makeup(&mut self, makeup: Makeup) {
        // It may have ended meanwhile.
        if self.images.is_announced(makeup.process) {
            self.write_pending();
            self.write(&Entry::Makeup(makeup));
        }
    }
}

fn look(asked: &Asked) -> Option<Makeup> {
    let Nanos(at_ns) = clock::monotonic();
    let seen = makeup::look(&asked.target, asked.depth, asked.limit);
    // Between two looks at its memory it may have become another program.
    let seen = seen.ok().filter(|_| asked.target.is_same_program())?;
    let before = seen.mapped.map(|mapped| {
        let in_heaps = seen.heaps.as_ref().map(|heaps| &heaps.chunks);
        HeldBefore {
            sizes: sizes(in_heaps.into_iter().chain([&mapped])),
            mapped: sum(mapped.used),
            mappings: seen
                .others
                .into_iter()
                .map(|other| HeldMapping {
                    start: other.range.start,
                    length: other.range.end - other.range.start,
                    resident: other.bytes,
                    name: other.name,
                })
                .collect(),
        }
    });
    Some(Makeup {
        at_ns,
        process: asked.process,
        rss: seen.rss,
        malloc: seen.heaps.map(|heaps| Malloc {
            arenas: heaps.arenas,
            unread_arenas: heaps.unread,
            unread: heaps.unread_bytes,
            kept: heaps.chunks.kept,
            trimmable: heaps.chunks.trimmable,
            free: heaps.chunks.free.bytes + heaps.chunks.top.bytes,
            used: sum(heaps.chunks.used),
        }),
        thread_stacks: seen.stacks.map(|stacks| stacks.bytes),
        page_tables: seen.page_tables,
        before,
    })
}

fn sum(amount: Amount) -> ChunkSum {
    ChunkSum {
        chunks: amount.chunks,
        bytes: amount.bytes,
    }
}

/// Chunks in use by size, smallest first.
fn sizes<'a>(chunks: impl Iterator<Item = &'a Chunks>) -> Vec<SizeClass> {
    let mut classes: Vec<SizeClass> = Vec::new();
    for chunks in chunks {
        for (power, amount) in chunks.used_by_size.iter().enumerate() {
            if amount.chunks == 0 {
                continue;
            }
            let least = 1 << power;
            match classes.iter_mut().find(|class| class.least == least) {
                Some(class) => {
                    class.chunks += amount.chunks;
                    class.bytes += amount.bytes;
                }
                None => classes.push(SizeClass {
                    least,
                    chunks: amount.chunks,
                    bytes: amount.bytes,
                }),
            }
        }
    }
    classes.sort_by_key(|class| class.least);
    classes
}
