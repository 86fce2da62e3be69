//! What a later writer may write, and what nobody may.

use super::*;

#[test]
fn a_later_writer_may_add_what_this_reader_passes_over() {
    // A kind of entry from 0x80 on, a field at the end of a body, a part after the last, a type of chunk from 0x80 on.
    let closing = br#"{"ended_ns":5,"reason":"x","mood":"sunny"}"#;
    let mut entries = Vec::new();
    content::put_entry(&mut entries, 0, 0xf0, b"whatever");
    content::put_entry(&mut entries, 0, 4, &[1, 0, 2, 0, 99, 99]);
    content::put_entry(&mut entries, 0, 10, closing);
    let mut bytes = hostile(ENTRIES, &entries);
    let columns: [&[u8]; 12] = [
        &[0],
        &[2],
        &[0],
        &[1, 1],
        &[],
        &[],
        &[],
        &[],
        &[],
        &[],
        // An event that tells a function of which this reader makes nothing.
        &[15, 8],
        b"new",
    ];
    let with_events = hostile(EVENTS, &events(1, 0, &columns));
    bytes.extend(&with_events[FILE_HEADER..]);
    let optional = ChunkHeader {
        kind: 0xff,
        packed: true,
        stored: 4,
        unpacked: 1,
        checksum: 0,
    };
    bytes.splice(16..16, [&optional.encode(b"abcd")[..], b"abcd"].concat());
    let (back, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    let oom = Event {
        at: Nanos(TICK),
        process: ProcessId(1),
        thread: Tid(1),
        call: Call::OomVictim,
    };
    assert_eq!(
        back,
        [
            Entry::Frame(Frame {
                index: FrameIndex(1),
                module: None,
                offset: 2,
                kind: FrameKind::Native
            }),
            Entry::Closing(Closing {
                ended_ns: 5,
                reason: "x".into()
            }),
            Entry::Events(vec![oom]),
        ]
    );
}

/// Of what is left out of the figures the reader says so, once of each kind.
#[test]
fn what_a_later_writer_cannot_do_without_is_passed_over_and_told() {
    // Twice an entry and a chunk of kind 70. Between a block that comes and goes, events of kind 64, in which a block comes and an address and a
    // size are told; of kind 200, of which nothing is said; and of kind 64 again, by another function.
    let mut entries = Vec::new();
    content::put_entry(&mut entries, 0, 70, b"whatever");
    content::put_entry(&mut entries, 0, 70, b"whatever");
    let columns: [&[u8]; 11] = [
        &[0, 1, 2, 3, 4],
        &[2, 2, 2, 2, 2],
        &[0; 5],
        &[1, 1],
        // Block 1: the thread named none before, and the first block is 1.
        &[1],
        &[40],
        &[],
        &[100, 7, 8],
        &[9],
        &[],
        &[1, 2, 64, 0, 3, 0, 5, 7, 0xc8, 1, 0, 1, 7, 64, 5, 0, 5, 0],
    ];
    let mut bytes = hostile(ENTRIES, &entries);
    let with_events = hostile(EVENTS, &events(5, 1, &columns));
    bytes.extend(&with_events[FILE_HEADER..]);
    for _ in 0..2 {
        bytes.extend(&hostile(70, b"abcd")[FILE_HEADER..]);
    }
    let (back, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    let told = |at, what: &str| {
        Entry::Loss(Loss {
            at_ns: at * TICK,
            pid: None,
            command: String::new(),
            kind: LossKind::Unknown,
            why: format!("a later one wrote {what} into the recording"),
        })
    };
    let event = |at, call| Event {
        at: Nanos(at * TICK),
        process: ProcessId(1),
        thread: Tid(1),
        call,
    };
    let address = Names::new().rename(&event(
        0,
        Call::Allocated {
            function: FunctionIndex(1),
            address: Address(16),
            size: 0,
            stack: StackIndex(0),
        },
    ));
    let Call::Allocated { address, .. } = address.call else {
        panic!("{address:?}")
    };
    let allocated = Call::Allocated {
        function: FunctionIndex(1),
        address,
        size: 100,
        stack: StackIndex(9),
    };
    let freed = Call::Freed { address, header: 0 };
    assert_eq!(
        back,
        [
            told(0, "entries of kind 70"),
            Entry::Events(vec![event(1, allocated), event(5, freed)]),
            told(2, "events of kind 64"),
            told(5, "chunks of type 70"),
        ]
    );
}

#[test]
fn what_means_nothing_is_damage() {
    let with_entry = |kind, body: &[u8]| damage_of(&hostile(ENTRIES, &entry(kind, body)));
    assert_eq!(with_entry(63, b""), Damage::Entry(63));
    assert_eq!(with_entry(3, b"\x00\x00\x03\xff\xfe"), Damage::Text);
    assert!(matches!(with_entry(10, b"{"), Damage::Json(_)));
    assert!(matches!(
        with_entry(8, b"\x00\x00\x07\x00"),
        Damage::Field { .. }
    ));

    // Columns: tags, times, threads, new threads, blocks, addresses, headers, sizes, stacks, rest, new tags.
    let with_event = |tag: u8, kind: &[u8], thread: u8, block: u8| {
        let columns: [&[u8]; 11] = [
            &[tag],
            &[0],
            &[thread],
            &[1, 1],
            &[block],
            &[0],
            &[0],
            &[],
            &[],
            &[],
            kind,
        ];
        hostile(EVENTS, &events(1, 0, &columns))
    };
    const FREED: &[u8] = &[4, 0];
    let (back, error) = read(&with_event(0, FREED, 0, 0));
    assert!(error.is_none() && back.len() == 1, "{error:?}");
    for kind in [0, 26, 63] {
        let damage = damage_of(&with_event(0, &[kind, 0], 0, 0));
        assert_eq!(damage, Damage::Kind(kind));
    }
    // An allocation without its function.
    assert_eq!(damage_of(&with_event(0, &[1, 0], 0, 0)), Damage::Kind(1));
    assert_eq!(damage_of(&with_event(1, FREED, 0, 0)), Damage::Reference);
    assert_eq!(damage_of(&with_event(0, FREED, 1, 0)), Damage::Reference);
    assert_eq!(damage_of(&with_event(0, FREED, 0, 1)), Damage::LeftOver);
    assert_eq!(damage_of(&with_event(0, &[15, 0], 0, 0)), Damage::LeftOver);
    // A process in a cgroup that was not told of.
    let process = br#"{"id":1,"pid":1,"ns_pid":1,"parent":null,"command":"","cgroup":3,"started_unix_ns":0,"from_ns":0,"origin":"launched","baseline_bytes":0}"#;
    assert_eq!(with_entry(2, process), Damage::Reference);

    // The same of version 3.
    let with_third = |tag: u8, thread: u8, block: u8| {
        let columns: [&[u8]; 10] = [
            &[tag],
            &[0],
            &[thread],
            &[1, 1],
            &[block],
            &[0],
            &[0],
            &[],
            &[],
            &[],
        ];
        hostile(THIRD_EVENTS, &older::third_laid_out([0; 8], &columns))
    };
    let (back, error) = read(&with_third(3, 0, 0));
    assert!(error.is_none() && back.len() == 1, "{error:?}");
    for tag in [0, 12, 0x1d, 0x13, 0x01, 0xe1, 0xf2] {
        assert_eq!(damage_of(&with_third(tag, 0, 0)), Damage::Call(tag));
    }
    assert_eq!(damage_of(&with_third(3, 1, 0)), Damage::Reference);
    assert_eq!(damage_of(&with_third(3, 0, 1)), Damage::LeftOver);

    // The same of versions 1 and 2: entries, tags, times, threads, new threads, repeats, new addresses, headers, ...
    let with_older = |tag: u8, thread: u8, repeat: u8| {
        let parts: [&[u8]; 11] = [
            &[],
            &[tag],
            &[0],
            &[thread],
            &[1, 1],
            &[repeat],
            &[0],
            &[0],
            &[],
            &[],
            &[],
        ];
        hostile(OLDER, &older::laid_out(&parts))
    };
    let (back, error) = read(&with_older(3, 0, 0));
    assert!(error.is_none() && back.len() == 1, "{error:?}");
    assert_eq!(damage_of(&with_older(3, 0, 1)), Damage::Reference);
    assert_eq!(damage_of(&with_older(0x1e, 0, 0)), Damage::Call(0x1e));
}
