//! What the recording says so far, for somebody who asks (SIGUSR1): read back from its file by a thread of its own, so that tracing
//! goes on meanwhile.

use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::Session;
use crate::{priority, units::size, words::say};

/// A larger recording is not read by the recorder, bytes: its memory may be charged to the target.
const MOST_BYTES: u64 = 64 << 20;

/// Whether an answer is on its way.
#[derive(Default)]
pub(super) struct Answering(Arc<AtomicBool>);

impl Session {
    /// Tells what was recorded so far, unless that is being told already.
    pub(super) fn tell_so_far(&mut self) {
        let Some(so_far) = self.options.so_far else {
            return;
        };
        let path = self.options.output.clone();
        self.write_pending();
        self.write_quality();
        self.flush();
        let written = self.recording.written();
        if written > MOST_BYTES {
            say!(
                "the recording has {} by now, which is much to read beside tracing: highwater report {}",
                size::short(written),
                path.display()
            );
            return;
        }
        if self.answering.0.swap(true, Ordering::Relaxed) {
            return;
        }
        let busy = Arc::clone(&self.answering.0);
        let thread = thread::Builder::new().name("hw-answer".to_owned());
        let told = thread.spawn(move || {
            priority::give_way();
            let text = so_far(&path);
            // Nobody may be listening: there is nothing to do about that.
            let _ = io::stderr().write_all(text.as_bytes());
            busy.store(false, Ordering::Relaxed);
        });
        if let Err(error) = told {
            self.answering.0.store(false, Ordering::Relaxed);
            log::warn!("what was recorded so far cannot be told: no thread for it: {error}");
        }
    }
}
