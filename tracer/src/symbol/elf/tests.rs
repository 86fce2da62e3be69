use std::fs;

use super::super::fixture::{Fixture, INLINED_C, file_offset, function};
use super::*;

fn read(fixture: &Fixture, name: &str) -> Result<Elf, ElfError> {
    Elf::read(&File::open(fixture.path(name)).unwrap())
}

#[test]
fn headers_of_a_program_say_where_its_code_is() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &["-g", "-Wl,--build-id=0xabcd"]);
    let elf = read(&fixture, "a").unwrap();
    let (start, _) = function(&file, "outer");
    assert_eq!(elf.address_of(file_offset(&file, start)), Some(start));
    assert_eq!(elf.address_of(u64::MAX), None);
    assert!(elf.content(".debug_info").is_some());
    assert!(elf.content(".bss").is_none());
    assert_eq!(elf.build_id, Some(vec![0xab, 0xcd]));
    let (other, _) = function(&file, "leaf");
    assert!(elf.in_one_code_section(start, other));
    assert!(!elf.in_one_code_section(start, u64::MAX));
}

#[test]
fn a_program_without_section_headers_still_has_its_build_id() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &["-Wl,--build-id=0xabcd"]);
    let mut bytes = fs::read(file).unwrap();
    bytes[0x28..0x30].fill(0);
    fs::write(fixture.path("b"), bytes).unwrap();
    let elf = read(&fixture, "b").unwrap();
    assert_eq!(elf.sections, []);
    assert_eq!(elf.build_id, Some(vec![0xab, 0xcd]));
}

#[test]
fn a_debug_link_is_a_bare_name() {
    let fixture = Fixture::new();
    fixture.compile(("a.c", INLINED_C), "a", &[]);
    for (link, expected) in [
        (&b"a.debug\0\x01\0\0\0"[..], Some(("a.debug", 1))),
        (b"ab\0\0\x02\0\0\0", Some(("ab", 2))),
        (b"../../../etc/shadow\0\x01\0\0\0", None),
        (b"..\0\0\x01\0\0\0", None),
        (b"\0\0\0\0\x01\0\0\0", None),
        (b"a.debug\0\x01\0", None),
        (b"no end", None),
    ] {
        fs::write(fixture.path("link"), link).unwrap();
        fixture.run("objcopy", &["--add-section=.gnu_debuglink=link", "a", "b"]);
        let found = read(&fixture, "b").unwrap().debug_link;
        let found = found.as_ref().map(|link| (&*link.file_name, link.crc));
        assert_eq!(found, expected);
    }
}

#[test]
fn more_section_headers_than_any_linker_makes_are_not_read() {
    let fixture = Fixture::new();
    let file = fixture.compile(("a.c", INLINED_C), "a", &[]);
    let mut bytes = fs::read(file).unwrap();
    // e_shnum 0: the count is the size in the first header.
    bytes[0x3c..0x3e].fill(0);
    let first = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
    bytes[first + 0x20..first + 0x28].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    fs::write(fixture.path("b"), bytes).unwrap();
    let error = read(&fixture, "b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "1099511627776 section headers, more than the 65536 we read"
    );
}
