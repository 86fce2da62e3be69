//! Names of C++, as its compilers mangle them: <https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling>.
//!
//! ```text
//! _ZN3app4growIiEEPT_i ──► parse.rs (names, types, expression) ──► tree.rs ──► print.rs (packs) ──► int* app::grow<int>(int)
//! ```
//!
//! Held against `c++filt` (see the tests): names read the same, but `std::string` is not spelled out. The name belongs to whoever wrote the
//! target, so that nesting, the size of the tree, and how often its parts are visited are bounded.

mod expression;
mod names;
mod operators;
mod packs;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod tree;
mod types;

use std::fmt::{self, Write};

use parse::Parser;
use print::Printer;

/// Writes the name as its author wrote it. `None`: it is no mangled name of C++, and nothing was written. An error: `out` takes no more,
/// or the name stands for too much.
pub(super) fn demangle(name: &str, out: &mut dyn Write) -> Option<fmt::Result> {
    let mangled = name
        .strip_prefix("_Z")
        .or_else(|| name.strip_prefix("__Z"))?;
    // A version of a library, as in `_Znwm@GLIBCXX_3.4`.
    let mangled = mangled.split('@').next().unwrap_or(mangled);
    let mut parser = Parser::new(mangled);
    let whole = parser.encoding()?;
    let rest = mangled.get(parser.at..)?;
    if !rest.is_empty() && !rest.starts_with('.') {
        return None;
    }
    let wrote = Printer::new(&parser.tree, out).whole(whole);
    Some(wrote.and_then(|()| parts_of(rest).try_for_each(|part| write!(out, " [clone {part}]"))))
}

/// What compilers append for parts and copies of a function, each with its numbers: `.part.0`, `.cold`.
fn parts_of(suffix: &str) -> impl Iterator<Item = &str> {
    let mut rest = suffix;
    std::iter::from_fn(move || {
        let is_number =
            |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        let mut words = rest.strip_prefix('.')?.split('.');
        let numbers = |words: std::str::Split<'_, char>| -> usize {
            words
                .take_while(|word| is_number(word))
                .map(|word| 1 + word.len())
                .sum()
        };
        let length = 1 + words.next()?.len() + numbers(words);
        let (part, behind) = rest.split_at(length);
        rest = behind;
        Some(part)
    })
}
