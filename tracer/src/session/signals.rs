//! Signals that end, stop or ask a session. Whatever would end a process by default, and can be caught, ends a session in order: its
//! probes are not to stay in for a moment longer than it watches them.

use std::io;

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
        let ending = ENDING.into_iter();
        // SAFETY: no handler is set, the signals are ignored. A terminal that does not want output (`stty tostop`) would stop us
        // with our probes in; a pipe that is closed, or a file that may grow no further, is told by the write that fails.
        unsafe {
            for ignored in [libc::SIGTTOU, libc::SIGXFSZ] {
                libc::signal(ignored, libc::SIG_IGN);
            }
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
    for number in ENDING.into_iter().chain([libc::SIGTSTP]) {
        // SAFETY: no handler is set.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    for number in [libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: as above.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}
