//! Rights that tracing needs, which are missing, and the command that grants them.

use std::fs;

use thiserror::Error;

/// A capability by its number in `linux/capability.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    bit: u32,
    name: &'static str,
    why: &'static str,
}

const NEEDED: [Capability; 4] = [
    Capability {
        bit: 39,
        name: "CAP_BPF",
        why: "to load BPF programs",
    },
    Capability {
        bit: 38,
        name: "CAP_PERFMON",
        why: "to attach them to another process",
    },
    Capability {
        bit: 19,
        name: "CAP_SYS_PTRACE",
        why: "to read the memory map of another process",
    },
    Capability {
        bit: 21,
        name: "CAP_SYS_ADMIN",
        why: "to open the files that another process maps (CAP_CHECKPOINT_RESTORE does too)",
    },
];

/// `CAP_CHECKPOINT_RESTORE`, which stands in for `CAP_SYS_ADMIN` here.
const CHECKPOINT_RESTORE: u32 = 40;

/// Rights are missing.
#[derive(Debug, Error)]
#[error(
    "not permitted to trace: missing {}; run it as root (sudo {command}), or grant the rights once: sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_checkpoint_restore+ep {binary}",
    list(missing)
)]
pub struct NotPermitted {
    missing: Vec<Capability>,
    command: String,
    binary: String,
}

fn list(missing: &[Capability]) -> String {
    missing
        .iter()
        .map(|capability| format!("{} ({})", capability.name, capability.why))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Fails if this process lacks a right that tracing needs, and says which.
pub fn check() -> Result<(), NotPermitted> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_in(effective(&status));
    if missing.is_empty() {
        return Ok(());
    }
    Err(NotPermitted {
        missing,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        binary: std::env::current_exe().map_or_else(
            |_| "$(command -v highwater)".to_owned(),
            |path| path.display().to_string(),
        ),
    })
}

/// The effective set from the text of `/proc/PID/status`; none where there is none.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|value| u64::from_str_radix(value.trim(), 16).ok())
        .unwrap_or(0)
}

fn missing_in(effective: u64) -> Vec<Capability> {
    let has = |bit: u32| effective >> bit & 1 == 1;
    NEEDED
        .into_iter()
        .filter(|capability| !has(capability.bit))
        // Before 5.8 everything was CAP_SYS_ADMIN, and it still includes BPF and perf.
        .filter(|capability| !(matches!(capability.bit, 38 | 39) && has(21)))
        .filter(|capability| !(capability.bit == 21 && has(CHECKPOINT_RESTORE)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_misses_nothing() {
        assert!(missing_in(effective("Name:\tx\nCapEff:\t000001ffffffffff\n")).is_empty());
    }

    #[test]
    fn an_ordinary_user_misses_all_and_is_told_each_by_name() {
        let missing = missing_in(effective("CapEff:\t0000000000000000\n"));
        let text = list(&missing);
        for name in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_SYS_ADMIN"] {
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn checkpoint_restore_stands_in_for_sys_admin() {
        let effective = 1 << 39 | 1 << 38 | 1 << 19 | 1u64 << CHECKPOINT_RESTORE;
        assert!(missing_in(effective).is_empty());
    }

    #[test]
    fn a_status_without_capabilities_grants_nothing() {
        assert_eq!(missing_in(effective("garbage")).len(), NEEDED.len());
    }
}
