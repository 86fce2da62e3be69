//! Stacks as a trie: from the outermost frame inwards, a stack goes along with another one for a while, and then on by itself. What
//! it shares is one number.
//!
//! A **node** is a frame below the node of its caller; nodes are numbered from 1 as they come, through the whole
//! recording, and 0 is what lies above the outermost frame. A compiler of 90 000 stacks, 42 frames each, has 3.7 million frames
//! in them but 0.4 million nodes.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::damage::Damage;
use super::varint::{Span, put, put_difference};
use super::{FrameIndex, Stack};
use crate::event::{ProcessId, StackIndex};

/// Most frames of a stack, far more than the kernel side walks: a few bytes of a recording may name them all.
const MOST_FRAMES: u32 = 1 << 13;

/// Most nodes that a reader makes, 8 bytes each.
const MOST_NODES: usize = 1 << 27;

/// Flag of a stack: its root end is missing.
const TRUNCATED: u8 = 1;

/// A writer that knows so many nodes forgets them and begins anew: a stack need not share what it could. Some 40 MB.
const MOST_KNOWN: usize = 1 << 21;

/// Writes stacks as paths in a trie, each with what it does not share with the one before.
#[derive(Default)]
pub(super) struct StackPacker {
    /// The node of a frame below a node.
    nodes: HashMap<(u32, FrameIndex), u32, FixedState>,
    /// How many nodes there are.
    count: u32,
    /// Where the stack before left what it shared.
    last: u32,
}

impl StackPacker {
    /// Appends the body of a stack; `false` if it has too many frames to be one.
    pub(super) fn put(&mut self, to: &mut Vec<u8>, stack: &Stack) -> bool {
        let Stack {
            index,
            process,
            frames,
            truncated,
        } = stack;
        if frames.len() > MOST_FRAMES as usize || self.count as usize + frames.len() > MOST_NODES {
            return false;
        }
        if self.nodes.len() >= MOST_KNOWN {
            self.nodes = HashMap::default();
        }
        put(to, index.0.into());
        put(to, process.0.into());
        to.push(if *truncated { TRUNCATED } else { 0 });
        let mut node = 0;
        let mut own = frames.len();
        while own > 0
            && let Some(&next) = self.nodes.get(&(node, frames[own - 1]))
        {
            node = next;
            own -= 1;
        }
        put_difference(to, node.into(), self.last.into());
        self.last = node;
        put(to, own as u64);
        for &frame in frames[..own].iter().rev() {
            put(to, frame.0.into());
            self.count += 1;
            self.nodes.insert((node, frame), self.count);
            node = self.count;
        }
        true
    }
}

/// Unpacks what [`StackPacker`] packed, from the first stack of a recording on.
#[derive(Default)]
pub(super) struct StackUnpacker {
    /// Node `n` is at `n - 1`.
    nodes: Vec<Node>,
    last: u32,
}

struct Node {
    caller: u32,
    frame: FrameIndex,
}

impl StackUnpacker {
    /// Reads the body of a stack.
    pub(super) fn read(&mut self, body: &[u8], span: &mut Span) -> Result<Stack, Damage> {
        let index = StackIndex(span.unsigned_32(body)?);
        let process = ProcessId(span.unsigned_32(body)?);
        let truncated = match span.byte(body)? {
            0 => false,
            TRUNCATED => true,
            flags => {
                return Err(Damage::Field {
                    field: "flags of a stack",
                    value: flags.into(),
                });
            }
        };
        let node = span.difference(body, self.last.into())?;
        let mut node = u32::try_from(node)
            .ok()
            .filter(|&node| node as usize <= self.nodes.len())
            .ok_or(Damage::Reference)?;
        self.last = node;
        let own = span.count(body, 1)?;
        if self.nodes.len() + own > MOST_NODES {
            return Err(Damage::Overrun);
        }
        for _ in 0..own {
            let frame = FrameIndex(span.unsigned_32(body)?);
            self.nodes.push(Node {
                caller: node,
                frame,
            });
            node = self.nodes.len() as u32;
        }
        Ok(Stack {
            index,
            process,
            frames: self.frames(node)?,
            truncated,
        })
    }

    /// From a node to the outermost frame. A caller has a smaller number, so this ends.
    fn frames(&self, mut node: u32) -> Result<Vec<FrameIndex>, Damage> {
        let mut frames = Vec::new();
        while let Some(at) = node.checked_sub(1) {
            if frames.len() == MOST_FRAMES as usize {
                return Err(Damage::Overrun);
            }
            let Node { caller, frame } = self.nodes[at as usize];
            frames.push(frame);
            node = caller;
        }
        Ok(frames)
    }
}
