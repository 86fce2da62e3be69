//! A layout held against the process that it is meant for: nothing is stopped, everything is read from outside.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use highwater_common::python::{
    CODE_SIZES, Check, Content, ENTRIES_SHIM, IS_FUNCTION, Interpreter, NOWHERE, SHIM, TEXT_HASH,
};

use super::layout::{Layout, THREAD_DATA};

/// Most interpreters of a process that are looked at.
const MOST_INTERPRETERS: usize = 16;
/// ... and threads of each.
const MOST_THREADS: usize = 256;
/// ... and frames of each.
const MOST_FRAMES: usize = 64;
/// Where in `_PyRuntime` the key is looked for, bytes.
const RUNTIME_BYTES: usize = 16 << 10;
/// Words of a thread's descriptor among which its data are looked for.
const DESCRIPTOR_BYTES: usize = 0x1000;
/// Keys that lie in the descriptor itself.
const KEYS: u32 = 32;
/// Where in a thread's data the first key's value is: behind a sequence number.
const VALUE: u64 = 8;

/// The memory of a process, read while it runs.
#[derive(Debug)]
pub struct Memory {
    file: File,
}

impl Memory {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// It is gone, or not ours to read.
    pub fn open(proc_dir: &Path) -> io::Result<Self> {
        let file = File::open(proc_dir.join("mem"))?;
        Ok(Self { file })
    }

    /// So many bytes.
    pub fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, address).ok()?;
        Some(bytes)
    }

    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_le_bytes(bytes))
    }
}

/// What became of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits: threads and their frames were found by it. What the kernel side is to know.
    Fits(Interpreter),
    /// The interpreter has not begun, or runs nothing yet.
    NotYet,
    /// It does not fit.
    Contradicted(&'static str),
}

/// Holds a layout against a process. `runtime` and `type_of_code` are addresses in it.
pub fn examine(memory: &Memory, layout: &Layout, runtime: u64, type_of_code: u64) -> Verdict {
    let states = match states(memory, layout, runtime) {
        Ok(states) if states.is_empty() => return Verdict::NotYet,
        Ok(states) => states,
        Err(reason) => return Verdict::Contradicted(reason),
    };
    let mut frames = 0;
    for state in &states {
        match frames_of(memory, layout, state.address, type_of_code) {
            Ok(seen) => frames += seen,
            Err(reason) => return Verdict::Contradicted(reason),
        }
    }
    let Some((key, thread_data)) = key(memory, layout, runtime, &states) else {
        return Verdict::Contradicted("its threads keep their states in no place that we know");
    };
    if frames == 0 {
        return Verdict::NotYet;
    }
    Verdict::Fits(Interpreter {
        state_key: key,
        type_of_code,
        thread_data,
        ..layout.kernel
    })
}

/// A thread's state.
struct State {
    address: u64,
    /// Its thread's descriptor.
    thread: u64,
}

fn states(memory: &Memory, layout: &Layout, runtime: u64) -> Result<Vec<State>, &'static str> {
    const UNREADABLE: &str = "its interpreters and threads are not where they should be";
    let word = |address: u64| memory.word(address).ok_or(UNREADABLE);
    let mut states = Vec::new();
    let mut interpreter = word(runtime.wrapping_add(layout.runtime_interpreters))?;
    for _ in 0..MOST_INTERPRETERS {
        if interpreter == 0 {
            break;
        }
        let mut state = word(interpreter.wrapping_add(layout.interpreter_threads))?;
        for _ in 0..MOST_THREADS {
            if state == 0 {
                break;
            }
            if word(state.wrapping_add(layout.state_interpreter))? != interpreter {
                return Err("a thread's state does not name its interpreter");
            }
            let thread = word(state.wrapping_add(layout.kernel.state_thread.into()))?;
            // A state may wait for its thread.
            if thread != 0 {
                states.push(State {
                    address: state,
                    thread,
                });
            }
            state = word(state.wrapping_add(layout.state_next))?;
        }
        interpreter = word(interpreter.wrapping_add(layout.interpreter_next))?;
    }
    Ok(states)
}

/// How many frames a thread has, if that is what they are.
fn frames_of(
    memory: &Memory,
    layout: &Layout,
    state: u64,
    type_of_code: u64,
) -> Result<usize, &'static str> {
    const NO_FRAME: &str = "its frames cannot be read";
    let kernel = &layout.kernel;
    let word = |address: u64| memory.word(address).ok_or(NO_FRAME);
    let mut frame = word(state.wrapping_add(kernel.state_frame.into()))?;
    if kernel.indirect != NOWHERE && frame != 0 {
        frame = word(frame.wrapping_add(kernel.indirect.into()))?;
    }
    let mut seen = 0;
    for _ in 0..MOST_FRAMES {
        if frame == 0 {
            break;
        }
        let mark = memory
            .bytes(frame.wrapping_add(kernel.frame_entry.into()), 1)
            .ok_or(NO_FRAME)?;
        let is_shim = kernel.entries == ENTRIES_SHIM && u64::from(mark[0]) >= SHIM;
        if !is_shim {
            let code = word(frame.wrapping_add(kernel.frame_code.into()))? & !7;
            if word(code.wrapping_add(kernel.code_type.into()))? != type_of_code {
                return Err("its frames do not run code objects");
            }
            seen += 1;
        }
        frame = word(frame.wrapping_add(kernel.frame_previous.into()))?;
    }
    Ok(seen)
}

/// Where the key is under which each thread has its own state (or the key itself, where no word is known to be it for good), and
/// where threads have their data.
fn key(memory: &Memory, layout: &Layout, runtime: u64, states: &[State]) -> Option<(u64, u32)> {
    // A state may belong to a thread that has another one just now, or that has ended: one that fits is enough, for no other
    // word in a thread's data is the address of that state.
    let at = |key: u32, data: u32| {
        let value = u64::from(data) + u64::from(key) * 16 + VALUE;
        states
            .iter()
            .any(|state| memory.word(state.thread.wrapping_add(value)) == Some(state.address))
    };
    let read = |offset: u64| {
        let word = memory.word(runtime.wrapping_add(offset))?;
        let key = (word >> 32) as u32;
        (word as u32 == 1 && key < KEYS).then_some(key)
    };
    if let Some(offset) = layout.runtime_key
        && let Some(key) = read(offset)
        && at(key, THREAD_DATA)
    {
        return Some((runtime.wrapping_add(offset), THREAD_DATA));
    }
    let bytes = memory.bytes(runtime, RUNTIME_BYTES)?;
    let mut candidates = (0..bytes.len() - 8).step_by(4).filter_map(|offset| {
        let word = u64::from_le_bytes(bytes[offset..offset + 8].try_into().ok()?);
        let key = (word >> 32) as u32;
        (word as u32 == 1 && key < KEYS).then_some(key)
    });
    if let Some(key) = candidates.find(|&key| at(key, THREAD_DATA)) {
        return Some((key.into(), THREAD_DATA));
    }
    // Another libc: where in the descriptor is the state?
    let offset = layout.runtime_key?;
    let key = read(offset)?;
    (0..DESCRIPTOR_BYTES as u32)
        .step_by(8)
        .find(|&data| at(key, data))
        .map(|data| (runtime.wrapping_add(offset), data))
}

/// What tells a code object from others at its address, as the kernel side computes it; `None`: it is not there.
pub fn check_of_code(memory: &Memory, interpreter: &Interpreter, code: u64) -> Option<u32> {
    let word = |offset: u32| memory.word(code.wrapping_add(offset.into()));
    if word(interpreter.code_type)? != interpreter.type_of_code {
        return None;
    }
    let half = |offset: u32| word(offset).map(|word| word as u32);
    let is_numbered = interpreter.code_version != NOWHERE;
    if is_numbered {
        let version = half(interpreter.code_version)?;
        if version != 0 {
            return Some(version);
        }
    }
    let (file, name, lines) = (
        word(interpreter.code_file)?,
        word(interpreter.code_name)?,
        word(interpreter.code_lines)?,
    );
    let first_line = half(interpreter.code_first_line)?;
    let variables = word(interpreter.code_variables)?;
    let mut check = Check::new(first_line, file, name, lines, variables);
    if is_numbered {
        return Some(check.finish());
    }
    let content = |object: u64| {
        let mut content = Content::default();
        let from = object.wrapping_add(interpreter.object_size.into());
        if let Some(bytes) = memory.bytes(from, size_of::<Content>()) {
            for (word, bytes) in content.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*bytes);
            }
        }
        content
    };
    for offset in CODE_SIZES {
        check.take(word(offset)?);
    }
    let hash = memory.word(name.wrapping_add(TEXT_HASH));
    check.take(hash.unwrap_or(0));
    if half(interpreter.code_flags)? & IS_FUNCTION != 0 {
        return Some(check.finish());
    }
    check.take_text(&content(file));
    check.take_bytes(&content(lines));
    Some(check.finish())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::{
        target::{elf::Elf, maps},
        unwind::python::{Image, Version, layout},
    };

    /// A Python that sleeps in a function; killed when dropped.
    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn sleeper() -> Sleeper {
        let script =
            "def wait():\n print('ready', flush=True)\n import time\n time.sleep(600)\nwait()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there: `cargo xtask setup`");
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Sleeper(child)
    }

    /// The interpreter of a process, and what to add to its addresses.
    fn interpreter(proc_dir: &Path) -> (Image, u64) {
        for mapping in maps::read(proc_dir).unwrap() {
            let maps::MappingName::File(path, _) = &mapping.path else {
                continue;
            };
            let Ok(file) = File::open(path) else {
                continue;
            };
            if !mapping.executable {
                continue;
            }
            if let Ok(Some(image)) = Image::of(&file, path) {
                let segments = Elf::open(&file).unwrap().code_segments();
                let size = mapping.end - mapping.start;
                let address = segments
                    .iter()
                    .find_map(|segment| segment.address_of_mapping(mapping.offset, size))
                    .unwrap();
                return (image, mapping.start.wrapping_sub(address));
            }
        }
        panic!("python3 maps no interpreter");
    }

    #[test]
    fn the_layout_of_its_version_fits_a_running_interpreter_and_others_are_found_out() {
        let sleeper = sleeper();
        let proc_dir = Path::new("/proc").join(sleeper.0.id().to_string());
        let (image, bias) = interpreter(&proc_dir);
        let memory = Memory::open(&proc_dir).unwrap();
        let runtime = image.runtime.address.wrapping_add(bias);
        let type_of_code = image.type_of_code.wrapping_add(bias);
        let verdict = |layout: &Layout| examine(&memory, layout, runtime, type_of_code);
        let own = image.layout.expect("a version that is known");
        let found = verdict(&own);
        let Verdict::Fits(interpreter) = found else {
            panic!("{:?}: {found:?}", image.version);
        };
        assert_eq!(interpreter.thread_data, THREAD_DATA);
        // Where the key is, is found without being told, too.
        let untold = Layout {
            runtime_key: None,
            ..own
        };
        let Verdict::Fits(searched) = verdict(&untold) else {
            panic!("{:?}", verdict(&untold));
        };
        let word = memory.word(interpreter.state_key).unwrap();
        assert_eq!(searched.state_key, word >> 32);
        for minor in 9..13 {
            let layout = layout::of_version(Version { major: 3, minor }).unwrap();
            // 3.9 and 3.10 differ in how instructions are told, which no frame shows.
            let is_own = layout.kernel.state_frame == own.kernel.state_frame
                && layout.kernel.frame_code == own.kernel.frame_code
                && layout.kernel.state_thread == own.kernel.state_thread;
            assert_eq!(
                matches!(verdict(&layout), Verdict::Fits(_)),
                is_own,
                "3.{minor} on {:?}",
                image.version
            );
        }
    }
}
