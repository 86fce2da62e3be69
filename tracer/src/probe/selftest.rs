//! The choice of a kind of link, by trying each on a child of our own that is put in the target's situation.
//!
//! Versions say little: distributions backport, and kernels before 6.6.35 and 6.9.5 filter multi links by thread, some
//! between 6.11 and 6.14 kill a process that has a system-call filter at the first probed return, and a link to a
//! process whose leader thread has exited may succeed and never fire. So the child runs two threads, or has lost its
//! leader, or has a filter, calls a function of this very executable a known number of times, and says that it lived.

use std::{
    fmt::Write as _,
    fs::File,
    hint::black_box,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    num::NonZeroU32,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::{
    ProbeError,
    kernel::Kernel,
    link::{Link, LinkKind, SELFTEST, Site, Whose},
};
use crate::target::allocator::Library;

/// The hidden verb of this executable that runs [`child`].
pub const VERB: &str = "__selftest";

/// Calls that each of the child's threads makes.
const CALLS: u64 = 25;

/// What about a target decides whether a kind of link works for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Situation {
    /// Its leader thread has exited, others run on.
    pub leader_gone: bool,
    /// It has a system-call filter.
    pub seccomp: bool,
}

/// The best kind of link that works for a process in this situation.
pub fn choose(kernel: &mut Kernel, situation: Situation) -> Result<LinkKind, ProbeError> {
    let mut tried = String::new();
    for kind in LinkKind::LADDER {
        match works(kernel, kind, situation) {
            Ok(()) => {
                log::debug!("link kind {kind} serves {situation:?}");
                return Ok(kind);
            }
            Err(failure) => {
                log::debug!("link kind {kind} does not serve {situation:?}: {failure}");
                let separator = if tried.is_empty() { "" } else { "; " };
                let _ = write!(tried, "{separator}{kind}: {failure}");
            }
        }
    }
    Err(ProbeError::NoWorkingLink { tried })
}

/// Fails, and says how, if this kind of link does not work for a process in this situation.
pub fn works(kernel: &mut Kernel, kind: LinkKind, situation: Situation) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut child =
        TestChild::start(situation).map_err(|error| text(&ProbeError::SelfTest(error)))?;
    let thread = match kind {
        LinkKind::Perf if situation.leader_gone => child.worker_tid,
        _ => child.process.id(),
    };
    let number = |of| NonZeroU32::new(of).ok_or("the child has no pid");
    let whose = Whose::through(number(child.process.id())?, number(thread)?);
    let site = Site {
        offset: file_offset(probed as extern "C" fn(u64) -> u64 as usize as u64)
            .map_err(|error| text(&error))?,
        cookie: 1,
        returns: true,
    };
    kernel
        .test_process(child.process.id())
        .map_err(|error| text(&error))?;
    let before = kernel.selftest_hits();
    let name = Path::new("/proc/self/exe");
    let file = File::open(name).map_err(|error| text(&error))?;
    let library = Library { file: &file, name };
    let link = Link::place_programs(kernel, SELFTEST, kind, library, &[site], whose)
        .map_err(|error| text(&error))?;
    let expected = child.run().map_err(|error| text(&error))?;
    let after = kernel.selftest_hits();
    drop(link);
    let seen = (after.0 - before.0, after.1 - before.1);
    if seen != (expected, expected) {
        return Err(format!(
            "of {expected} calls in a child of our own, {} entries and {} returns were seen",
            seen.0, seen.1
        ));
    }
    Ok(())
}

/// The function that the self-test probes.
#[inline(never)]
extern "C" fn probed(value: u64) -> u64 {
    black_box(value.wrapping_mul(3))
}

/// Where what lies at an address of this process's code is in its executable's file.
pub(super) fn file_offset(address: u64) -> io::Result<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    maps.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (start, end) = fields.next()?.split_once('-')?;
            let offset = fields.nth(1)?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            Some((number(start)?, number(end)?, number(offset)?))
        })
        .find(|(start, end, _)| (*start..*end).contains(&address))
        .map(|(start, _, offset)| address - start + offset)
        .ok_or_else(|| io::Error::other("this executable is not in its own memory map"))
}

/// A child of our own, waiting to be told to make its calls.
struct TestChild {
    process: Child,
    worker_tid: u32,
}

impl TestChild {
    fn start(situation: Situation) -> io::Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg(VERB)
            .arg(if situation.leader_gone {
                "leader-gone"
            } else {
                "leader"
            })
            .arg(if situation.seccomp { "seccomp" } else { "free" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = &mut process.stdout {
            // Unbuffered beyond the line: what follows is read in `run`.
            BufReader::with_capacity(1, stdout).read_line(&mut line)?;
        }
        let child = Self {
            worker_tid: line.trim().parse().unwrap_or(0),
            process,
        };
        if child.worker_tid == 0 {
            return Err(io::Error::other("the self-test's child did not start"));
        }
        Ok(child)
    }

    /// Lets it make its calls; how many it made.
    fn run(&mut self) -> io::Result<u64> {
        if let Some(stdin) = &mut self.process.stdin {
            stdin.write_all(b"g")?;
        }
        let mut said = String::new();
        if let Some(stdout) = &mut self.process.stdout {
            stdout.read_to_string(&mut said)?;
        }
        let status = self.process.wait()?;
        if !status.success() {
            return Err(io::Error::other(format!(
                "the probes killed the self-test's child ({status})"
            )));
        }
        said.trim()
            .parse()
            .map_err(|_| io::Error::other("the self-test's child did not finish"))
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone after this.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child does: `__selftest leader|leader-gone free|seccomp`.
///
/// Prints the tid of its second thread, waits for a byte, makes its calls, and prints how many.
pub fn child(arguments: &[String]) -> ! {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let (leader_gone, seccomp) = (has("leader-gone"), has("seccomp"));
    let (go, begin) = std::sync::mpsc::channel::<()>();
    let leader = rustix::thread::gettid();
    let worker = std::thread::spawn(move || {
        if leader_gone {
            wait_until_gone(leader);
        }
        say(&format!("{}\n", rustix::thread::gettid().as_raw_nonzero()));
        if leader_gone {
            await_byte();
        } else {
            let _ = begin.recv();
        }
        if seccomp {
            filter_system_calls();
        }
        call_probed();
        if leader_gone {
            say(&CALLS.to_string());
            end();
        }
    });
    if leader_gone {
        // SAFETY: ends this thread only, without running destructors; nothing of this thread is used by the other.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    await_byte();
    let _ = go.send(());
    let _ = worker.join();
    if seccomp {
        filter_system_calls();
    }
    call_probed();
    say(&(2 * CALLS).to_string());
    end()
}

fn call_probed() {
    for value in 0..CALLS {
        black_box(probed(value));
    }
}

fn wait_until_gone(leader: rustix::process::Pid) {
    let stat = format!("/proc/self/task/{}/stat", leader.as_raw_nonzero());
    loop {
        match std::fs::read_to_string(&stat) {
            Ok(text) if !text.contains(") Z ") && !text.contains(") X ") => {
                std::thread::yield_now();
            }
            _ => return,
        }
    }
}

fn await_byte() {
    let mut byte = [0];
    let _ = io::stdin().read(&mut byte);
}

fn say(text: &str) {
    let _ = rustix::io::write(rustix::stdio::stdout(), text.as_bytes());
}

fn end() -> ! {
    // SAFETY: ends the process at once; under the filter nothing else may be called.
    unsafe { libc::_exit(0) }
}

/// A filter as strict as a sandbox's: the few calls this child still makes, and death for any other.
fn filter_system_calls() {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let allowed = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_rt_sigreturn,
    ];
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = vec![step(LOAD, 0, 0, 0)];
    for (index, call) in allowed.iter().enumerate() {
        let to_allow = (allowed.len() - index) as u8;
        program.push(step(EQUAL, to_allow, 0, *call as u32));
    }
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS));
    program.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter and its program outlive the calls, which copy them.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const filter,
        );
    }
}
