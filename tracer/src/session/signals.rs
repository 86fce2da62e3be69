//! Signals that end, stop or ask a session. Whatever would end a process by default, and can be caught, ends a session in order: its
//! probes are not to stay in for a moment longer than it watches them.

use std::{io, mem::MaybeUninit, ptr, sync::OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// End a session: their default would be to end the process.
const ENDING: [i32; 12] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGXCPU,
    libc::SIGIO,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGSYS,
];

/// Ignored from here on. A terminal that does not want output (`stty tostop`) would stop us with our probes in; a file that may grow
/// no further is told by the write that fails.
pub(super) const IGNORED: [i32; 2] = [libc::SIGTTOU, libc::SIGXFSZ];

/// Signals that were ignored as we were started.
static IGNORED_BEFORE: OnceLock<Vec<i32>> = OnceLock::new();

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To end, by this signal.
    End(i32),
    /// To stop until SIGCONT (Ctrl-Z).
    Stop,
    /// To say how far it is (SIGUSR1), or whatever a launched command takes this signal for (SIGUSR2).
    Tell(i32),
}

/// Hears signals from its making on, for as long as the process lives.
pub(super) struct Signals {
    ending: Vec<(i32, Signal)>,
    stop: Signal,
    first: Signal,
    second: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        let hear = |number| signal(SignalKind::from_raw(number));
        let before = ignored_before();
        // Who was started by nohup goes on as its terminal ends. Other signals are heard in any case: a shell without job control
        // has its background jobs ignore SIGINT, by which a recording is ended.
        let hangs_on = |number: &i32| *number == libc::SIGHUP && before.contains(number);
        let ending = ENDING.into_iter().filter(|number| !hangs_on(number));
        for ignored in IGNORED {
            // SAFETY: no handler is set.
            unsafe { libc::signal(ignored, libc::SIG_IGN) };
        }
        Ok(Self {
            ending: ending
                .map(|number| Ok((number, hear(number)?)))
                .collect::<io::Result<_>>()?,
            stop: hear(libc::SIGTSTP)?,
            first: hear(libc::SIGUSR1)?,
            second: hear(libc::SIGUSR2)?,
        })
    }

    /// The next signal, whatever it asks for.
    pub(super) async fn next(&mut self) -> Asked {
        let ended = any(&mut self.ending);
        tokio::select! {
            number = ended => Asked::End(number),
            _ = self.stop.recv() => Asked::Stop,
            _ = self.first.recv() => Asked::Tell(libc::SIGUSR1),
            _ = self.second.recv() => Asked::Tell(libc::SIGUSR2),
        }
    }

    /// The next signal that ends or stops what has not begun to record.
    pub(super) async fn next_end(&mut self) {
        while matches!(self.next().await, Asked::Tell(_)) {}
    }
}

/// Signals that were ignored as we were started; to be asked for the first time before any is heard.
pub(super) fn ignored_before() -> &'static [i32] {
    IGNORED_BEFORE.get_or_init(|| {
        let ours = [libc::SIGTSTP, libc::SIGUSR1, libc::SIGUSR2];
        let all = ENDING.into_iter().chain(IGNORED).chain(ours);
        all.filter(|number| is_ignored(*number)).collect()
    })
}

fn is_ignored(number: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is set, and what is there is written to `action`, which is read only where that was done.
    unsafe {
        libc::sigaction(number, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

async fn any(signals: &mut [(i32, Signal)]) -> i32 {
    std::future::poll_fn(|context| {
        for (number, signal) in &mut *signals {
            if signal.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(*number);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Lets signals end and stop the process as by default: nothing is left to be taken out, and the answer to a long recording must not
/// keep anybody from ending it.
pub(super) fn restore() {
    let heard = ENDING.into_iter().chain([libc::SIGTSTP]);
    for number in
        heard.filter(|number| *number != libc::SIGHUP || !ignored_before().contains(number))
    {
        // SAFETY: no handler is set.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    for number in [libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: as above.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}
