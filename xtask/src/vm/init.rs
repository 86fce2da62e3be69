//! The first process of the machine: sets up what tests look for, runs them by the plan, and switches the machine off.
//!
//! The kernel hands parameters that it does not know to its first process as environment; that is how this program learns
//! that it is one.

use std::env;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::ptr;
use std::time::Instant;

use anyhow::{Context, Result};

/// Set where this program is to behave as the first process of a machine.
pub(super) const ASKED: &str = "HIGHWATER_XTASK_IS_INIT";

/// What its lines on the console begin with.
pub(super) const MARK: &str = "highwater-vm:";

// Names in the initramfs, without the leading slash.
pub(super) const HIGHWATER: &str = "bin/highwater";
pub(super) const VICTIMS: &str = "victims";
pub(super) const PLAN: &str = "plan";

/// Where in the initramfs a test executable lies.
pub(super) fn test_path(name: &str) -> String {
    format!("tests/{name}")
}

/// File systems: type, and where they go.
const MOUNTS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("tracefs", "/sys/kernel/tracing"),
    ("debugfs", "/sys/kernel/debug"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// What udev would link to in `/dev`.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Whether this process is to behave as the first of a machine.
pub(crate) fn is_asked_for() -> bool {
    std::process::id() == 1 && env::var_os(ASKED).is_some()
}

/// Runs the plan. Does not return unless the machine cannot be switched off.
pub(crate) fn run() -> ExitCode {
    if let Err(error) = run_plan() {
        println!("{MARK} failed {error:#}");
    }
    // SAFETY: sync and reboot take no memory of ours. QEMU is told to end where a machine would restart.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_AUTOBOOT);
    }
    ExitCode::FAILURE
}

fn run_plan() -> Result<()> {
    for (kind, place) in MOUNTS {
        mount(kind, place).with_context(|| format!("cannot mount {kind} on {place}"))?;
    }
    for (to, link) in LINKS {
        symlink(to, link).with_context(|| format!("cannot make {link}"))?;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("{MARK} kernel {} {}", release.trim(), link_kind()?);
    let plan = fs::read_to_string(format!("/{PLAN}")).context("there is no plan")?;
    for line in plan.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        println!("{MARK} begin {name}");
        let began = Instant::now();
        let status = Command::new(format!("/{}", test_path(name)))
            .args(words)
            .env_clear()
            .env("PATH", "/bin")
            .env("HOME", "/root")
            // Here, nothing may be skipped.
            .env("CI", "true")
            .env("HIGHWATER_EMULATED", "1")
            .env("HIGHWATER", format!("/{HIGHWATER}"))
            .env("HIGHWATER_VICTIMS", format!("/{VICTIMS}"))
            .status()
            .with_context(|| format!("cannot run {name}"))?;
        let seconds = began.elapsed().as_secs_f64();
        println!("{MARK} end {name} {} {seconds:.1}", how_it_ended(status));
    }
    println!("{MARK} over");
    Ok(())
}

/// The kind of link that highwater chooses here. It says so in its log only.
fn link_kind() -> Result<String> {
    let recorded = Command::new(format!("/{HIGHWATER}"))
        .args(["record", "-o", "/tmp/first.hwm", "--", "/bin/true"])
        .env_clear()
        .env("RUST_LOG", "highwater::probe::selftest=debug")
        .output()
        .context("cannot run highwater")?;
    let said = String::from_utf8_lossy(&recorded.stderr);
    said.lines()
        .filter_map(|line| line.split_once("link kind ")?.1.split_once(" serves "))
        .map(|(kind, _)| kind.to_owned())
        .next()
        .with_context(|| format!("highwater chose no kind of link:\n{said}"))
}

fn how_it_ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "ok".to_owned(),
        (Some(code), _) => format!("code-{code}"),
        (None, signal) => format!("signal-{}", signal.unwrap_or_default()),
    }
}

fn mount(kind: &str, place: &str) -> Result<()> {
    fs::create_dir_all(place)?;
    let (kind, place) = (CString::new(kind)?, CString::new(place)?);
    // SAFETY: the strings outlive the call, and there is no data.
    let result =
        unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), 0, ptr::null()) };
    if result != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}
