//! A live set that was folded answers as it did before.

use proptest::prelude::*;

use super::twin::{Step, steps};
use super::*;
use crate::record::Entry;
use crate::record::fold::{FoldParts, parts, parts_of_remains};
use crate::record::reader::Reader;
use crate::record::writer::Writer;

/// As a recording gives it back.
fn recorded(live: &mut LiveSet) -> LiveSet {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for part in parts(live.fold(), true, None) {
        writer.write(&Entry::Fold(part)).unwrap();
    }
    let recording = writer.finish().unwrap();
    let mut together = FoldParts::default();
    let mut whole = Reader::new(&recording[..])
        .unwrap()
        .filter_map(|entry| match entry {
            Ok(Entry::Fold(part)) => together.take(part),
            other => panic!("not a part of a fold: {other:?}"),
        });
    let (fold, mappings, sampling) = whole.next().expect("a whole fold");
    assert_eq!((mappings, sampling), (true, None));
    let mut unfolded = LiveSet::unfold(&fold);
    // The entries of their ends say that these have ended.
    for process in live.processes.iter().filter(|process| !process.released) {
        if let Some(at) = process.ended {
            unfolded.detach(process.id, at);
        }
    }
    unfolded
}

/// The counts of ranges that were split have a sign that is not told, so those of ranges are left out.
fn timeline(live: &mut LiveSet) -> Option<Timeline> {
    let mut timeline = live.timeline()?;
    for lives in &mut timeline.lives {
        if lives.kind != Kind::Heap {
            for life in &mut lives.lives {
                life.blocks = 0;
            }
            lives.lives.retain(|life| life.bytes > 0);
        }
    }
    // Processes that were taken out come last.
    timeline.lives.sort_by_key(Lives::key);
    Some(timeline)
}

fn compare(one: &mut LiveSet, other: &mut LiveSet) -> Result<(), TestCaseError> {
    let processes = (1..6).map(|id| Scope::Process(ProcessId(id)));
    for scope in processes.chain([Scope::All]) {
        for moment in [Moment::Peak, Moment::End] {
            let snapshot = |live: &LiveSet| live.snapshot(scope, moment);
            prop_assert_eq!(snapshot(one), snapshot(other), "{:?} {:?}", scope, moment);
        }
    }
    prop_assert_eq!(one.totals(), other.totals());
    prop_assert_eq!(one.allocated(), other.allocated());
    prop_assert_eq!(timeline(one), timeline(other));
    prop_assert_eq!((one.peak_at(), one.now()), (other.peak_at(), other.now()));
    Ok(())
}

/// Millions of nanoseconds between steps, so that eras come, and become one.
fn take(live: &mut LiveSet, (at, step): &(Nanos, Step)) {
    let at = Nanos(at.0 * 3_000_000);
    match *step {
        Step::Open(process, baseline) => live.open(process, at, baseline),
        Step::Close(process) => live.close(process, at),
        Step::Detach(process) => live.detach(process, at),
        Step::Apply(process, thread, call) => live.apply(&Event {
            at,
            process,
            thread,
            call,
        }),
    }
}

/// The processes that something is said of.
fn concerned(step: &Step) -> Vec<ProcessId> {
    match *step {
        Step::Open(process, _) | Step::Close(process) | Step::Detach(process) => vec![process],
        Step::Apply(process, _, Call::Forked { child }) => vec![process, child],
        Step::Apply(process, ..) => vec![process],
    }
}

proptest! {
    #[test]
    fn a_live_set_that_was_folded_answers_as_before(steps in steps(200)) {
        let mut live = LiveSet::new().with_timeline();
        for step in &steps {
            take(&mut live, step);
        }
        compare(&mut recorded(&mut live), &mut live)?;
    }

    #[test]
    fn and_goes_on_as_it_would_have(first in steps(100), then in steps(40)) {
        let mut live = LiveSet::new().with_timeline();
        for step in &first {
            take(&mut live, step);
        }
        let mut unfolded = recorded(&mut live);
        // What only comes, and what ends, needs no single blocks. New addresses, so that nothing is replaced.
        let late = Nanos(1000);
        for (number, (at, step)) in then.into_iter().enumerate() {
            // What a family holds together is not known any more.
            let has_kin = |id| live.families.has_kin(id);
            if concerned(&step).into_iter().any(has_kin) {
                continue;
            }
            let step = match step {
                Step::Apply(process, thread, Call::Allocated { function, size, stack, .. }) => {
                    let address = Address(0x10_0000 + number as u64);
                    Step::Apply(process, thread, Call::Allocated { function, address, size, stack })
                }
                Step::Apply(process, thread, Call::Exited { status }) => {
                    Step::Apply(process, thread, Call::Exited { status })
                }
                Step::Close(process) => Step::Close(process),
                _ => continue,
            };
            let step = (Nanos(late.0 + at.0), step);
            take(&mut live, &step);
            take(&mut unfolded, &step);
        }
        compare(&mut unfolded, &mut live)?;
    }

    #[test]
    fn what_was_shed_is_told_by_the_next_fold_as_if_it_had_stayed(steps in steps(200), most in 0..3_usize) {
        let mut whole = LiveSet::new().with_timeline();
        let mut shedding = LiveSet::new().with_timeline();
        let mut shed: Vec<Remains> = Vec::new();
        for step in &steps {
            let is_shed = |id: ProcessId| shed.iter().any(|remains| remains.process.id == id);
            // Nothing is said of one that is forgotten.
            if concerned(&step.1).into_iter().any(is_shed) {
                continue;
            }
            // A child that was never opened leaves nothing.
            let opened = concerned(&step.1).into_iter().map(|id| (step.0, Step::Open(id, 0)));
            for step in opened.chain([*step]) {
                take(&mut whole, &step);
                take(&mut shedding, &step);
            }
            while let Some(remains) = shedding.shed(most) {
                shed.extend(parts_of_remains(remains));
            }
            prop_assert_eq!(shedding.totals(), whole.totals());
            for moment in [Moment::Peak, Moment::End] {
                let of_all = |live: &LiveSet| live.snapshot(Scope::All, moment);
                prop_assert_eq!(of_all(&shedding), of_all(&whole), "{:?}", moment);
            }
        }
        let mut fold = shedding.fold();
        fold.take_in(&shed);
        let mut unfolded = LiveSet::unfold(&fold);
        for process in whole.processes.iter().filter(|process| !process.released) {
            if let Some(at) = process.ended {
                unfolded.detach(process.id, at);
            }
        }
        compare(&mut unfolded, &mut whole)?;
    }

    #[test]
    fn a_fold_that_claims_anything_is_taken_for_what_it_is(bytes: Vec<u8>, steps in steps(20)) {
        let mut live = LiveSet::new().with_timeline();
        for step in &steps {
            take(&mut live, step);
        }
        let mut body = postcard::to_stdvec(&parts(live.fold(), true, None)).unwrap();
        for pair in bytes.chunks_exact(2) {
            let at = usize::from(pair[0]) * body.len() / 256;
            body[at] = pair[1];
        }
        if let Ok(damaged) = postcard::from_bytes::<Vec<crate::record::FoldPart>>(&body) {
            let mut together = FoldParts::default();
            for (fold, ..) in damaged.into_iter().filter_map(|part| together.take(part)) {
                let mut live = LiveSet::unfold(&fold);
                live.timeline();
                live.snapshot(Scope::All, Moment::End);
                for step in &steps {
                    take(&mut live, step);
                }
                live.snapshot(Scope::All, Moment::Peak);
            }
        }
    }
}
