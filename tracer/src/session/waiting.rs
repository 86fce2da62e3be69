//! Stacks that wait to be defined.

use std::mem;

use tokio::time::Instant;

use crate::event::{Address, decode::StackDefinition, python};

/// Most bytes that waiting stacks take.
pub(super) const MOST_BYTES: usize = 32 << 20;

/// A stack that waits to be defined.
pub(super) struct Undefined {
    /// When its definition was read from the ring.
    pub(super) since: Instant,
    /// What the kernel side says of it.
    pub(super) definition: StackDefinition,
}

impl Undefined {
    /// What it takes, bytes.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.definition.frames.len() * size_of::<Address>()
            + self.definition.python.len() * size_of::<python::Frame>()
    }
}

/// All of them, the first that came first.
#[derive(Default)]
pub(super) struct Waiting {
    stacks: Vec<Undefined>,
    /// What they take, bytes.
    bytes: usize,
}

impl Waiting {
    /// Takes all out.
    pub(super) fn take(&mut self) -> Vec<Undefined> {
        self.bytes = 0;
        mem::take(&mut self.stacks)
    }

    /// Has one wait, or gives it back where there is no room.
    pub(super) fn keep(&mut self, stack: Undefined) -> Result<(), Undefined> {
        let bytes = self.bytes + stack.bytes();
        if bytes > MOST_BYTES {
            return Err(stack);
        }
        self.bytes = bytes;
        self.stacks.push(stack);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ProcessId;

    fn of_frames(count: usize) -> Undefined {
        Undefined {
            since: Instant::now(),
            definition: StackDefinition {
                identity: 1,
                check: 1,
                process: ProcessId(1),
                epoch: 0,
                truncated: false,
                met_new_code: false,
                frames: vec![Address(1); count],
                python: Vec::new(),
                python_cut: false,
            },
        }
    }

    #[test]
    fn stacks_wait_as_long_as_their_frames_find_room() {
        let mut waiting = Waiting::default();
        let mut kept = 0;
        while waiting.keep(of_frames(1024)).is_ok() {
            kept += 1;
        }
        assert!(kept * 1024 * 8 <= MOST_BYTES);
        assert!((kept + 1) * (1024 * 8 + 256) > MOST_BYTES);
        // A shallow one still fits.
        assert!(waiting.keep(of_frames(1)).is_ok());
        assert_eq!(waiting.take().len(), kept + 1);
        assert!(waiting.keep(of_frames(1024)).is_ok());
    }
}
