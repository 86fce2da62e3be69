use std::{fs::File, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::target::elf::{Elf, Symbol};

fn at(offset: u64, past_null_check: bool) -> Placement {
    Placement {
        offset,
        emulated: true,
        past_null_check,
        pushed_bytes: 0,
    }
}

fn entry_only() -> Placement {
    Placement {
        emulated: false,
        ..at(0, false)
    }
}

#[test]
fn emulated_instructions_are_those_of_the_kernel() {
    let emulated: [&[u8]; 10] = [
        &[0x90],
        &[0x55],
        &[0x41, 0x57],
        &[0x74, 0],
        &[0x7f, 0],
        &[0x0f, 0x84, 0, 0, 0, 0],
        &[0x0f, 0x8f, 0, 0, 0, 0],
        &[0xeb, 0],
        &[0xe9, 0, 0, 0, 0],
        &[0xe8, 0, 0, 0, 0],
    ];
    let stepped: [&[u8]; 10] = [
        &[],
        &[0xf3, 0x0f, 0x1e, 0xfa], // endbr64
        &[0x0f, 0x1f, 0x44, 0, 0], // nop dword [rax+rax]
        &[0x48, 0x85, 0xff],       // test rdi, rdi
        &[0xff, 0x35, 0, 0, 0, 0], // push [rip]
        &[0x6a, 0],                // push 0
        &[0x42, 0x55],             // a prefix that the kernel does not take
        &[0x66, 0xe9, 0, 0],       // jmp rel16
        &[0x3e, 0x74, 0],          // je with a hint
        &[0xff, 0x25, 0, 0, 0, 0], // jmp [rip]
    ];
    for bytes in emulated {
        assert!(kernel_emulates(bytes), "{bytes:x?}");
    }
    for bytes in stepped {
        assert!(!kernel_emulates(bytes), "{bytes:x?}");
    }
}

#[test]
fn endbr64_is_passed_over() {
    // Ubuntu, Fedora: endbr64; push rbp; mov rbp, rsp; ret
    let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Malloc), at(4, false));
}

#[test]
fn free_is_probed_past_its_null_check() {
    // endbr64; test rdi, rdi; je +2; push rbx; ret; (je's target) ret
    let code = [
        0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x85, 0xff, 0x74, 2, 0x53, 0xc3, 0xc3,
    ];
    assert_eq!(place(&code, 0x1000, Function::Free), at(9, true));
    // With a frame pointer: push rbp; mov rbp, rsp; test rdi, rdi; je +2; push rbx; ret; ret
    let code = [
        0x55, 0x48, 0x89, 0xe5, 0x48, 0x85, 0xff, 0x74, 2, 0x53, 0xc3, 0xc3,
    ];
    let placement = place(&code, 0x1000, Function::Free);
    assert_eq!(
        placement,
        Placement {
            pushed_bytes: 8,
            ..at(9, true)
        }
    );
}

#[test]
fn free_with_a_hook_is_probed_before_the_hook_is_called() {
    // glibc 2.31: mov rax, [rip]; mov rax, [rax]; test rax, rax; jne +8; test rdi, rdi; je +1; push rbx; ret
    let code = [
        0x48, 0x8b, 0x05, 0, 0, 0, 0, 0x48, 0x8b, 0x00, 0x48, 0x85, 0xc0, 0x75, 8, 0x48, 0x85,
        0xff, 0x74, 1, 0x53, 0xc3, 0xc3,
    ];
    assert_eq!(place(&code, 0x1000, Function::Free), at(13, false));
}

#[test]
fn a_branch_on_something_else_than_null_is_not_passed() {
    // test rdi, rdi; cmp rsi, 1; je +1; push rbx; ret: the flags are those of cmp.
    let code = [0x48, 0x85, 0xff, 0x48, 0x83, 0xfe, 1, 0x74, 1, 0x53, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Free), at(7, false));
    // test rdi, rdi; jne +1; ret; push rbx; ret: what follows runs with NULL.
    let code = [0x48, 0x85, 0xff, 0x75, 1, 0xc3, 0x53, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Free), at(3, false));
}

#[test]
fn a_null_check_of_another_function_is_itself_the_place() {
    // test rdi, rdi; je +1; push rbx; ret
    let code = [0x48, 0x85, 0xff, 0x74, 1, 0x53, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Realloc), at(3, false));
}

#[test]
fn written_arguments_end_the_search() {
    // mov rsi, rdi; push rbx; ret
    let code = [0x48, 0x89, 0xfe, 0x53, 0xc3];
    assert_eq!(
        place(&code, 0x1000, Function::Malloc),
        at(3, false),
        "rsi is not malloc's"
    );
    assert_eq!(place(&code, 0x1000, Function::Calloc), entry_only());
    // mov edi, eax; push rbx; ret: half of the register is the register.
    let code = [0x89, 0xc7, 0x53, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
    // glibc 2.36, reallocarray: mov rax, rsi; mul rdx; mov rsi, rax; jo +5; ...
    let code = [
        0x48, 0x89, 0xf0, 0x48, 0xf7, 0xe2, 0x48, 0x89, 0xc6, 0x70, 5, 0xc3,
    ];
    assert_eq!(place(&code, 0x1000, Function::Reallocarray), entry_only());
}

#[test]
fn a_moved_stack_pointer_ends_the_search_where_the_return_is_probed() {
    // sub rsp, 8; push rbx; ret
    let code = [0x48, 0x83, 0xec, 8, 0x53, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
    assert_eq!(place(&code, 0x1000, Function::Free), entry_only());
}

#[test]
fn a_store_ends_the_search() {
    // mov [rax], rcx; push rbx; ret
    let code = [0x48, 0x89, 0x08, 0x53, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Free), entry_only());
}

#[test]
fn calls_are_never_passed_and_not_chosen() {
    // test rdi, rdi; call +0; push rbx; ret
    let code = [0x48, 0x85, 0xff, 0xe8, 0, 0, 0, 0, 0x53, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
}

#[test]
fn a_loop_back_into_the_prefix_forbids_what_it_passes() {
    // test rdi, rdi; (a) mov rax, rcx; push rbx; pop rbx; jne a; ret
    let code = [
        0x48, 0x85, 0xff, 0x48, 0x89, 0xc8, 0x53, 0x5b, 0x75, 0xf9, 0xc3,
    ];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
    // The same, back to the push itself.
    let code = [
        0x48, 0x85, 0xff, 0x48, 0x89, 0xc8, 0x53, 0x5b, 0x75, 0xfc, 0xc3,
    ];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
    // Back behind it: nothing is seen twice.
    let code = [
        0x48, 0x85, 0xff, 0x48, 0x89, 0xc8, 0x53, 0x5b, 0x75, 0xfd, 0xc3,
    ];
    assert_eq!(place(&code, 0x1000, Function::Malloc), at(6, false));
}

#[test]
fn a_branch_into_the_middle_of_a_passed_instruction_counts_too() {
    // endbr64; cmp byte [rip], 0; test rdi, rdi; jmp -16
    let code = [
        0xf3, 0x0f, 0x1e, 0xfa, 0x80, 0x3d, 0, 0, 0, 0, 0, 0x48, 0x85, 0xff, 0xe9, 0xf0, 0xff,
        0xff, 0xff,
    ];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
}

#[test]
fn a_jump_table_forbids_all_but_the_entry() {
    // test rdi, rdi; push rbx; jmp [rax*8 + 0]; ret
    let code = [0x48, 0x85, 0xff, 0x53, 0xff, 0x24, 0xc5, 0, 0, 0, 0, 0xc3];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
    // test rdi, rdi; push rbx; movsxd rax, [rdx + rax*4]; jmp rax
    let code = [0x48, 0x85, 0xff, 0x53, 0x48, 0x63, 0x04, 0x82, 0xff, 0xe0];
    assert_eq!(place(&code, 0x1000, Function::Malloc), entry_only());
    // test rdi, rdi; push rbx; jmp rax: a tail call.
    let code = [0x48, 0x85, 0xff, 0x53, 0xff, 0xe0];
    assert_eq!(place(&code, 0x1000, Function::Malloc), at(3, false));
}

#[test]
fn a_thunk_is_probed_at_its_jump() {
    // endbr64; jmp +0x100
    let code = [0xf3, 0x0f, 0x1e, 0xfa, 0xe9, 0, 1, 0, 0];
    assert_eq!(place(&code, 0x1000, Function::Malloc), at(4, false));
}

#[test]
fn code_that_cannot_be_decoded_is_probed_at_its_entry() {
    assert_eq!(place(&[], 0x1000, Function::Malloc), entry_only());
    assert_eq!(
        place(&[0x48, 0x85, 0xff, 0x53, 0x06], 0x1000, Function::Malloc),
        entry_only()
    );
    assert_eq!(place(&[0x53, 0x06], 0x1000, Function::Malloc), at(0, false));
}

/// Every function of an allocator that some library of this machine exports, with its code.
fn allocator_functions() -> Vec<(PathBuf, Function, Symbol, Vec<u8>)> {
    let mut found = Vec::new();
    for dir in [
        "/lib/x86_64-linux-gnu",
        "/lib64",
        "/usr/lib64",
        "/usr/lib",
        "/usr/local/lib",
    ] {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if !path.to_string_lossy().contains(".so") || !path.is_file() {
                continue;
            }
            let file = File::open(&path).unwrap();
            let Ok(elf) = Elf::open(&file) else { continue };
            for function in Function::ALL {
                for symbol in elf.functions(function.symbol()).unwrap() {
                    let code = elf.code(&symbol).unwrap();
                    found.push((path.clone(), function, symbol, code));
                }
            }
        }
    }
    found
}

/// The conditions at the head of this file, checked by other means than the search uses.
fn assert_sound(code: &[u8], address: u64, function: Function, placement: Placement, name: &str) {
    let mut info = InstructionInfoFactory::new();
    let mut pushed = 0;
    let mut boundary = placement.offset == 0;
    for instruction in Decoder::with_ip(64, code, address, DecoderOptions::NONE) {
        let offset = instruction.ip() - address;
        boundary |= offset == placement.offset;
        if instruction.op0_kind() == OpKind::NearBranch64 && placement.offset > 0 {
            let target = instruction.near_branch_target();
            let passed = address + 1..=address + placement.offset;
            assert!(
                !passed.contains(&target),
                "{name}: {offset:#x} branches into the prefix"
            );
        }
        if offset >= placement.offset {
            continue;
        }
        let null_check = instruction.flow_control() == FlowControl::ConditionalBranch;
        assert!(
            instruction.flow_control() == FlowControl::Next
                || (null_check && placement.past_null_check),
            "{name}: {offset:#x} leaves the line"
        );
        let effects = info.info(&instruction);
        for used in effects.used_registers() {
            if matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None
            ) {
                continue;
            }
            let register = used.register().full_register();
            assert!(
                !needed_registers(function).contains(&register),
                "{name}: {offset:#x} writes {register:?}"
            );
            if register == Register::RSP {
                assert!(
                    function.frees(),
                    "{name}: {offset:#x} moves the stack pointer"
                );
            }
        }
        pushed -= i64::from(instruction.stack_pointer_increment());
    }
    assert!(
        boundary,
        "{name}: +{:#x} is within an instruction",
        placement.offset
    );
    assert_eq!(
        i64::try_from(placement.pushed_bytes).unwrap(),
        pushed,
        "{name}"
    );
    assert!(!placement.past_null_check || function.frees());
}

#[test]
fn every_allocator_function_of_this_machine_is_placed_soundly() {
    let functions = allocator_functions();
    assert!(
        functions.len() >= 12,
        "the libc of this machine alone has twelve"
    );
    for (path, function, symbol, code) in functions {
        let placement = place(&code, symbol.address, function);
        let name = format!("{} in {}", function.symbol(), path.display());
        println!("{name}: {placement:?}");
        assert_sound(&code, symbol.address, function, placement, &name);
    }
}

#[test]
fn debian_12_is_placed_as_measured() {
    let file = File::open("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let elf = Elf::open(&file).unwrap();
    // Other builds of libc have other code: the test above holds for all.
    if elf.build_id().as_deref() != Some(DEBIAN_12_LIBC) {
        return;
    }
    let place_of = |function: Function| {
        let symbol = elf.functions(function.symbol()).unwrap()[0];
        place(&elf.code(&symbol).unwrap(), symbol.address, function)
    };
    assert_eq!(place_of(Function::Malloc), at(0, false));
    assert_eq!(place_of(Function::Calloc), at(0, false));
    assert_eq!(place_of(Function::Realloc), at(0, false));
    assert_eq!(place_of(Function::Reallocarray), entry_only());
    assert_eq!(place_of(Function::PosixMemalign), at(7, false));
    assert_eq!(place_of(Function::AlignedAlloc), at(7, false));
    assert_eq!(place_of(Function::Memalign), at(7, false));
    assert_eq!(place_of(Function::Valloc), at(7, false));
    assert_eq!(place_of(Function::Pvalloc), at(7, false));
    assert_eq!(place_of(Function::Free), at(9, true));
    assert_eq!(place_of(Function::Cfree), at(9, true));
}

const DEBIAN_12_LIBC: &str = "93ac61ec5a8eb1396f9fbd350e3169a558528a40";

/// Instructions that prologues are made of, so that random sequences of them are often placed past the entry.
fn prologue_code() -> impl Strategy<Value = Vec<u8>> {
    let instructions = prop::sample::select(vec![
        &[0xf3, 0x0f, 0x1e, 0xfa][..],
        &[0x48, 0x85, 0xff],
        &[0x74, 2],
        &[0x75, 0xf8],
        &[0x53],
        &[0x41, 0x54],
        &[0x48, 0x89, 0xe5],
        &[0x48, 0x89, 0xfb],
        &[0x48, 0x89, 0xc7],
        &[0x48, 0x83, 0xec, 0x18],
        &[0x80, 0x3d, 0, 0, 0, 0, 0],
        &[0xe9, 0xf0, 0xff, 0xff, 0xff],
        &[0x48, 0x8b, 0x47, 0xf8],
        &[0xc3],
    ]);
    prop::collection::vec(instructions, 0..12).prop_map(|parts| parts.concat())
}

fn any_function() -> impl Strategy<Value = Function> {
    prop::sample::select(Function::ALL.to_vec())
}

proptest! {
    #[test]
    fn any_prologue_is_placed_soundly(code in prologue_code(), function in any_function()) {
        let placement = place(&code, 0x1000, function);
        assert_sound(&code, 0x1000, function, placement, "random prologue");
    }

    #[test]
    fn any_bytes_are_placed_soundly(code: Vec<u8>, address: u64, function in any_function()) {
        prop_assume!(address < u64::MAX - 1000);
        let placement = place(&code, address, function);
        assert_sound(&code, address, function, placement, "random bytes");
    }
}
