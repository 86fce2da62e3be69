//! Reading ahead: what a recording holds is unpacked by one thread while another makes use of it.

use std::io::{self, Read};
use std::thread;

use crossbeam_channel::{Receiver, bounded};

use super::Entry;
use super::reader::{ReadError, Reader};

/// Entries that may wait to be used; of events each is a batch.
const WAITING: usize = 16;

/// The entries of a reader that reads on a thread of its own, `hw-read`. The thread ends with the recording, or at its next
/// entry once this is dropped.
pub struct Ahead {
    entries: Receiver<Result<Entry, ReadError>>,
}

impl Ahead {
    /// Has the rest of a recording read ahead.
    ///
    /// # Errors
    ///
    /// Those of starting a thread.
    pub fn of<R: Read + Send + 'static>(reader: Reader<R>) -> io::Result<Self> {
        let (send, entries) = bounded(WAITING);
        thread::Builder::new()
            .name("hw-read".to_owned())
            .spawn(move || {
                for entry in reader {
                    if send.send(entry).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { entries })
    }
}

impl Iterator for Ahead {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.entries.recv().ok()
    }
}
