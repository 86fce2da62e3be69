//! What one hit costs on this machine, measured on a child of our own before anyone else pays it.
//!
//! The child runs pairs of `malloc` and `free` from a stack ten frames deep and tells how much of its processor time they
//! took: without probes, with probes that only count, with those of allocations, and with those of frees too, each linked
//! as a session would. The differences are the costs. What is measured is the steady state: the stack is that of the call
//! before, and the ring takes every event. Then single pairs, each after a pause: what they need is in no cache of the processor
//! any more, so that they cost some times as much.
//!
//! The child's stack is made by hand, of frames with frame pointers, the outermost marked by a null one. So its walk needs
//! no unwind tables (a frame that is remembered costs the same with them), and is never cut.
//!
//! The costs are those of this machine's own libc. A function that can only be probed at a single-stepped instruction costs
//! more, in a virtual machine some 30 times. A statically linked highwater maps no libc: its child calls two functions of our
//! own in place of those, which begin with an instruction that the kernel emulates.

use std::{
    arch::global_asm,
    fs::File,
    io::{self, BufRead as _, BufReader, Write as _},
    num::NonZeroU32,
    ops::Range,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use highwater_common::{
    cookie::{Function, PAUSE_NS},
    process::TracedProcess,
    unwind::{CodeRange, TABLE_FRAME_POINTERS},
};
use rustix::time::{ClockId, clock_gettime};
use thiserror::Error;

use super::{
    ProbeError,
    kernel::{Kernel, Rings},
    link::{Link, LinkKind, Site, Whose},
    selftest,
};
use crate::target::{
    Target, TargetError,
    allocator::{self, Library},
};

/// The hidden verb of this executable that runs [`child`].
pub const VERB: &str = "__calibrate";

/// Frames below the allocator's.
const DEPTH: u64 = 10;
/// Rounds of which the median counts; one before them warms up.
const ROUNDS: usize = 5;
/// Pairs in a round without probes, ...
const BARE_PAIRS: u64 = 20_000;
/// ... and with them: a few milliseconds in all.
const PROBED_PAIRS: u64 = 500;
/// Single pairs after a pause, of which the median counts.
const RARE_ROUNDS: usize = 5;
/// The pause before each, in which the child's processor may fall asleep as under any program that waits, ...
const PAUSE: Duration = Duration::from_nanos(10 * PAUSE_NS);
/// ... after it has filled the caches with so many bytes of something else, as others do in longer pauses.
const FILL: usize = 8 << 20;
const CACHE_LINE: usize = 64;

/// What a hit costs the process that is hit, nanoseconds of its processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HitCost {
    /// A call that is only counted.
    pub counted_ns: f64,
    /// An allocation: entry, return, the stack of the call before, one event.
    pub allocation_ns: f64,
    /// A free: entry, one event.
    pub free_ns: f64,
    /// What a pair of them costs more after a pause.
    pub rare_ns: f64,
}

impl HitCost {
    /// An allocation and the free of its block.
    pub fn pair_ns(&self) -> f64 {
        self.allocation_ns + self.free_ns
    }

    /// The same after a pause.
    pub fn rare_pair_ns(&self) -> f64 {
        self.pair_ns() + self.rare_ns
    }
}

/// Why the costs could not be measured.
#[derive(Debug, Error)]
pub enum CalibrationError {
    /// The child could not be run or asked.
    #[error("cannot run the child process on which the cost of a hit is measured: {0}")]
    Child(#[from] io::Error),
    /// Its libc could not be found.
    #[error("cannot find the allocator of our own child: {0}")]
    Allocator(#[from] TargetError),
    /// It could not be probed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// Measures the cost of a hit by this kind of link.
///
/// To be called before any process is traced, with the rings that the kernel side writes to: the child's events are taken out
/// of them again, so that nobody takes them for the target's.
pub fn measure(
    kernel: &mut Kernel,
    kind: LinkKind,
    rings: &mut Rings,
) -> Result<HitCost, CalibrationError> {
    let mut child = MeasuredChild::start()?;
    let measured = measure_in(kernel, kind, &mut child);
    let tgid = child.process.id();
    // Waits for its end, which is an event too.
    drop(child);
    kernel.forget_process(tgid);
    for ring in [&mut rings.events, &mut rings.spilled, &mut rings.stacks] {
        while ring.take().is_some() {}
    }
    measured
}

fn measure_in(
    kernel: &mut Kernel,
    kind: LinkKind,
    child: &mut MeasuredChild,
) -> Result<HitCost, CalibrationError> {
    let target = Target::open(child.process.id())?;
    let called = Called::of(&target)?;
    let pid = NonZeroU32::new(target.pid).unwrap_or(NonZeroU32::MIN);
    let (malloc, free) = (&called.malloc[..], &called.free[..]);
    let library = Library {
        file: &called.file,
        name: &called.name,
    };

    let bare = child.median(BARE_PAIRS)?;
    let rare_bare = child.median_of_rare()?;
    let both = [malloc, free].concat();
    let counting = Link::count(kernel, kind, library, &both, Whose::of(pid))?;
    let counted = child.median(PROBED_PAIRS)?;
    drop(counting);

    let image = kernel.new_image()?;
    kernel.set_process(TracedProcess {
        identity: image.0,
        tgid: target.pid,
        libc_start: called.text.start,
        libc_end: called.text.end,
        allocator_start: called.own_code.start,
        allocator_end: called.own_code.end,
        ..TracedProcess::default()
    })?;
    kernel.set_code((target.pid, image), &[child.code], 0, false)?;
    let _allocations = Link::place(kernel, kind, library, malloc, Whose::of(pid))?;
    let allocating = child.median(PROBED_PAIRS)?;
    let _frees = Link::place(kernel, kind, library, free, Whose::of(pid))?;
    let freeing = child.median(PROBED_PAIRS)?;
    let rare = child.median_of_rare()?;
    Ok(HitCost {
        counted_ns: ((counted - bare) / 2.0).max(0.0),
        allocation_ns: (allocating - bare).max(0.0),
        free_ns: (freeing - allocating).max(0.0),
        rare_ns: ((rare - rare_bare) - (freeing - bare)).max(0.0),
    })
}

/// What the child calls, and where that is probed.
struct Called {
    file: File,
    /// What it is called.
    name: PathBuf,
    malloc: Vec<Site>,
    free: Vec<Site>,
    text: Range<u64>,
    own_code: Range<u64>,
}

impl Called {
    fn of(target: &Target) -> Result<Self, CalibrationError> {
        if cfg!(target_feature = "crt-static") {
            let site = |address: u64, function: Function| -> io::Result<Vec<Site>> {
                Ok(vec![Site {
                    offset: selftest::file_offset(address)?,
                    cookie: function as u64,
                    returns: !function.frees(),
                }])
            };
            return Ok(Self {
                file: File::open("/proc/self/exe")?,
                name: "/proc/self/exe".into(),
                malloc: site(highwater_malloc as *const () as u64, Function::Malloc)?,
                free: site(highwater_free as *const () as u64, Function::Free)?,
                text: 0..0,
                own_code: 0..0,
            });
        }
        let allocator = allocator::find(target)?;
        let sites = |wanted: Function| -> Vec<Site> {
            let probes = allocator.probes.iter();
            probes
                .filter(|probe| probe.function == wanted)
                .map(Site::from)
                .collect()
        };
        Ok(Self {
            malloc: sites(Function::Malloc),
            free: sites(Function::Free),
            file: allocator.file,
            name: allocator.name,
            text: allocator.text,
            own_code: allocator.own_code,
        })
    }
}

/// The child, waiting for a number of pairs.
struct MeasuredChild {
    process: Child,
    numbers: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    code: CodeRange,
}

impl MeasuredChild {
    fn start() -> io::Result<Self> {
        let mut process = Command::new("/proc/self/exe")
            .arg(VERB)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let missing = || io::Error::other("it has no pipes");
        let numbers = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().ok_or_else(missing)?);
        let mut child = Self {
            process,
            numbers,
            answers,
            code: CodeRange::default(),
        };
        let (start, end) = (child.answer()?, child.answer()?);
        child.code = CodeRange {
            start,
            end,
            table: TABLE_FRAME_POINTERS,
            ..CodeRange::default()
        };
        Ok(child)
    }

    fn answer(&mut self) -> io::Result<u64> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim()
            .parse()
            .map_err(|_| io::Error::other("it ended before it was done"))
    }

    /// Nanoseconds a pair, the median of some rounds.
    fn median(&mut self, pairs: u64) -> io::Result<f64> {
        let mut rounds = [0; ROUNDS + 1];
        for round in &mut rounds {
            *round = self.round(pairs)?;
        }
        let counting = &mut rounds[1..];
        counting.sort_unstable();
        Ok(counting[ROUNDS / 2] as f64 / pairs as f64)
    }

    /// Nanoseconds of a pair after a pause, the median of some.
    fn median_of_rare(&mut self) -> io::Result<f64> {
        let mut rounds = [0; RARE_ROUNDS];
        for round in &mut rounds {
            *round = self.round(1)?;
        }
        rounds.sort_unstable();
        Ok(rounds[RARE_ROUNDS / 2] as f64)
    }

    /// What so many pairs took, nanoseconds.
    fn round(&mut self, pairs: u64) -> io::Result<u64> {
        let numbers = self.numbers.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(numbers, "{pairs}")?;
        self.answer()
    }
}

impl Drop for MeasuredChild {
    fn drop(&mut self) {
        // At the end of its input it ends; should it be stopped, it is killed by nobody but us.
        self.numbers = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What the child does: prints where its code lies, then for each number of pairs that it reads the time that they took.
pub fn child() {
    let end = &raw const highwater_pairs_end as u64;
    println!("{}\n{end}", highwater_pairs as *const () as u64);
    let mut fill = vec![0u8; FILL];
    for line in io::stdin().lines() {
        let Some(pairs) = line
            .ok()
            .and_then(|line| line.trim().parse::<u64>().ok())
            .filter(|pairs| *pairs > 0)
        else {
            return;
        };
        // A single pair stands for one after a pause.
        if pairs == 1 {
            for byte in fill.iter_mut().step_by(CACHE_LINE) {
                *byte = byte.wrapping_add(1);
            }
            std::hint::black_box(&mut fill);
            thread::sleep(PAUSE);
        }
        let before = clock_gettime(ClockId::ThreadCPUTime);
        let (malloc, free): (Malloc, Free) = if cfg!(target_feature = "crt-static") {
            (highwater_malloc, highwater_free)
        } else {
            (libc::malloc, libc::free)
        };
        // SAFETY: depth and pairs are not 0, and the functions are libc's malloc and free, or two that touch nothing.
        unsafe { highwater_pairs(DEPTH, pairs, malloc, free) };
        let after = clock_gettime(ClockId::ThreadCPUTime);
        let ns = (after.tv_sec - before.tv_sec) * 1_000_000_000 + (after.tv_nsec - before.tv_nsec);
        println!("{ns}");
    }
}

// `highwater_pairs(depth, pairs, malloc, free)`: calls itself until it is `depth` frames deep, then allocates and frees 64 bytes
// so many times. Each frame is `push rbp; mov rbp, rsp`, the outermost has a null pointer for its caller's.
global_asm!(
    ".pushsection .text.highwater_pairs, \"ax\", @progbits",
    ".globl highwater_pairs",
    ".globl highwater_pairs_end",
    ".hidden highwater_pairs",
    ".hidden highwater_pairs_end",
    ".type highwater_pairs, @function",
    "highwater_pairs:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "mov r12, rdi",
    "mov rbx, rsi",
    "mov r13, rdx",
    "mov r14, rcx",
    "xor ebp, ebp",
    "call 2f",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    "2:",
    "push rbp",
    "mov rbp, rsp",
    "dec r12",
    "jz 3f",
    "call 2b",
    "pop rbp",
    "ret",
    "3:",
    "mov edi, 64",
    "call r13",
    "mov rdi, rax",
    "call r14",
    "dec rbx",
    "jnz 3b",
    "pop rbp",
    "ret",
    "highwater_pairs_end:",
    ".size highwater_pairs, . - highwater_pairs",
    ".popsection",
);

// `highwater_malloc` gives the address of its caller's frame: some memory that can be read. `highwater_free` does nothing.
global_asm!(
    ".pushsection .text.highwater_malloc, \"ax\", @progbits",
    ".globl highwater_malloc",
    ".globl highwater_free",
    ".hidden highwater_malloc",
    ".hidden highwater_free",
    ".type highwater_malloc, @function",
    ".type highwater_free, @function",
    "highwater_malloc:",
    "push rbp",
    "mov rax, rbp",
    "pop rbp",
    "ret",
    ".size highwater_malloc, . - highwater_malloc",
    "highwater_free:",
    "push rbp",
    "pop rbp",
    "ret",
    ".size highwater_free, . - highwater_free",
    ".popsection",
);

type Malloc = unsafe extern "C" fn(usize) -> *mut libc::c_void;
type Free = unsafe extern "C" fn(*mut libc::c_void);

unsafe extern "C" {
    fn highwater_pairs(depth: u64, pairs: u64, malloc: Malloc, free: Free);
    fn highwater_malloc(size: usize) -> *mut libc::c_void;
    fn highwater_free(block: *mut libc::c_void);
    static highwater_pairs_end: u8;
}
