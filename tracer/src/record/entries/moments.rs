//! Entries about a moment: names of threads, marks, samples of memory, ends of processes.

use super::super::damage::Damage;
use super::super::fields::Fields;
use super::super::varint::{put, put_bytes};
use super::super::{EndReason, Mark, MarkKind, MemorySample, ProcessEnd, ThreadName};
use super::{END, MARK, MEMORY, THREAD_NAME, meaningless};
use crate::event::{Nanos, ProcessId, Tid};

const MOMENT: u8 = 1;
const BEGIN: u8 = 2;
const SPAN_END: u8 = 3;

const EXITED: u8 = 1;
const SIGNAL: u8 = 2;
const OOM_KILLED: u8 = 3;
const EXECUTED: u8 = 4;
const DETACHED: u8 = 5;
const VANISHED: u8 = 6;

pub(super) fn put_thread_name(to: &mut Vec<u8>, name: &ThreadName) -> u8 {
    let ThreadName {
        at,
        process,
        thread,
        name,
    } = name;
    put(to, at.0);
    put(to, process.0.into());
    put(to, thread.0.into());
    put_bytes(to, name.as_bytes());
    THREAD_NAME
}

pub(super) fn thread_name(fields: &mut Fields) -> Result<ThreadName, Damage> {
    Ok(ThreadName {
        at: Nanos(fields.unsigned()?),
        process: ProcessId(fields.unsigned_32()?),
        thread: Tid(fields.unsigned_32()?),
        name: fields.text()?,
    })
}

pub(super) fn put_mark(to: &mut Vec<u8>, mark: &Mark) -> u8 {
    let Mark {
        at,
        process,
        kind,
        name,
    } = mark;
    put(to, at.0);
    put(to, process.map_or(0, |process| u64::from(process.0) + 1));
    to.push(match kind {
        MarkKind::Moment => MOMENT,
        MarkKind::Begin => BEGIN,
        MarkKind::End => SPAN_END,
    });
    put_bytes(to, name.as_bytes());
    MARK
}

pub(super) fn mark(fields: &mut Fields) -> Result<Mark, Damage> {
    Ok(Mark {
        at: Nanos(fields.unsigned()?),
        process: fields.optional_32()?.map(ProcessId),
        kind: match fields.byte()? {
            MOMENT => MarkKind::Moment,
            BEGIN => MarkKind::Begin,
            SPAN_END => MarkKind::End,
            kind => return Err(meaningless("kind of a mark", kind)),
        },
        name: fields.text()?,
    })
}

pub(super) fn put_memory(to: &mut Vec<u8>, sample: &MemorySample) -> u8 {
    let MemorySample {
        at,
        process,
        rss,
        anon,
        file,
        shmem,
        swap,
        cgroup_current,
        cgroup_limit,
    } = sample;
    let values = [rss, anon, file, shmem, swap, cgroup_current, cgroup_limit];
    put(to, at.0);
    put(to, process.0.into());
    let known = values.iter().enumerate().fold(0, |known, (bit, value)| {
        known | u8::from(value.is_some()) << bit
    });
    to.push(known);
    for value in values.into_iter().flatten() {
        put(to, *value);
    }
    MEMORY
}

pub(super) fn memory(fields: &mut Fields) -> Result<MemorySample, Damage> {
    let at = Nanos(fields.unsigned()?);
    let process = ProcessId(fields.unsigned_32()?);
    let known = fields.byte()?;
    if known & 0x80 != 0 {
        return Err(meaningless("known values of a memory sample", known));
    }
    let mut values = [None; 7];
    for (bit, value) in values.iter_mut().enumerate() {
        if known >> bit & 1 != 0 {
            *value = Some(fields.unsigned()?);
        }
    }
    let [rss, anon, file, shmem, swap, cgroup_current, cgroup_limit] = values;
    Ok(MemorySample {
        at,
        process,
        rss,
        anon,
        file,
        shmem,
        swap,
        cgroup_current,
        cgroup_limit,
    })
}

pub(super) fn put_end(to: &mut Vec<u8>, end: &ProcessEnd) -> u8 {
    let ProcessEnd {
        at,
        process,
        reason,
    } = end;
    let (reason, detail) = match *reason {
        EndReason::Exited { code } => (EXITED, code),
        EndReason::Signal { signal } => (SIGNAL, signal),
        EndReason::OomKilled => (OOM_KILLED, 0),
        EndReason::Executed => (EXECUTED, 0),
        EndReason::Detached => (DETACHED, 0),
        EndReason::Vanished => (VANISHED, 0),
    };
    put(to, at.0);
    put(to, process.0.into());
    to.extend([reason, detail]);
    END
}

pub(super) fn end(fields: &mut Fields) -> Result<ProcessEnd, Damage> {
    let at = Nanos(fields.unsigned()?);
    let process = ProcessId(fields.unsigned_32()?);
    let reason = fields.byte()?;
    let detail = fields.byte()?;
    let reason = match reason {
        EXITED => EndReason::Exited { code: detail },
        SIGNAL => EndReason::Signal { signal: detail },
        OOM_KILLED => EndReason::OomKilled,
        EXECUTED => EndReason::Executed,
        DETACHED => EndReason::Detached,
        VANISHED => EndReason::Vanished,
        _ => return Err(meaningless("reason of an end", reason)),
    };
    Ok(ProcessEnd {
        at,
        process,
        reason,
    })
}
