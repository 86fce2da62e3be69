//! How many files may be open. Each mapped file is held open until its names are found, and a shell's limit of 1024 is soon
//! reached; the limit that a launched command gets is the one that we were started with.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is enough for any process: more mapped files than this it cannot have (`vm.max_map_count`).
const ENOUGH: u64 = 65_536;

static BEFORE: OnceLock<Rlimit> = OnceLock::new();

/// Raises the limit as far as it can be.
pub(super) fn raise() {
    let before = *BEFORE.get_or_init(|| getrlimit(Resource::Nofile));
    if before.current.is_none_or(|current| current >= ENOUGH) {
        return;
    }
    // The hard limit too, which root may.
    let wanted = [
        Rlimit {
            current: Some(ENOUGH),
            maximum: before.maximum.map(|most| most.max(ENOUGH)),
        },
        Rlimit {
            current: before.maximum,
            ..before
        },
    ];
    if !wanted
        .into_iter()
        .any(|limit| setrlimit(Resource::Nofile, limit).is_ok())
    {
        log::info!("the limit of open files stays {:?}", before.current);
    }
}

/// The limit that we were started with.
pub(super) fn before() -> Rlimit {
    *BEFORE.get_or_init(|| getrlimit(Resource::Nofile))
}
