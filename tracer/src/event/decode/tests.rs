use proptest::prelude::*;

use super::*;

fn bytes_of(raw: &RawEvent) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [raw.at_ns, raw.address, raw.size, raw.stack] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [raw.process, raw.tid, raw.epoch] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend([raw.kind, raw.flags, raw.function, raw.slot]);
    bytes
}

#[test]
fn an_allocation_keeps_all_its_parts() {
    let raw = RawEvent {
        at_ns: 1,
        address: 2,
        size: 3,
        stack: 4,
        process: 5,
        tid: 6,
        epoch: 7,
        kind: EventKind::Allocated as u8,
        flags: 0,
        function: Function::Calloc as u8,
        slot: 0,
    };
    let read = raw_event(&bytes_of(&raw)).expect("48 bytes are an event");
    let decoded = decode(&read, |identity| StackIndex(identity as u32 + 10));
    assert_eq!(
        decoded,
        Some(Decoded::Event(Event {
            at: Nanos(1),
            process: ProcessId(5),
            thread: Tid(6),
            call: Call::Allocated {
                function: Function::Calloc.into(),
                address: Address(2),
                size: 3,
                stack: StackIndex(14),
            },
        }))
    );
}

/// What a record of this kind about 16 pages at 0x10000 says, made by thread 6 of process 5.
fn mapping_of(kind: EventKind, function: u8, flags: u8) -> Option<Call> {
    let raw = RawEvent {
        address: 0x1_0000,
        size: 0x1_0000,
        stack: 4,
        kind: kind as u8,
        function,
        flags,
        ..RawEvent::default()
    };
    match decode(&raw, |identity| StackIndex(identity as u32 + 10))? {
        Decoded::Event(event) => Some(event.call),
        Decoded::Lifecycle { .. } | Decoded::Named { .. } | Decoded::Stranger(_) => None,
    }
}

#[test]
fn a_mapping_keeps_its_range_and_its_traits() {
    let range = Range {
        start: Address(0x1_0000),
        length: 0x1_0000,
    };
    let stack = StackIndex(14);
    let mapped = |function, flags, traits| {
        assert_eq!(
            mapping_of(EventKind::Mapped, function, flags),
            Some(Call::Mapping(Mapping::Mapped {
                range,
                traits,
                stack
            }))
        );
    };
    let none = Traits {
        committed: false,
        file: false,
        shared: false,
        stack: false,
        by_allocator: false,
    };
    mapped(0, 0, none);
    mapped(
        MAPPING_COMMITTED | MAPPING_STACK,
        0,
        Traits {
            committed: true,
            stack: true,
            ..none
        },
    );
    mapped(
        MAPPING_FILE | MAPPING_SHARED,
        FLAG_BY_ALLOCATOR,
        Traits {
            file: true,
            shared: true,
            by_allocator: true,
            ..none
        },
    );
    assert_eq!(
        mapping_of(EventKind::Remapped, MAPPING_KEEPS_OLD, 0),
        Some(Call::Mapping(Mapping::Remapped {
            range,
            keeps_old: true,
            by_allocator: false,
            stack
        }))
    );
    assert_eq!(
        mapping_of(EventKind::Protected, MAPPING_COMMITTED, 0),
        Some(Call::Mapping(Mapping::Protected {
            range,
            committed: true,
            stack
        }))
    );
}

#[test]
fn a_moved_break_tells_where_it_was_and_where_it_is() {
    let raw = RawEvent {
        address: 0x3000,
        size: 0x1000,
        stack: 4,
        kind: EventKind::BreakMoved as u8,
        flags: FLAG_BY_ALLOCATOR,
        ..RawEvent::default()
    };
    let decoded = decode(&raw, |_| StackIndex::NONE);
    let Some(Decoded::Event(event)) = decoded else {
        panic!("{decoded:?}");
    };
    assert_eq!(
        event.call,
        Call::Mapping(Mapping::BreakMoved {
            old: Address(0x1000),
            new: Address(0x3000),
            by_allocator: true,
            stack: StackIndex::NONE,
        })
    );
}

#[test]
fn a_stranger_is_told_by_its_pid_and_its_name() {
    let told = |kind: EventKind| {
        let raw = RawEvent {
            at_ns: 3,
            address: 42,
            size: u64::from_le_bytes(*b"a-progra"),
            stack: u64::from_le_bytes(*b"m\0\0\0\0\0\0\0"),
            kind: kind as u8,
            ..RawEvent::default()
        };
        decode(&raw, |_| StackIndex::NONE)
    };
    let stranger = |has_executed| {
        Some(Decoded::Stranger(Stranger {
            at: Nanos(3),
            pid: 42,
            name: *b"a-program\0\0\0\0\0\0\0",
            has_executed,
        }))
    };
    assert_eq!(told(EventKind::StrangerForked), stranger(false));
    assert_eq!(told(EventKind::StrangerExecuted), stranger(true));
}

#[test]
fn a_record_that_is_too_short_is_no_event() {
    assert!(raw_event(&[0; 47]).is_none());
    assert!(stack_definition(&[0; 23]).is_none());
}

#[test]
fn a_stack_that_claims_more_frames_than_it_has_is_refused() {
    let mut bytes = [0u8; 32 + 8];
    bytes[20] = 2;
    assert!(stack_definition(&bytes).is_none());
    bytes[20] = 1;
    bytes[24] = 1;
    assert!(
        stack_definition(&bytes).is_none(),
        "no Python frame follows"
    );
    bytes[24] = 0;
    assert_eq!(
        stack_definition(&bytes).map(|stack| stack.frames.len()),
        Some(1)
    );
}

proptest! {
    #[test]
    fn any_bytes_decode_to_something_or_nothing_but_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..96),
    ) {
        if let Some(raw) = raw_event(&bytes) {
            let _ = decode(&raw, |_| StackIndex::NONE);
        }
        let _ = stack_definition(&bytes);
    }
}
