//! A fold of the live set, in parts that each fit an entry.

use serde::{Deserialize, Serialize};

use crate::live::{Fold, FoldHead, FoldedProcess, Remains};

/// A part of a fold. The parts of one follow one another: its head, each process (one with many holdings in several parts), its
/// end. Until that has come, an earlier fold stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FoldPart {
    /// A fold begins.
    Head(FoldStart),
    /// A process; if it is the same as in the part before, the holdings are more of its holdings.
    Process(FoldedProcess),
    /// The fold is whole.
    End,
}

/// How a fold begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldStart {
    /// What is said of all processes together.
    pub head: FoldHead,
    /// System calls about the address space were seen.
    pub mappings: bool,
    /// Allocations were sampled at some time: log2 of the largest mean distance, bytes.
    pub sampling: Option<u8>,
}

/// About so many lives and holdings go into one part.
const PART: usize = 1 << 14;

/// Cuts a fold into parts.
pub fn parts(fold: Fold, mappings: bool, sampling: Option<u8>) -> Vec<FoldPart> {
    let Fold { head, processes } = fold;
    let mut parts = vec![FoldPart::Head(FoldStart {
        head,
        mappings,
        sampling,
    })];
    let processes = processes.into_iter().flat_map(cut);
    parts.extend(processes.map(FoldPart::Process));
    parts.push(FoldPart::End);
    parts
}

/// Cuts what is said of a process that has ended into parts.
pub fn parts_of_remains(remains: Remains) -> Vec<Remains> {
    let Remains { era_width, process } = remains;
    let parts = cut(process).into_iter();
    let remains = parts.map(|process| Remains { era_width, process });
    remains.collect()
}

/// Cuts a process with many holdings into several, with some of the holdings each.
fn cut(mut process: FoldedProcess) -> Vec<FoldedProcess> {
    let holdings = std::mem::take(&mut process.holdings);
    let empty = process.clone();
    let mut parts = Vec::with_capacity(1);
    let mut room = PART;
    for holding in holdings {
        if room == 0 {
            parts.push(process);
            process = empty.clone();
            room = PART;
        }
        room = room.saturating_sub(1 + holding.lives());
        process.holdings.push(holding);
    }
    parts.push(process);
    parts
}

/// Puts parts together again.
#[derive(Debug, Default)]
pub struct FoldParts {
    begun: Option<(FoldStart, Vec<FoldedProcess>)>,
}

impl FoldParts {
    /// The next part; gives the fold that it ends, with what its head told.
    pub fn take(&mut self, part: FoldPart) -> Option<(Fold, bool, Option<u8>)> {
        match part {
            FoldPart::Head(start) => self.begun = Some((start, Vec::new())),
            FoldPart::Process(process) => {
                let (_, processes) = self.begun.as_mut()?;
                process.join_last(processes);
            }
            FoldPart::End => {
                let (start, processes) = self.begun.take()?;
                let FoldStart {
                    head,
                    mappings,
                    sampling,
                } = start;
                return Some((Fold { head, processes }, mappings, sampling));
            }
        }
        None
    }
}
