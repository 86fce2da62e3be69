//! More events than the ring can take: what is lost is told, and the sums are the truth still.

use highwater_tests::{Recorder, Report, Truth, Victim, alone, privileged, scratch};

/// A ring that some thousand events fill.
const SMALL: &[&str] = &["--ring", "64KiB"];

/// Floods a ring that is much too small, then calms down: the report, and the truth.
fn overload(commands: &[&str]) -> (Report, Truth) {
    let directory = scratch();
    let mut victim = Victim::start("flood");
    // Before the recorder comes: to start a thread allocates too.
    victim.tell("threads");
    let file = directory.path().join("recording.hwm");
    let recorder = Recorder::attach_with(victim.pid(), &file, SMALL);
    let mut truth = Truth::default();
    for command in commands {
        truth = victim.tell(command);
    }
    let report = recorder.interrupt();
    victim.quit();
    (report, truth)
}

/// What a process lost, or all of them together.
fn lost(report: &Report, name: &str, process: Option<u64>) -> u64 {
    let losses = report.json()["quality"]["losses"].as_array();
    let losses = losses.expect("quality.losses is a list");
    let of = losses
        .iter()
        .filter(|losses| process.is_none_or(|process| losses["process"] == process));
    of.filter_map(|losses| losses[name].as_u64()).sum()
}

/// Every call is accounted for, and so is every block that is live at the end.
#[track_caller]
fn assert_books_balance(report: &Report, truth: &Truth) {
    let (lost_allocations, lost_frees) = (
        report.quality("lost_allocations"),
        report.quality("lost_frees"),
    );
    assert_eq!(
        report.total("allocations") + lost_allocations,
        truth.get("allocations"),
        "allocations: seen + lost"
    );
    assert_eq!(
        report.total("allocated_bytes") + lost(report, "allocated_bytes", None),
        truth.get("allocated_bytes"),
        "bytes allocated: seen + lost"
    );
    // A free whose block's allocation was lost is unmatched, or taken for that of an older block that lay there.
    assert_eq!(
        report.total("frees") + report.total("unmatched_frees") + lost_frees,
        truth.get("frees"),
        "frees: of known blocks + of unknown ones + lost"
    );
    assert_eq!(
        (
            lost(report, "allocations", None),
            lost(report, "frees", None)
        ),
        (lost_allocations, lost_frees),
        "the losses of the processes are all there are"
    );
    let end = report.end();
    end.assert_adds_up();
    // Of what is live, lost allocations are missing, unless their frees were seen too; of what is not, those whose frees were
    // lost are there still, unless their addresses were given out again.
    assert_eq!(
        end.blocks + lost_allocations + report.quality("replaced_blocks"),
        truth.get("live_blocks") + report.total("unmatched_frees") + lost_frees,
        "blocks that are live at the end"
    );
    let (more, less) = (
        report.quality("live_may_be_more_bytes"),
        report.quality("live_may_be_less_bytes"),
    );
    let live = truth.get("live_bytes");
    assert!(
        live <= end.bytes + more && end.bytes <= live + less,
        "{live} bytes are live; reported: {}, at most {more} more or {less} less",
        end.bytes
    );
}

#[test]
fn what_was_seen_and_what_was_lost_add_up_to_the_truth() {
    privileged!();
    let _alone = alone();
    let (report, truth) = overload(&["flood 100000"]);
    assert!(
        report.quality("lost_allocations") > 0,
        "the ring overflowed"
    );
    assert!(!report.is_complete());
    assert_books_balance(&report, &truth);
}

#[test]
fn frees_that_find_no_room_are_applied_in_their_order_all_the_same() {
    privileged!();
    let _alone = alone();
    let (report, truth) = overload(&["flood 100000"]);
    assert!(
        lost(&report, "spilled", None) > 0,
        "frees took the long way"
    );
    // None was lost, so a block that is reported as live is live: an order that was not kept would leave some behind.
    assert_eq!(report.quality("lost_frees"), 0);
    assert_eq!(report.quality("replaced_blocks"), 0);
    let end = report.end();
    assert!(
        end.blocks <= truth.get("live_blocks") && end.bytes <= truth.get("live_bytes"),
        "{} bytes in {} blocks at the end of {truth:?}",
        end.bytes,
        end.blocks
    );
}

#[test]
fn a_live_set_heals_once_the_flood_is_over() {
    privileged!();
    let _alone = alone();
    // 4096 slots, drawn at random: of 60 000 draws one in two million misses a given slot. Twice, since a busy machine may
    // still be emptying the ring of the flood as the first calm begins; and three times all of it, since the ring is so small
    // that it overflows in the calm, too, where the machine leaves the reader no processor for some ten milliseconds.
    let heals = (0..3).any(|_| {
        let (report, truth) = overload(&["flood 100000", "calm 60000", "calm 60000"]);
        assert!(
            report.quality("lost_allocations") > 0,
            "the ring overflowed"
        );
        assert_books_balance(&report, &truth);
        if report.quality("lost_frees") > 0 {
            return true;
        }
        // Every block of the flood has been freed, whatever the calm lost ...
        let end = report.end();
        let (bytes, blocks) = (truth.get("live_bytes"), truth.get("live_blocks"));
        assert!(
            end.bytes <= bytes && end.blocks <= blocks,
            "{} bytes in {} blocks at the end of {truth:?}",
            end.bytes,
            end.blocks
        );
        // ... and those since were all seen.
        (end.bytes, end.blocks) == (bytes, blocks)
    });
    assert!(heals, "blocks of the calm are missing, each time");
}

#[test]
fn processes_that_flood_the_ring_take_no_room_from_a_quiet_one() {
    privileged!();
    let _alone = alone();
    let directory = scratch();
    let mut victim = Victim::start("flood");
    let file = directory.path().join("recording.hwm");
    // What a quiet process may always send must outlast a reader that waits for its turn on the processor.
    let recorder = Recorder::attach_with(victim.pid(), &file, &["--ring", "256KiB"]);
    victim.tell("noisy 3");
    victim.tell("quiet 1000");
    let truth = victim.tell("stop");
    let report = recorder.interrupt();
    let quiet = report
        .processes()
        .into_iter()
        .find(|process| process.pid == victim.pid())
        .expect("the victim is in its recording");
    victim.quit();
    assert!(
        report.quality("lost_allocations") > 0,
        "the ring overflowed"
    );
    assert!(
        lost(&report, "over_share", None) > 0,
        "shares were enforced"
    );
    for name in ["allocations", "frees", "over_share"] {
        assert_eq!(
            lost(&report, name, Some(quiet.id)),
            0,
            "{name} of the quiet one"
        );
    }
    let of_quiet = report.json()["processes"].as_array();
    let of_quiet = of_quiet
        .and_then(|all| all.iter().find(|process| process["id"] == quiet.id))
        .map(|process| &process["totals"])
        .expect("it has totals");
    for name in ["allocations", "allocated_bytes", "frees", "freed_bytes"] {
        assert_eq!(of_quiet[name].as_u64(), Some(truth.get(name)), "{name}");
    }
}
