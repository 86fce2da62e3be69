//! What a function belongs to, as its author would say: Python's package, Rust's crate, C++'s namespace, else the file that its
//! code was mapped from.
//!
//! | code | is of |
//! |---|---|
//! | Python, `…/site-packages/numpy/core/numeric.py` | `numpy (Python)` |
//! | Python, `…/lib/python3.11/json/decoder.py`, `<frozen os>` | `json (Python)`, `os (Python)` |
//! | Python, any other file: its directory | `app/ (Python)` |
//! | Rust and C++, whose names are paths: the first name of it | `serde_json::`, `std::` |
//! | the rest | `/usr/lib/libfoo.so.1` |

use super::fit::bare;
use super::name::NamedFrame;
use crate::words;

/// Its name. Printable, never empty.
pub fn package(frame: &NamedFrame<'_>) -> String {
    if frame.runtime == Some("python")
        && let Some(file) = frame.file.filter(|file| !file.is_empty())
    {
        return format!("{} (Python)", words::printable(&of_python(file)));
    }
    match (frame.function.and_then(first_of_path), frame.module) {
        (Some(first), _) => format!("{first}::"),
        (None, Some(module)) => words::printable(&module.path.to_string_lossy()).into_owned(),
        (None, None) => "(no file)".to_owned(),
    }
}

fn of_python(file: &str) -> String {
    if let Some(frozen) = file.strip_prefix("<frozen ") {
        let name = frozen.split(['.', '>']).next();
        return name.unwrap_or(frozen).to_owned();
    }
    let parts: Vec<&str> = file.split('/').filter(|part| !part.is_empty()).collect();
    let after = |is_it: &dyn Fn(usize) -> bool| {
        let at = (0..parts.len()).rev().find(|at| is_it(*at))?;
        let name = parts.get(at + 1)?;
        Some(name.strip_suffix(".py").unwrap_or(name).to_owned())
    };
    let installed = |at: usize| matches!(parts[at], "site-packages" | "dist-packages");
    let standard =
        |at: usize| at > 0 && parts[at].starts_with("python3") && parts[at - 1].starts_with("lib");
    after(&installed)
        .or_else(|| after(&standard))
        .unwrap_or_else(|| match parts[..] {
            [.., directory, _] => format!("{directory}/"),
            _ => file.to_owned(),
        })
}

/// `app` of `void app::Index<int>::insert(int)`, `alloc` of `<alloc::vec::Vec<T> as core::clone::Clone>::clone`.
fn first_of_path(function: &str) -> Option<String> {
    let name = bare(function);
    let mut path = name.trim_start_matches(['<', '&', '*', '[', '(']);
    for word in ["mut ", "const ", "dyn "] {
        path = path.strip_prefix(word).unwrap_or(path);
    }
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let ends = path.find(|c| !is_of_name(c))?;
    let (first, rest) = path.split_at(ends);
    let is_path = rest.starts_with("::") || rest.starts_with('<') && rest.contains(">::");
    (is_path && !first.is_empty()).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FrameKind, Module, RuntimeIndex};

    #[test]
    fn rust_is_told_by_crate_and_cpp_by_namespace() {
        for (function, first) in [
            ("serde_json::de::from_str", Some("serde_json")),
            (
                "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
                Some("alloc"),
            ),
            ("<&mut app::Row as core::fmt::Debug>::fmt", Some("app")),
            ("<dyn app::Shape>::area", Some("app")),
            (
                "void app::Index<std::map<int, int>>::insert(int) const",
                Some("app"),
            ),
            (
                "std::vector<int, std::allocator<int> >::push_back(int const&)",
                Some("std"),
            ),
            ("app::main::{{closure}}", Some("app")),
            ("operator new(unsigned long)", None),
            ("(anonymous namespace)::helper()", None),
            ("load_table", None),
            ("", None),
        ] {
            assert_eq!(first_of_path(function).as_deref(), first, "{function}");
        }
    }

    #[test]
    fn python_is_told_by_package_and_own_code_by_its_directory() {
        for (file, package) in [
            (
                "/usr/lib/python3/dist-packages/numpy/core/numeric.py",
                "numpy",
            ),
            ("/srv/venv/lib/python3.11/site-packages/six.py", "six"),
            ("/usr/lib/python3.11/json/decoder.py", "json"),
            ("/usr/lib/python3.11/tempfile.py", "tempfile"),
            ("<frozen importlib._bootstrap>", "importlib"),
            ("<frozen os>", "os"),
            ("<string>", "<string>"),
            ("/srv/app/models.py", "app/"),
            ("x.py", "x.py"),
        ] {
            assert_eq!(of_python(file), package);
        }
    }

    #[test]
    fn what_has_neither_is_told_by_its_file() {
        let module = Module {
            index: 0,
            path: "/usr/lib/libfoo.so.1".into(),
            build_id: None,
        };
        let mut frame = NamedFrame {
            function: Some("load_table"),
            module: Some(&module),
            ..NamedFrame::default()
        };
        assert_eq!(package(&frame), "/usr/lib/libfoo.so.1");
        frame.function = Some("foo::load");
        assert_eq!(package(&frame), "foo::");
        frame.runtime = Some("python");
        frame.kind = FrameKind::Managed(RuntimeIndex(0));
        frame.file = Some("/x/site-packages/six.py");
        assert_eq!(package(&frame), "six (Python)");
        assert_eq!(package(&NamedFrame::default()), "(no file)");
    }
}
