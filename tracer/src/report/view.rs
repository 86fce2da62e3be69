//! Which frames of a stack are shown: `--frames`.
//!
//! A stack of a Python process has its Python functions beside the interpreter's machine code that runs them. As a rule that
//! machine code tells a reader nothing, so it is hidden; stacks that then look the same are one.

use std::collections::HashMap;

use super::model::Locations;
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

/// Stacks of which only a part is shown.
#[derive(Debug, Default)]
pub(super) struct Folded {
    view: View,
    /// The first stack that looks so.
    first: HashMap<(ProcessId, Vec<FrameIndex>, bool), StackIndex>,
    /// Those that look like an earlier one.
    same: HashMap<StackIndex, StackIndex>,
}

impl Folded {
    pub(super) fn new(view: View) -> Self {
        Self {
            view,
            ..Self::default()
        }
    }

    /// Leaves of a stack what is shown. Stacks without Python stay what they are.
    pub(super) fn take(&mut self, mut stack: Stack, locations: &Locations) -> Stack {
        let kind = |frame: &FrameIndex| {
            let frame = locations.frames.get(frame);
            frame.map_or(FrameKind::Native, |frame| frame.kind)
        };
        if !stack
            .frames
            .iter()
            .any(|frame| kind(frame) == FrameKind::Python)
        {
            return stack;
        }
        stack.frames.retain(|frame| match (self.view, kind(frame)) {
            (View::Telling, kind) => kind != FrameKind::Interpreter,
            (View::Python, kind) => kind == FrameKind::Python,
            (View::Native, kind) => kind != FrameKind::Python,
            (View::All, _) => true,
        });
        let looks = (stack.process, stack.frames.clone(), stack.truncated);
        let first = *self.first.entry(looks).or_insert(stack.index);
        if first != stack.index {
            self.same.insert(stack.index, first);
        }
        stack
    }

    /// What happened, by the first stack that looks like its own.
    pub(super) fn fold(&self, mut call: Call) -> Call {
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
            && let Some(first) = self.same.get(stack)
        {
            *stack = *first;
        }
        call
    }
}
