//! What blazesym says of an address, and whether to believe it.

use std::path::{Path, PathBuf};

use blazesym::symbolize::{CodeInfo, Sym};

use super::demangle::demangle;
use super::elf::Elf;
use crate::record::FunctionName;

/// Longest path of a source file kept, bytes.
const MOST_PATH_BYTES: usize = 4096;

/// Which symbols count as the one at an address.
#[derive(Clone, Copy)]
pub(super) enum Covers {
    /// The one whose range holds it.
    Surely,
    /// The one that begins there.
    Start,
    /// The one before it, if it may reach that far.
    Perhaps,
}

impl Covers {
    pub(super) fn holds(self, elf: &Elf, sym: &Sym<'_>, address: u64) -> bool {
        match (self, sym.size) {
            (Self::Start, _) => sym.addr == address,
            (Self::Surely | Self::Perhaps, Some(size)) => address
                .checked_sub(sym.addr)
                .is_some_and(|into| into < size as u64),
            // A function in several pieces: blazesym found the piece that holds the address, and says no start.
            (Self::Surely, None) => sym.addr == 0,
            // A symbol of unknown size, such as assembly has: blazesym extends it up to the next symbol, however far
            // that is. It cannot reach beyond its section.
            (Self::Perhaps, None) => elf.in_one_code_section(sym.addr, address),
        }
    }
}

/// What is at an address.
#[derive(Clone, Default)]
pub(super) struct Named {
    /// Innermost first, the real function last; empty without a name.
    pub(super) functions: Vec<FunctionName>,
    /// The name of the real function in debug information, where that is not a linker's name.
    pub(super) plain: Option<String>,
    /// So has one that was inlined, of a language whose functions stand in something.
    pub(super) has_plain_inlined: bool,
}

impl Named {
    pub(super) fn from_sym(sym: &Sym<'_>) -> Self {
        if sym.name.is_empty() {
            return Self::default();
        }
        // blazesym has the outermost of the inlined functions first.
        let inlined = sym.inlined.iter().rev();
        let functions: Vec<_> = inlined
            .map(|function| (&function.name, function.code_info.as_ref()))
            .chain([(&sym.name, sym.code_info.as_deref())])
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, place)| {
                let file = place.and_then(source_file);
                let path = file
                    .as_deref()
                    .filter(|_| is_plain(name))
                    .and_then(rust_module);
                FunctionName {
                    function: match path {
                        Some(path) if !path_of(name).contains("::") => format!("{path}::{name}"),
                        _ => demangle(name),
                    },
                    file,
                    line: place.and_then(|place| place.line).filter(|&line| line > 0),
                }
            })
            .collect();
        let in_something = |name: &str, place: Option<&CodeInfo<'_>>| {
            let ending = place.and_then(|place| Path::new(&place.file).extension());
            // Functions of C stand in nothing, and those of Rust have linkers' names, or nothing around them.
            is_plain(name) && ending.is_some_and(|ending| ending != "c" && ending != "rs")
        };
        let mut inlined = sym.inlined.iter();
        Self {
            has_plain_inlined: inlined
                .any(|function| in_something(&function.name, function.code_info.as_ref())),
            plain: is_plain(&sym.name).then(|| sym.name.to_string()),
            functions,
        }
    }

    /// Takes the linker's name for the real function, which says more than its plain one in debug information. The symbol table may have
    /// another function there, whose code is the same: then the debug information is right.
    pub(super) fn qualify(&mut self, linker_name: String) {
        if let (Some(plain), Some(real)) = (&self.plain, self.functions.last_mut())
            && linker_name.contains(own_word(plain))
        {
            real.function = linker_name;
            self.plain = None;
        }
    }
}

/// Whether it is a name as in the source, not a linker's.
fn is_plain(name: &str) -> bool {
    demangle(name) == name
}

/// The name up to its arguments.
fn path_of(name: &str) -> &str {
    name.split(['<', '(']).next().unwrap_or(name)
}

/// What a linker's name has in it if it is of the same function.
fn own_word(plain: &str) -> &str {
    // `{closure#0}` is written in several ways, operators with their signs.
    match plain {
        _ if plain.starts_with('{') => "",
        _ if plain.starts_with("operator") => "operator",
        _ => path_of(plain).trim(),
    }
}

/// The module of Rust that a source file of the language's library, or of a package from a registry, stands for. Where a program is
/// built with line tables alone, that is all that tells `alloc::alloc::alloc` from any other `alloc`.
fn rust_module(file: &str) -> Option<String> {
    let (before, inner) = file.strip_suffix(".rs")?.split_once("/src/")?;
    let (_, library) = before.rsplit_once('/')?;
    let (package, inner) = match (before.rsplit_once("/library/"), inner.split_once('/')) {
        (Some((_, package)), _) if package == library => (package, inner),
        // `registry/src/index.crates.io-…/hashbrown-0.15.2/src/raw/mod.rs`
        (None, Some((_, inner))) if library == "registry" => {
            let (package, inner) = inner.split_once("/src/")?;
            (package.rsplit_once('-').map(|(name, _)| name)?, inner)
        }
        _ => return None,
    };
    let words = inner
        .split('/')
        .filter(|word| !matches!(*word, "mod" | "lib"));
    let path: Vec<&str> = std::iter::once(package).chain(words).collect();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | ':');
    let path = path.join("::");
    path.chars().all(is_word).then(|| path.replace('-', "_"))
}

/// The path of a source file: absolute where the compiler noted its directory, without `.` parts.
fn source_file(place: &CodeInfo<'_>) -> Option<String> {
    let path: PathBuf = place.to_path().components().collect();
    let mut path = path.to_string_lossy().into_owned();
    path.truncate(path.floor_char_boundary(MOST_PATH_BYTES));
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_file_of_a_rust_library_tells_its_module() {
        for (file, module) in [
            (
                "/rustc/59807616e1fa/library/alloc/src/alloc.rs",
                Some("alloc::alloc"),
            ),
            (
                "/rustc/59807616e1fa/library/alloc/src/vec/mod.rs",
                Some("alloc::vec"),
            ),
            ("/rustc/59807616e1fa/library/core/src/lib.rs", Some("core")),
            (
                "/root/.cargo/registry/src/index.crates.io-1949/hash-brown-0.15.2/src/raw/mod.rs",
                Some("hash_brown::raw"),
            ),
            (
                "/rustc/59807616e1fa/library/stdarch/crates/core_arch/src/x86/sse.rs",
                None,
            ),
            ("/home/me/app/src/main.rs", None),
            ("/home/me/library/app/src/a b.rs", None),
            ("/usr/include/c++/12/bits/stl_vector.h", None),
            ("/src/.rs", None),
        ] {
            assert_eq!(rust_module(file).as_deref(), module, "{file}");
        }
    }

    #[test]
    fn the_linkers_name_stands_only_for_the_function_that_debug_information_names() {
        let named = |plain: &str| Named {
            functions: vec![FunctionName {
                function: plain.to_owned(),
                file: None,
                line: None,
            }],
            plain: Some(plain.to_owned()),
            has_plain_inlined: false,
        };
        for (plain, linker_name, taken) in [
            ("add", "shop::Basket<int>::add(int)", true),
            ("grow<int>", "int* app::grow<int>(int)", true),
            (
                "operator()",
                "main::{lambda(int)#1}::operator()(int) const",
                true,
            ),
            ("{closure#0}", "app::run::{{closure}}", true),
            ("drop_rows", "app::drop_columns()", false),
        ] {
            let mut named = named(plain);
            named.qualify(linker_name.to_owned());
            let expected = if taken { linker_name } else { plain };
            assert_eq!(named.functions[0].function, expected);
        }
    }
}
