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

/// Whether something failed because as many files are open as may be.
pub(crate) fn are_used_up(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
            .or_else(|| {
                cause
                    .downcast_ref::<rustix::io::Errno>()
                    .map(|it| it.raw_os_error())
            })
            .is_some_and(|number| number == libc::EMFILE || number == libc::ENFILE)
    })
}

/// What to do about it, with the limit as it is.
pub(crate) fn advice() -> String {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
    format!(
        "the limit of open files is {limit}: raise it (`ulimit -n`, or LimitNOFILE= of the unit)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::TargetError;

    #[test]
    fn a_cause_is_found_below_others() {
        let source = std::io::Error::from_raw_os_error(libc::EMFILE);
        let error = TargetError::Read {
            pid: 1,
            path: "/lib/x".into(),
            source,
        };
        assert!(are_used_up(&error));
        let source = std::io::Error::from_raw_os_error(libc::ENOENT);
        assert!(!are_used_up(&source));
    }
}
