//! The instructions of a running process, held against the file that they came from.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Executable mappings of libc in a process.
#[derive(Debug)]
pub struct Text {
    thread: PathBuf,
    file: PathBuf,
    mappings: Vec<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    start: u64,
    length: usize,
    offset: u64,
}

/// Finds the executable mappings of libc in a process.
#[track_caller]
pub fn mapped_text(pid: u32) -> Text {
    let (thread, maps) = living_thread(pid);
    let mut file = PathBuf::new();
    let mut mappings = Vec::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, permissions, offset, _, _, path] = fields[..] else {
            continue;
        };
        if !path.contains("/libc.so") || !permissions.contains('x') {
            continue;
        }
        let hexadecimal = |text: &str| {
            u64::from_str_radix(text, 16).unwrap_or_else(|error| panic!("{line}: {error}"))
        };
        let (start, end) = range.split_once('-').expect("a range has a dash");
        let (start, end) = (hexadecimal(start), hexadecimal(end));
        file = PathBuf::from(path);
        mappings.push(Mapping {
            start,
            length: usize::try_from(end - start).expect("a mapping fits the address space"),
            offset: hexadecimal(offset),
        });
    }
    assert!(!mappings.is_empty(), "process {pid} maps no libc: {maps}");
    Text {
        thread,
        file,
        mappings,
    }
}

/// A thread of a process, as its directory in `/proc`, and its mappings. The first thread may have exited, and has none
/// then, although the process lives.
#[track_caller]
fn living_thread(pid: u32) -> (PathBuf, String) {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/task: {error}"));
    threads
        .flatten()
        .map(|thread| thread.path())
        .find_map(|thread| {
            let maps = fs::read_to_string(thread.join("maps")).ok()?;
            (!maps.is_empty()).then_some((thread, maps))
        })
        .unwrap_or_else(|| panic!("process {pid} maps nothing"))
}

impl Text {
    /// Writes the file's bytes over the code: whatever breakpoints were in it are gone.
    pub fn restore(&self) -> io::Result<()> {
        let memory = self.writable()?;
        let file = File::open(&self.file)?;
        for mapping in &self.mappings {
            let mut now = vec![0; mapping.length];
            memory.read_exact_at(&mut now, mapping.start)?;
            let mut original = now.clone();
            let _ = file.read_at(&mut original, mapping.offset)?;
            for (at, byte) in original.iter().enumerate() {
                if now[at] != *byte {
                    memory.write_all_at(&[*byte], mapping.start + at as u64)?;
                }
            }
        }
        Ok(())
    }

    /// Writes a breakpoint over the first byte of `malloc`, in a process with the C library of this test.
    pub fn break_malloc(&self) -> io::Result<()> {
        let own = mapped_text(std::process::id());
        let here = libc::malloc as *const () as u64;
        let into = here - own.mappings[0].start + own.mappings[0].offset;
        let mapping = &self.mappings[0];
        let at = mapping.start + (into - mapping.offset);
        self.writable()?.write_all_at(&[0xcc], at)
    }

    fn writable(&self) -> io::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .open(self.thread.join("mem"))
    }

    /// How many bytes of libc's code differ from those in its file: each probe changes at least one.
    pub fn changed_bytes(&self) -> io::Result<usize> {
        self.changed_places().map(|places| places.len())
    }

    /// The addresses of those bytes.
    pub fn changed_places(&self) -> io::Result<Vec<u64>> {
        let memory = File::open(self.thread.join("mem"))?;
        let file = File::open(&self.file)?;
        let mut changed = Vec::new();
        for mapping in &self.mappings {
            let mut now = vec![0; mapping.length];
            memory.read_exact_at(&mut now, mapping.start)?;
            // The last page of the mapping goes on behind the end of the file, with zeros.
            let mut original = vec![0; mapping.length];
            let mut read = 0;
            while read < original.len() {
                match file.read_at(&mut original[read..], mapping.offset + read as u64)? {
                    0 => break,
                    count => read += count,
                }
            }
            let bytes = (mapping.start..).zip(now.iter().zip(&original));
            let differing = bytes.filter(|(_, (now, original))| now != original);
            changed.extend(differing.map(|(address, _)| address));
        }
        Ok(changed)
    }
}
