//! Entries of all kinds, for property tests.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Call, Tid};
use crate::record::*;

/// Addresses and sizes come back in real programs, so most are of a few here.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..64u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn mapping() -> impl Strategy<Value = Mapping> {
    let address = || number().prop_map(Address);
    let range = || (address(), number()).prop_map(|(start, length)| Range { start, length });
    let stack = || number().prop_map(|number| StackIndex(number as u32));
    prop_oneof![
        (range(), any::<[bool; 5]>(), stack()).prop_map(|(range, traits, stack)| {
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
        }),
        range().prop_map(|range| Mapping::UnmapBegan { range }),
        Just(Mapping::UnmapFailed),
        range().prop_map(|range| Mapping::RemapBegan { range }),
        (range(), any::<[bool; 2]>(), stack()).prop_map(
            |(range, [keeps_old, by_allocator], stack)| Mapping::Remapped {
                range,
                keeps_old,
                by_allocator,
                stack,
            }
        ),
        Just(Mapping::RemapFailed),
        (address(), address(), any::<bool>(), stack()).prop_map(
            |(old, new, by_allocator, stack)| Mapping::BreakMoved {
                old,
                new,
                by_allocator,
                stack,
            }
        ),
        (range(), any::<bool>(), stack()).prop_map(|(range, committed, stack)| {
            Mapping::Protected {
                range,
                committed,
                stack,
            }
        }),
        range().prop_map(|range| Mapping::Discarded { range }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let number_32 = || number().prop_map(|number| number as u32);
    // Most are of a few; a tag of any other takes more than a byte sooner or later.
    let function = || prop_oneof![4 => 0..20u32, 1 => any::<u32>()].prop_map(FunctionIndex);
    let address = || number().prop_map(Address);
    let stack = || number_32().prop_map(StackIndex);
    let process = || number_32().prop_map(ProcessId);
    let call = prop_oneof![
        (function(), address(), number(), stack()).prop_map(|(function, address, size, stack)| {
            Call::Allocated {
                function,
                address,
                size,
                stack,
            }
        }),
        (function(), number(), stack()).prop_map(|(function, size, stack)| Call::Failed {
            function,
            size,
            stack
        }),
        (address(), number()).prop_map(|(address, header)| Call::Freed { address, header }),
        (address(), number(), any::<u8>()).prop_map(|(address, header, slot)| Call::ResizeBegan {
            address,
            header,
            slot
        }),
        (function(), address(), number(), stack(), any::<u8>()).prop_map(
            |(function, address, size, stack, slot)| Call::Resized {
                function,
                address,
                size,
                stack,
                slot
            }
        ),
        (address(), number(), any::<u8>()).prop_map(|(address, size, slot)| Call::ResizeFailed {
            address,
            size,
            slot
        }),
        (address(), any::<u8>()).prop_map(|(address, slot)| Call::ResizeFreed { address, slot }),
        mapping().prop_map(Call::Mapping),
        process().prop_map(|child| Call::Forked { child }),
        process().prop_map(|next| Call::Executed { next }),
        any::<u32>().prop_map(|status| Call::Exited { status }),
        Just(Call::OomVictim),
        any::<u8>().prop_map(|exponent| Call::Sampling { exponent }),
    ];
    (number(), process(), number_32(), call).prop_map(|(at, process, thread, call)| Event {
        at: Nanos(at),
        process,
        thread: Tid(thread),
        call,
    })
}

fn rare_entry() -> impl Strategy<Value = Entry> {
    let process = || any::<u32>().prop_map(ProcessId);
    let origin = prop_oneof![
        Just(Origin::Attached),
        Just(Origin::Launched),
        any::<u64>().prop_map(|missed_ns| Origin::Forked { missed_ns }),
        any::<u64>().prop_map(|missed_ns| Origin::Executed { missed_ns }),
    ];
    let reason = prop_oneof![
        any::<u8>().prop_map(|code| EndReason::Exited { code }),
        any::<u8>().prop_map(|signal| EndReason::Signal { signal }),
        Just(EndReason::OomKilled),
        Just(EndReason::Executed),
        Just(EndReason::Detached),
        Just(EndReason::Vanished),
    ];
    prop_oneof![
        (
            any::<String>(),
            vec(any::<String>(), 0..4),
            any::<[u64; 3]>()
        )
            .prop_map(|(text, command_line, numbers)| Entry::Opening(Opening {
                highwater: text.clone(),
                command_line,
                kernel: text.clone(),
                started_ns: numbers[0],
                started_unix_ns: numbers[1],
                page_size: numbers[2],
                redacted: numbers[0] % 2 == 0,
                options: [("ring_bytes".to_owned(), text.clone())].into(),
                link: text,
            })),
        (
            process(),
            option::of(process()),
            any::<String>(),
            option::of((any::<String>(), option::of(any::<String>()))),
            any::<[u64; 3]>(),
            any::<[u32; 2]>(),
            origin
        )
            .prop_map(|(id, parent, command, cgroup, numbers, pids, origin)| {
                Entry::Process(Process {
                    id,
                    pid: pids[0],
                    ns_pid: pids[1],
                    parent,
                    command,
                    cgroup: cgroup.map(|(path, container)| Arc::new(Cgroup { path, container })),
                    started_unix_ns: numbers[0],
                    from_ns: numbers[1],
                    origin,
                    baseline_bytes: numbers[2],
                })
            }),
        (number(), process(), reason).prop_map(|(at, process, reason)| Entry::End(ProcessEnd {
            at: Nanos(at),
            process,
            reason
        })),
        (any::<[u64; 3]>(), vec(any::<String>(), 0..3)).prop_map(|(numbers, notes)| {
            Entry::Quality(Quality {
                lost_frees: numbers[0],
                no_walk_buffer: numbers[1],
                unfollowed_children: numbers[2],
                patched_functions: numbers[2],
                lost_probes: numbers[2],
                notes,
                ..Quality::default()
            })
        }),
        (number(), process(), any::<u32>(), any::<String>()).prop_map(
            |(at, process, tid, name)| Entry::ThreadName(ThreadName {
                at: Nanos(at),
                process,
                thread: Tid(tid),
                name
            })
        ),
        (process(), any::<u32>(), any::<u64>()).prop_map(|(process, module, count)| {
            Entry::Loads(Loads {
                process,
                module: ModuleIndex(module),
                count,
            })
        }),
        (
            number(),
            option::of((0..u32::MAX).prop_map(ProcessId)),
            any::<String>(),
            prop_oneof![
                Just(MarkKind::Moment),
                Just(MarkKind::Begin),
                Just(MarkKind::End)
            ]
        )
            .prop_map(|(at, process, name, kind)| Entry::Mark(Mark {
                at: Nanos(at),
                process,
                kind,
                name
            })),
        (
            any::<u64>(),
            option::of(any::<u32>()),
            any::<String>(),
            any::<String>(),
            prop_oneof![
                Just(LossKind::ProbesRemoved),
                Just(LossKind::OtherAllocator),
                Just(LossKind::Unnamed),
                Just(LossKind::NotAttached),
                Just(LossKind::Unsure),
                Just(LossKind::Unknown)
            ]
        )
            .prop_map(|(at_ns, pid, command, why, kind)| Entry::Loss(Loss {
                at_ns,
                pid,
                command,
                kind,
                why
            })),
        (any::<[u64; 4]>(), process(), any::<String>()).prop_map(|(numbers, process, name)| {
            let [at_ns, kept, chunks, bytes] = numbers;
            let used = ChunkSum { chunks, bytes };
            Entry::Makeup(Makeup {
                at_ns,
                process,
                rss: Some(bytes),
                malloc: Some(Malloc {
                    kept,
                    used,
                    ..Malloc::default()
                }),
                thread_stacks: None,
                page_tables: Some(kept),
                before: Some(HeldBefore {
                    sizes: vec![SizeClass {
                        least: 32,
                        chunks,
                        bytes,
                    }],
                    mapped: used,
                    mappings: vec![HeldMapping {
                        name,
                        ..HeldMapping::default()
                    }],
                }),
            })
        }),
        Just(Entry::Fold(FoldPart::End)),
        (any::<u64>(), any::<String>())
            .prop_map(|(ended_ns, reason)| Entry::Closing(Closing { ended_ns, reason })),
    ]
}

fn definition() -> impl Strategy<Value = Entry> {
    let frame = || any::<u32>().prop_map(FrameIndex);
    let name = (
        any::<String>(),
        option::of(any::<String>()),
        option::of(any::<u32>()),
    )
        .prop_map(|(function, file, line)| FunctionName {
            function,
            file,
            line,
        });
    let does = [Does::Allocates, Does::Resizes, Does::Frees, Does::Other];
    prop_oneof![
        (
            any::<u32>(),
            any::<[String; 2]>(),
            prop::sample::select(does.to_vec())
        )
            .prop_map(|(index, [name, allocator], does)| {
                Entry::Function(Function {
                    index: FunctionIndex(index),
                    name,
                    allocator,
                    does,
                })
            }),
        any::<(u32, String)>().prop_map(|(index, name)| {
            let index = RuntimeIndex(index);
            Entry::Runtime(Runtime { index, name })
        }),
        // Paths are bytes, not text.
        (any::<u32>(), any::<Vec<u8>>(), option::of("[0-9a-f]{40}")).prop_map(
            |(index, path, build_id)| Entry::Module(Module {
                index,
                path: PathBuf::from(OsString::from_vec(path)),
                build_id
            })
        ),
        (
            frame(),
            option::of(any::<u32>()),
            any::<u64>(),
            any::<(u8, u32)>()
        )
            .prop_map(|(index, module, offset, (kind, runtime))| {
                let kind = match kind % 3 {
                    0 => FrameKind::Native,
                    1 => FrameKind::Managed(RuntimeIndex(runtime)),
                    _ => FrameKind::Interpreter(RuntimeIndex(runtime)),
                };
                Entry::Frame(Frame {
                    index,
                    module: module.map(ModuleIndex),
                    offset,
                    kind,
                })
            }),
        (frame(), vec(name, 0..4), option::of(any::<String>())).prop_map(
            |(frame, functions, source)| Entry::Names(FrameNames {
                frame,
                functions,
                source
            })
        ),
        (any::<[u32; 2]>(), vec(frame(), 0..20), any::<bool>()).prop_map(
            |(numbers, frames, truncated)| Entry::Stack(Stack {
                index: StackIndex(numbers[0]),
                process: ProcessId(numbers[1]),
                frames,
                truncated
            })
        ),
        (number(), any::<u32>(), any::<[Option<u64>; 7]>()).prop_map(|(at, process, values)| {
            let [rss, anon, file, shmem, swap, cgroup_current, cgroup_limit] = values;
            Entry::Memory(MemorySample {
                at: Nanos(at),
                process: ProcessId(process),
                rss,
                anon,
                file,
                shmem,
                swap,
                cgroup_current,
                cgroup_limit,
            })
        }),
    ]
}

/// An entry of any kind, with any values.
pub(super) fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        1 => rare_entry(),
        3 => definition(),
        4 => vec(event(), 0..20).prop_map(Entry::Events),
    ]
}
