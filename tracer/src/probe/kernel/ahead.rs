//! Programs that are verified while others are still being started: the kernel takes most of the time of an attach to verify the
//! large ones, and it verifies on the thread that asks.

use std::{
    collections::HashMap,
    ffi::CString,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    thread::{Builder, JoinHandle},
};

use aya_obj::Function;

use crate::priority;
use crate::probe::sys::{self, Purpose};

/// A program as the kernel is asked to load it.
pub(super) struct Unloaded {
    /// Its name in the object.
    pub name: String,
    /// Its instructions, relocated.
    pub function: Function,
    /// What it may call depends on this.
    pub license: CString,
    /// The object's type information, in the kernel.
    pub btf: Arc<OwnedFd>,
    /// What it will run at.
    pub purpose: Purpose,
}

impl Unloaded {
    /// Has the kernel verify it. On failure the second part is the verifier's log.
    pub(super) fn load(&self) -> Result<OwnedFd, (io::Error, String)> {
        let btf = self.btf.as_fd();
        sys::load_program(&self.name, &self.function, &self.license, btf, self.purpose)
    }
}

/// Programs that threads of ours are loading, or have loaded.
#[derive(Default)]
pub(super) struct Ahead {
    coming: HashMap<(String, Purpose), Receiver<OwnedFd>>,
    threads: Vec<JoinHandle<()>>,
}

impl Ahead {
    /// Loads these one after another, beside what the caller does.
    pub(super) fn start(&mut self, programs: Vec<Unloaded>) {
        let mut senders = Vec::with_capacity(programs.len());
        for program in programs {
            let (sender, receiver) = channel();
            let key = (program.name.clone(), program.purpose);
            self.coming.insert(key, receiver);
            senders.push((program, sender));
        }
        let load = move || {
            priority::give_way();
            for (program, sender) in senders {
                match program.load() {
                    // Nobody may want it any more.
                    Ok(loaded) => drop(sender.send(loaded)),
                    Err((error, _)) => log::debug!("{} ahead of its use: {error}", program.name),
                }
            }
        };
        match Builder::new().name("hw-load".to_owned()).spawn(load) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => log::debug!("programs are loaded at their use: {error}"),
        }
    }

    /// Waits for a program that was to be loaded, once. `None` if none was, or it could not be: whoever wants it finds out why.
    pub(super) fn take(&mut self, name: &str, purpose: Purpose) -> Option<OwnedFd> {
        let coming = self.coming.remove(&(name.to_owned(), purpose))?;
        coming.recv().ok()
    }
}

impl Drop for Ahead {
    /// The programs name their maps by descriptors, which are open only for as long as the owner of this lives.
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::debug!("a thread that loads programs panicked");
            }
        }
    }
}
