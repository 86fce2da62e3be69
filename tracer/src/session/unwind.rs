//! Unwind tables for the files that traced processes map: built on threads of their own, handed to the kernel side,
//! and tied to the addresses where each process has the files.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::MetadataExt as _,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};
use highwater_common::{
    counter::Counter,
    unwind::{CodeRange, TABLE_FRAME_POINTERS, TABLE_PENDING},
};
use tokio::sync::Notify;

use super::{Session, follow::Followed, mapped_code::MappedCode, python::Python};
use crate::{
    own_memory, priority,
    probe::{ProbeError, tables::Made},
    record::ModuleIndex,
    target::elf::{CodeSegment, Elf},
    unwind::{Draft, RuleBook, UnwindError},
};

/// Threads that build tables.
const BUILDERS: usize = 2;
/// Files that wait for their table, at most; those beyond are asked for again at the next look.
const MOST_WAITING: usize = 4096;
/// Batches of tables that are handed to the kernel side at once, at most.
const MOST_PUTTING: usize = 64;
/// How long an attach waits for tables. Stacks through code whose table is later than this are cut until it is there.
const PATIENCE: Duration = Duration::from_secs(3);

/// A file's table.
enum Known {
    /// The table is being built.
    Pending,
    /// Ready in the kernel.
    Ready(Placed),
    /// The file has no call frame information.
    Without,
}

/// A table of a session. Files that are the same share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TableId(u32);

/// A table in the kernel.
struct Placed {
    slot: u32,
    units: u32,
    unit_shift: u32,
    base: u64,
    segments: Vec<CodeSegment>,
}

struct Job {
    table: TableId,
    source: Source,
}

enum Source {
    File(File),
    Image(Vec<u8>),
}

struct Built {
    table: TableId,
    draft: Result<Draft, UnwindError>,
    segments: Vec<CodeSegment>,
}

/// Tables on their way to the kernel side.
struct Putting {
    made: Made,
    /// In the order in which they were made.
    tables: Vec<(TableId, Placed)>,
}

/// What became of them.
struct Put {
    slots: Result<Vec<u32>, ProbeError>,
    tables: Vec<(TableId, Placed)>,
}

/// All tables of a session.
pub(super) struct Unwinding {
    book: RuleBook,
    /// By their ids.
    known: Vec<Known>,
    of_module: HashMap<ModuleIndex, TableId>,
    /// By device and inode.
    of_file: HashMap<(u64, u64), TableId>,
    /// The one that is no file's.
    of_vdso: Option<TableId>,
    /// By build id and size.
    of_build: HashMap<(String, u64), TableId>,
    /// Asked for, and not ready yet.
    waiting: usize,
    jobs: Sender<Job>,
    built: Receiver<Built>,
    to_put: Sender<Putting>,
    put: Receiver<Put>,
    /// Sent there, and not back yet.
    putting: usize,
    /// Told of each table that is built, and of those that are ready.
    pub(super) ready: Arc<Notify>,
    broken_entries: u64,
    unsupported_rules: u64,
    rows_dropped: u64,
    failed_files: u64,
}

impl Unwinding {
    /// Starts the threads; they end when this is dropped. `gives_way`: they do to programs that were running before; of a
    /// launched one, the first stacks wait for the tables.
    pub(super) fn start(gives_way: bool) -> io::Result<Self> {
        let (jobs, to_build) = crossbeam_channel::bounded::<Job>(MOST_WAITING);
        let (done, built) = crossbeam_channel::bounded(MOST_WAITING);
        let ready = Arc::new(Notify::new());
        for number in 0..BUILDERS {
            let (to_build, done, ready) = (to_build.clone(), done.clone(), Arc::clone(&ready));
            std::thread::Builder::new()
                .name(format!("hw-unwind-{number}"))
                .spawn(move || {
                    if gives_way {
                        priority::give_way();
                    }
                    for job in to_build {
                        if done.send(build(&job)).is_err() {
                            return;
                        }
                        ready.notify_one();
                        own_memory::give_back();
                    }
                })?;
        }
        let (to_put, putting) = crossbeam_channel::bounded::<Putting>(MOST_PUTTING);
        let (done, put) = crossbeam_channel::bounded(MOST_PUTTING);
        let told = Arc::clone(&ready);
        std::thread::Builder::new()
            .name("hw-tables".to_owned())
            .spawn(move || {
                for Putting { made, tables } in putting {
                    let slots = made.put();
                    if done.send(Put { slots, tables }).is_err() {
                        return;
                    }
                    told.notify_one();
                }
            })?;
        Ok(Self {
            book: RuleBook::new(),
            known: Vec::new(),
            of_module: HashMap::new(),
            of_file: HashMap::new(),
            of_build: HashMap::new(),
            of_vdso: None,
            waiting: 0,
            jobs,
            built,
            to_put,
            put,
            putting: 0,
            ready,
            broken_entries: 0,
            unsupported_rules: 0,
            rows_dropped: 0,
            failed_files: 0,
        })
    }

    /// Has the table of a module built, once.
    pub(super) fn want_file(&mut self, module: ModuleIndex, file: &File, build_id: Option<&str>) {
        if !self.of_module.contains_key(&module)
            && let Some(table) = self.table_of(file, build_id)
        {
            self.of_module.insert(module, table);
        }
    }

    /// The same for a module that is no file: the code that the kernel maps into every process.
    pub(super) fn want_image(&mut self, module: ModuleIndex, image: Vec<u8>) {
        self.expect_image(image);
        if let Some(table) = self.of_vdso {
            self.of_module.insert(module, table);
        }
    }

    /// Has the table of the code built that the kernel maps into every process.
    pub(super) fn expect_image(&mut self, image: Vec<u8>) {
        self.of_vdso = self.of_vdso.or_else(|| self.request(Source::Image(image)));
    }

    /// Has the table of a file built that will be mapped, most likely.
    pub(super) fn expect_file(&mut self, file: &File) {
        let build_id = Elf::open(file).ok().and_then(|elf| elf.build_id());
        self.table_of(file, build_id.as_deref());
    }

    fn table_of(&mut self, file: &File, build_id: Option<&str>) -> Option<TableId> {
        let metadata = file.metadata().ok()?;
        let inode = (metadata.dev(), metadata.ino());
        let build = build_id.map(|id| (id.to_owned(), metadata.len()));
        let known = self
            .of_file
            .get(&inode)
            .or_else(|| self.of_build.get(build.as_ref()?));
        let table = match known {
            Some(table) => *table,
            None => self.request(Source::File(file.try_clone().ok()?))?,
        };
        self.of_file.insert(inode, table);
        if let Some(build) = build {
            self.of_build.insert(build, table);
        }
        Some(table)
    }

    fn request(&mut self, source: Source) -> Option<TableId> {
        let table = TableId(self.known.len() as u32);
        self.jobs.try_send(Job { table, source }).ok()?;
        self.known.push(Known::Pending);
        self.waiting += 1;
        Some(table)
    }

    /// The code range of a stretch of code, as far as its table is known.
    fn range(&self, code: &MappedCode) -> CodeRange {
        let mut range = CodeRange {
            start: code.start,
            end: code.end,
            table: TABLE_FRAME_POINTERS,
            ..CodeRange::default()
        };
        let Some(module) = code.module else {
            return range;
        };
        let table = self.of_module.get(&module);
        match table.and_then(|table| self.known.get(table.0 as usize)) {
            Some(Known::Ready(placed)) => {
                let size = code.end - code.start;
                let address = placed
                    .segments
                    .iter()
                    .find_map(|segment| segment.address_of_mapping(code.file_offset, size));
                if let Some(address) = address {
                    range.table = placed.slot;
                    range.units = placed.units;
                    range.unit_shift = placed.unit_shift;
                    range.bias = code.start.wrapping_sub(address).wrapping_add(placed.base);
                }
            }
            Some(Known::Pending) | None => range.table = TABLE_PENDING,
            Some(Known::Without) => {}
        }
        range
    }
}

fn build(job: &Job) -> Built {
    let (draft, segments) = match &job.source {
        Source::File(file) => (
            Draft::of_file(file),
            Elf::open(file)
                .map(|elf| elf.code_segments())
                .unwrap_or_default(),
        ),
        Source::Image(image) => {
            // Mapped as it is, from its first byte on.
            let whole = CodeSegment {
                offset: 0,
                size: image.len() as u64,
                address: 0,
            };
            (Draft::of_bytes(image), vec![whole])
        }
    };
    Built {
        table: job.table,
        draft,
        segments,
    }
}

impl Session {
    /// Sends the tables that have been built to the kernel side, which a thread waits for. Says whether any have become ready.
    pub(super) fn take_tables(&mut self) -> bool {
        let mut any = self.send_tables();
        while let Ok(Put { slots, tables }) = self.unwinding.put.try_recv() {
            self.unwinding.putting -= 1;
            self.unwinding.waiting = self.unwinding.waiting.saturating_sub(tables.len());
            match slots {
                Ok(slots) => {
                    any = true;
                    for ((id, mut table), slot) in tables.into_iter().zip(slots) {
                        table.slot = slot;
                        self.unwinding.known[id.0 as usize] = Known::Ready(table);
                    }
                }
                Err(error) => self.note_no_room(tables.len(), &error),
            }
        }
        any
    }

    /// Says whether there is a file that turned out to have none.
    fn send_tables(&mut self) -> bool {
        let mut any = false;
        if self.unwinding.putting >= MOST_PUTTING {
            // They are taken when those under way are ready.
            return any;
        }
        let mut placed = Vec::new();
        let mut elements = Vec::new();
        while let Ok(built) = self.unwinding.built.try_recv() {
            let draft = match built.draft {
                Ok(draft) => draft,
                Err(error) => {
                    log::info!("no unwind table: {error}");
                    if !matches!(error, UnwindError::NoFrameInformation) {
                        self.unwinding.failed_files += 1;
                    }
                    any = true;
                    self.unwinding.known[built.table.0 as usize] = Known::Without;
                    self.unwinding.waiting = self.unwinding.waiting.saturating_sub(1);
                    continue;
                }
            };
            let faults = draft.counters();
            self.unwinding.broken_entries += faults.broken_entries;
            self.unwinding.unsupported_rules += faults.unsupported_rules;
            self.unwinding.rows_dropped += faults.rows_dropped;
            let table = draft.intern(&mut self.unwinding.book);
            elements.push(table.elements());
            placed.push((
                built.table,
                Placed {
                    slot: 0,
                    units: table.units.len() as u32,
                    unit_shift: table.unit_shift,
                    base: table.base,
                    segments: built.segments,
                },
            ));
        }
        if placed.is_empty() {
            return any;
        }
        let tables = self.kernel.tables();
        let made = tables
            .put_rules(self.unwinding.book.rules())
            .and_then(|()| tables.make(&elements));
        match made {
            Ok(made) => {
                let putting = Putting {
                    made,
                    tables: placed,
                };
                // There is room for it, and the thread ends with us.
                if self.unwinding.to_put.try_send(putting).is_ok() {
                    self.unwinding.putting += 1;
                }
            }
            Err(error) => {
                self.unwinding.waiting = self.unwinding.waiting.saturating_sub(placed.len());
                self.note_no_room(placed.len(), &error);
            }
        }
        any
    }

    fn note_no_room(&mut self, files: usize, error: &ProbeError) {
        self.quality.note(format!(
            "stacks are cut in {files} files whose unwind tables found no room: {error}"
        ));
    }

    /// Reads where a process's code is, and waits for its tables, but not for long.
    pub(super) fn know_code(&mut self, followed: &mut Followed) {
        self.read_code(followed);
        self.await_tables();
        self.place_code(followed, false);
    }

    pub(super) fn await_tables(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            self.take_tables();
            if self.unwinding.waiting == 0 || Instant::now() >= until {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Tells the kernel side where a process's code is, with the tables that there are, and of a new mapping epoch.
    pub(super) fn place_code(&mut self, followed: &Followed, new_epoch: bool) {
        let ranges: Vec<CodeRange> = followed
            .unwound
            .iter()
            .map(|code| self.unwinding.range(code))
            .collect();
        let process = (followed.target.pid, followed.id);
        let interpreter = followed.python.as_ref().map_or(0, Python::slot);
        let placed = self
            .kernel
            .set_code(process, &ranges, interpreter, new_epoch);
        if let Err(error) = placed {
            self.quality.note(format!(
                "stacks of process {} ({}) are cut: {error}",
                followed.target.pid, followed.target.command
            ));
        }
    }

    /// Tables have been built: every process gets them.
    pub(super) fn place_tables(&mut self) {
        if !self.take_tables() {
            return;
        }
        let all: Vec<u32> = self.processes.keys().copied().collect();
        for tgid in all {
            if let Some(followed) = self.processes.remove(&tgid) {
                self.place_code(&followed, false);
                self.processes.insert(tgid, followed);
            }
        }
    }

    /// What went wrong with tables, for the report.
    pub(super) fn note_tables(&mut self) {
        let unwinding = &self.unwinding;
        log::info!(
            "unwind tables: {} bytes, {} rules; {} broken entries, {} rows with rules that cannot be expressed, {} rows beyond what a table holds",
            self.kernel.tables().bytes(),
            unwinding.book.rules().len(),
            unwinding.broken_entries,
            unwinding.unsupported_rules,
            unwinding.rows_dropped,
        );
        log::info!(
            "frames: {} unwound, {} taken over from the walk before",
            self.kernel.counter(Counter::WalkedFrames),
            self.kernel.counter(Counter::VerifiedFrames),
        );
        for (count, what) in [
            (
                unwinding.failed_files,
                "files have call frame information that could not be read: stacks through them are cut",
            ),
            (
                unwinding.book.folded(),
                "unwind rules beyond the most that are told apart were dropped: stacks through them are cut",
            ),
        ] {
            if count > 0 {
                self.quality.note(format!("{count} {what}"));
            }
        }
    }
}
