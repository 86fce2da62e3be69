//! The live set agrees with its naive twin, whatever happens.

use proptest::prelude::*;

use super::super::naive::Naive;
use super::*;
use crate::event::mapping::{Mapping, Range, Traits};
use crate::record::Entry;
use crate::record::reader::Reader;
use crate::record::writer::Writer;

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Open(ProcessId, u64),
    Close(ProcessId),
    Detach(ProcessId),
    Apply(ProcessId, Tid, Call),
}

const PROCESSES: u32 = 4;

/// Of a history of forks of forks.
const FAMILY: u32 = 8;

fn process() -> impl Strategy<Value = ProcessId> {
    // The first is busiest, so that histories get long.
    prop_oneof![
        3 => Just(ProcessId(1)),
        2 => (1..=PROCESSES).prop_map(ProcessId),
    ]
}

fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => 0..100_u64,
        5 => Just(0),
        1 => (u64::MAX - 1)..=u64::MAX,
    ]
}

/// About blocks at so many addresses.
fn call_about_blocks(addresses: u64) -> impl Strategy<Value = Call> {
    let address = move || (1..=addresses).prop_map(|n| Address(n * 16));
    let stack = || (0..4_u32).prop_map(StackIndex);
    let slot = || 0..2_u8;
    let header = || {
        prop_oneof![
            4 => (0..10_u64, 0..8_u64).prop_map(|(units, flags)| units * 16 + flags),
            1 => 0..200_u64,
            1 => any::<u64>(),
        ]
    };
    prop_oneof![
        30 => (address(), size(), stack()).prop_map(|(address, size, stack)| {
            Call::Allocated { function: Function::Malloc.into(), address, size, stack }
        }),
        1 => (size(), stack()).prop_map(|(size, stack)| {
            Call::Failed { function: Function::Malloc.into(), size, stack }
        }),
        20 => (address(), header()).prop_map(|(address, header)| Call::Freed { address, header }),
        12 => (address(), header(), slot())
            .prop_map(|(address, header, slot)| Call::ResizeBegan { address, header, slot }),
        6 => (address(), size(), stack(), slot()).prop_map(|(address, size, stack, slot)| {
            Call::Resized { function: Function::Realloc.into(), address, size, stack, slot }
        }),
        6 => (address(), size(), slot())
            .prop_map(|(address, size, slot)| Call::ResizeFailed { address, size, slot }),
        4 => (address(), slot()).prop_map(|(address, slot)| Call::ResizeFreed { address, slot }),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        79 => call_about_blocks(7),
        3 => (1..=PROCESSES).prop_map(|child| Call::Forked { child: ProcessId(child) }),
        1 => (1..=PROCESSES).prop_map(|next| Call::Executed { next: ProcessId(next) }),
        1 => Just(Call::Exited { status: 0 }),
        1 => Just(Call::OomVictim),
    ]
}

/// Of a few pages, so that ranges meet.
fn mapping() -> impl Strategy<Value = Mapping> {
    let page = || 0..12_u64;
    let range = || {
        (page(), 0..6_u64).prop_map(|(first, count)| Range {
            start: Address(first * 4096),
            length: count * 4096,
        })
    };
    let stack = || (0..3_u32).prop_map(StackIndex);
    let traits = prop_oneof![
        6 => Just([true, false, false, false, false]),
        2 => Just([false, false, false, false, false]),
        2 => any::<bool>().prop_map(|committed| [committed, false, false, true, false]),
        2 => any::<bool>().prop_map(|committed| [committed, false, false, false, true]),
        2 => any::<[bool; 5]>(),
    ];
    let mapped = (range(), traits, stack()).prop_map(|(range, traits, stack)| {
        let [committed, file, shared, of_thread, by_allocator] = traits;
        let traits = Traits {
            committed,
            file,
            shared,
            stack: of_thread,
            by_allocator,
        };
        Mapping::Mapped {
            range,
            traits,
            stack,
        }
    });
    let remapped = (range(), any::<bool>(), any::<bool>(), stack());
    let end = || (page(), prop_oneof![4 => Just(0), 1 => 0..4096_u64]);
    let moved = (end(), end(), any::<bool>(), stack());
    prop_oneof![
        10 => mapped,
        6 => range().prop_map(|range| Mapping::UnmapBegan { range }),
        4 => Just(Mapping::UnmapFailed),
        4 => range().prop_map(|range| Mapping::RemapBegan { range }),
        3 => remapped.prop_map(|(range, keeps_old, by_allocator, stack)| Mapping::Remapped {
            range,
            keeps_old,
            by_allocator,
            stack,
        }),
        2 => Just(Mapping::RemapFailed),
        3 => moved.prop_map(|(old, new, by_allocator, stack)| Mapping::BreakMoved {
            old: Address(old.0 * 4096 + old.1),
            new: Address(new.0 * 4096 + new.1),
            by_allocator,
            stack,
        }),
        6 => (range(), any::<bool>(), stack()).prop_map(|(range, committed, stack)| {
            Mapping::Protected {
                range,
                committed,
                stack,
            }
        }),
        1 => range().prop_map(|range| Mapping::Discarded { range }),
    ]
}

/// A third of what happens is about mappings.
fn any_call() -> impl Strategy<Value = Call> {
    prop_oneof![2 => call(), 1 => mapping().prop_map(Call::Mapping)]
}

pub(super) fn steps(count: usize) -> impl Strategy<Value = Vec<(Nanos, Step)>> {
    let step = prop_oneof![
        2 => (process(), 0..400_u64).prop_map(|(id, baseline)| Step::Open(id, baseline)),
        1 => (1..=PROCESSES).prop_map(|id| Step::Close(ProcessId(id))),
        1 => (1..=PROCESSES).prop_map(|id| Step::Detach(ProcessId(id))),
        60 => (process(), (1..4_u32).prop_map(Tid), any_call())
            .prop_map(|(id, thread, call)| Step::Apply(id, thread, call)),
    ];
    let step = (0..1000_u64, step);
    prop::collection::vec(step, 0..count).prop_map(|steps| {
        let steps = steps.into_iter().enumerate();
        // Time goes on as a rule; a damaged recording may jump.
        let timed = steps.map(|(index, (jump, step))| match jump {
            0..20 => (Nanos(jump), step),
            _ => (Nanos(100 + index as u64), step),
        });
        timed.collect()
    })
}

#[derive(Clone, Debug)]
enum Turn {
    Call(Call),
    Fork,
    End(Call),
    /// It is let go of.
    Detach,
}

/// A family of processes: the first fills its live set, then each that lives allocates, frees and resizes (what it inherited,
/// too), forks, and execs or exits, whether parents or children end first. A baseline is there for all.
fn family(count: usize) -> impl Strategy<Value = Vec<(Nanos, Step)>> {
    let turn = prop_oneof![
        24 => call_about_blocks(30).prop_map(Turn::Call),
        8 => mapping().prop_map(|mapping| Turn::Call(Call::Mapping(mapping))),
        4 => Just(Turn::Fork),
        1 => Just(Turn::Detach),
        1 => Just(Turn::End(Call::Exited { status: 0 })),
        1 => Just(Turn::End(Call::Executed { next: ProcessId(FAMILY + 1) })),
    ];
    let first = prop::collection::vec((1..=30_u64, 0..100_u64, 0..4_u32), 1..40);
    let turn = (any::<prop::sample::Index>(), (1..3_u32).prop_map(Tid), turn);
    (first, prop::collection::vec(turn, 0..count)).prop_map(|(first, turns)| {
        let mut steps = vec![Step::Open(ProcessId(1), 400)];
        steps.extend(first.into_iter().map(|(n, size, stack)| {
            let call = Call::Allocated {
                function: Function::Malloc.into(),
                address: Address(n * 16),
                size,
                stack: StackIndex(stack),
            };
            Step::Apply(ProcessId(1), Tid(1), call)
        }));
        let (mut living, mut forked) = (vec![ProcessId(1)], 1);
        for (which, thread, turn) in turns {
            let of = which.index(living.len());
            let process = living[of];
            let call = match turn {
                Turn::Call(call) => call,
                Turn::Fork if forked == FAMILY => continue,
                Turn::Fork => {
                    forked += 1;
                    let child = ProcessId(forked);
                    living.push(child);
                    Call::Forked { child }
                }
                Turn::End(_) | Turn::Detach if living.len() == 1 => continue,
                Turn::Detach => {
                    living.swap_remove(of);
                    steps.push(Step::Detach(process));
                    continue;
                }
                Turn::End(call) => {
                    living.swap_remove(of);
                    call
                }
            };
            steps.push(Step::Apply(process, thread, call));
        }
        let timed = (100..).map(Nanos).zip(steps);
        timed.collect()
    })
}

fn compare(live: &LiveSet, naive: &Naive) -> Result<(), TestCaseError> {
    let processes = (1..=FAMILY + 1).map(|id| Scope::Process(ProcessId(id)));
    for scope in processes.chain([Scope::All]) {
        for moment in [Moment::Peak, Moment::End] {
            let (real, twin) = (live.snapshot(scope, moment), naive.snapshot(scope, moment));
            prop_assert_eq!(real, twin, "{:?} {:?}", scope, moment);
        }
    }
    let peak = naive.snapshot(Scope::All, Moment::Peak);
    prop_assert_eq!((live.peak_bytes(), live.peak_at()), (peak.bytes, peak.at));
    let now = naive.held();
    prop_assert_eq!(
        (live.live_bytes(), live.live_blocks()),
        (now.bytes, now.blocks)
    );
    let mut sum = Totals::default();
    for id in (1..=FAMILY + 1).map(ProcessId) {
        let totals = naive.totals(id);
        prop_assert_eq!(live.process_totals(id), totals);
        sum.add(&totals.unwrap_or_default());
    }
    prop_assert_eq!(live.totals(), sum);
    Ok(())
}

fn take(live: &mut LiveSet, naive: &mut Naive, (at, step): (Nanos, Step)) {
    match step {
        Step::Open(process, baseline) => {
            live.open(process, at, baseline);
            naive.open(process, at, baseline);
        }
        Step::Close(process) => {
            live.close(process, at);
            naive.close(process, at);
        }
        Step::Detach(process) => {
            live.detach(process, at);
            naive.detach(process, at);
        }
        Step::Apply(process, thread, call) => {
            let event = Event {
                at,
                process,
                thread,
                call,
            };
            live.apply(&event);
            naive.apply(&event);
        }
    }
}

/// What comes back of these events from a recording.
fn recorded(events: &[Event]) -> Vec<Event> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    // Whatever falls into one chunk.
    for events in events.chunks(17) {
        writer.write(&Entry::Events(events.to_vec())).unwrap();
        writer.flush().unwrap();
    }
    let recording = writer.finish().unwrap();
    let entries = Reader::new(&recording[..]).unwrap();
    let events = entries.map(|entry| match entry.unwrap() {
        Entry::Events(events) => events,
        other => panic!("not an event: {other:?}"),
    });
    events.flatten().collect()
}

fn compare_as_recorded(steps: Vec<(Nanos, Step)>) -> Result<(), TestCaseError> {
    // Recordings tell microseconds. Of a process that was let go nothing is recorded.
    let steps: Vec<_> = steps
        .into_iter()
        .filter(|(_, step)| !matches!(step, Step::Close(_) | Step::Detach(_)))
        .map(|(at, step)| (Nanos(at.0 * 1000), step))
        .collect();
    let events = steps.iter().filter_map(|&(at, step)| match step {
        Step::Apply(process, thread, call) => Some(Event {
            at,
            process,
            thread,
            call,
        }),
        _ => None,
    });
    let mut events = recorded(&events.collect::<Vec<_>>()).into_iter();
    let (mut live, mut naive) = (LiveSet::new(), Naive::default());
    for (at, step) in steps {
        match step {
            Step::Apply(process, thread, call) => {
                naive.apply(&Event {
                    at,
                    process,
                    thread,
                    call,
                });
                live.apply(&events.next().expect("as many as there were"));
            }
            other => take(&mut live, &mut naive, (at, other)),
        }
    }
    compare(&live, &naive)
}

proptest! {
    #[test]
    fn recorded_events_do_what_the_events_did(mut steps in steps(300)) {
        // Of one that has ended nothing is recorded.
        let mut ended = Vec::new();
        steps.retain(|(_, step)| match step {
            Step::Apply(process, ..) if ended.contains(process) => false,
            Step::Apply(process, _, Call::Exited { .. } | Call::Executed { .. }) => {
                ended.push(*process);
                true
            }
            _ => true,
        });
        compare_as_recorded(steps)?;
    }

    #[test]
    fn the_peak_of_each_kind_agrees_with_its_twin(steps in steps(150)) {
        for kinds in Kind::ALL.map(Kinds::only) {
            let mut live = LiveSet::new().with_peak_of(kinds);
            let mut naive = Naive::with_peak_of(kinds);
            for step in steps.clone() {
                take(&mut live, &mut naive, step);
            }
            compare(&live, &naive)?;
        }
    }

    #[test]
    fn the_live_set_agrees_with_its_twin_at_the_end_of_a_long_history(steps in steps(300)) {
        let (mut live, mut naive) = (LiveSet::new(), Naive::default());
        for step in steps {
            take(&mut live, &mut naive, step);
        }
        compare(&live, &naive)?;
    }

    #[test]
    fn movements_add_up_to_the_level_and_rise_to_its_peak(steps in steps(200)) {
        let (mut live, mut naive) = (LiveSet::new().with_movements(), Naive::default());
        let (mut level, mut highest) = (0_i128, 0_i128);
        for step in steps {
            take(&mut live, &mut naive, step);
            for movement in live.movements() {
                if movement.holder.is_none_or(|holder| holder.kind.makes_the_peak()) {
                    let bytes = movement.bytes as i128;
                    level += if movement.came { bytes } else { -bytes };
                    highest = highest.max(level);
                }
            }
            let level_of = |balance: Balance| {
                balance.live.bytes as i128 - balance.freed_baseline as i128
            };
            prop_assert_eq!(level, level_of(live.all.now()));
            prop_assert_eq!(highest, level_of(live.all.at_peak()));
        }
    }

    #[test]
    fn the_live_set_agrees_with_its_twin_after_every_step(steps in steps(40)) {
        let (mut live, mut naive) = (LiveSet::new(), Naive::default());
        for step in steps {
            take(&mut live, &mut naive, step);
            compare(&live, &naive)?;
        }
    }

    #[test]
    fn families_that_fork_again_and_again_agree_with_the_twin(steps in family(200)) {
        let (mut live, mut naive) = (LiveSet::new(), Naive::default());
        for step in steps {
            take(&mut live, &mut naive, step);
        }
        compare(&live, &naive)?;
    }

    #[test]
    fn families_agree_with_the_twin_after_every_step(steps in family(40)) {
        let (mut live, mut naive) = (LiveSet::new(), Naive::default());
        for step in steps {
            take(&mut live, &mut naive, step);
            compare(&live, &naive)?;
        }
    }

    #[test]
    fn what_a_family_did_is_the_same_as_recorded(steps in family(200)) {
        compare_as_recorded(steps)?;
    }
}
