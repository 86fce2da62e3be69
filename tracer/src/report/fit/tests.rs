use proptest::prelude::*;

use super::*;

/// As long as it has to be.
const WIDE: usize = 4096;

#[test]
fn a_name_that_fits_is_given_in_full() {
    let name = "void std::vector<app::Row, std::allocator<app::Row> >::push_back(app::Row const&)";
    assert_eq!(fitted(name, WIDE), name);
    assert_eq!(fitted(name, name.len()), name);
    assert_ne!(fitted(name, name.len() - 1), name);
    assert_eq!(fitted("größer", 6), "größer");
    assert_eq!(fitted("", 8), "");
}

#[test]
fn names_of_real_programs_fit() {
    for (name, room, shown) in [
        // C++
        (
            "void std::vector<app::Row, std::allocator<app::Row> >::push_back(app::Row const&)",
            60,
            "std::vector<app::Row, std::allocator<app::Row> >::push_back",
        ),
        (
            "void std::vector<app::Row, std::allocator<app::Row> >::push_back(app::Row const&)",
            55,
            "std::vector<app::Row, std::allocator<…> >::push_back",
        ),
        (
            "void std::vector<app::Row, std::allocator<app::Row> >::push_back(app::Row const&)",
            40,
            "std::vector<…>::push_back",
        ),
        (
            "void std::vector<app::Row, std::allocator<app::Row> >::push_back(app::Row const&)",
            24,
            "std::vector::push_back",
        ),
        (
            "void std::vector<app::Row, std::allocator<app::Row> >::push_back(app::Row const&)",
            17,
            "std::…::push_back",
        ),
        (
            "app::Index<std::map<int, int> >::insert(std::string const&, int) const &",
            40,
            "app::Index<std::map<int, int> >::insert",
        ),
        (
            "app::storage::engine::Index<…>::insert(std::string const&)",
            24,
            "app::sto…::Index::insert",
        ),
        (
            "std::enable_if<std::is_integral<int>::value, int*>::type app::grow<int>(int)",
            40,
            "app::grow<int>",
        ),
        (
            "decltype (new int (app::grow2<int>(int)) [(int){parm#1}]) app::grow2<int>(int)",
            40,
            "app::grow2<int>",
        ),
        (
            "decltype(auto) app::visit<app::V>(app::V&&)",
            30,
            "app::visit<app::V>",
        ),
        (
            "void (*app::find<int>(std::string const&, int))(char const*)",
            40,
            "app::find<int>",
        ),
        (
            "(anonymous namespace)::Loader::load(std::filesystem::path const&)",
            40,
            "(anonymous namespace)::Loader::load",
        ),
        (
            "int app::(anonymous namespace)::parse<char>(char const*, unsigned long)",
            40,
            "app::(anonymous namespace)::parse<char>",
        ),
        (
            "app::run(std::vector<int>&)::{lambda(int)#1}::operator()(int) const",
            60,
            "app::run::{lambda(int)#1}::operator()",
        ),
        (
            "app::run(std::vector<int>&)::{lambda(std::pair<int const, app::Row>&)#2}::operator()(std::pair<int const, app::Row>&) const",
            50,
            "app::run::{lambda(…)#2}::operator()",
        ),
        (
            "app::Table::grow(int) const::{lambda()#1}::operator()() const [clone .cold]",
            50,
            "app::Table::grow::{lambda()#1}::operator()",
        ),
        (
            "bool app::operator< <int>(app::Box<int> const&, app::Box<int> const&)",
            30,
            "app::operator< <int>",
        ),
        (
            "std::ostream& app::operator<< <app::Key>(std::ostream&, app::Key const&)",
            24,
            "app::operator<< <…>",
        ),
        (
            "app::Pointer<app::Node>::operator->() const",
            40,
            "app::Pointer<app::Node>::operator->",
        ),
        (
            "app::Key::operator<=>(app::Key const&) const",
            30,
            "app::Key::operator<=>",
        ),
        (
            "operator new[](unsigned long, std::nothrow_t const&)",
            30,
            "operator new[]",
        ),
        (
            "app::Json::operator std::vector<int, std::allocator<int> >() const",
            50,
            "app::Json::operator std::vector<…>",
        ),
        (
            "app::name[abi:cxx11](std::string const&, std::string const&)",
            40,
            "app::name",
        ),
        (
            "non-virtual thunk to app::Window::~Window()",
            30,
            "app::Window::~Window",
        ),
        (
            "std::function<void (int)>::operator()(int) const",
            40,
            "std::function<void (int)>::operator()",
        ),
        // Rust
        (
            "<alloc::vec::Vec<app::Row> as core::iter::traits::collect::Extend<app::Row>>::extend",
            72,
            "<alloc::vec::Vec<…> as core::iter::traits::collect::Extend<…>>::extend",
        ),
        (
            "<alloc::vec::Vec<T> as core::iter::traits::collect::Extend<T>>::extend",
            60,
            "<Vec as Extend>::extend",
        ),
        (
            "alloc::vec::in_place_collect::<impl alloc::vec::spec_from_iter::SpecFromIter<T,I> for alloc::vec::Vec<T>>::from_iter",
            80,
            "alloc::vec::in_place_collect::<impl SpecFromIter for Vec>::from_iter",
        ),
        (
            "<&mut app::Table as core::iter::traits::iterator::Iterator>::next",
            40,
            "<&mut Table as Iterator>::next",
        ),
        (
            "app::index::build::<app::Key, alloc::string::String>::{closure#0}",
            40,
            "app::index::build::{closure#0}",
        ),
        (
            "app::server::connection::handle_request::{{closure}}",
            40,
            "app::serve…::handle_request::{{closure}}",
        ),
        (
            "std::sys::backtrace::__rust_begin_short_backtrace",
            40,
            "std::sys…::__rust_begin_short_backtrace",
        ),
        // C
        ("xmlSAX2StartElementNs", 30, "xmlSAX2StartElementNs"),
        ("xmlSAX2StartElementNs", 18, "xmlSAX2Start…entNs"),
        ("json_parse_value.isra.0", 20, "json_parse_value"),
        ("json_parse_value.constprop.0.cold", 20, "json_parse_value"),
        // Python, Go, JavaScript
        ("Table.load.<locals>.<lambda>", 20, "Table.load.<lambda>"),
        ("<module>", 8, "<module>"),
        (
            "main.(*Server).handleRequest",
            24,
            "main.(*Se….handleRequest",
        ),
        (
            "LazyCompile:*handle /srv/app/node_modules/koa/lib/application.js:12",
            30,
            "LazyCompile:*handle …ion.js:12",
        ),
    ] {
        let text = fitted(name, room);
        assert_eq!(text, shown, "{name} in {room}");
        assert!(text.chars().count() <= room, "{text}");
    }
}

#[test]
fn what_is_no_name_only_gets_shorter() {
    for text in [
        "<<<<<<<<<<<<<<<<<<<<",
        ">>>>>>>>>>(((((((((((((",
        "operator operator operator operator",
        "a::::::::::::::::::::b",
        "()()()()()()()()()()()()",
        "((((((((((((((*",
        "x (*)(((((((((((((((",
        "                             ",
        ".cold.cold.cold.cold.cold",
        " [clone  [clone  [clone ]",
    ] {
        for room in 0..text.len() {
            assert!(fitted(text, room).chars().count() <= room, "{text}");
        }
    }
}

/// Text of what names are made of.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("operator"),
        Just("::"),
        Just("<"),
        Just(">"),
        Just("("),
        Just(")"),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(" as "),
        Just(" for "),
        Just("impl "),
        Just(" "),
        Just("&"),
        Just("*"),
        Just("->"),
        Just("abi:"),
        Just("."),
        Just(" const"),
        Just("ä"),
        Just("name"),
        Just("std"),
        Just(" [clone "),
        Just(".cold"),
        Just("…"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A C++ function, and its own name.
fn function() -> impl Strategy<Value = (String, String)> {
    let parts = proptest::collection::vec("[a-z_]{1,12}", 0..5);
    let arguments = proptest::option::of("[a-z:, ]{1,20}");
    (parts, "[a-z_]{1,24}", arguments.clone(), arguments).prop_map(
        |(parts, own, templated, parameters)| {
            let mut name = String::from("void ");
            for part in parts {
                name.push_str(&part);
                if let Some(arguments) = &templated {
                    name.push_str(&format!("<{arguments}, a<{arguments}> >"));
                }
                name.push_str("::");
            }
            let parameters = parameters.unwrap_or_default();
            name.push_str(&format!("{own}({parameters}) const"));
            (name, own)
        },
    )
}

proptest! {
    #[test]
    fn any_text_fits_and_fits_again(text: String, room in 0_usize..60) {
        let shown = fitted(&text, room);
        prop_assert!(shown.chars().count() <= room);
        prop_assert_eq!(fitted(&shown, room), shown);
    }

    #[test]
    fn text_of_brackets_fits(text in hostile(), room in 0_usize..60) {
        prop_assert!(fitted(&text, room).chars().count() <= room);
    }

    #[test]
    fn the_functions_own_name_stays((name, own) in function(), room in 8_usize..60) {
        let shown = fitted(&name, room);
        let kept: String = own.chars().take((room - 1) / 3 * 2).collect();
        prop_assert!(shown.contains(&kept), "{} of {}", shown, name);
    }
}
