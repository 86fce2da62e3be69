//! Files that are wrong.

use std::{fs, sync::LazyLock};

use gimli::BaseAddresses;
use highwater_common::unwind::{CFA_REGISTER, CFA_UNKNOWN, Rule};
use object::{Object, ObjectSection};
use proptest::prelude::*;

use super::{
    super::{
        Draft, Faults, RuleBook, Table, UnwindError,
        elf::{Section, Sections},
    },
    fixtures::Fixture,
};

/// `.eh_frame` by hand, with addresses as they are.
#[derive(Default)]
struct Frames(Vec<u8>);

/// `DW_CFA_def_cfa` of rsp and 8, `DW_CFA_offset` of the return address; the data alignment is -8.
const INITIAL: [u8; 5] = [0x0c, 7, 8, 0x90, 1];

impl Frames {
    fn entry(&mut self, content: &[u8]) -> usize {
        let at = self.0.len();
        self.0.extend((content.len() as u32).to_le_bytes());
        self.0.extend(content);
        at
    }

    fn cie(&mut self, instructions: &[u8]) -> usize {
        // Identifier, version, no augmentation, code and data alignment, return address register.
        let content = [&[0, 0, 0, 0, 1, 0, 1, 0x78, 16], instructions].concat();
        self.entry(&content)
    }

    fn fde(&mut self, cie: usize, start: u64, length: u64, instructions: &[u8]) {
        let back = (self.0.len() + 4 - cie) as u32;
        let content = [
            &back.to_le_bytes()[..],
            &start.to_le_bytes(),
            &length.to_le_bytes(),
            instructions,
        ];
        self.entry(&content.concat());
    }

    /// As the file's only section; its code is everywhere but at address 0.
    fn sections(self) -> Sections {
        Sections {
            eh_frame: Some(Section {
                bytes: self.0,
                ends_at_zero: false,
            }),
            bases: BaseAddresses::default(),
            code: std::iter::once(1..u64::MAX).collect(),
            ..Sections::default()
        }
    }

    fn table(self) -> (Table, Faults) {
        let draft = Draft::of_sections(&self.sections()).unwrap();
        let faults = draft.counters();
        (draft.intern(&mut BOOK.clone()), faults)
    }
}

/// A book in which rsp + 8 n has the index n + 2.
static BOOK: LazyLock<RuleBook> = LazyLock::new(|| {
    let mut book = RuleBook::new();
    for words in 1..10 {
        book.intern(Rule {
            cfa: CFA_REGISTER,
            register: 7,
            offset: 8 * words,
            ..Rule::default()
        });
    }
    book
});

const UNKNOWN: u32 = CFA_UNKNOWN as u32;
const UNSUPPORTED: u32 = 2;
/// rsp + 8
const ONE: u32 = 3;
/// rsp + 16, and how to get there.
const TWO: u32 = 4;
/// What comes behind the rules of the book.
const FRAME_POINTER: u32 = 12;
const DEFINE_TWO: [u8; 2] = [0x0e, 16];
/// `DW_CFA_advance_loc` of 4.
const ADVANCE: u8 = 0x44;

fn rows(table: &Table) -> Vec<(u64, u32)> {
    let rows = table.rows.iter();
    rows.map(|row| (table.base + u64::from(row.pc), row.rule))
        .collect()
}

#[test]
fn functions_have_their_rows_and_gaps_have_none() {
    let mut frames = Frames::default();
    let cie = frames.cie(&INITIAL);
    frames.fde(cie, 0x3000, 16, &[]);
    frames.fde(cie, 0x1000, 16, &[ADVANCE, 0x0e, 16, ADVANCE, 0x0e, 8]);
    frames.fde(cie, 0x1010, 16, &DEFINE_TWO);
    let (table, faults) = frames.table();
    let expected = [
        (0x1000, ONE),
        (0x1004, TWO),
        (0x1008, ONE),
        (0x1010, TWO),
        (0x1020, UNKNOWN),
        (0x3000, ONE),
        (0x3010, UNKNOWN),
    ];
    assert_eq!(rows(&table), expected);
    assert_eq!(faults, Faults::default());
}

#[test]
fn a_long_stretch_without_functions_keeps_frame_pointers() {
    let mut frames = Frames::default();
    let cie = frames.cie(&INITIAL);
    frames.fde(cie, 0x1000, 16, &[]);
    frames.fde(cie, 0x1010 + (64 << 10), 16, &[]);
    let (table, _) = frames.table();
    let expected = [
        (0x1000, ONE),
        (0x1010, FRAME_POINTER),
        (0x1010 + (64 << 10), ONE),
        (0x1020 + (64 << 10), UNKNOWN),
    ];
    assert_eq!(rows(&table), expected);
}

#[test]
fn stacks_end_at_a_first_instruction_that_belongs_to_no_function() {
    const END: u32 = 1;
    let mut frames = Frames::default();
    let cie = frames.cie(&INITIAL);
    frames.fde(cie, 0x1000, 16, &[]);
    frames.fde(cie, 0x2000, 16, &[]);
    let mut sections = frames.sections();
    sections.entry = 0x1800;
    let table = Draft::of_sections(&sections)
        .unwrap()
        .intern(&mut BOOK.clone());
    let expected = [
        (0x1000, ONE),
        (0x1010, UNKNOWN),
        (0x1800, END),
        (0x2000, ONE),
        (0x2010, UNKNOWN),
    ];
    assert_eq!(rows(&table), expected);
}

#[test]
fn of_two_functions_at_an_address_the_later_start_wins() {
    let mut frames = Frames::default();
    let cie = frames.cie(&INITIAL);
    frames.fde(cie, 0x1004, 4, &DEFINE_TWO);
    frames.fde(cie, 0x1000, 16, &[]);
    frames.fde(cie, 0x1000, 12, &[0x0e, 24]);
    let (table, _) = frames.table();
    let expected = [
        (0x1000, TWO + 1),
        (0x1004, TWO),
        (0x1008, TWO + 1),
        (0x100c, ONE),
        (0x1010, UNKNOWN),
    ];
    assert_eq!(rows(&table), expected);
}

#[test]
fn a_broken_entry_costs_only_itself() {
    let mut frames = Frames::default();
    let cie = frames.cie(&INITIAL);
    frames.fde(cie, 0x1000, 16, &[]);
    frames.entry(&[1, 2]);
    frames.entry(&[0xff; 24]);
    // Its own CIE.
    frames.entry(&[4, 0, 0, 0, 0, 0, 0, 0]);
    frames.fde(cie, 0x2000, 16, &DEFINE_TWO);
    // Longer than the section.
    frames.0.extend([0xff, 0xff, 0, 0, 1, 2, 3]);
    let (table, faults) = frames.table();
    let expected = [
        (0x1000, ONE),
        (0x1010, UNKNOWN),
        (0x2000, TWO),
        (0x2010, UNKNOWN),
    ];
    assert_eq!(rows(&table), expected);
    assert_eq!(faults.broken_entries, 4);
}

#[test]
fn from_a_broken_instruction_on_the_rule_is_unsupported() {
    let pops_nothing = [ADVANCE, 0x0e, 16, ADVANCE, 0x0b];
    let remembers_without_end = [&[ADVANCE][..], &[0x0a; 100]].concat();
    let no_instruction = [ADVANCE, 0x3f];
    for (instructions, expected) in [
        (
            &pops_nothing[..],
            &[
                (0x1000, ONE),
                (0x1004, TWO),
                (0x1008, UNSUPPORTED),
                (0x1010, UNKNOWN),
            ][..],
        ),
        (
            &remembers_without_end,
            &[(0x1000, ONE), (0x1004, UNSUPPORTED), (0x1010, UNKNOWN)],
        ),
        (
            &no_instruction,
            &[(0x1000, ONE), (0x1004, UNSUPPORTED), (0x1010, UNKNOWN)],
        ),
    ] {
        let mut frames = Frames::default();
        let cie = frames.cie(&INITIAL);
        frames.fde(cie, 0x1000, 16, instructions);
        let (table, faults) = frames.table();
        assert_eq!(rows(&table), expected);
        assert_eq!((faults.broken_entries, faults.unsupported_rules), (1, 1));
    }
}

#[test]
fn a_common_entry_longer_than_any_compiler_makes_is_not_evaluated() {
    let mut frames = Frames::default();
    let good = frames.cie(&INITIAL);
    let long = frames.cie(&[0; 4096]);
    frames.fde(good, 0x1000, 16, &[]);
    frames.fde(long, 0x2000, 16, &[]);
    let (table, faults) = frames.table();
    assert_eq!(rows(&table), [(0x1000, ONE), (0x1010, UNKNOWN)]);
    assert_eq!(faults.broken_entries, 1);
}

#[test]
fn functions_outside_of_code_and_too_far_from_the_first_are_dropped() {
    let mut frames = Frames::default();
    let cie = frames.cie(&INITIAL);
    frames.fde(cie, 0, 16, &[]);
    frames.fde(cie, 0x1000, 16, &[]);
    frames.fde(cie, 0x1000 + (1 << 32), 16, &DEFINE_TWO);
    frames.fde(cie, u64::MAX - 8, 16, &[]);
    frames.fde(cie, 0x2000, 0, &[]);
    let (table, faults) = frames.table();
    assert_eq!(rows(&table), [(0x1000, ONE), (0x1010, FRAME_POINTER)]);
    assert_eq!(table.find(0x1000 + (1 << 32)), None);
    // Four functions, and the end of the one that is too far.
    assert_eq!(faults.rows_dropped, 5);
}

#[test]
fn a_function_too_long_to_be_addressed_is_unsupported_at_its_end() {
    let mut frames = Frames::default();
    let cie = frames.cie(&INITIAL);
    // `DW_CFA_advance_loc4` of nearly 4 GiB, twice.
    let far = [
        4, 0xff, 0xff, 0xff, 0xff, 0x0e, 16, 4, 0xff, 0xff, 0xff, 0xff, 0x0e, 24,
    ];
    frames.fde(cie, 0x1000, 1 << 40, &far);
    let (table, faults) = frames.table();
    assert_eq!(
        rows(&table),
        [(0x1000, ONE), (0x1000 + u64::from(u32::MAX), UNSUPPORTED)]
    );
    assert!(faults.rows_dropped > 0);
}

#[test]
fn other_files_have_no_table() {
    assert!(matches!(Draft::of_bytes(b""), Err(UnwindError::NotElf)));
    assert!(matches!(
        Draft::of_bytes(&[0; 100]),
        Err(UnwindError::NotElf)
    ));
    let empty = Fixture::new(
        "s",
        "nop",
        &["-shared", "-nostdlib", "-Wl,--no-ld-generated-unwind-info"],
    );
    let error = Draft::of_bytes(&empty.bytes()).unwrap_err();
    assert!(matches!(error, UnwindError::NoFrameInformation), "{error}");
}

/// A library with a compressed `.debug_frame` only, and where that is in the file.
fn compressed() -> (Vec<u8>, usize) {
    let source: String = (0..200)
        .map(|index| format!("int f{index}(int n) {{ char v[n]; return f{index}(v[0]) + n; }}\n"))
        .map(|function| {
            format!(
                "int {};\n{function}",
                &function[4..function.find('{').unwrap()]
            )
        })
        .collect();
    let arguments = [
        "-O1",
        "-g",
        "-fno-asynchronous-unwind-tables",
        "-gz=zlib",
        "-shared",
        "-nostdlib",
        "-Wl,--no-ld-generated-unwind-info",
    ];
    let bytes = Fixture::new("c", &source, &arguments).bytes();
    let elf = object::File::parse(&*bytes).unwrap();
    let section = elf.section_by_name(".debug_frame").unwrap();
    let range = section.compressed_file_range().unwrap();
    assert_ne!(range.format, object::CompressionFormat::None);
    // The header is 24 bytes; the range is what follows it.
    let header = range.offset as usize - 24;
    (bytes.clone(), header)
}

#[test]
fn a_compressed_section_that_is_larger_than_it_says_is_not_read() {
    let (elf, header) = compressed();
    assert!(Draft::of_bytes(&elf).is_ok());
    for declared in [10, 1 << 40, u64::MAX] {
        let mut elf = elf.clone();
        elf[header + 8..header + 16].copy_from_slice(&u64::to_le_bytes(declared));
        let error = Draft::of_bytes(&elf).unwrap_err();
        assert!(
            matches!(error, UnwindError::TooLarge { .. }),
            "{declared}: {error}"
        );
    }
}

/// Reads whatever comes, and checks what must hold of any table.
fn exercise(elf: &[u8]) -> Result<(), TestCaseError> {
    let Ok(draft) = Draft::of_bytes(elf) else {
        return Ok(());
    };
    let mut book = RuleBook::new();
    let table = draft.intern(&mut book);
    prop_assert_eq!(table.rows[0].pc, 0);
    for pair in table.rows.windows(2) {
        prop_assert!(pair[0].pc < pair[1].pc);
    }
    for row in &table.rows {
        prop_assert!((row.rule as usize) < book.rules().len());
        let found = table.find(table.base + u64::from(row.pc));
        prop_assert_eq!(found, Some(*row));
    }
    Ok(())
}

/// A small library with every kind of section, and where its `.eh_frame` is in the file.
static LIBRARY: LazyLock<(Vec<u8>, usize, usize)> = LazyLock::new(|| {
    let source = "int f(int n) { _Alignas(64) char v[n]; __builtin_memset(v, n, n); return v[0]; }
        extern int g(void); int h(void) { return g() + f(3); }";
    let elf = Fixture::new("c", source, &["-O1", "-shared", "-fPIC", "-nostdlib"]).bytes();
    let file = object::File::parse(&*elf).unwrap();
    let (offset, size) = file
        .section_by_name(".eh_frame")
        .unwrap()
        .file_range()
        .unwrap();
    (elf.clone(), offset as usize, size as usize)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn damaged_call_frame_information_is_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let (mut elf, offset, size) = LIBRARY.clone();
        for (at, byte) in damage {
            elf[offset + at.index(size)] = byte;
        }
        exercise(&elf)?;
    }

    /// Each function has a rule, or two, by how much it adds to the stack pointer.
    #[test]
    fn functions_that_overlap_apply_by_their_starts(
        functions in prop::collection::vec((1_u64..100, 1_u64..40, 1_u8..9, prop::option::of(1_u8..9)), 1..20),
    ) {
        let mut frames = Frames::default();
        let cie = frames.cie(&INITIAL);
        for &(start, length, words, then) in &functions {
            let instructions = match then {
                Some(then) => vec![0x0e, 8 * words, ADVANCE, 0x0e, 8 * then],
                None => vec![0x0e, 8 * words],
            };
            frames.fde(cie, start, length, &instructions);
        }
        let (table, _) = frames.table();
        for address in 0..150 {
            let covering = functions.iter().filter(|(start, length, ..)| (*start..start + length).contains(&address));
            let expected = covering.max_by_key(|(start, ..)| start).map_or(UNKNOWN, |&(start, _, words, then)| {
                let words = if address >= start + 4 { then.unwrap_or(words) } else { words };
                u32::from(words) + 2
            });
            let found = table.find(address).map_or(UNKNOWN, |row| row.rule);
            prop_assert_eq!(found, expected, "at {}", address);
        }
    }

    #[test]
    fn damaged_headers_are_survived(
        damage in prop::collection::vec((0_usize..0x400, any::<bool>(), any::<u8>()), 1..10),
    ) {
        let (mut elf, ..) = LIBRARY.clone();
        let length = elf.len();
        for (at, from_end, byte) in damage {
            elf[if from_end { length - 1 - at } else { at }] = byte;
        }
        exercise(&elf)?;
    }

    #[test]
    fn files_cut_short_are_survived(length in any::<prop::sample::Index>()) {
        let (elf, ..) = &*LIBRARY;
        exercise(&elf[..length.index(elf.len())])?;
    }
}

#[test]
fn damaged_pieces_of_libc_are_survived() {
    let original = fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let (offset, size) = {
        let file = object::File::parse(&*original).unwrap();
        file.section_by_name(".eh_frame")
            .unwrap()
            .file_range()
            .unwrap()
    };
    let mut random = 7_u64;
    for _ in 0..4 {
        let mut elf = original.clone();
        for _ in 0..1000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            elf[(offset + (random >> 20) % size) as usize] = (random >> 8) as u8;
        }
        exercise(&elf).unwrap();
        let faults = Draft::of_bytes(&elf).unwrap().counters();
        assert!(faults.broken_entries > 0);
    }
}
