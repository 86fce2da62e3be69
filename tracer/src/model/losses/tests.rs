use super::*;

fn of(quality: Option<&Quality>, told: &[record::Loss]) -> Vec<Loss> {
    let account = Account {
        quality,
        is_closed: true,
        told,
        started_ns: 1_000_000_000,
        average_bytes: None,
        ring_bytes: None,
    };
    losses(&account, std::iter::empty())
}

#[test]
fn a_finished_recording_without_an_account_may_have_lost_anything() {
    assert_eq!(of(None, &[]), [Loss::Unaccounted]);
    assert_eq!(Loss::Unaccounted.affects(), Affects::Everything);
    assert_eq!(of(Some(&Quality::default()), &[]), []);
}

#[test]
fn lost_events_have_a_range_only_where_all_of_their_sizes_are_known() {
    let mut quality = Quality {
        lost_allocations: 3,
        ..Quality::default()
    };
    assert_eq!(of(Some(&quality), &[])[0].off(), None);
    quality.losses.push(record::ProcessLosses {
        process: crate::event::ProcessId(0),
        allocations: 2,
        allocated_bytes: 100,
        frees: 0,
        freed_bytes: 0,
        over_share: 0,
        spilled: 0,
    });
    assert_eq!(of(Some(&quality), &[])[0].off(), None);
    quality.losses[0].allocations = 3;
    assert_eq!(of(Some(&quality), &[])[0].off(), Some((100, 0)));
}

#[test]
fn what_a_newer_writer_tells_is_read_and_may_change_anything() {
    let text = r#"{"at_ns":3000000000,"kind":"swallowed_by_a_whale","why":"it swam by"}"#;
    let loss: record::Loss = serde_json::from_str(text).expect("it is read");
    let losses = of(Some(&Quality::default()), &[loss]);
    assert_eq!(losses[0].affects(), Affects::Everything);
    assert_eq!(losses[0].since(), Some(Nanos(3_000_000_000)));
    let words = losses[0].to_string();
    assert!(
        words.contains("+2.0s") && words.contains("it swam by"),
        "{words}"
    );
}

#[test]
fn what_changes_sizes_comes_first() {
    let quality = Quality {
        truncated_depth: 1,
        unfollowed_children: 2,
        ..Quality::default()
    };
    let affects: Vec<_> = of(Some(&quality), &[]).iter().map(Loss::affects).collect();
    assert_eq!(affects, [Affects::LowerBound, Affects::Names]);
}

#[test]
fn of_many_late_processes_the_first_are_named_and_the_rest_counted() {
    let process = |pid: u32| Process {
        id: crate::event::ProcessId(pid),
        pid,
        ns_pid: pid,
        parent: None,
        command: "child".to_owned(),
        cgroup: None,
        started_unix_ns: 0,
        from_ns: 0,
        origin: Origin::Forked {
            missed_ns: u64::from(pid) * 1_000_000,
        },
        baseline_bytes: 0,
    };
    let processes: Vec<Process> = (0..12).map(process).collect();
    let losses = late(processes.iter());
    // The first of them missed nothing.
    assert_eq!(losses.len(), LATE_TOLD + 1);
    let words = losses[LATE_TOLD].to_string();
    assert_eq!(
        words,
        "3 processes more ran for up to 11 ms before their probes were in place."
    );
    assert!(losses.iter().all(Loss::is_grave));
    let pause = Loss::Unaccounted;
    let mut joined: Vec<Loss> = [pause.clone()].into_iter().chain(losses).collect();
    joined.push(pause.clone());
    join_late(&mut joined);
    let words: Vec<String> = joined.iter().map(Loss::to_string).collect();
    let together = "11 processes ran for up to 11 ms before their probes were in place.";
    assert_eq!(words, [&pause.to_string(), together, &pause.to_string()]);
    let alone = vec![Loss::Late {
        pid: 7,
        missed_ns: 9,
    }];
    let mut joined = alone.clone();
    join_late(&mut joined);
    assert_eq!(joined, alone);
}
