//! Files of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use highwater_common::unwind::{
    CFA_END, CFA_FRAME_POINTER, CFA_PLT, CFA_REGISTER, CFA_SIGNAL, CFA_UNKNOWN, Row, Rule,
};
use object::{Object, ObjectSymbol};

use super::{
    super::{Draft, Faults, RuleBook, Table},
    naive::Naive,
};

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
const LIBSTDCXX: &str = "/usr/lib/x86_64-linux-gnu/libstdc++.so.6";
const LD_SO: &str = "/lib64/ld-linux-x86-64.so.2";

/// A program, or what it is a link to.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find_map(|path| {
            let start = fs::read(&path).ok()?;
            start.starts_with(b"\x7fELF").then_some(path)
        })
}

fn table_of(elf: &[u8]) -> (Table, RuleBook, Faults) {
    let mut book = RuleBook::new();
    let draft = Draft::of_bytes(elf).unwrap();
    let faults = draft.counters();
    (draft.intern(&mut book), book, faults)
}

fn rule_at(table: &Table, book: &RuleBook, address: u64) -> Rule {
    table
        .find(address)
        .map_or(Rule::default(), |row| book.rules()[row.rule as usize])
}

/// Compares the table of a file with its twin: at, around and in the middle of some entries, and at random addresses.
fn holds_against_the_twin(elf: &[u8]) {
    let (table, book, faults) = table_of(elf);
    assert_eq!(faults.broken_entries, 0);
    let naive = Naive::of_eh_frame(elf);
    let step = naive.entries.len() / 250 + 1;
    let mut addresses = vec![0, table.base - 1, u64::MAX];
    for fde in naive.entries.iter().step_by(step) {
        let (start, end) = (fde.initial_address(), fde.end_address());
        addresses.extend([start - 1, start, start + 1, (start + end) / 2, end - 1, end]);
    }
    let span = u64::from(table.rows.last().unwrap().pc) + 64;
    let mut random = 1_u64;
    for _ in 0..250 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        addresses.push(table.base + (random >> 16) % span);
    }
    for address in addresses {
        let mut rule = rule_at(&table, &book, address);
        let is_unknown = naive.rule_at(address) == Rule::default();
        if is_unknown && matches!(rule.cfa, CFA_FRAME_POINTER | CFA_END) {
            // Embedded code and entry points, of which the twin knows nothing.
            rule = Rule::default();
        }
        assert_eq!(rule, naive.rule_at(address), "at {address:#x}");
    }
}

fn bytes_per_row(table: &Table) -> f64 {
    8.0 * table.elements().len() as f64 / table.rows.len() as f64
}

#[test]
fn tables_of_libraries_hold_against_their_twins() {
    for path in [LIBC, LIBSTDCXX, LD_SO] {
        holds_against_the_twin(&fs::read(path).unwrap());
    }
}

#[test]
fn tables_of_programs_hold_against_their_twins() {
    let programs = ["git", "gdb", "python3", "bash", "gcc"];
    let found: Vec<PathBuf> = programs.iter().filter_map(|name| program(name)).collect();
    assert!(found.len() > 1, "{found:?}");
    for path in found {
        holds_against_the_twin(&fs::read(path).unwrap());
    }
}

#[test]
fn the_vdso_has_a_table() {
    let image = crate::target::vdso::image().unwrap();
    holds_against_the_twin(&image);
    let elf = object::File::parse(&*image).unwrap();
    let function = elf
        .dynamic_symbols()
        .find(|symbol| symbol.name() == Ok("__vdso_clock_gettime"))
        .unwrap();
    let (table, book, _) = table_of(&image);
    let rule = rule_at(&table, &book, function.address());
    assert_eq!((rule.cfa, rule.register, rule.offset), (CFA_REGISTER, 7, 8));
}

#[test]
fn a_row_takes_ten_bytes_at_most() {
    for path in [
        PathBuf::from(LIBC),
        LIBSTDCXX.into(),
        program("git").unwrap(),
    ] {
        let (table, book, faults) = table_of(&fs::read(&path).unwrap());
        let bytes = bytes_per_row(&table);
        assert!(bytes <= 10.0, "{}: {bytes}", path.display());
        assert!(book.rules().len() < 1000);
        assert_eq!(faults.rows_dropped, 0, "{}", path.display());
    }
}

#[test]
fn the_elements_are_the_units_and_the_rows() {
    let (table, ..) = table_of(&fs::read(LD_SO).unwrap());
    let elements = table.elements();
    let (units, rows) = elements.split_at(table.units.len());
    for (&element, unit) in units.iter().zip(&table.units) {
        assert_eq!(
            element,
            u64::from(unit.first) + (u64::from(unit.last) << 32)
        );
    }
    let read: Vec<Row> = rows
        .iter()
        .map(|&element| Row {
            pc: element as u32,
            rule: (element >> 32) as u32,
        })
        .collect();
    assert_eq!(read, table.rows);
}

#[test]
fn rows_are_sorted_and_neighbours_differ() {
    for path in [LIBC, LIBSTDCXX] {
        let (table, ..) = table_of(&fs::read(path).unwrap());
        assert_eq!(table.rows[0].pc, 0);
        for pair in table.rows.windows(2) {
            assert!(pair[0].pc < pair[1].pc);
            assert_ne!(pair[0].rule, pair[1].rule);
        }
        let last = table.rows.last().unwrap();
        assert_eq!(last.rule, u32::from(CFA_UNKNOWN));
        assert_eq!(table.find(table.base + u64::from(last.pc)), Some(*last));
        assert_eq!(table.find(table.base + (1 << 40)), None);
    }
}

/// The start of the code that is these bytes.
fn address_of_code(elf: &[u8], code: &[u8]) -> u64 {
    use object::ObjectSection;
    let elf = object::File::parse(elf).unwrap();
    let text = elf.section_by_name(".text").unwrap();
    let content = text.data().unwrap();
    let at = content
        .windows(code.len())
        .position(|window| window == code);
    text.address() + at.unwrap() as u64
}

#[test]
fn libc_returns_from_signal_handlers_by_the_rule_for_signal_frames() {
    let elf = fs::read(LIBC).unwrap();
    // mov $15, %rax; syscall: rt_sigreturn.
    let restorer = address_of_code(&elf, &[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05]);
    let (table, book, _) = table_of(&elf);
    for address in [restorer - 1, restorer, restorer + 8] {
        let expected = Rule {
            cfa: CFA_SIGNAL,
            ..Rule::default()
        };
        assert_eq!(rule_at(&table, &book, address), expected);
    }
}

#[test]
fn stacks_end_where_threads_and_programs_begin() {
    let end = Rule {
        cfa: CFA_END,
        ..Rule::default()
    };
    let elf = fs::read(LIBC).unwrap();
    let file = object::File::parse(&*elf).unwrap();
    let clone = file
        .dynamic_symbols()
        .find(|symbol| symbol.name() == Ok("clone") && symbol.is_definition())
        .unwrap();
    let (table, book, _) = table_of(&elf);
    let code = clone.address()..clone.address() + clone.size();
    assert!(
        code.clone()
            .any(|address| rule_at(&table, &book, address) == end)
    );

    let elf = fs::read(program("bash").unwrap()).unwrap();
    let start = object::File::parse(&*elf).unwrap().entry();
    let (table, book, _) = table_of(&elf);
    assert_eq!(rule_at(&table, &book, start + 8), end);
}

/// The C libraries that `cargo xtask setup` has fetched beside this machine's, where it has.
fn c_libraries() -> Vec<PathBuf> {
    let fetched = ["debian-13", "newer-pythons"].map(|suite| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../target")
            .join(suite)
            .join("root/usr/lib/x86_64-linux-gnu/libc.so.6")
    });
    let fetched = fetched.into_iter().filter(|path| path.exists());
    std::iter::once(LIBC.into()).chain(fetched).collect()
}

#[test]
fn stacks_end_where_coroutines_of_the_c_library_return_to() {
    for path in c_libraries() {
        let elf = fs::read(&path).unwrap();
        // mov %rbx, %rsp; mov (%rsp), %rdi; test %rdi, %rdi
        let code = [0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff];
        let start = address_of_code(&elf, &code);
        let mut book = RuleBook::new();
        let file = fs::File::open(&path).unwrap();
        let table = Draft::of_file(&file).unwrap().intern(&mut book);
        let kinds =
            [start - 2, start - 1, start].map(|address| rule_at(&table, &book, address).cfa);
        assert_eq!(
            kinds,
            [CFA_UNKNOWN, CFA_END, CFA_REGISTER],
            "{}",
            path.display()
        );
    }
}

#[test]
fn procedure_linkage_tables_have_their_rule() {
    let elf = fs::read(LIBSTDCXX).unwrap();
    let (_, book, _) = table_of(&elf);
    let plt: Vec<&Rule> = book
        .rules()
        .iter()
        .filter(|rule| rule.cfa == CFA_PLT)
        .collect();
    let [rule] = *plt else { panic!("{plt:?}") };
    assert_eq!((rule.register, rule.offset, rule.saves), (7, 8, 0));
    assert!(rule.add == 10 || rule.add == 11);
}
