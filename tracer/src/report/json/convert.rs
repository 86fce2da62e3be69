//! From a profile to the members of its JSON.

use super::{
    JsonAnswer, JsonCgroup, JsonExit, JsonHolder, JsonKinds, JsonLoss, JsonMalloc, JsonMemory,
    JsonMemoryMoment, JsonMoment, JsonPause, JsonProcess, JsonProcessMemory, JsonQuality,
    JsonTotals, StackTable,
};
use crate::{
    event::Nanos,
    live::{Holder, Kind, Snapshot, Totals},
    model::Loss,
    record::{EndReason, Origin},
    report::{
        answer::{Answer, Unit, kind_name},
        memory::{Memory, Moments},
        model::{Completion, ProcessProfile, Profile},
    },
    units::time,
};

impl JsonHolder {
    pub(super) fn of(profile: &Profile, holder: &Holder, stacks: &mut StackTable<'_>) -> Self {
        Self {
            stack: stacks.number(holder.stack),
            process: holder.process,
            kind: kind_name(holder.kind),
            bytes: holder.bytes,
            blocks: holder.blocks,
            error_bytes: holder.error_bytes,
            growth_bytes_per_s: profile.growth.get(&holder.key()).copied(),
            thread: holder.thread.map(|thread| thread.0),
        }
    }
}

impl<'a> JsonAnswer<'a> {
    pub(super) fn of(
        profile: &Profile,
        answer: &'a Answer,
        top: Option<usize>,
        stacks: &mut StackTable<'_>,
    ) -> Self {
        let shown = answer.holders.iter().take(top.unwrap_or(usize::MAX));
        Self {
            asked: &answer.words,
            unit: match answer.unit {
                Unit::Bytes => "bytes",
                Unit::BytesPerSecond => "bytes/s",
            },
            at_ns: answer.at.map(|at| profile.since_start(at).0),
            bytes: answer.bytes,
            blocks: answer.blocks,
            of_bytes: answer.of_bytes,
            holders: shown
                .map(|holder| JsonHolder::of(profile, holder, stacks))
                .collect(),
        }
    }
}

impl JsonMoment {
    pub(super) fn of(
        profile: &Profile,
        snapshot: &Snapshot,
        top: Option<usize>,
        stacks: &mut StackTable<'_>,
    ) -> Self {
        let shown = top.unwrap_or(usize::MAX);
        let holders = snapshot.holders.iter().take(shown);
        let holders = holders.map(|holder| JsonHolder::of(profile, holder, stacks));
        let of = |kind| profile.mappings.then(|| snapshot.of(kind).bytes);
        Self {
            at_ns: profile.since_start(snapshot.at).0,
            bytes: snapshot.bytes,
            error_bytes: snapshot.error_bytes,
            blocks: snapshot.blocks,
            by_kind: JsonKinds {
                heap: snapshot.of(Kind::Heap).bytes,
                mapping: of(Kind::Mapping),
                thread_stack: of(Kind::ThreadStack),
                reserved: of(Kind::Reserved),
                file: of(Kind::File),
                shared: of(Kind::Shared),
            },
            holders: holders.collect(),
        }
    }
}

impl<'a> JsonProcess<'a> {
    pub(super) fn of(profile: &'a Profile, process: &'a ProcessProfile) -> Self {
        let known = &process.process;
        let (origin, missed_ns) = match known.origin {
            Origin::Attached => ("attached", None),
            Origin::Launched => ("launched", Some(0)),
            Origin::Forked { missed_ns } => ("forked", Some(missed_ns)),
            Origin::Executed { missed_ns } => ("executed", Some(missed_ns)),
        };
        Self {
            id: known.id,
            pid: known.pid,
            ns_pid: known.ns_pid,
            parent: known.parent,
            command: &known.command,
            cgroup: known.cgroup.as_ref().map(|cgroup| cgroup.path.as_str()),
            container: known
                .cgroup
                .as_ref()
                .and_then(|cgroup| cgroup.container.as_deref()),
            started: time::rfc3339(known.started_unix_ns),
            origin,
            missed_ns,
            traced_from_ns: profile.since_start(Nanos(known.from_ns)).0,
            totals: JsonTotals::of(profile, &process.totals),
            exit: process.ended.as_ref().map(|end| {
                let (reason, code, signal) = match end.reason {
                    EndReason::Exited { code } => ("exited", Some(code), None),
                    EndReason::Signal { signal } => ("signal", None, Some(signal)),
                    EndReason::OomKilled => ("oom-killed", None, Some(9)),
                    EndReason::Executed => ("executed", None, None),
                    EndReason::Detached => ("detached", None, None),
                    EndReason::Vanished => ("vanished", None, None),
                };
                JsonExit {
                    reason,
                    code,
                    signal,
                    at_ns: profile.since_start(end.at).0,
                }
            }),
        }
    }
}

impl JsonTotals {
    /// Of a recording without mappings, what they come to is not known.
    pub(super) fn of(profile: &Profile, totals: &Totals) -> Self {
        let of_mappings = |count| profile.mappings.then_some(count);
        Self {
            allocations: totals.allocations,
            allocated_bytes: totals.allocated_bytes,
            frees: totals.frees,
            freed_bytes: totals.freed_bytes,
            failed_allocations: totals.failed_allocations,
            unmatched_frees: totals.unmatched_frees,
            unmatched_freed_bytes: totals.unmatched_freed_bytes,
            mmaps: of_mappings(totals.mmaps),
            mapped_bytes: of_mappings(totals.mapped_bytes),
            unmaps: of_mappings(totals.unmaps),
            unmapped_bytes: of_mappings(totals.unmapped_bytes),
            unmatched_unmaps: of_mappings(totals.unmatched_unmaps),
            unmatched_unmapped_bytes: of_mappings(totals.unmatched_unmapped_bytes),
            discarded_bytes: of_mappings(totals.discarded_bytes),
        }
    }
}

impl<'a> JsonMemory<'a> {
    pub(super) fn of(profile: &'a Profile) -> Self {
        let of = |memory: &'a Memory| JsonMemoryMoment {
            at_ns: memory.at.map(|at| profile.since_start(at).0),
            rss: memory.rss,
            anon: memory.anon,
            file: memory.file,
            shmem: memory.shmem,
            swap: memory.swap,
            malloc: memory.malloc.map(|malloc| JsonMalloc {
                arenas: malloc.arenas,
                unread_arenas: malloc.unread_arenas,
                unread: malloc.unread,
                kept: malloc.bytes,
                trimmable: malloc.trimmable,
                free: malloc.free,
            }),
            thread_stacks: memory.thread_stacks,
            page_tables: memory.page_tables,
            cgroup: JsonCgroup {
                path: memory.cgroup.as_deref(),
                current: memory.cgroup_current,
                limit: memory.cgroup_limit,
            },
            live: memory.live,
            inherited: memory.inherited,
            before_attach: memory.before_attach,
            unexplained: memory.unexplained,
        };
        let Moments {
            attach, peak, end, ..
        } = &profile.memory;
        let processes = profile.processes.iter().map(|process| {
            let Moments {
                attach, peak, end, ..
            } = &process.memory;
            JsonProcessMemory {
                process: process.process.id,
                attach: of(attach),
                peak: of(peak),
                end: of(end),
                before: process
                    .before
                    .as_ref()
                    .and_then(|makeup| makeup.before.as_ref()),
            }
        });
        Self {
            attach: of(attach),
            peak: of(peak),
            end: of(end),
            processes: processes.collect(),
        }
    }
}

impl<'a> JsonQuality<'a> {
    pub(super) fn of(profile: &'a Profile) -> Self {
        let quality = &profile.quality;
        let told = profile.losses.iter();
        let told = told.filter(|loss| matches!(loss, Loss::Told { .. }));
        let told = told.map(Loss::to_string);
        let ended_by = match &profile.completion {
            Completion::Closed(closing) => Some(closing.reason.as_str()),
            Completion::Unfinished | Completion::Cut(_) | Completion::UnderWay => None,
        };
        Self {
            complete: profile.is_complete(),
            cut: profile.completion.cut_reason(),
            ended_by,
            lost_events: profile.lost_events(),
            lost_allocations: quality.lost_allocations,
            lost_frees: quality.lost_frees,
            lost_process_events: quality.lost_process_events,
            lost_stacks: quality.lost_stacks,
            undefined_stacks: quality.undefined_stacks,
            truncated_stacks: profile.truncated_stacks(),
            truncated_depth: quality.truncated_depth,
            truncated_unreadable: quality.truncated_unreadable,
            truncated_pending: quality.truncated_pending,
            truncated_no_rule: quality.truncated_no_rule,
            truncated_no_code: quality.truncated_no_code,
            truncated_unsupported: quality.truncated_unsupported,
            truncated_frame_pointer: quality.truncated_frame_pointer,
            no_walk_buffer: quality.no_walk_buffer,
            unresolved_frames: profile.unresolved_frames(),
            threads_full: quality.threads_full,
            calls_too_deep: quality.calls_too_deep,
            missed_returns: quality.missed_returns,
            unpaired_returns: quality.unpaired_returns,
            unsafe_returns: quality.unsafe_returns,
            unreadable_results: quality.unreadable_results,
            stack_collisions: quality.stack_collisions,
            malformed_events: quality.malformed_events,
            dropped_samples: quality.dropped_samples,
            python: quality.python,
            unfollowed_children: quality.unfollowed_children,
            sharers: quality.sharers,
            dropped_marks: quality.dropped_marks,
            refused_mark_connections: quality.refused_mark_connections,
            pauses: quality
                .pauses
                .iter()
                .map(|pause| JsonPause {
                    from_ns: profile.since_start(Nanos(pause.from_ns)).0,
                    to_ns: profile.since_start(Nanos(pause.to_ns)).0,
                })
                .collect(),
            patched_functions: quality.patched_functions,
            lost_probes: quality.lost_probes,
            losses: &quality.losses,
            live_may_be_more_bytes: profile.live_may_be_more_bytes(),
            live_may_be_less_bytes: profile.live_may_be_less_bytes(),
            replaced_blocks: profile.totals.replaced_blocks,
            unpaired_resizes: profile.totals.unpaired_resizes,
            unseen: profile.losses.iter().map(JsonLoss::of).collect(),
            notes: told.chain(quality.notes.iter().cloned()).collect(),
        }
    }
}
