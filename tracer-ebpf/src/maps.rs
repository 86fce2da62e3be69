//! Every map, its size and why. The user side makes most of them smaller where little is to be expected.

use aya_ebpf::{
    Global, btf_maps,
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use highwater_common::{
    config::{KernelOffsets, TableSizes},
    cookie::Function,
    counter::Counter,
    loss::Losses,
    mark::{MAX_MARKING, Marking},
    process::{MAX_PROCESSES, TracedProcess},
    python::{CodeKey, Interpreter, MAX_INTERPRETERS},
    sampling::{QUANTILES, Sampling},
    stranger::Strangers,
    unwind::{CodeRange, MAX_CODE_RANGES, MAX_RULES, MAX_TABLES, Rule, TABLE_FLAGS},
};

use crate::{
    blocks::{IMAGES, WAYS},
    thread::Thread,
    walk::Memory,
};

/// Events, in program order. The user side sets the size (`--ring`).
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(64 << 20, 0);

/// Frees for which the ring had no room: the reader puts them back in order.
#[map]
pub static SPILLED: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// 1 while the ring is more than half full, as far as those know who looked.
#[map]
pub static PRESSURE: Array<u64> = Array::with_max_entries(1, 0);

/// What processes lost, by identity, and their shares of a ring that is more than half full.
#[map]
pub static LOSSES: HashMap<u32, Losses> = HashMap::with_max_entries(MAX_PROCESSES, 0);

/// How many moments processes have named of late, by tgid. May forget: a process that makes no marks is forgotten first.
#[map]
pub static MARKING: LruHashMap<u32, Marking> = LruHashMap::with_max_entries(MAX_MARKING, 0);

/// Whether processes that are not traced are told of, and how many were of late.
#[map]
pub static STRANGERS: Array<Strangers> = Array::with_max_entries(1, 0);

/// How calls are sampled; the user side may change it at any time.
#[map]
pub static SAMPLING: Array<Sampling> = Array::with_max_entries(1, 0);

/// Quantiles of the exponential distribution; filled by the user side.
#[map]
pub static EXPONENTIAL: Array<u32> = Array::with_max_entries(QUANTILES, 0);

/// Stack definitions: apart from the events, so that 8 KiB of frames never cost a free its place.
#[map]
pub static STACKS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Traced processes by tgid. Threads keep copies: `CHANGES` says whether they are good still.
#[map]
pub static PROCESSES: HashMap<u32, TracedProcess> = HashMap::with_max_entries(MAX_PROCESSES, 0);

/// How many program images were given a number.
#[map]
pub static IMAGE_COUNT: Array<u64> = Array::with_max_entries(1, 0);

/// Threads with their calls under way, by tid: never evicted. A thread is added at its first call and leaves as it ends.
#[map]
pub static THREADS: Array<Thread> = Array::with_max_entries(1 << TableSizes::MOST.threads, 0);

/// Counts changes of `PROCESSES`: those by the user side, which alone writes the first, and those by the kernel side.
#[map]
pub static CHANGES: Array<u64> = Array::with_max_entries(2, 0);

/// Blocks that were seen allocated: see [`crate::blocks`].
#[map]
pub static BLOCKS: Array<[u64; WAYS]> =
    Array::with_max_entries(1 << TableSizes::MOST.block_lines, 0);

/// Programs that have ended, a bit each: see [`crate::blocks`].
#[map]
pub static ENDED: Array<u64> = Array::with_max_entries(IMAGES / u64::BITS, 0);

/// Identities of stacks already sent, with their check words. May forget: a definition is then sent again.
#[map]
pub static SENT: LruHashMap<u64, u32> = LruHashMap::with_max_entries(64 << 10, 0);

/// The last walks of threads, and room for those under way. Uprobe programs are preemptible, so each is taken with a busy
/// flag.
#[map]
pub static WALKS: Array<Memory> = Array::with_max_entries(1 << TableSizes::MOST.walks, 0);

/// Where the code of traced processes lies; each has a run of them, sorted.
#[map]
pub static CODE_RANGES: Array<CodeRange> = Array::with_max_entries(MAX_CODE_RANGES, 0);

/// Unwind tables, one a file: [`highwater_common::unwind`] says what is in them. Only the user side adds to it.
#[btf_map]
pub static TABLES: btf_maps::ArrayOfMaps<
    btf_maps::Array<u64, 1, { TABLE_FLAGS as usize }>,
    { MAX_TABLES as usize },
> = btf_maps::ArrayOfMaps::new();

/// Rules of all tables, told apart once.
#[map]
pub static RULES: Array<Rule> = Array::with_max_entries(MAX_RULES, 0);

/// The Python interpreters of traced processes; the first place stands for none.
#[map]
pub static INTERPRETERS: Array<Interpreter> = Array::with_max_entries(MAX_INTERPRETERS, 0);

/// Python code objects already sent. May forget: a code object is then sent again.
#[map]
pub static SENT_CODE: LruHashMap<CodeKey, u8> = LruHashMap::with_max_entries(32 << 10, 0);

/// See [`Counter`]. Added to atomically: a preempted program's plain addition would lose the other's.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// The self-test: entries and returns that its programs saw, and of whom (tgid).
#[map]
pub static SELFTEST: Array<u64> = Array::with_max_entries(3, 0);

/// Calls that the preflight has counted, by function: the index is its cookie. Also those of [`Function::RARE`], and when the latest
/// came.
#[map]
pub static CALLS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Function::LATEST + 1, 0);

/// The look at a process's threads: whose (tgid), how many with an alternate stack above, how many in all.
#[map]
pub static SCAN: Array<u64> = Array::with_max_entries(3, 0);

/// How large the tables are whose places are computed here; patched by the user side.
#[unsafe(no_mangle)]
pub static TABLE_SIZES: Global<TableSizes> = Global::new(TableSizes::MOST);

/// Where the running kernel keeps what we read of it; patched by the user side.
#[unsafe(no_mangle)]
pub static KERNEL_OFFSETS: Global<KernelOffsets> = Global::new(KernelOffsets {
    task_pid: u32::MAX,
    task_tgid: u32::MAX,
    task_mm: u32::MAX,
    task_signal: u32::MAX,
    task_exit_code: u32::MAX,
    signal_live: u32::MAX,
    signal_group_exit_code: u32::MAX,
    task_alternate_stack: u32::MAX,
    unmapped_area_length: u32::MAX,
    task_utask: u32::MAX,
    utask_return_instances: u32::MAX,
    return_instance_stack: u32::MAX,
    return_instance_address: u32::MAX,
    return_instance_next: u32::MAX,
    task_status: u32::MAX,
    mm_break: u32::MAX,
    task_fsbase: u32::MAX,
    area_start: u32::MAX,
    area_end: u32::MAX,
    area_flags: u32::MAX,
    area_file: u32::MAX,
    area_place: u32::MAX,
    file_inode: u32::MAX,
    inode_super: u32::MAX,
    super_magic: u32::MAX,
    unused: 0,
});
