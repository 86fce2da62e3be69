//! What is measured side by side, and how each is put on the program and taken off again.
//!
//! One at a time: the kernel asks every probe on a library at each hit, whosever it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::placed_libc;
use super::process;
use super::program::Program;
use super::victim::{PATIENCE, Pairs, Setting, Victim};
use crate::command;

/// Caches fill before a stretch counts.
const WARM_UP: Duration = Duration::from_millis(25);
/// A tracer that used less of this stretch than a fiftieth has done what it does but once: read symbols, build tables.
const IDLE: Duration = Duration::from_millis(50);
/// ... and is not waited for longer than this.
const MOST_SETTLING: Duration = Duration::from_secs(3);
/// What a tracer still has to do for a stretch when that is over.
const CATCH_UP: Duration = Duration::from_millis(40);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tracer {
    Untraced,
    /// Empty probes with the traps of exact recording.
    PairFloor,
    Exact,
    /// Empty probes on entries alone.
    EntryFloor,
    Sampled,
    /// A bpftrace script of the same work, each function probed at its first byte.
    BpftraceFirstByte,
    /// The same, each function probed where highwater probes it.
    BpftraceSamePlace,
    Heaptrack,
}

impl Tracer {
    pub(super) const ALL: [Self; 8] = [
        Self::Untraced,
        Self::PairFloor,
        Self::Exact,
        Self::EntryFloor,
        Self::Sampled,
        Self::BpftraceFirstByte,
        Self::BpftraceSamePlace,
        Self::Heaptrack,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::PairFloor => "floor",
            Self::Exact => "highwater",
            Self::EntryFloor => "entry floor",
            Self::Sampled => "sampled",
            Self::BpftraceFirstByte => "bpftrace, first byte",
            Self::BpftraceSamePlace => "bpftrace, our placement",
            Self::Heaptrack => "heaptrack",
        }
    }
}

/// What a pair cost in one stretch, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Wall-clock time of a thread of the program.
    pub(super) wall: f64,
    /// Processor time of a thread of the program.
    pub(super) cpu: f64,
    /// Processor time of the tracer's own processes.
    pub(super) consumer: f64,
}

/// The programs that take part.
pub(super) struct Tools {
    pub(super) highwater: PathBuf,
    pub(super) victim: PathBuf,
    /// For recordings, which nobody keeps.
    pub(super) directory: PathBuf,
    /// Where highwater probes malloc and free, bytes past the symbol. Known once the floor was placed.
    pub(super) placement: Option<Placement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) malloc: u64,
    pub(super) free: u64,
}

/// The program, and what traces it.
pub(super) struct Traced {
    victim: Victim,
    tracer: Option<Program>,
    /// The tracer's processes.
    consumers: Vec<u32>,
}

impl Tools {
    /// The same with another build of highwater.
    pub(super) fn with(&self, highwater: PathBuf) -> Self {
        Self {
            highwater,
            victim: self.victim.clone(),
            directory: self.directory.clone(),
            placement: None,
        }
    }

    pub(super) fn recording(&self) -> PathBuf {
        self.directory.join("bench.hwm")
    }

    pub(super) fn victim(&self) -> Result<Victim> {
        Victim::start(&mut Command::new(&self.victim))
    }

    /// Records, and what the tracer says when its probes are in.
    pub(super) fn record(&self, pid: u32, options: &[&str]) -> Result<Program> {
        let recording = self.recording();
        if recording.exists() {
            fs::remove_file(&recording)?;
        }
        Program::start(
            Command::new(&self.highwater)
                .args(["record", "-p", &pid.to_string(), "-o"])
                .arg(recording)
                .args(["--preflight", "0"])
                .args(options)
                .stdin(Stdio::null()),
        )
    }

    /// Whether `record` has this option.
    pub(super) fn record_has(&self, option: &str) -> bool {
        command::output(Command::new(&self.highwater).args(["record", "--help"]))
            .is_some_and(|help| help.contains(option))
    }

    pub(super) fn start(&mut self, tracer: Tracer) -> Result<Traced> {
        if tracer == Tracer::Heaptrack {
            return self.start_heaptrack();
        }
        let victim = match tracer {
            Tracer::BpftraceSamePlace => self.on_placed_libc()?,
            _ => self.victim()?,
        };
        let pid = victim.pid();
        let program = match tracer {
            Tracer::Untraced | Tracer::Heaptrack => None,
            Tracer::PairFloor => Some(self.floor(pid, "pair")?),
            Tracer::EntryFloor => Some(self.floor(pid, "entry")?),
            Tracer::Exact => Some((self.record(pid, &[])?, "tracing ")),
            Tracer::Sampled => Some((self.record(pid, &["--sample", "512KiB"])?, "tracing ")),
            Tracer::BpftraceFirstByte => Some(bpftrace(pid, "malloc", "free")?),
            Tracer::BpftraceSamePlace => {
                Some(bpftrace(pid, placed_libc::MALLOC, placed_libc::FREE)?)
            }
        };
        let program = match program {
            None => None,
            Some((program, ready)) => {
                let line = program.wait_for(ready, PATIENCE)?;
                if tracer == Tracer::PairFloor {
                    self.placement = placement(&line);
                }
                Some(program)
            }
        };
        let consumers = program
            .as_ref()
            .map_or_else(Vec::new, |program| process::family(program.pid()));
        Ok(Traced {
            victim,
            tracer: program,
            consumers,
        })
    }

    fn on_placed_libc(&self) -> Result<Victim> {
        let placement = self.placement.context("the floor was not placed")?;
        let libc = libc_of(self.victim()?.pid())?;
        let folder = placed_libc::make(Path::new(&libc), &self.directory, placement)?;
        Victim::start(Command::new(&self.victim).env("LD_LIBRARY_PATH", folder))
    }

    fn floor(&self, pid: u32, mode: &str) -> Result<(Program, &'static str)> {
        let program = Program::start(
            Command::new(&self.highwater)
                .args(["__floor", "-p", &pid.to_string(), "--mode", mode])
                .stdin(Stdio::null()),
        )?;
        Ok((program, "empty probes in"))
    }

    /// It cannot be put on a running program without harm: the program starts with it.
    fn start_heaptrack(&self) -> Result<Traced> {
        let victim = Victim::start(
            Command::new("heaptrack")
                .arg("-o")
                .arg(self.directory.join("heaptrack"))
                .arg(&self.victim),
        )?;
        let consumers = process::family(victim.pid())
            .into_iter()
            .filter(|pid| !runs(*pid, &self.victim))
            .collect();
        Ok(Traced {
            victim,
            tracer: None,
            consumers,
        })
    }
}

impl Traced {
    /// Has it do each setting once, and waits until the tracer has done what that makes it do but once.
    pub(super) fn settle(&mut self, settings: &[Setting]) -> Result<()> {
        for setting in settings {
            self.victim.set(*setting)?;
            self.victim.go(WARM_UP)?;
        }
        let deadline = Instant::now() + MOST_SETTLING;
        while Instant::now() < deadline {
            let before = self.consumed();
            thread::sleep(IDLE);
            if u128::from(self.consumed().saturating_sub(before)) < IDLE.as_nanos() / 50 {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn measure(&mut self, setting: Setting, time: Duration) -> Result<Cost> {
        self.victim.set(setting)?;
        self.victim.go(WARM_UP)?;
        thread::sleep(CATCH_UP);
        let before = self.consumed();
        let Pairs {
            pairs,
            wall_ns,
            cpu_ns,
            ..
        } = self.victim.go(time)?;
        thread::sleep(CATCH_UP);
        let consumed = self.consumed().saturating_sub(before);
        let each = |ns: u64| ns as f64 / pairs.max(1) as f64;
        Ok(Cost {
            wall: each(wall_ns),
            cpu: each(cpu_ns),
            consumer: each(consumed),
        })
    }

    fn consumed(&self) -> u64 {
        self.consumers
            .iter()
            // One that has ended uses no more.
            .filter_map(|pid| process::processor_time(*pid).ok())
            .sum()
    }

    pub(super) fn end(self) -> Result<()> {
        if let Some(tracer) = self.tracer {
            tracer.interrupt()?;
        }
        self.victim.quit()
    }
}

/// `malloc+0 free+9` of what the floor says.
fn placement(line: &str) -> Option<Placement> {
    let offset = |function: &str| {
        line.split_ascii_whitespace().find_map(|word| {
            let (name, offset) = word.split_once('+')?;
            (name == function).then(|| offset.parse().ok())?
        })
    };
    Some(Placement {
        malloc: offset("malloc")?,
        free: offset("free")?,
    })
}

fn runs(pid: u32, program: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program)
}

/// Size in, address and stack out, the free, by maps: what highwater tells of a pair. The functions are symbols of libc.
fn bpftrace(pid: u32, malloc: &str, free: &str) -> Result<(Program, &'static str)> {
    let libc = libc_of(pid)?;
    let script = format!(
        "uprobe:{libc}:{malloc} {{ @size[tid] = arg0; }}
         uretprobe:{libc}:{malloc} /@size[tid]/ {{ @live[retval] = (@size[tid], ustack); delete(@size[tid]); }}
         uprobe:{libc}:{free} {{ delete(@live[arg0]); }}
         interval:ms:200 /@ready == 0/ {{ @ready = 1; printf(\"UP\\n\"); }}
         END {{ clear(@size); clear(@live); }}"
    );
    let program = Program::start(
        Command::new("bpftrace")
            // What it prints goes to a pipe, and would wait there for more.
            .args(["-B", "line", "-p", &pid.to_string(), "-e", &script])
            .stdin(Stdio::null()),
    )?;
    Ok((program, "UP"))
}

fn libc_of(pid: u32) -> Result<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    maps.lines()
        .find_map(|line| {
            let path = &line[line.find('/')?..];
            path.contains("/libc.so").then(|| path.to_owned())
        })
        .context("the program maps no libc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_placement_is_read_from_what_the_floor_says() {
        let line = "highwater: empty probes in 7: malloc+0 calloc+2 free+9";
        let found = placement(line);
        assert_eq!(found, Some(Placement { malloc: 0, free: 9 }));
        assert_eq!(placement("highwater: empty probes in 7: calloc+2"), None);
    }
}
