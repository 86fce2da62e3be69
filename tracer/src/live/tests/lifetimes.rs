//! What the eras say, held against live sets that stop at their ends.

use proptest::prelude::*;

use super::*;
use crate::event::mapping::{Mapping, Range, Traits};

const PRIVATE: Traits = Traits {
    committed: true,
    file: false,
    shared: false,
    stack: false,
    by_allocator: false,
};

fn call() -> impl Strategy<Value = Call> {
    let address = (1..12_u64).prop_map(|n| Address(n * 16));
    let stack = (1..4_u32).prop_map(StackIndex);
    let range = (0..8_u64, 1..4_u64).prop_map(|(at, pages)| Range {
        start: Address(0x10_0000 + at * 4096),
        length: pages * 4096,
    });
    prop_oneof![
        4 => (address.clone(), 0..1000_u64, stack.clone()).prop_map(|(address, size, stack)| Call::Allocated {
            function: Function::Malloc.into(), address, size, stack,
        }),
        3 => address.clone().prop_map(|address| Call::Freed { address, header: 0 }),
        1 => address.clone().prop_map(|address| Call::ResizeBegan { address, header: 0, slot: 0 }),
        1 => (address.clone(), stack.clone()).prop_map(|(address, stack)| Call::Resized {
            function: Function::Realloc.into(), address, size: 77, stack, slot: 0,
        }),
        1 => address.prop_map(|address| Call::ResizeFailed { address, size: 1, slot: 0 }),
        2 => (range.clone(), stack).prop_map(|(range, stack)| Call::Mapping(Mapping::Mapped { range, traits: PRIVATE, stack })),
        1 => range.prop_map(|range| Call::Mapping(Mapping::UnmapBegan { range })),
        1 => Just(Call::Forked { child: CHILD }),
        1 => Just(Call::Exited { status: 0 }),
    ]
}

/// Events of up to a second apart, so that eras are merged several times. A child, and its child, come with a fork, and may end.
fn events() -> impl Strategy<Value = Vec<Event>> {
    const LINE: [ProcessId; 3] = [P, CHILD, ProcessId(3 << 10)];
    let step = prop_oneof![1..2_000_000_u64, 1..1_000_000_000_u64];
    let event = (step, 0..3_usize, call());
    prop::collection::vec(event, 1..120).prop_map(|steps| {
        let (mut at, mut forked) = (0, 1);
        let mut events = Vec::new();
        for (step, of, call) in steps {
            at += step;
            let mut process = LINE[of % forked];
            let call = match call {
                Call::Forked { .. } if forked == LINE.len() => continue,
                Call::Forked { .. } => {
                    forked += 1;
                    process = LINE[forked - 2];
                    Call::Forked {
                        child: LINE[forked - 1],
                    }
                }
                Call::Exited { .. } if process == P => continue,
                call => call,
            };
            events.push(Event {
                at: Nanos(at),
                process,
                thread: Tid(1),
                call,
            });
        }
        events
    })
}

/// What was live of each holder, in that order.
fn held(snapshot: &Snapshot) -> Vec<(HolderKey, u64)> {
    let mut held: Vec<_> = snapshot
        .holders
        .iter()
        .filter(|holder| holder.bytes > 0)
        .map(|holder| (holder.key(), holder.bytes))
        .collect();
    held.sort_unstable();
    held
}

proptest! {
    #[test]
    fn what_was_live_at_the_end_of_an_era_is_what_came_by_then_and_went_after_it(events in events()) {
        let mut live = LiveSet::new().with_timeline();
        events.iter().for_each(|event| live.apply(event));
        let timeline = live.timeline().expect("it is kept");
        prop_assert!(timeline.eras.len() <= 128);
        for era in 0..timeline.eras.len() {
            let mut until = LiveSet::new();
            let mut highest = 0;
            let begins = timeline.end_of(era).0 - timeline.width;
            for event in events.iter().take_while(|event| event.at < timeline.end_of(era)) {
                if event.at.0 >= begins {
                    highest = highest.max(until.live_bytes());
                }
                until.apply(event);
            }
            highest = highest.max(until.live_bytes());
            let mut lives: Vec<(HolderKey, u64)> = timeline
                .lives
                .iter()
                .map(|lives| (lives.key(), lives.levels(timeline.eras.len())[era]))
                .filter(|(_, bytes)| *bytes > 0)
                .collect();
            lives.sort_unstable();
            prop_assert_eq!(lives, held(&until.snapshot(Scope::All, Moment::End)));
            prop_assert_eq!(timeline.eras[era].end, until.live_bytes());
            // The level at which an era begins is the end of the one before.
            prop_assert!(timeline.eras[era].highest <= highest);
            prop_assert!(timeline.eras[era].highest >= until.live_bytes());
        }
    }

    #[test]
    fn telling_threads_and_eras_apart_changes_no_sum(events in events()) {
        let mut plain = LiveSet::new();
        let mut apart = LiveSet::new().by_thread().with_timeline();
        for event in &events {
            plain.apply(event);
            apart.apply(event);
        }
        for moment in [Moment::Peak, Moment::End] {
            let (plain, apart) = (plain.snapshot(Scope::All, moment), apart.snapshot(Scope::All, moment));
            // Of equal peaks the latest counts, and there a range that is split by era may rise by nothing.
            prop_assert_eq!(plain.bytes, apart.bytes);
        }
        prop_assert_eq!(plain.totals(), apart.totals());
    }
}

#[test]
fn blocks_that_come_and_go_within_an_era_leave_no_life() {
    let mut live = LiveSet::new().with_timeline();
    for (at, call) in [
        (
            1,
            Call::Allocated {
                function: Function::Malloc.into(),
                address: A,
                size: 10,
                stack: STACK,
            },
        ),
        (
            2,
            Call::Freed {
                address: A,
                header: 0,
            },
        ),
    ] {
        live.apply(&Event {
            at: Nanos(at),
            process: P,
            thread: Tid(1),
            call,
        });
    }
    let timeline = live.timeline().expect("it is kept");
    assert!(timeline.lives.iter().all(|lives| lives.lives.is_empty()));
    assert_eq!(timeline.eras[0].highest, 10);
    assert_eq!(live.allocated()[0].bytes, 10);
}
