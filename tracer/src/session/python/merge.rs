//! Native and Python frames in their true order.
//!
//! Each evaluation has one native frame, and runs its Python frames up to its entry. So, from the leaf on: where a native
//! frame is one of the evaluation loop, the Python frames up to the next entry come before it. They are put beside the
//! native frame, not in its place: a report shows either, or both.

/// A Python frame, or an evaluation that has none just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<T> {
    /// `None`: it is not shown.
    pub(crate) frame: Option<T>,
    /// The evaluation's outermost.
    pub(crate) is_entry: bool,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merged<T> {
    /// Native and Python frames in their true order, leaf first.
    pub(crate) frames: Vec<T>,
    /// There were evaluations without Python frames, or Python frames without an evaluation.
    pub(crate) unpaired: bool,
}

/// Merges native frames, each with whether it is one of the evaluation loop, with Python frames; both leaf first, and either
/// may be cut at its outer end. Python frames beyond a cut of the native ones are appended: they are its callers.
pub(crate) fn merge<T: Copy>(
    native: &[(T, bool)],
    python: &[Part<T>],
    native_cut: bool,
    python_cut: bool,
) -> Merged<T> {
    let mut frames = Vec::with_capacity(native.len() + python.len());
    let mut rest = python.iter();
    let mut unpaired = false;
    for &(frame, evaluates) in native {
        if evaluates {
            let mut entered = false;
            for part in rest.by_ref() {
                frames.extend(part.frame);
                if part.is_entry {
                    entered = true;
                    break;
                }
            }
            unpaired |= !entered && !python_cut;
        }
        frames.push(frame);
    }
    let left: Vec<T> = rest.filter_map(|part| part.frame).collect();
    unpaired |= !left.is_empty() && !native_cut;
    frames.extend(left);
    Merged { frames, unpaired }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(frame: u32, is_entry: bool) -> Part<u32> {
        Part {
            frame: Some(frame),
            is_entry,
        }
    }

    #[test]
    fn python_frames_stand_before_the_evaluation_that_runs_them() {
        let native = [(1, false), (2, true), (3, false), (4, true), (5, false)];
        let python = [part(10, false), part(11, true), part(12, true)];
        let merged = merge(&native, &python, false, false);
        assert_eq!(merged.frames, [1, 10, 11, 2, 3, 12, 4, 5]);
        assert!(!merged.unpaired);
    }

    #[test]
    fn an_evaluation_that_has_no_frame_takes_none_of_the_next() {
        let native = [(1, true), (2, true)];
        let python = [
            Part {
                frame: None,
                is_entry: true,
            },
            part(10, true),
        ];
        assert_eq!(merge(&native, &python, false, false).frames, [1, 10, 2]);
    }

    #[test]
    fn beyond_a_cut_the_python_frames_go_on() {
        let native = [(1, true)];
        let python = [part(10, true), part(11, true), part(12, true)];
        let merged = merge(&native, &python, true, false);
        assert_eq!(merged.frames, [10, 1, 11, 12]);
        assert!(!merged.unpaired);
        assert!(merge(&native, &python, false, false).unpaired);
    }

    #[test]
    fn an_evaluation_without_python_frames_is_told_unless_they_were_cut() {
        let native = [(1, true), (2, true)];
        let python = [part(10, true)];
        assert!(merge(&native, &python, false, false).unpaired);
        assert!(!merge(&native, &python, false, true).unpaired);
    }

    proptest! {
        /// Whatever is merged, nothing is lost, and each list keeps its order.
        #[test]
        fn both_lists_keep_their_order(
            native in prop::collection::vec(any::<bool>(), 0..30),
            python in prop::collection::vec(any::<bool>(), 0..30),
        ) {
            let native: Vec<(u32, bool)> = (0..).zip(native).collect();
            let python: Vec<Part<u32>> = (100..).zip(python).map(|(frame, entry)| part(frame, entry)).collect();
            let merged = merge(&native, &python, false, false).frames;
            let (low, high): (Vec<u32>, Vec<u32>) = merged.iter().partition(|frame| **frame < 100);
            prop_assert_eq!(low, native.iter().map(|(frame, _)| *frame).collect::<Vec<_>>());
            prop_assert_eq!(high, python.iter().filter_map(|part| part.frame).collect::<Vec<_>>());
        }
    }
}
