//! What the kernel says of a process's memory.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf};

use super::{
    Target,
    error::{Privilege, TargetError},
    procfs::{STATUS_LIMIT, status_bytes},
};

/// A process's memory at one moment, bytes. `None`: not known, which is not zero.
///
/// The kernel keeps these as per-CPU counters and adds up what each has told so far: they may be off by some dozen
/// pages a CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident memory: `VmRSS`.
    pub rss: Option<u64>,
    /// Resident anonymous pages: `RssAnon`.
    pub anon: Option<u64>,
    /// Resident pages of mapped files: `RssFile`.
    pub file: Option<u64>,
    /// Resident shared memory: `RssShmem`.
    pub shmem: Option<u64>,
    /// Swapped out: `VmSwap`.
    pub swap: Option<u64>,
}

/// Samples a process's memory again and again at the cost of one read.
///
/// It reads `status`, not `smaps_rollup`: that walks the page tables with the process's memory map locked, which stalls
/// a big process.
#[derive(Debug)]
pub struct Sampler {
    target: Target,
    status: File,
    text: Vec<u8>,
}

/// Samples a process's memory once.
///
/// # Errors
///
/// See [`Sampler::sample`].
pub fn sample(target: &Target) -> Result<Memory, TargetError> {
    Sampler::open(target)?.sample()
}

impl Sampler {
    /// Prepares to sample.
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`].
    pub fn open(target: &Target) -> Result<Self, TargetError> {
        let path = status_path(target);
        let status = File::open(&path).map_err(|source| {
            TargetError::reading(target.pid, &path, Privilege::Inspect, source)
        })?;
        Ok(Self {
            target: target.clone(),
            status,
            text: Vec::new(),
        })
    }

    /// Samples.
    ///
    /// # Errors
    ///
    /// [`TargetError::Gone`] once the process has ended, reaped or not.
    pub fn sample(&mut self) -> Result<Memory, TargetError> {
        if let Ok(memory) = self.read()
            && memory.rss.is_some()
        {
            return Ok(memory);
        }
        // The thread we looked through has ended; another may run.
        *self = Self::open(&self.target.refreshed()?)?;
        match self.read() {
            Ok(memory) if memory.rss.is_some() => Ok(memory),
            Ok(_) => Err(TargetError::Gone {
                pid: self.target.pid,
            }),
            Err(source) => Err(TargetError::reading(
                self.target.pid,
                &status_path(&self.target),
                Privilege::Inspect,
                source,
            )),
        }
    }

    fn read(&mut self) -> io::Result<Memory> {
        self.text.resize(8 << 10, 0);
        let mut length = 0;
        loop {
            let read = self
                .status
                .read_at(&mut self.text[length..], length as u64)?;
            length += read;
            // The last line that we need; each read beyond it would make the kernel write the text anew.
            let complete = parse(&self.text[..length]).swap.is_some();
            if read == 0 || complete || length as u64 >= STATUS_LIMIT {
                break;
            }
            if length == self.text.len() {
                self.text.resize(length * 2, 0);
            }
        }
        Ok(parse(&self.text[..length]))
    }
}

fn status_path(target: &Target) -> PathBuf {
    target.proc_dir().join("status")
}

fn parse(status: &[u8]) -> Memory {
    Memory {
        rss: status_bytes(status, "VmRSS"),
        anon: status_bytes(status, "RssAnon"),
        file: status_bytes(status, "RssFile"),
        shmem: status_bytes(status, "RssShmem"),
        swap: status_bytes(status, "VmSwap"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::process::tests::{Running, compile, leaderless};

    #[test]
    fn kernel_text_becomes_bytes_and_what_is_missing_stays_unknown() {
        let text = b"Name:\tcat\nVmHWM:\t    9999 kB\nVmRSS:\t    1788 kB\nRssAnon:\t     116 kB\nVmSwap:\t       0 kB\n";
        assert_eq!(
            parse(text),
            Memory {
                rss: Some(1788 << 10),
                anon: Some(116 << 10),
                file: None,
                shmem: None,
                swap: Some(0)
            }
        );
    }

    #[test]
    fn a_process_that_touches_32_mib_is_seen_to_hold_them() {
        let (_dir, program) = compile(
            r#"
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            int main(void) {
                puts("ready"); fflush(stdout); getchar();
                char *block = malloc(32 << 20);
                memset(block, 1, 32 << 20);
                puts("touched"); fflush(stdout); getchar();
                return block[1];
            }"#,
            &[],
        );
        let mut running = Running::start(&mut std::process::Command::new(program));
        assert_eq!(running.line(), "ready");
        let mut sampler = Sampler::open(&running.target()).unwrap();
        let before = sampler.sample().unwrap();
        running.say("");
        assert_eq!(running.line(), "touched");
        let after = sampler.sample().unwrap();
        let grown = after.anon.unwrap() - before.anon.unwrap();
        // Within what the kernel's per-CPU counters may be off.
        assert!(grown.abs_diff(32 << 20) < 2 << 20, "{grown}");
        assert!(after.rss.unwrap() >= after.anon.unwrap());
        let pid = running.0.id();
        drop(running);
        assert!(matches!(sampler.sample(), Err(TargetError::Gone { pid: gone }) if gone == pid));
    }

    #[test]
    fn a_process_without_its_leader_still_has_memory() {
        let (_dir, running) = leaderless();
        let mut target = running.target();
        assert!(sample(&target).unwrap().rss.unwrap() > 0);
        // As if the leader had exited only after we looked.
        target.live_tid = target.pid;
        assert!(sample(&target).unwrap().rss.unwrap() > 0);
    }
}
