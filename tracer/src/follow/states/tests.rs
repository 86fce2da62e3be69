use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const PARENT: ProcessId = ProcessId(1);
const CHILD: ProcessId = ProcessId(2);
const PROGRAM: ProcessId = ProcessId(3);

const EXITED: EndReason = EndReason::Exited { code: 0 };

/// Images after these facts, and what the last of them asked for.
fn after(facts: &[Fact]) -> (Images, Vec<Action>) {
    let mut images = Images::default();
    let mut last = Vec::new();
    for (at, fact) in facts.iter().enumerate() {
        last = images.step(Nanos(at as u64), *fact);
    }
    (images, last)
}

const ATTACHED: Fact = Fact::Attached {
    image: PARENT,
    pid: 10,
    parent: None,
    baseline_bytes: 7,
};
const FORKED: Fact = Fact::Forked {
    parent: PARENT,
    child: CHILD,
    pid: 20,
    shares_memory: false,
};
const EXECUTED: Fact = Fact::Executed {
    image: CHILD,
    next: PROGRAM,
    linked: None,
};
const ENDED: Fact = Fact::Ended {
    image: PROGRAM,
    reason: EXITED,
};

#[test]
fn a_child_holds_what_its_parent_holds_at_the_fork_and_is_announced_once_it_is_linked() {
    let linked = Fact::Linked {
        image: CHILD,
        missed_ns: 5,
    };
    let (mut images, actions) = after(&[ATTACHED, FORKED]);
    let inherit = Action::Inherit {
        parent: PARENT,
        child: CHILD,
        at: Nanos(1),
    };
    assert_eq!(actions, [inherit]);
    assert!(images.counts(CHILD) && !images.is_announced(CHILD));
    let announce = Action::Announce {
        image: CHILD,
        pid: 20,
        parent: Some(PARENT),
        from: Nanos(1),
        origin: Origin::Forked { missed_ns: 5 },
        baseline_bytes: 0,
    };
    assert_eq!(images.step(Nanos(6), linked), [announce]);
    assert!(images.is_announced(CHILD));
}

#[test]
fn a_program_that_ends_before_it_is_linked_was_missed_and_is_closed_all_the_same() {
    let (mut images, actions) = after(&[ATTACHED, FORKED, EXECUTED]);
    let reason = EndReason::Executed;
    let close = Action::Close {
        image: CHILD,
        reason,
    };
    assert_eq!(actions[0], close);
    let announced = matches!(actions[1..], [Action::Announce { image: PROGRAM, .. }]);
    assert!(announced, "{actions:?}");
    assert!(images.is_announced(PROGRAM));
    let (image, pid) = (PROGRAM, 20);
    let reason = EXITED;
    assert_eq!(
        images.step(Nanos(9), ENDED),
        [
            Action::Miss {
                image,
                pid,
                shared_memory: false
            },
            Action::Close { image, reason },
            Action::Release { image, pid }
        ]
    );
    assert_eq!(images.step(Nanos(10), ENDED), []);
    assert!(!images.is_announced(PROGRAM));
}

#[test]
fn a_child_that_ends_in_its_parents_program_leaves_nothing_and_is_never_announced() {
    let ended = Fact::Ended {
        image: CHILD,
        reason: EXITED,
    };
    let (_, actions) = after(&[ATTACHED, FORKED, ended]);
    let (image, pid) = (CHILD, 20);
    assert_eq!(
        actions,
        [
            Action::Miss {
                image,
                pid,
                shared_memory: false
            },
            Action::Close {
                image,
                reason: EndReason::Vanished
            },
            Action::Release { image, pid }
        ]
    );
}

#[test]
fn a_child_that_ends_in_its_parents_memory_may_have_changed_that_and_its_program_not() {
    let forked = Fact::Forked {
        parent: PARENT,
        child: CHILD,
        pid: 20,
        shares_memory: true,
    };
    let ended = Fact::Ended {
        image: CHILD,
        reason: EXITED,
    };
    let missed = |image, shared_memory| Action::Miss {
        image,
        pid: 20,
        shared_memory,
    };
    let (_, actions) = after(&[ATTACHED, forked, ended]);
    assert_eq!(actions[0], missed(CHILD, true));
    let (_, actions) = after(&[ATTACHED, forked, EXECUTED, ENDED]);
    assert_eq!(actions[0], missed(PROGRAM, false));
}

#[test]
fn a_program_that_is_linked_late_began_at_its_exec_and_missed_so_much() {
    let linked = Fact::Linked {
        image: PROGRAM,
        missed_ns: 40,
    };
    let (_, actions) = after(&[ATTACHED, FORKED, EXECUTED, linked]);
    assert_eq!(
        actions,
        [Action::Correct {
            image: PROGRAM,
            pid: 20,
            parent: Some(PARENT),
            from: Nanos(2),
            origin: Origin::Executed { missed_ns: 40 },
        }]
    );
    let (_, actions) = after(&[ATTACHED, FORKED, EXECUTED, linked, ENDED]);
    assert!(!actions.contains(&Action::Miss {
        image: PROGRAM,
        pid: 20,
        shared_memory: false
    }));
}

#[test]
fn a_program_whose_probes_were_put_into_the_process_after_its_exec_missed_what_lies_between() {
    let executed = Fact::Executed {
        image: CHILD,
        next: PROGRAM,
        linked: Some(30),
    };
    let (mut images, actions) = after(&[ATTACHED, FORKED, executed]);
    let late = |action: &Action| {
        let origin = Origin::Executed { missed_ns: 30 };
        matches!(action, Action::Announce { image: PROGRAM, origin: told, .. } if *told == origin)
    };
    assert!(actions.iter().any(late), "{actions:?}");
    let (image, pid) = (PROGRAM, 20);
    assert!(!images.step(Nanos(9), ENDED).contains(&Action::Miss {
        image,
        pid,
        shared_memory: false
    }));
}

#[test]
fn a_program_that_cannot_be_traced_is_told_once_and_followed_to_its_end() {
    let refused = Fact::Refused { image: PROGRAM };
    let (mut images, actions) = after(&[ATTACHED, FORKED, EXECUTED, refused]);
    let (image, pid) = (PROGRAM, 20);
    assert_eq!(
        actions,
        [Action::Miss {
            image,
            pid,
            shared_memory: false
        }]
    );
    let reason = EXITED;
    assert_eq!(
        images.step(Nanos(9), ENDED),
        [
            Action::Close { image, reason },
            Action::Release { image, pid }
        ]
    );
}

#[test]
fn an_event_tells_of_an_exec_that_was_lost() {
    let next = ProcessId(9);
    let (mut images, _) = after(&[ATTACHED]);
    assert!(!images.is_announced(next));
    let actions = images.step(
        Nanos(4),
        Fact::Active {
            image: next,
            pid: 10,
        },
    );
    let closed = Action::Close {
        image: PARENT,
        reason: EndReason::Executed,
    };
    assert!(actions.contains(&closed), "{actions:?}");
    assert!(images.is_announced(next));
    // What comes late of the old one says nothing any more.
    assert!(!images.is_announced(PARENT));
}

const FOUND: Fact = Fact::Found {
    image: PARENT,
    pid: 10,
    since: Some(Nanos(3)),
};

#[test]
fn a_process_that_was_found_is_announced_once_its_probes_are_in() {
    let (mut images, actions) = after(&[FOUND]);
    assert_eq!(actions, []);
    assert_eq!(images.pid(PARENT), Some(10));
    assert!(!images.is_announced(PARENT) && !images.counts(PARENT));
    let announce = |from, origin, baseline_bytes| Action::Announce {
        image: PARENT,
        pid: 10,
        parent: None,
        from,
        origin,
        baseline_bytes,
    };
    assert_eq!(
        images.step(Nanos(9), ATTACHED),
        [announce(Nanos(9), Origin::Attached, 7)]
    );
    let linked = Fact::Linked {
        image: PARENT,
        missed_ns: 4,
    };
    let (_, actions) = after(&[FOUND, linked]);
    let origin = Origin::Executed { missed_ns: 4 };
    assert_eq!(actions, [announce(Nanos(3), origin, 0)]);
}

#[test]
fn a_process_that_was_found_may_call_exec_end_or_be_refused_before_its_probes_are_in() {
    let executed = Fact::Executed {
        image: PARENT,
        next: PROGRAM,
        linked: None,
    };
    let (images, actions) = after(&[FOUND, executed]);
    let announced = matches!(
        actions[..],
        [Action::Announce {
            image: PROGRAM,
            parent: None,
            ..
        }]
    );
    assert!(announced, "{actions:?}");
    assert_eq!(images.pid(PARENT), None);
    let release = Action::Release {
        image: PARENT,
        pid: 10,
    };
    let refused = Fact::Refused { image: PARENT };
    assert_eq!(after(&[FOUND, refused]).1, [release]);
    let ended = Fact::Ended {
        image: PARENT,
        reason: EXITED,
    };
    let miss = Action::Miss {
        image: PARENT,
        pid: 10,
        shared_memory: false,
    };
    assert_eq!(after(&[FOUND, ended]).1, [miss, release]);
}

#[test]
fn what_becomes_a_program_that_was_left_out_is_closed_and_not_missed() {
    let left = |image| Fact::Left { image };
    let closed = |image, pid| {
        let reason = EndReason::Executed;
        [
            Action::Close { image, reason },
            Action::Release { image, pid },
        ]
    };
    assert_eq!(after(&[ATTACHED, left(PARENT)]).1, closed(PARENT, 10));
    assert_eq!(after(&[ATTACHED, FORKED, left(CHILD)]).1, closed(CHILD, 20));
    let shares = Fact::Forked {
        parent: PARENT,
        child: CHILD,
        pid: 20,
        shares_memory: true,
    };
    let (_, actions) = after(&[ATTACHED, shares, left(CHILD)]);
    assert_eq!(actions, closed(CHILD, 20)[1..]);
}

/// Of one of three processes, its first image or one of those that follow.
fn any_image() -> impl Strategy<Value = ProcessId> {
    (1..4u32, 0..4u32).prop_map(|(process, nth)| image(process, nth))
}

fn image(process: u32, nth: u32) -> ProcessId {
    ProcessId(process << 2 | nth)
}

fn process(image: ProcessId) -> u32 {
    image.0 >> 2
}

fn fact() -> impl Strategy<Value = Fact> {
    let missed_ns = 3;
    prop_oneof![
        any_image().prop_map(|image| Fact::Launched {
            image,
            pid: process(image)
        }),
        any_image().prop_map(|image| Fact::Attached {
            image,
            pid: process(image),
            parent: None,
            baseline_bytes: 0,
        }),
        (any_image(), any_image(), any::<bool>()).prop_map(|(parent, child, shares_memory)| {
            Fact::Forked {
                parent,
                child,
                pid: process(child),
                shares_memory,
            }
        }),
        (any_image(), any_image(), prop::option::of(0..9u64)).prop_map(|(image, next, linked)| {
            Fact::Executed {
                image,
                next,
                linked,
            }
        }),
        any_image().prop_map(move |image| Fact::Linked { image, missed_ns }),
        any_image().prop_map(|image| Fact::Refused { image }),
        any_image().prop_map(|image| Fact::Left { image }),
        any_image().prop_map(|image| Fact::Found {
            image,
            pid: process(image),
            since: None,
        }),
        any_image().prop_map(|image| Fact::Active {
            image,
            pid: process(image),
        }),
        (any_image(), any::<bool>()).prop_map(|(image, gone)| Fact::Ended {
            image,
            reason: match gone {
                true => EndReason::Vanished,
                false => EXITED,
            },
        }),
    ]
}

proptest! {
    #[test]
    fn every_image_is_announced_first_closed_once_and_released_then(
        facts in prop::collection::vec(fact(), 0..200)
    ) {
        let mut images = Images::default();
        let mut announced: HashSet<ProcessId> = HashSet::new();
        let mut counted: HashSet<ProcessId> = HashSet::new();
        let mut closed: HashSet<ProcessId> = HashSet::new();
        let mut released: HashMap<ProcessId, u32> = HashMap::new();
        let mut entered = HashSet::new();
        let facts: Vec<Fact> = facts
            .into_iter()
            // An identity is given out once.
            .filter(|fact| match *fact {
                Fact::Launched { image, .. }
                | Fact::Attached { image, .. }
                | Fact::Found { image, .. }
                | Fact::Forked { child: image, .. } => entered.insert(process(image)),
                Fact::Executed { image, next, .. } => process(image) == process(next),
                _ => true,
            })
            .collect();
        let end = |images: &Images| {
            let ids = images.all().into_iter();
            let reason = EndReason::Detached;
            ids.map(|image| Fact::Ended { image, reason }).collect::<Vec<_>>()
        };
        let mut queue = std::collections::VecDeque::from(facts);
        let mut is_over = false;
        loop {
            let Some(fact) = queue.pop_front() else {
                if is_over {
                    break;
                }
                is_over = true;
                queue.extend(end(&images));
                continue;
            };
            for action in images.step(Nanos(1), fact) {
                match action {
                    Action::Announce { image, .. } => {
                        prop_assert!(announced.insert(image), "announced twice");
                        prop_assert!(!released.contains_key(&image) && !closed.contains(&image));
                        counted.insert(image);
                    }
                    Action::Correct { image, .. } => {
                        prop_assert!(announced.contains(&image) && !closed.contains(&image));
                    }
                    Action::Inherit { parent, child, .. } => {
                        prop_assert!(counted.contains(&parent) && !closed.contains(&parent));
                        prop_assert!(counted.insert(child), "it counts already");
                    }
                    Action::Miss { image, .. } => prop_assert!(!released.contains_key(&image)),
                    Action::Close { image, .. } => {
                        prop_assert!(counted.contains(&image), "closed, and never counted");
                        prop_assert!(closed.insert(image), "closed twice");
                    }
                    Action::Release { image, .. } => {
                        prop_assert_eq!(counted.contains(&image), closed.contains(&image));
                        prop_assert_eq!(released.insert(image, 1), None);
                    }
                }
            }
            // Events go by this answer.
            for process in 1..4 {
                for generation in 0..4 {
                    let image = image(process, generation);
                    let open = announced.contains(&image) && !closed.contains(&image);
                    prop_assert_eq!(images.is_announced(image), open);
                    let counts = counted.contains(&image) && !closed.contains(&image);
                    prop_assert_eq!(images.counts(image), counts);
                }
            }
        }
        prop_assert_eq!(&counted, &closed);
        prop_assert!(announced.iter().all(|image| released.contains_key(image)));
    }
}
