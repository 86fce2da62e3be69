//! The life of program images: facts go in, actions come out. Pure: no I/O, no clock.
//!
//! ```text
//! Forked ──► Waiting ──► Traced ──► (ended)
//!    │          │  └────► Untraced ──► (ended)
//!    │          └──────────────────► (ended)
//!    └─────────────────────────────► (ended)
//! ```
//!
//! Forked: its own memory or its parent's, and no probes yet; Found, a process that ran already, is like it. Waiting: it has called exec, and its allocator is not probed yet.
//!
//! What holds, whatever the facts are: an image is announced before its first call; what it holds counts from its announcement on, or,
//! of a forked child with a memory of its own, from the fork on; an image that counts is closed exactly once; once it is closed, or
//! ends without having counted, what was kept for it is released, once; and after that nothing is said of it any more.

use std::collections::HashMap;

use super::facts::{Action, Fact};
use crate::event::{Nanos, ProcessId};
use crate::record::{EndReason, Origin};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// A child of ours that waits to call exec.
    Launched,
    /// A process that ran already, and whose probes are going in.
    Found,
    /// A child that was just made: whether it can be followed is not known.
    Forked,
    /// It has called exec, and its allocator is not probed yet.
    Waiting,
    /// Its calls are seen.
    Traced,
    /// Its calls are not seen, and that was said.
    Untraced,
}

#[derive(Clone, Copy, Debug)]
struct Image {
    id: ProcessId,
    pid: u32,
    parent: Option<ProcessId>,
    from: Nanos,
    shares_memory: bool,
    /// It holds what its parent held when it was forked.
    inherits: bool,
    stage: Stage,
}

impl Image {
    fn is_announced(&self) -> bool {
        matches!(self.stage, Stage::Waiting | Stage::Traced | Stage::Untraced)
    }

    fn counts(&self) -> bool {
        self.is_announced() || self.inherits
    }
}

/// The images that are followed: of each process, the one that it runs.
#[derive(Debug, Default)]
pub struct Images {
    current: HashMap<ProcessId, Image>,
    /// The image of the latest event: almost every one is of the same as the one before.
    latest: Option<ProcessId>,
}

impl Images {
    /// Whether an event of this image may be written down. Where not, [`Fact::Active`] may make it so.
    #[inline]
    pub fn is_announced(&mut self, image: ProcessId) -> bool {
        if self.latest == Some(image) {
            return true;
        }
        let announced = self.get(image).is_some_and(Image::is_announced);
        if announced {
            self.latest = Some(image);
        }
        announced
    }

    /// Whether what this image holds counts: then turns of its life may be written down.
    pub fn counts(&self, image: ProcessId) -> bool {
        self.get(image).is_some_and(Image::counts)
    }

    /// The pid of an image that has not ended.
    pub fn pid(&self, image: ProcessId) -> Option<u32> {
        self.get(image).map(|image| image.pid)
    }

    /// The images that have not ended, in order.
    pub fn all(&self) -> Vec<ProcessId> {
        let mut all: Vec<_> = self.current.keys().copied().collect();
        all.sort_unstable();
        all
    }

    fn get(&self, image: ProcessId) -> Option<&Image> {
        self.current.get(&image)
    }

    /// A fact of this moment; gives what is to be done, in this order.
    pub fn step(&mut self, at: Nanos, fact: Fact) -> Vec<Action> {
        self.latest = None;
        let mut actions = Vec::new();
        match fact {
            Fact::Launched { image, pid } => {
                self.enter(Image {
                    id: image,
                    pid,
                    parent: None,
                    from: at,
                    shares_memory: false,
                    inherits: false,
                    stage: Stage::Launched,
                });
            }
            Fact::Attached {
                image,
                pid,
                parent,
                baseline_bytes,
            } => {
                if self.is_found(image) {
                    self.current.remove(&image);
                }
                let entered = self.enter(Image {
                    id: image,
                    pid,
                    parent,
                    from: at,
                    shares_memory: false,
                    inherits: false,
                    stage: Stage::Traced,
                });
                if entered {
                    actions.push(Action::Announce {
                        image,
                        pid,
                        parent,
                        from: at,
                        origin: Origin::Attached,
                        baseline_bytes,
                    });
                }
            }
            Fact::Found { image, pid, since } => {
                self.enter(Image {
                    id: image,
                    pid,
                    parent: None,
                    from: since.unwrap_or(at),
                    shares_memory: false,
                    inherits: false,
                    stage: Stage::Found,
                });
            }
            Fact::Forked {
                parent,
                child,
                pid,
                shares_memory,
            } => {
                let inherits = !shares_memory && self.counts(parent);
                let entered = self.enter(Image {
                    id: child,
                    pid,
                    parent: Some(parent),
                    from: at,
                    shares_memory,
                    inherits,
                    stage: Stage::Forked,
                });
                if entered && inherits {
                    actions.push(Action::Inherit { parent, child, at });
                }
            }
            Fact::Executed {
                image,
                next,
                linked,
            } => self.execute(at, image, next, linked, &mut actions),
            Fact::Linked { image, missed_ns } => self.link(image, missed_ns, &mut actions),
            Fact::Refused { image } => self.refuse(image, &mut actions),
            Fact::Left { image } => self.leave(image, &mut actions),
            Fact::Active { image, pid } => {
                // The exec that made this image was lost.
                let current = self.current.values().find(|current| current.pid == pid);
                if let Some(current) = current.map(|current| current.id) {
                    self.execute(at, current, image, None, &mut actions);
                }
            }
            Fact::Ended { image, reason } => {
                if self.get(image).is_some() {
                    self.end(image, reason, &mut actions);
                }
            }
        }
        actions
    }

    fn is_found(&self, image: ProcessId) -> bool {
        self.get(image)
            .is_some_and(|image| image.stage == Stage::Found)
    }

    /// A number is given out once: an image that is known already is not entered again.
    fn enter(&mut self, image: Image) -> bool {
        let is_new = !self.current.contains_key(&image.id);
        if is_new {
            self.current.insert(image.id, image);
        }
        is_new
    }

    fn execute(
        &mut self,
        at: Nanos,
        image: ProcessId,
        next: ProcessId,
        linked: Option<u64>,
        actions: &mut Vec<Action>,
    ) {
        let Some(old) = self.get(image).copied().filter(|_| image < next) else {
            return;
        };
        let parent = match old.is_announced() {
            true => {
                self.end(image, EndReason::Executed, actions);
                Some(image)
            }
            false => {
                if old.counts() {
                    let reason = EndReason::Executed;
                    actions.push(Action::Close { image, reason });
                }
                old.parent
            }
        };
        let launched = old.stage == Stage::Launched;
        self.current.remove(&image);
        self.current.insert(
            next,
            Image {
                id: next,
                pid: old.pid,
                parent,
                from: at,
                shares_memory: false,
                inherits: false,
                stage: if linked.is_some() {
                    Stage::Traced
                } else {
                    Stage::Waiting
                },
            },
        );
        actions.push(Action::Announce {
            image: next,
            pid: old.pid,
            parent,
            from: at,
            origin: match launched {
                true => Origin::Launched,
                false => Origin::Executed {
                    missed_ns: linked.unwrap_or(0),
                },
            },
            baseline_bytes: 0,
        });
    }

    fn link(&mut self, image: ProcessId, missed_ns: u64, actions: &mut Vec<Action>) {
        let Some(current) = self.current.get_mut(&image) else {
            return;
        };
        let Image {
            pid, parent, from, ..
        } = *current;
        match current.stage {
            Stage::Forked => actions.push(Action::Announce {
                image,
                pid,
                parent,
                from,
                origin: Origin::Forked { missed_ns },
                baseline_bytes: 0,
            }),
            Stage::Found => actions.push(Action::Announce {
                image,
                pid,
                parent,
                from,
                origin: Origin::Executed { missed_ns },
                baseline_bytes: 0,
            }),
            Stage::Waiting | Stage::Untraced => actions.push(Action::Correct {
                image,
                pid,
                parent,
                from,
                origin: Origin::Executed { missed_ns },
            }),
            Stage::Launched | Stage::Traced => return,
        }
        current.stage = Stage::Traced;
    }

    fn refuse(&mut self, image: ProcessId, actions: &mut Vec<Action>) {
        match self.get(image).map(|image| (image.stage, image.pid)) {
            // Nothing was said of it but why it is not traced.
            Some((Stage::Found, _)) => self.leave(image, actions),
            // It was not announced, and will not be.
            Some((Stage::Forked, _)) => self.end(image, EndReason::Detached, actions),
            Some((Stage::Waiting, pid)) => {
                if let Some(current) = self.current.get_mut(&image) {
                    current.stage = Stage::Untraced;
                }
                actions.push(Action::Miss {
                    image,
                    pid,
                    shared_memory: false,
                });
            }
            _ => {}
        }
    }

    /// Nothing more of it is wanted, so that nothing is missed either.
    fn leave(&mut self, image: ProcessId, actions: &mut Vec<Action>) {
        let Some(left) = self.current.remove(&image) else {
            return;
        };
        if left.counts() {
            let reason = EndReason::Executed;
            actions.push(Action::Close { image, reason });
        }
        let pid = left.pid;
        actions.push(Action::Release { image, pid });
    }

    fn end(&mut self, image: ProcessId, reason: EndReason, actions: &mut Vec<Action>) {
        let Some(ended) = self.current.remove(&image) else {
            return;
        };
        let pid = ended.pid;
        if matches!(ended.stage, Stage::Found | Stage::Forked | Stage::Waiting) {
            actions.push(Action::Miss {
                image,
                pid,
                shared_memory: ended.shares_memory,
            });
        }
        if ended.is_announced() {
            actions.push(Action::Close { image, reason });
        } else if ended.counts() {
            // Nobody knows it, so nothing may be left of it, even if it runs on.
            let reason = EndReason::Vanished;
            actions.push(Action::Close { image, reason });
        }
        actions.push(Action::Release { image, pid });
    }
}

#[cfg(test)]
mod tests;
