//! Reading ahead: what a recording holds is unpacked by one thread while another makes use of it.

use std::io::{self, Read};
use std::mem;
use std::thread;
use std::vec;

use crossbeam_channel::{Receiver, bounded};

use super::Entry;
use super::reader::{ReadError, Reader};

/// Batches that may wait to be used.
const WAITING: usize = 16;
/// Entries of a batch, at most: a million stacks, each handed over by itself, would be a million times that one thread wakes
/// the other.
const ENTRIES: usize = 256;
/// Events in it, after which it is handed over.
const EVENTS: usize = 4096;

type Next = Result<Entry, ReadError>;

/// The entries of a reader that reads on a thread of its own, `hw-read`. The thread ends with the recording, or at its next
/// batch once this is dropped.
pub struct Ahead {
    batches: Receiver<Vec<Next>>,
    batch: vec::IntoIter<Next>,
}

impl Ahead {
    /// Has the rest of a recording read ahead.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn of<R: Read + Send + 'static>(reader: Reader<R>) -> io::Result<Self> {
        let (send, batches) = bounded(WAITING);
        thread::Builder::new()
            .name("hw-read".to_owned())
            .spawn(move || {
                let mut batch = Vec::with_capacity(ENTRIES);
                let mut events = 0;
                for entry in reader {
                    if let Ok(Entry::Events(some)) = &entry {
                        events += some.len();
                    }
                    batch.push(entry);
                    if batch.len() == ENTRIES || events >= EVENTS {
                        events = 0;
                        let whole = mem::replace(&mut batch, Vec::with_capacity(ENTRIES));
                        if send.send(whole).is_err() {
                            return;
                        }
                    }
                }
                // Nobody may wait for it any more.
                let _ = send.send(batch);
            })?;
        Ok(Self {
            batches,
            batch: Vec::new().into_iter(),
        })
    }
}

impl Iterator for Ahead {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        loop {
            if let Some(entry) = self.batch.next() {
                return Some(entry);
            }
            self.batch = self.batches.recv().ok()?.into_iter();
        }
    }
}
