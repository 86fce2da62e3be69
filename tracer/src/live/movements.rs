//! What comes and goes, one by one, for whoever tells the course of it and not only its sums.

use super::books::{Held, Shift};
use super::holdings::Holding;
use super::snapshot::HolderKey;
use crate::event::ProcessId;

/// Something came or went, in the order in which the books of all processes take it: the sums of all movements up to one,
/// of the kinds that make the peak, are the level that decides on the peak, but for ranges of several holders that come or
/// go by one event. Of these every sum on the way lies between the level before and the level after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Movement {
    /// Who holds it; `None`: it is of what was held before attach.
    pub holder: Option<HolderKey>,
    /// Whether it came.
    pub came: bool,
    /// Requested bytes of blocks, parts of ranges, what a chunk of before attach took.
    pub bytes: u128,
    /// How many blocks; 0 where it is a part of a range that was split or grew.
    pub blocks: u64,
}

/// The movements of a process since it was last asked for them.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<Movement>);

impl Journal {
    pub(super) fn came(&mut self, process: ProcessId, holding: &Holding, held: Held) {
        self.moved(process, holding, true, held.bytes, held.blocks);
    }

    pub(super) fn went(&mut self, process: ProcessId, holding: &Holding, held: Held) {
        self.moved(process, holding, false, held.bytes, held.blocks);
    }

    /// A range that is only split moves nothing.
    pub(super) fn shifted(&mut self, process: ProcessId, holding: &Holding, shift: Shift) {
        if shift.bytes != 0 {
            let came = shift.bytes > 0;
            let ranges = shift.ranges.unsigned_abs();
            self.moved(process, holding, came, shift.bytes.unsigned_abs(), ranges);
        }
    }

    fn moved(&mut self, process: ProcessId, of: &Holding, came: bool, bytes: u128, blocks: u64) {
        self.0.push(Movement {
            holder: Some(HolderKey {
                process,
                stack: of.stack,
                thread: of.thread,
                kind: of.kind,
            }),
            came,
            bytes,
            blocks,
        });
    }

    /// Of what was held before attach, so much went, or did not go after all.
    pub(super) fn of_baseline(&mut self, came: bool, bytes: u64) {
        if bytes > 0 {
            self.0.push(Movement {
                holder: None,
                came,
                bytes: bytes.into(),
                blocks: 1,
            });
        }
    }

    pub(super) fn hand_over(&mut self, to: &mut Vec<Movement>) {
        to.append(&mut self.0);
    }
}
