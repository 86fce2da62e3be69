//! Which frames of a stack are shown: `--frames`.
//!
//! A stack of a Python process has its Python functions beside the interpreter's machine code that runs them. As a rule that
//! machine code tells a reader nothing, so it is hidden; stacks that then look the same are one.

use std::collections::{HashMap, HashSet};

use foldhash::fast::FixedState;

use super::model::Locations;
use super::stacks::Node;
use super::telling;
use crate::event::mapping::Mapping;
use crate::event::{Call, ProcessId, StackIndex};
use crate::record::{FrameIndex, FrameKind, Stack};

/// Which frames are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Python functions, and the machine code that is not the interpreter's own.
    #[default]
    Telling,
    /// Python functions alone, in stacks that have any.
    Python,
    /// Machine code alone.
    Native,
    /// All there is.
    All,
}

/// How a stack looks: its frames, whether it is cut, and whether what called libc was left out.
type Looks = (ProcessId, Node, bool, bool);

/// Stacks of which only a part is shown.
#[derive(Debug, Default)]
pub(super) struct Alike {
    view: View,
    /// The first stack that looks so.
    first: HashMap<Looks, StackIndex, FixedState>,
    /// Those that look like an earlier one.
    same: HashMap<StackIndex, StackIndex, FixedState>,
    /// Those of which the interpreter's frames were left out, and one of them was what called libc.
    called_by_interpreter: HashSet<StackIndex>,
}

impl Alike {
    pub(super) fn new(view: View) -> Self {
        Self {
            view,
            ..Self::default()
        }
    }

    /// Keeps a stack with what is shown of it. Stacks without Python stay what they are.
    pub(super) fn take(&mut self, mut stack: Stack, locations: &mut Locations) {
        let by_interpreter = self.strip(&mut stack, locations);
        let node = locations.stacks.node(&stack.frames);
        locations.stacks.insert(stack.index, node, stack.truncated);
        let Some(by_interpreter) = by_interpreter else {
            return;
        };
        let looks = (stack.process, node, stack.truncated, by_interpreter);
        let first = *self.first.entry(looks).or_insert(stack.index);
        if by_interpreter {
            self.called_by_interpreter.insert(stack.index);
        }
        if first != stack.index {
            self.same.insert(stack.index, first);
        }
    }

    /// Leaves of a stack what is shown. Of one with Python, whether the interpreter called libc where that is not shown.
    fn strip(&self, stack: &mut Stack, locations: &Locations) -> Option<bool> {
        if !locations.has_managed {
            return None;
        }
        let kind = |frame: &FrameIndex| {
            let frame = locations.frames.get(frame);
            frame.map_or(FrameKind::Native, |frame| frame.kind)
        };
        if !stack.frames.iter().any(|frame| kind(frame).is_managed()) {
            return None;
        }
        let calls_libc = stack.frames.iter().find(|frame| {
            let module = locations
                .frames
                .get(frame)
                .and_then(|frame| locations.modules.get(&frame.module?));
            !module.is_some_and(telling::is_libc)
        });
        let by_interpreter = self.view == View::Telling
            && calls_libc.is_some_and(|frame| matches!(kind(frame), FrameKind::Interpreter(_)));
        stack.frames.retain(|frame| match (self.view, kind(frame)) {
            (View::Telling, kind) => !matches!(kind, FrameKind::Interpreter(_)),
            (View::Python, kind) => kind.is_managed(),
            (View::Native, kind) => !kind.is_managed(),
            (View::All, _) => true,
        });
        Some(by_interpreter)
    }

    /// Whether the interpreter called libc itself, where that is not to be seen in the stack any more.
    pub(super) fn is_called_by_interpreter(&self, stack: StackIndex) -> bool {
        self.called_by_interpreter.contains(&stack)
    }

    /// The first stack that looks like this one.
    pub(super) fn first_of(&self, stack: StackIndex) -> StackIndex {
        self.same.get(&stack).copied().unwrap_or(stack)
    }

    /// What happened, by the first stack that looks like its own.
    pub(super) fn as_first(&self, mut call: Call) -> Call {
        if self.same.is_empty() {
            return call;
        }
        if let Call::Allocated { stack, .. }
        | Call::Failed { stack, .. }
        | Call::Resized { stack, .. }
        | Call::Mapping(
            Mapping::Mapped { stack, .. }
            | Mapping::Remapped { stack, .. }
            | Mapping::BreakMoved { stack, .. }
            | Mapping::Protected { stack, .. },
        ) = &mut call
        {
            *stack = self.first_of(*stack);
        }
        call
    }
}

#[cfg(test)]
mod tests {
    use super::super::name::NamedFrame;
    use super::super::question::Question;
    use super::super::replay::Threads;
    use super::super::script::Script;
    use super::*;
    use crate::event::Nanos;
    use crate::live::LiveSet;
    use crate::record::{Entry, fold::parts};

    /// Two stacks that differ within the interpreter, and one without Python.
    fn script() -> Script {
        let mut script = Script::launched("python3");
        script.stack(
            1,
            &[
                "copy@/np/array.c:7",
                "eval:new",
                "py:load@/srv/app.py:12",
                "eval:_PyEval_EvalFrameDefault",
                "main",
            ],
        );
        script.stack(9, &["eval:resize"]);
        script.push_stack(2, [100, 900, 102, 103, 104].map(FrameIndex).to_vec(), false);
        script.stack(3, &["read", "main"]);
        for (ms, stack) in [(1, 1), (2, 2), (3, 3)] {
            script.allocate(0, ms, stack, 1000);
        }
        script
    }

    #[test]
    fn a_stack_on_which_the_interpreter_itself_asked_is_not_one_with_that_of_a_module_it_called() {
        let mut script = Script::launched("python3");
        script.stack(1, &["eval:new_arena", "decode", "py:load@/srv/app.py:12"]);
        script.stack(2, &["decode", "py:load@/srv/app.py:12"]);
        for (ms, stack) in [(1, 1), (2, 2)] {
            script.allocate(0, ms, stack, 1000);
        }
        let shown = shown_of(script.entries, View::Telling);
        let labels = ["decode", "load"].map(str::to_owned).to_vec();
        assert_eq!(shown, [(1000, labels.clone()), (1000, labels)]);
    }

    /// The same, folded.
    fn folded() -> Vec<Entry> {
        let mut live = LiveSet::new();
        let mut entries = Vec::new();
        for entry in script().entries {
            match entry {
                Entry::Events(events) => events.iter().for_each(|event| live.apply(event)),
                Entry::Process(process) => {
                    live.open(process.id, Nanos(process.from_ns), process.baseline_bytes);
                    entries.push(Entry::Process(process));
                }
                other => entries.push(other),
            }
        }
        entries.extend(parts(live.fold(), false, None).into_iter().map(Entry::Fold));
        entries
    }

    /// Holders at the peak, as bytes and labels.
    fn shown(view: View) -> Vec<(u64, Vec<String>)> {
        let shown = shown_of(script().entries, view);
        assert_eq!(shown_of(folded(), view), shown, "folded");
        shown
    }

    fn shown_of(entries: Vec<Entry>, view: View) -> Vec<(u64, Vec<String>)> {
        let question = Question {
            view,
            ..Question::default()
        };
        let entries = entries.into_iter().map(Ok);
        let profile =
            super::super::Profile::replay_for(entries, &question, Threads::Together).unwrap();
        let mut shown: Vec<_> = profile
            .peak
            .holders
            .iter()
            .map(|holder| {
                let frames = profile.frames(holder.stack).unwrap();
                let labels = frames.iter().map(NamedFrame::label).collect();
                (holder.bytes, labels)
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn the_interpreter_is_hidden_and_stacks_that_look_the_same_are_one() {
        let expected = [
            (1000, vec!["read", "main"]),
            (2000, vec!["copy", "load", "main"]),
        ];
        assert_eq!(shown(View::Telling), owned(&expected));
    }

    #[test]
    fn python_alone_leaves_stacks_without_it_as_they_are() {
        let expected = [(1000, vec!["read", "main"]), (2000, vec!["load"])];
        assert_eq!(shown(View::Python), owned(&expected));
    }

    #[test]
    fn native_and_all_frames_are_to_be_had() {
        let through = |function| vec!["copy", function, "_PyEval_EvalFrameDefault", "main"];
        let expected = [
            (1000, through("new")),
            (1000, through("resize")),
            (1000, vec!["read", "main"]),
        ];
        assert_eq!(shown(View::Native), owned(&expected));
        assert_eq!(shown(View::All)[0].1.len(), 5);
    }

    fn owned(expected: &[(u64, Vec<&str>)]) -> Vec<(u64, Vec<String>)> {
        expected
            .iter()
            .map(|(bytes, labels)| {
                (
                    *bytes,
                    labels.iter().map(|&label| label.to_owned()).collect(),
                )
            })
            .collect()
    }
}
