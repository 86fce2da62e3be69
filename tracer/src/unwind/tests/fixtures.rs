//! Files compiled for one hazard each.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use gimli::X86_64;
use highwater_common::unwind::{
    CFA_DEREFERENCED, CFA_END, CFA_REGISTER, CFA_UNKNOWN, CFA_UNSUPPORTED, Rule, SAVED_RBP,
};
use object::{Object, ObjectSection, ObjectSymbol};

use super::{
    super::{Draft, Faults, RuleBook, Table, rules::bare},
    naive::Naive,
};

/// A C program whose `realigned` keeps its CFA in the frame, as gcc does where the stack is realigned and allocated on.
const REALIGNED_C: &str = "\
__attribute__((noinline)) void use(void *a, void *b) { __asm__ volatile(\"\" :: \"r\"(a), \"r\"(b) : \"memory\"); }
int realigned(int n, int a, int b, int c, int d, int e, int f, int g) {
  _Alignas(64) char x[64]; char v[n];
  use(x, v); use(x, v + a + b + c); use(x, v + d + e); use(x, v + f + g);
  return x[n] + v[1] + a + b + c + d + e + f + g;
}
int main(int n, char **v) { (void)v; return realigned(n, n, n, n, n, n, n, n); }
";

/// A directory that is gone after the test, with one file compiled in it.
pub(super) struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    /// Compiles a source file, by its extension.
    pub(super) fn new(extension: &str, source: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("source.{extension}");
        fs::write(dir.path().join(&name), source).unwrap();
        let fixture = Self { dir };
        fixture.run("cc", &[arguments, &["-o", "out", &name]].concat());
        fixture
    }

    pub(super) fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }
}

/// A table with its rules.
struct Made {
    elf: Vec<u8>,
    table: Table,
    book: RuleBook,
    faults: Faults,
}

impl Made {
    fn of(elf: Vec<u8>) -> Self {
        let mut book = RuleBook::new();
        let draft = Draft::of_bytes(&elf).unwrap();
        let faults = draft.counters();
        let table = draft.intern(&mut book);
        Self {
            elf,
            table,
            book,
            faults,
        }
    }

    /// With what only a file says, not its content alone.
    fn of_file(path: &Path) -> Self {
        let mut book = RuleBook::new();
        let file = fs::File::open(path).unwrap();
        let draft = Draft::of_file(&file).unwrap();
        let faults = draft.counters();
        let table = draft.intern(&mut book);
        Self {
            elf: fs::read(path).unwrap(),
            table,
            book,
            faults,
        }
    }

    fn at(&self, address: u64) -> Rule {
        let row = self.table.find(address);
        row.map_or(Rule::default(), |row| self.book.rules()[row.rule as usize])
    }

    fn symbol(&self, name: &str) -> u64 {
        symbol(&self.elf, name)
    }
}

fn symbol(elf: &[u8], name: &str) -> u64 {
    let elf = object::File::parse(elf).unwrap();
    elf.symbol_by_name(name).unwrap().address()
}

/// Takes the section headers away, as `sstrip` does.
fn without_section_headers(mut elf: Vec<u8>) -> Vec<u8> {
    elf[0x28..0x30].fill(0); // e_shoff
    elf[0x3a..0x40].fill(0); // e_shentsize, e_shnum, e_shstrndx
    elf
}

#[test]
fn a_table_of_a_stripped_file_is_found_by_its_program_header() {
    for source in [
        PathBuf::from("/lib/x86_64-linux-gnu/libc.so.6"),
        Fixture::new("c", REALIGNED_C, &["-O2"]).path(),
    ] {
        let Ok(elf) = fs::read(source) else { continue };
        let whole = Made::of(elf.clone());
        let stripped = Made::of(without_section_headers(elf));
        assert_eq!(whole.table, stripped.table);
        assert_eq!(whole.book.rules(), stripped.book.rules());
        assert_eq!(stripped.faults, whole.faults);
    }
}

#[test]
fn a_table_is_the_same_from_a_file_and_from_memory() {
    // A program's first function says that nothing called it, for which only the file is looked at.
    let fixture = Fixture::new("c", REALIGNED_C, &["-O2", "-shared", "-fPIC"]);
    let file = fs::File::open(fixture.path()).unwrap();
    let table = Draft::of_file(&file).unwrap().intern(&mut RuleBook::new());
    assert_eq!(table, Made::of(fixture.bytes()).table);
}

/// Without tables for exceptions, but with debug information.
const DEBUG_FRAME: [&str; 3] = ["-O2", "-g", "-fno-asynchronous-unwind-tables"];

#[test]
fn debug_frame_is_read_where_there_is_no_eh_frame() {
    let arguments = [
        &DEBUG_FRAME[..],
        &["-shared", "-nostdlib", "-Wl,--no-ld-generated-unwind-info"],
    ]
    .concat();
    for compression in [None, Some("zlib"), Some("zstd")] {
        let fixture = Fixture::new("c", REALIGNED_C, &arguments);
        let plain = fixture.bytes();
        let elf = object::File::parse(&*plain).unwrap();
        assert!(
            elf.section_by_name(".eh_frame")
                .is_none_or(|section| section.size() <= 4)
        );
        let naive = Naive::of_debug_frame(&plain);
        if let Some(compression) = compression {
            fixture.run(
                "objcopy",
                &[&format!("--compress-debug-sections={compression}"), "out"],
            );
            // objcopy leaves small sections as they are, so the debug sections must not all be small.
            assert_ne!(fixture.bytes().len(), plain.len(), "{compression}");
        }
        let made = Made::of(fixture.bytes());
        assert_eq!(made.faults, Faults::default());
        for fde in &naive.entries {
            for address in fde.initial_address()..=fde.end_address() {
                assert_eq!(made.at(address), naive.rule_at(address), "at {address:#x}");
            }
        }
        assert_eq!(made.at(made.symbol("realigned")).cfa, CFA_REGISTER);
    }
}

#[test]
fn code_in_debug_frame_is_found_beside_code_in_eh_frame() {
    let made = Made::of(Fixture::new("c", REALIGNED_C, &DEBUG_FRAME).bytes());
    let elf = object::File::parse(&*made.elf).unwrap();
    let naive = Naive::of_eh_frame(&made.elf);
    assert_eq!(naive.rule_at(made.symbol("realigned")).cfa, CFA_UNKNOWN);
    assert_eq!(made.at(made.symbol("realigned")).cfa, CFA_REGISTER);
    let start = elf.entry();
    assert_eq!(made.at(start), naive.rule_at(start));
    assert_ne!(made.at(start).cfa, CFA_UNKNOWN);
}

#[test]
fn a_realigned_frame_is_found_by_its_rbp() {
    let made = Made::of(Fixture::new("c", REALIGNED_C, &["-O2"]).bytes());
    let start = made.symbol("realigned");
    let size = {
        let elf = object::File::parse(&*made.elf).unwrap();
        elf.symbol_by_name("realigned").unwrap().size()
    };
    let rules: Vec<Rule> = (start..start + size)
        .map(|address| made.at(address))
        .collect();

    let body = rules
        .iter()
        .find(|rule| rule.cfa == CFA_DEREFERENCED)
        .unwrap();
    assert_eq!(u16::from(body.register), X86_64::RBP.0);
    assert_eq!((body.slots_from_rbp, body.add), (1, 0));
    assert_ne!(body.saves & 1 << SAVED_RBP, 0);
    assert_eq!(body.slots[SAVED_RBP], 0);
    // r10 has the CFA before the frame is there and after it is gone.
    assert!(
        rules
            .iter()
            .any(|rule| u16::from(rule.register) == X86_64::R10.0)
    );
    // The last instruction is the return. The caller's registers are back, whatever gcc says.
    let last = rules.last().unwrap();
    assert_eq!(
        (last.cfa, u16::from(last.register), last.offset),
        (CFA_REGISTER, X86_64::RSP.0, 8)
    );
    assert_eq!((last.saves, last.slots_from_rbp), (0, 0));
}

/// Functions by hand, each with one instruction before its rules change and one after.
const BY_HAND: &str = r#"
    .text
    .macro function name
    .globl \name
    .p2align 4
    \name: .cfi_startproc
    nop
    .endm
    .macro end
    nop
    .cfi_endproc
    .endm

    # CFA: *(rsp + 152) + 8, as OpenSSL's assembly has it.
    function dereferenced
    .cfi_escape 0x0f, 6, 0x77, 0x98, 1, 0x06, 0x23, 8
    .cfi_offset 6, -24
    .cfi_offset 3, -16
    end
    # CFA: rbx + 24 - 8 through lit8 and minus.
    function subtracted
    .cfi_escape 0x0f, 4, 0x73, 24, 0x38, 0x1c
    end
    # CFA: *rax * 2
    function multiplied
    .cfi_escape 0x0f, 5, 0x70, 0, 0x06, 0x32, 0x1e
    end
    function return_address_in_a_register
    .cfi_register 16, 5
    end
    function other_stack_pointer
    .cfi_offset 7, -16
    end
    function too_wide
    .cfi_def_cfa_offset 0x7fffffff8
    end
    function wide
    .cfi_def_cfa_offset 0x7ffffff8
    .cfi_offset 15, -0x40000
    .cfi_offset 14, -0x40008
    end
    function saved_by_rbp
    .cfi_def_cfa 10, 0
    .cfi_escape 0x10, 6, 2, 0x76, 0
    .cfi_escape 0x10, 3, 2, 0x76, 0x70
    .cfi_offset 13, -16
    end
    function vector_register
    .cfi_def_cfa 17, 8
    end
    function signal_frame_of_its_own
    .cfi_signal_frame
    .cfi_def_cfa_offset 24
    end
    function odd_signal_frame
    .cfi_signal_frame
    .cfi_escape 0x10, 16, 2, 0x77, 0
    end
"#;

#[test]
fn expressions_by_hand_have_their_rules_or_are_unsupported() {
    let made = Made::of(Fixture::new("s", BY_HAND, &["-shared", "-nostdlib"]).bytes());
    let after = |name: &str| {
        let start = made.symbol(name);
        let before = made.at(start);
        if !name.contains("odd") {
            assert_eq!(
                (before.cfa, before.register, before.offset),
                (CFA_REGISTER, 7, 8),
                "{name}"
            );
        }
        assert_eq!(made.at(start + 2).cfa, CFA_UNKNOWN, "{name}");
        made.at(start + 1)
    };
    let from = |cfa, register, offset, add| Rule {
        cfa,
        register,
        offset,
        add,
        ..Rule::default()
    };
    let dereferenced = Rule {
        saves: 0b11,
        slots: [-2, -3, 0, 0, 0, 0],
        ..from(CFA_DEREFERENCED, 7, 152, 8)
    };
    assert_eq!(after("dereferenced"), dereferenced);
    assert_eq!(after("subtracted"), from(CFA_REGISTER, 3, 16, 0));
    let wide = Rule {
        saves: 1 << 5,
        slots: [0, 0, 0, 0, 0, i16::MIN],
        ..from(CFA_REGISTER, 7, 0x7fff_fff8, 0)
    };
    assert_eq!(after("wide"), wide);
    let saved_by_rbp = Rule {
        saves: 0b11,
        slots_from_rbp: 1,
        slots: [-2, 0, 0, 0, 0, 0],
        ..from(CFA_REGISTER, 10, 0, 0)
    };
    assert_eq!(after("saved_by_rbp"), saved_by_rbp);
    assert_eq!(
        after("signal_frame_of_its_own"),
        from(CFA_REGISTER, 7, 24, 0)
    );
    let unsupported = [
        "multiplied",
        "return_address_in_a_register",
        "other_stack_pointer",
        "too_wide",
        "vector_register",
        "odd_signal_frame",
    ];
    for name in unsupported {
        assert_eq!(after(name), bare(CFA_UNSUPPORTED), "{name}");
    }
    assert_eq!(made.faults.unsupported_rules, unsupported.len() as u64);
}

/// Functions that nothing called behind padding, behind a call, and behind a function; and Boost's way to make a stack:
/// `first` ends in a return, what it leads to in a jump.
const BOTTOMS_S: &str = "
    .text
    .hidden first, behind_padding, behind_a_call, behind_a_function, before_finish, finish
    .globl first, behind_padding, behind_a_call, behind_a_function, before_finish, finish, make_fcontext
    .macro outermost name
\\name:
    .cfi_startproc
    .cfi_undefined rip
    hlt
    .cfi_endproc
    .endm
    .macro function name
\\name:
    .cfi_startproc
    nop
    ret
    .cfi_endproc
    .endm
    function first
    .skip 14, 0xcc
    outermost behind_padding
    .skip 8, 0xcc
    call first
    outermost behind_a_call
    function second
    outermost behind_a_function
    .skip 8, 0xcc
    .type make_fcontext, @function
make_fcontext:
    lea before_finish(%rip), %rcx
    lea finish(%rip), %rcx
    lea behind_a_call(%rip), %rcx
    ret
before_finish:
    push %rbp
    jmp *%rbx
finish:
    xor %rdi, %rdi
    call first
    hlt
    .size make_fcontext, .-make_fcontext
    .skip 8, 0xcc
    function last
";

#[test]
fn stacks_made_by_hand_end_where_no_call_can_have_come_from() {
    let fixture = Fixture::new("s", BOTTOMS_S, &["-shared", "-nostdlib"]);
    let made = Made::of_file(&fixture.path());
    let end = bare(CFA_END);
    let unknown = bare(CFA_UNKNOWN);
    let before = |name| made.at(made.symbol(name) - 1);
    for name in ["behind_padding", "finish"] {
        let address = made.symbol(name);
        assert_eq!(made.at(address - 2), unknown, "{name}");
        assert_eq!(made.at(address - 1), end, "{name}");
    }
    assert_eq!(made.at(made.symbol("finish")), unknown);
    // The call before, the return before.
    assert_eq!(before("behind_a_call"), unknown);
    assert_eq!(before("before_finish"), unknown);
    assert_eq!(before("behind_a_function").cfa, CFA_REGISTER);
}
