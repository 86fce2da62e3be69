//! What a recording begins with: how it came to be, and the words that all else in it uses.

use highwater_common::cookie::Function as Probed;

use super::{Session, clock};
use crate::event::Nanos;
use crate::record::{Does, Entry, Function, Opening, Runtime, RuntimeIndex};

/// The runtime whose functions are read beside machine code.
pub(super) const PYTHON: RuntimeIndex = RuntimeIndex(0);

impl Session {
    /// Begins the recording, now: its clock starts where probes are about to count, not as the recorder made itself ready.
    pub(super) fn open(&mut self, mut opening: Opening) {
        let Nanos(started_ns) = clock::monotonic();
        opening.started_ns = started_ns;
        opening.started_unix_ns = clock::wall();
        self.write(&Entry::Opening(opening));
        for function in Probed::ALL {
            self.write(&Entry::Function(defined(function)));
        }
        self.write(&Entry::Runtime(Runtime {
            index: PYTHON,
            name: "python".to_owned(),
        }));
    }
}

fn defined(function: Probed) -> Function {
    Function {
        index: function.into(),
        name: function.symbol().to_owned(),
        // No other is followed.
        allocator: "glibc".to_owned(),
        does: match function {
            Probed::Realloc | Probed::Reallocarray => Does::Resizes,
            frees if frees.frees() => Does::Frees,
            _ => Does::Allocates,
        },
    }
}
