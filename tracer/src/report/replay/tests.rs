use super::super::memory::Moments;
use super::super::script::{MIB, Script};
use super::*;
use crate::event::StackIndex;
use crate::live::Snapshot;

#[test]
fn the_books_of_a_late_attach_balance() {
    let mut script = Script::attached("server", 300 * MIB, 310 * MIB);
    script.memory(0, 0, 310 * MIB);
    // 200 MiB of old blocks go, then 100 MiB of new ones come.
    script.free_unknown(0, 1_000, 200 * MIB);
    script.memory(0, 1_500, 110 * MIB);
    script.allocate(0, 2_000, 1, 100 * MIB);
    script.memory(0, 2_010, 212 * MIB);
    script.detach(0, 3_000);
    let profile = script.closed();
    // The peak is before the old blocks went, not at the most that was traced.
    assert_eq!(profile.peak.bytes, 0);
    let attach = &profile.memory.attach;
    assert_eq!(
        (attach.before_attach, attach.unexplained),
        (Some(310 * MIB), Some(0))
    );
    let end = &profile.memory.end;
    assert_eq!((end.live, end.rss), (100 * MIB, Some(212 * MIB)));
    let left = 310 * MIB - profile.end.freed_baseline_bytes;
    assert_eq!(end.before_attach, Some(left));
    assert_eq!(
        end.unexplained,
        Some((212 * MIB - 100 * MIB) as i64 - left as i64)
    );
}

#[test]
fn holders_add_up_to_the_peak() {
    let mut script = Script::launched("app");
    for n in 1..100 {
        script.allocate(0, n, (n % 7) as u32, n * 100);
        if n % 3 == 0 {
            script.free_last(0, n);
        }
    }
    let profile = script.closed();
    let held: u64 = profile.peak.holders.iter().map(|holder| holder.bytes).sum();
    assert_eq!(held, profile.peak.bytes);
    assert_eq!(profile.processes[0].peak, profile.peak);
    assert_eq!(profile.totals, profile.processes[0].totals);
}

#[test]
fn the_peak_takes_the_sample_nearest_to_it() {
    let mut script = Script::launched("app");
    script.memory(0, 0, MIB);
    script.allocate(0, 95, 1, 8 * MIB);
    script.memory(0, 100, 9 * MIB);
    script.free_last(0, 150);
    script.memory(0, 200, 2 * MIB);
    let profile = script.closed();
    assert_eq!(profile.memory.peak.rss, Some(9 * MIB));
    assert_eq!(profile.memory.peak.unexplained, Some(MIB as i64));
    assert_eq!(profile.memory.end.rss, Some(2 * MIB));
}

#[test]
fn several_processes_are_summed_while_they_are_traced() {
    let mut script = Script::launched("parent");
    script.fork(0, 1, 10);
    script.memory(0, 20, 10 * MIB);
    script.memory(1, 20, 20 * MIB);
    script.allocate(0, 25, 1, MIB);
    script.allocate(1, 30, 2, 15 * MIB);
    script.exit(1, 40, 0);
    script.memory(0, 50, 11 * MIB);
    script.exit(0, 60, 3 << 8);
    let profile = script.closed();
    assert_eq!(profile.memory.attach.rss, Some(10 * MIB));
    let peak = &profile.memory.peak;
    assert_eq!(
        (peak.rss, peak.live, peak.before_attach),
        (Some(30 * MIB), 16 * MIB, Some(0))
    );
    assert_eq!(profile.processes[1].memory.peak.live, 15 * MIB);
    assert_eq!(profile.memory.end.rss, Some(11 * MIB));
    assert_eq!(
        profile.processes[0].end_reason(),
        Some(EndReason::Exited { code: 3 })
    );
}

#[test]
fn an_out_of_memory_kill_is_told_from_a_kill() {
    let mut script = Script::launched("app");
    script.oom_victim(0, 5);
    script.exit(0, 6, 9);
    assert_eq!(
        script.closed().processes[0].end_reason(),
        Some(EndReason::OomKilled)
    );
    let mut script = Script::launched("app");
    script.exit(0, 6, 0x8b);
    assert_eq!(
        script.closed().processes[0].end_reason(),
        Some(EndReason::Signal { signal: 11 })
    );
}

#[test]
fn what_was_read_before_the_damage_is_kept() {
    let mut script = Script::launched("app");
    script.allocate(0, 5, 1, 64);
    let profile = script.cut(ReadError::CutShort { offset: 4096 });
    assert_eq!(profile.peak.bytes, 64);
    assert!(!profile.is_complete());
    assert!(matches!(
        profile.completion,
        Completion::Cut(ReadError::CutShort { offset: 4096 })
    ));
}

#[test]
fn without_an_opening_there_is_no_report() {
    assert!(matches!(
        Profile::replay([].into_iter()),
        Err(ReplayError::NoOpening)
    ));
    let damaged = [Err(ReadError::CutShort { offset: 4096 })].into_iter();
    assert!(matches!(
        Profile::replay(damaged),
        Err(ReplayError::Unreadable(ReadError::CutShort { .. }))
    ));
    let headless = [Ok(Entry::Quality(Quality::default()))].into_iter();
    assert!(matches!(
        Profile::replay(headless),
        Err(ReplayError::NoOpening)
    ));
}

#[test]
fn an_opening_alone_is_an_empty_report() {
    let profile = Script::empty().unfinished();
    assert_eq!((profile.peak.bytes, profile.duration_ns()), (0, 0));
    assert!(profile.main_process().is_none());
    assert!(profile.frames(StackIndex(1)).is_none());
    assert_eq!(profile.memory, Moments::default());
}

#[test]
fn entries_that_refer_to_nothing_do_no_harm() {
    let mut script = Script::empty();
    script.memory(7, 1, 1);
    script.allocate(7, 2, 9, 10);
    script.exit(7, 3, 0);
    script.detach(8, 4);
    assert!(script.closed().processes.is_empty());
}

#[test]
fn the_main_process_is_followed_through_exec() {
    let mut script = Script::launched("sh -c app");
    // A child of which only what it executed was seen.
    script.process(
        7,
        Some(0),
        "sleep 1",
        Origin::Executed { missed_ns: 0 },
        5,
        0,
    );
    script.exec(0, 1, 10, "app");
    script.exec(1, 2, 20, "app --again");
    script.process(
        8,
        Some(2),
        "sleep 2",
        Origin::Executed { missed_ns: 0 },
        25,
        0,
    );
    let profile = script.closed();
    assert_eq!(
        profile
            .main_process()
            .map(|main| main.process.command.as_str()),
        Some("app --again")
    );
    assert_eq!(profile.processes[0].end_reason(), Some(EndReason::Executed));
}

#[test]
fn spans_within_each_other_end_the_last_begun_first_however_many_there_are() {
    const SPANS: u64 = 300_000;
    let mut script = Script::launched("app");
    let mark = |at: u64, kind| {
        Entry::Mark(record::Mark {
            at: Nanos(5_000_000_000 + at),
            process: None,
            kind,
            name: "request".to_owned(),
        })
    };
    // All of them are under way at once: looking for each among the others would take hours.
    for at in 0..SPANS {
        script.entries.push(mark(at, MarkKind::Begin));
    }
    for at in SPANS..2 * SPANS {
        script.entries.push(mark(at, MarkKind::End));
    }
    script.entries.push(mark(2 * SPANS, MarkKind::End));
    let profile = script.closed();
    let marks = &profile.marks;
    assert_eq!(marks.len() as u64, SPANS + 1);
    for (begun, mark) in (0..SPANS).zip(marks) {
        let ended = mark.ended.map(|ended| ended.0 - 5_000_000_000);
        assert_eq!(ended, Some(2 * SPANS - 1 - begun));
    }
    assert_eq!(marks[SPANS as usize].kind, MarkKind::End);
}

#[test]
fn an_error_names_a_few_of_many_marks_each_once() {
    let mut script = Script::launched("app");
    for number in 0..1000 {
        script.entries.push(Entry::Mark(record::Mark {
            at: Nanos(5_000_000_000 + number),
            process: None,
            kind: MarkKind::Moment,
            name: format!("m{}", number % 20),
        }));
    }
    script.close(10, "interrupted");
    let question = Question {
        when: When::At(crate::report::question::Point::Mark("x".into())),
        ..Question::default()
    };
    let entries = script.entries.into_iter().map(Ok);
    let error = Profile::replay_for(entries, &question, Threads::Together);
    let said = error.expect_err("there is no such mark").to_string();
    assert!(said.ends_with("m10, m11 and 8 more"), "{said}");
}

/// Two processes: the first holds 100 from 1 ms on and ends so at 3 ms; the second holds 10, and 50 more from 5 ms on.
fn of_two(reason: EndReason) -> Profile {
    let mut script = Script::launched("first");
    script.process(1, None, "second", Origin::Launched, 0, 0);
    script.stack(1, &["keep", "main"]);
    script.allocate(0, 1, 1, 100);
    script.allocate(1, 2, 1, 10);
    script.end(0, 3, reason);
    script.allocate(1, 5, 1, 50);
    script.exit(1, 6, 0);
    script.closed()
}

#[test]
fn a_process_that_vanished_holds_nothing_any_more() {
    let profile = of_two(EndReason::Vanished);
    let at = |moment: &Snapshot| profile.since_start(moment.at).0 / 1_000_000;
    assert_eq!((profile.peak.bytes, at(&profile.peak)), (110, 2));
    assert_eq!((profile.end.bytes, at(&profile.end)), (60, 6));
}

#[test]
fn a_process_that_was_let_go_of_is_live_at_the_end() {
    let profile = of_two(EndReason::Detached);
    assert_eq!(profile.peak.bytes, 160);
    assert_eq!((profile.end.bytes, profile.end.blocks), (100, 1));
}
