//! From linker names to the names that people wrote.
//!
//! Mangled names refer back to parts of themselves, so a C++ name of 300 bytes can stand for terabytes. The text is cut at
//! [`MOST_NAME_BYTES`] as it is written.

use std::fmt::{self, Write};

use super::cxx;

/// Longest function name kept, bytes; a longer one ends in `…`.
pub const MOST_NAME_BYTES: usize = 4096;

/// The name as its author wrote it; a name that is not mangled as it is.
///
/// Rust's hash at the end (`::h0123456789abcdef`) is left out.
pub fn demangle(name: &str) -> String {
    let mut text = Bounded::default();
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        let whole = write!(text, "{rust:#}");
        return text.finish(whole.is_ok());
    }
    // A C function named `i` is no `int`: only what begins with `_Z` is C++.
    match cxx::demangle(name, &mut text) {
        Some(whole) if whole.is_ok() || !text.text.is_empty() => return text.finish(whole.is_ok()),
        _ => {}
    }
    let whole = text.write_str(name);
    text.finish(whole.is_ok())
}

/// The name, cut where it is too long.
pub(super) fn bounded(name: String) -> String {
    if name.len() <= MOST_NAME_BYTES {
        return name;
    }
    let mut text = Bounded::default();
    let whole = text.write_str(&name);
    text.finish(whole.is_ok())
}

/// Text that refuses to grow beyond [`MOST_NAME_BYTES`].
#[derive(Default)]
struct Bounded {
    text: String,
}

impl Bounded {
    fn finish(mut self, whole: bool) -> String {
        if !whole {
            self.text.push('…');
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MOST_NAME_BYTES - self.text.len();
        if part.len() <= room {
            self.text.push_str(part);
            return Ok(());
        }
        self.text.push_str(&part[..part.floor_char_boundary(room)]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_language_read_as_they_were_written() {
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(
            demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"),
            "std::vector<int, std::allocator<int> >::push_back(int const&)"
        );
        assert_eq!(
            demangle("_ZN5alloc3vec3Vec4push17h0123456789abcdefE"),
            "alloc::vec::Vec::push"
        );
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangle("main"), "main");
        assert_eq!(demangle("i"), "i");
        assert_eq!(demangle("_Z"), "_Z");
        assert_eq!(demangle("_Z1"), "_Z1");
        assert_eq!(demangle(""), "");
    }

    #[test]
    fn a_cxx_name_that_stands_for_terabytes_is_cut() {
        // X<int,int>, then thirty times X<all so far, all so far>.
        let mut name = String::from("_Z1f1XIiiE");
        for step in 0..30_u32 {
            let part = char::from_digit(step, 36).unwrap().to_ascii_uppercase();
            write!(name, "S_IS{part}_S{part}_E").unwrap();
        }
        let text = demangle(&name);
        assert!(text.starts_with("f(X<int, int>, X<"), "{text}");
        assert!(text.ends_with('…'));
        assert!(text.len() <= MOST_NAME_BYTES + '…'.len_utf8());
    }

    #[test]
    fn a_rust_name_that_stands_for_gigabytes_is_cut() {
        let mut name = String::from("_RINvC1a1fThhE");
        let mut last = name.len() - 2 - 4;
        for _ in 0..40 {
            let here = name.len() - 2;
            write!(name, "TB{0}B{0}E", base62(last)).unwrap();
            last = here;
        }
        name.push('E');
        let text = demangle(&name);
        assert!(text.starts_with("a::f::<(u8, u8), "), "{text}");
        assert!(text.len() <= MOST_NAME_BYTES + '…'.len_utf8());
    }

    /// A back reference of Rust's v0 mangling.
    fn base62(value: usize) -> String {
        let digit =
            |d: usize| b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[d] as char;
        match value.checked_sub(1) {
            None => "_".into(),
            Some(rest) if rest < 62 => format!("{}_", digit(rest)),
            Some(rest) => format!("{}{}_", digit(rest / 62), digit(rest % 62)),
        }
    }

    #[test]
    fn a_long_plain_name_is_cut_between_characters() {
        let text = demangle(&"ä".repeat(MOST_NAME_BYTES));
        assert_eq!(
            text.chars().filter(|&c| c == 'ä').count(),
            MOST_NAME_BYTES / 2
        );
        assert!(text.ends_with('…'));
    }
}
