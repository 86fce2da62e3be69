//! What the kernel side is told of traced processes.

use aya::programs::{RawTracePoint, RawTracePointRunOptions, TestRun as _};
use highwater_common::{
    process::{
        ProcessUpdate, TracedProcess, UPDATE_CODE, UPDATE_EPOCH, UPDATE_LIBRARY, UPDATED,
        UPDATED_NOTHING,
    },
    python::{CodeKey, Interpreter},
    stranger::Strangers,
    unwind::CodeRange,
};

use super::{IMAGE, Kernel, UPDATE, attaching};
use crate::{event::ProcessId, probe::ProbeError};

impl Kernel {
    /// The number of a program image that is about to be registered, which nothing else has had.
    pub fn new_image(&mut self) -> Result<ProcessId, ProbeError> {
        match self.run(IMAGE, [0; 12])? {
            0 => Err(ProbeError::Object(format!("{IMAGE} gave no number"))),
            image => Ok(ProcessId(image)),
        }
    }

    /// Declares a process traced, or changes what the kernel side knows of its flags and its library. Nothing happens if it
    /// has called exec since it had this identity: the kernel side has said so, or is about to.
    pub fn set_process(&mut self, process: TracedProcess) -> Result<(), ProbeError> {
        let tgid = process.tgid;
        let updated = self.update(&ProcessUpdate {
            tgid,
            identity: process.identity,
            what: UPDATE_LIBRARY,
            flags: process.flags,
            libc_start: process.libc_start,
            libc_end: process.libc_end,
            allocator_start: process.allocator_start,
            allocator_end: process.allocator_end,
            ..ProcessUpdate::default()
        })?;
        if updated != UPDATED_NOTHING {
            return Ok(());
        }
        self.processes
            .insert(tgid, process, 0)
            .map_err(|source| ProbeError::Map {
                name: "PROCESSES",
                source,
            })?;
        self.tell_of_change()
    }

    /// Changes the flags of an image of which nothing else is known yet. Says whether the process runs it still.
    pub fn set_flags(
        &mut self,
        tgid: u32,
        image: ProcessId,
        flags: u32,
    ) -> Result<bool, ProbeError> {
        let updated = self.update(&ProcessUpdate {
            tgid,
            identity: image.0,
            what: UPDATE_LIBRARY,
            flags,
            ..ProcessUpdate::default()
        })?;
        Ok(updated == UPDATED)
    }

    /// From here on the kernel side tells of the forks and execs of processes that are not traced, too.
    pub fn hear_of_strangers(&mut self) -> Result<(), ProbeError> {
        let wanted = Strangers {
            wanted: 1,
            ..Strangers::default()
        };
        self.strangers
            .set(0, wanted, 0)
            .map_err(|source| ProbeError::Map {
                name: "STRANGERS",
                source,
            })
    }

    /// What the kernel side knows of a process now.
    pub fn process(&self, tgid: u32) -> Option<TracedProcess> {
        self.processes.get(&tgid, 0).ok()
    }

    /// A process is traced no more; its hits count as strangers'.
    pub fn forget_process(&mut self, tgid: u32) {
        // It may have ended meanwhile, and the kernel side forgotten it itself.
        let _ = self.processes.remove(&tgid);
        if let Err(error) = self.tell_of_change() {
            log::error!("process {tgid} may be traced for a moment longer: {error}");
        }
        self.tables.drop_ranges(tgid);
    }

    /// A process has ended, or become another program: the room of its code ranges is free.
    pub fn release_code(&mut self, tgid: u32) {
        self.tables.drop_ranges(tgid);
    }

    /// Tells the kernel side where a process's code lies now, which interpreter it has, and of a new mapping epoch in the same moment; remembered walks
    /// of it are dropped. Nothing happens if the process runs another image by now.
    pub fn set_code(
        &mut self,
        (tgid, image): (u32, ProcessId),
        ranges: &[CodeRange],
        interpreter: u32,
        new_epoch: bool,
    ) -> Result<(), ProbeError> {
        if self.process(tgid).is_none() {
            return Ok(());
        }
        let (code_start, code_count) = self.tables.put_ranges(tgid, ranges)?;
        let epoch = if new_epoch { UPDATE_EPOCH } else { 0 };
        self.update(&ProcessUpdate {
            tgid,
            identity: image.0,
            what: UPDATE_CODE | epoch,
            code_start,
            code_count,
            interpreter,
            ..ProcessUpdate::default()
        })?;
        Ok(())
    }

    /// Tells the kernel side of a Python interpreter.
    pub fn set_interpreter(
        &mut self,
        slot: u32,
        interpreter: Interpreter,
    ) -> Result<(), ProbeError> {
        self.interpreters
            .set(slot, interpreter, 0)
            .map_err(|source| ProbeError::Map {
                name: "INTERPRETERS",
                source,
            })
    }

    /// Has the kernel side send code objects of Python again, should they run.
    pub fn forget_code(&mut self, keys: &[CodeKey]) {
        for key in keys {
            // It may have forgotten it before.
            let _ = self.sent_code.remove(key);
        }
    }

    /// Changes what the kernel side knows of a process, which may be about to change it as well. Says what became of it:
    /// `UPDATED*`.
    fn update(&mut self, update: &ProcessUpdate) -> Result<u32, ProbeError> {
        self.run(UPDATE, update.arguments())
    }

    /// Runs a program that is attached to nothing, and gives what it answers.
    fn run(&mut self, name: &str, args: [u64; 12]) -> Result<u32, ProbeError> {
        let failed = |source| attaching(name, source);
        let program: &RawTracePoint = self
            .ebpf
            .program(name)
            .ok_or_else(|| ProbeError::Object(format!("it has no program {name}")))?
            .try_into()
            .map_err(failed)?;
        let run = RawTracePointRunOptions { args, cpu: None };
        Ok(program.test_run(run).map_err(failed)?.return_value)
    }

    /// Lets threads copy their process anew.
    fn tell_of_change(&mut self) -> Result<(), ProbeError> {
        self.changed += 1;
        self.changes
            .set(0, self.changed, 0)
            .map_err(|source| ProbeError::Map {
                name: "CHANGES",
                source,
            })
    }
}
