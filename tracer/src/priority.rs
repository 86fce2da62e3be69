//! Work that can wait gives way: what we do beside the traced process, on processors that it wants, is not to hold it up.

/// How much lower than the caller's the priority of such work is: it gets some 29 % of a processor that somebody else wants, so
/// that attaching to a program that keeps all of them busy does not take seconds.
const LOWER: i32 = 4;

/// Lowers the priority of the thread that calls, for good.
pub(crate) fn give_way() {
    if let Err(error) = rustix::process::nice(LOWER) {
        log::debug!("a thread's priority could not be lowered: {error}");
    }
}

/// Has some long work done in a thread of low priority, and waits for it.
pub(crate) fn giving_way<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let (mut work, mut done) = (Some(work), None);
    let spawned = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name.to_owned());
        let run = || {
            give_way();
            done = work.take().map(|work| work());
        };
        thread.spawn_scoped(scope, run).map(|_| ())
    });
    if let Err(error) = spawned {
        log::debug!("{name} runs in the thread that waits for it: {error}");
    }
    match (done, work) {
        (Some(done), _) => done,
        (None, Some(work)) => work(),
        (None, None) => unreachable!("the scope passes a panic of its thread on"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_that_works_has_a_lower_priority() {
        let priority = || rustix::process::nice(0).expect("it can be read");
        let before = priority();
        let during = giving_way("test", priority);
        assert_eq!(
            (during - before, priority()),
            (LOWER.min(19 - before), before)
        );
    }
}
