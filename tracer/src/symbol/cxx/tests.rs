use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use object::{Object, ObjectSymbol};
use proptest::prelude::*;

use super::super::fixture::Fixture;
use super::*;

fn shown(name: &str) -> String {
    let mut text = String::new();
    match demangle(name, &mut text) {
        Some(Ok(())) => text,
        Some(Err(_)) => format!("{text}…"),
        None => "no name of C++".to_owned(),
    }
}

#[test]
fn names_that_compilers_write_read_as_people_wrote_them() {
    for (name, expected) in [
        ("_ZN3foo3barEi", "foo::bar(int)"),
        ("_Znwm@GLIBCXX_3.4", "operator new(unsigned long)"),
        (
            "_ZSt11make_sharedIN3app4NodeEJRA2_KciEESt10shared_ptrINSt9enable_ifIXntsrSt8is_arrayIT_E5valueES8_E4typeEEDpOT0_",
            "std::shared_ptr<std::enable_if<!std::is_array<app::Node>::value, app::Node>::type> std::make_shared<app::Node, char const (&) [2], int>(char const (&) [2], int&&)",
        ),
        (
            "_ZN3app4growIdEENSt9enable_ifIXsrSt17is_floating_pointIT_E5valueEPS3_E4typeES3_",
            "std::enable_if<std::is_floating_point<double>::value, double*>::type app::grow<double>(double)",
        ),
        (
            "_ZN4llvm10checkedAddIiEENSt9enable_ifIXsr3stdE11is_signed_vIT_EESt8optionalIS2_EE4typeES2_S2_",
            "std::enable_if<std::is_signed_v<int>, std::optional<int> >::type llvm::checkedAdd<int>(int, int)",
        ),
        ("_ZNSaIcED4Ev", "std::allocator<char>::~allocator()"),
        (
            "_ZNSsC1Ev",
            "std::basic_string<char, std::char_traits<char>, std::allocator<char> >::basic_string()",
        ),
        (
            "_Z4sortIiEvPT_PFbRKS0_S3_E",
            "void sort<int>(int*, bool (*)(int const&, int const&))",
        ),
        ("_Z4findiPFvPKcE", "find(int, void (*)(char const*))"),
        (
            "_Z3rowRA2_A3_KiMN3app4NodeEFivE",
            "row(int const (&) [2][3], int (app::Node::*)())",
        ),
        (
            "_ZZ4mainENKUliE_clEi",
            "main::{lambda(int)#1}::operator()(int) const",
        ),
        (
            "_ZltI3BoxEbRKT_S3_",
            "bool operator< <Box>(Box const&, Box const&)",
        ),
        (
            "_ZN12_GLOBAL__N_16hiddenEi.part.0.cold",
            "(anonymous namespace)::hidden(int) [clone .part.0] [clone .cold]",
        ),
        ("_ZTVN3app4NodeE", "vtable for app::Node"),
        (
            "_ZThn16_N3app4NodeD1Ev",
            "non-virtual thunk to app::Node::~Node()",
        ),
        (
            "_ZN3app2OpcvSt6vectorIT_SaIS2_EEIiEEv",
            "app::Op::operator std::vector<int, std::allocator<int> ><int>()",
        ),
        ("_ZN3Arrc", "no name of C++"),
        ("_Z", "no name of C++"),
        ("main", "no name of C++"),
    ] {
        assert_eq!(shown(name), expected, "{name}");
    }
}

#[test]
fn a_name_that_stands_for_nothing_terribly_often_is_given_up() {
    // Packs of packs: each level twice as long as the one below, without a character.
    let mut name = String::from("_Z1fI1XIJEE");
    for step in 0..60_u32 {
        let part = if step == 0 {
            String::new()
        } else {
            base36(step - 1)
        };
        name.push_str(&format!("1XIJS{part}_S{part}_EE"));
    }
    name.push_str("Evv");
    let mut text = String::new();
    let _ = demangle(&name, &mut text);
}

fn base36(number: u32) -> String {
    let digit = |digit: u32| char::from_digit(digit, 36).unwrap().to_ascii_uppercase();
    match number {
        0..36 => digit(number).to_string(),
        _ => format!("{}{}", digit(number / 36), digit(number % 36)),
    }
}

const MODERN: &str = r#"
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>
namespace app {
struct Node { std::string name; std::vector<int> v; Node(std::string n, int k) : name(std::move(n)), v(k) {} };
template <class T, std::enable_if_t<std::is_integral_v<T>, int> = 0> T *grow(T n) { return new T[n]; }
template <class T> typename std::enable_if<std::is_floating_point<T>::value, T *>::type grow(T n) { return new T[(int)n]; }
template <class... A> auto sum(A... a) -> decltype((a + ...)) { return (a + ...); }
template <class F> auto apply(F f) { return f(1); }
template <class T> auto maker() { return [](auto x) { return std::make_shared<std::pair<T, decltype(x)>>(T{}, x); }; }
struct Op {
  void *operator()(int n) const { return new char[n]; }
  bool operator<(int) const & { return true; }
  explicit operator std::vector<int>() const { return std::vector<int>(7); }
};
namespace { struct Hidden { std::vector<int> go(int n) { return std::vector<int>(n); } }; }
template <template <class...> class C, class T> C<T> fill(T t) { return C<T>(3, t); }
template <class T, size_t N> struct Row { T t[N]; template <class U> Row &add(U &&u) { t[0] = std::forward<U>(u); return *this; } };
template <int... I> std::vector<int> seq(std::integer_sequence<int, I...>) { return {I...}; }
template <class T> void nest() {
  struct Local { std::vector<T> x; void run() { x.resize(10); [this] { x.push_back(T{}); }(); } };
  Local{}.run();
}
} // namespace app
int main() {
  auto n = std::make_shared<app::Node>("a", 3);
  auto u = std::make_unique<app::Node>("b", 4);
  app::grow(3); app::grow(3.0); app::sum(1, 2L, 3.0);
  app::apply([](int k) { return std::make_shared<app::Node>("l", k); });
  app::maker<std::string>()(1.5);
  app::Op op; op(5); (void)static_cast<std::vector<int>>(op); (void)(op < 3);
  app::Hidden{}.go(3); app::fill<std::vector>(4); app::seq(std::make_integer_sequence<int, 4>{}); app::nest<double>();
  app::Row<std::string, 4> row; row.add("k").add(std::string("z"));
  std::map<std::string, std::vector<app::Node>> m; m["k"].emplace_back("q", 2);
  std::function<void(int)> f = [n](int) {}; f(1);
  std::variant<int, std::string> v = "abc"; std::visit([](auto &x) { delete new std::decay_t<decltype(x)>(x); }, v);
  std::optional<std::string> o; o.emplace("abc");
}
"#;

#[test]
fn the_names_of_a_modern_program_read_as_cxxfilt_has_them() {
    let fixture = Fixture::new();
    let file = fixture.compile(("m.cpp", MODERN), "m", &["-std=c++17", "-O0"]);
    let bytes = fs::read(file).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let names: Vec<&str> = elf
        .symbols()
        .filter(ObjectSymbol::is_definition)
        .map(|symbol| symbol.name().unwrap())
        .filter(|name| name.starts_with("_Z"))
        .collect();
    assert!(names.len() > 500, "{}", names.len());
    let mut filter = Command::new("c++filt")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = filter.stdin.take().unwrap();
    let all = names.join("\n");
    let writer = std::thread::spawn(move || input.write_all(all.as_bytes()));
    let theirs = String::from_utf8(filter.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap().unwrap();
    // Where brackets close, one of them has spaces.
    let spaceless = |text: &str| text.replace(' ', "");
    let (mut unlike, mut unknown) = (Vec::new(), Vec::new());
    for (name, theirs) in names.iter().zip(theirs.lines()) {
        let ours = shown(name);
        if ours == "no name of C++" {
            unknown.push(*name);
        } else if spaceless(&ours) != spaceless(theirs) {
            unlike.push((ours, theirs));
        }
    }
    assert_eq!(unknown, Vec::<&str>::new());
    // It names inherited and defaulted constructors of lambdas in its own way.
    assert!(
        unlike.len() * 100 < names.len() * 2,
        "{} of {}: {unlike:#?}",
        unlike.len(),
        names.len()
    );
}

/// What names are made of.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("N"),
        Just("E"),
        Just("I"),
        Just("J"),
        Just("S_"),
        Just("S0_"),
        Just("St"),
        Just("Ss"),
        Just("T_"),
        Just("T0_"),
        Just("L"),
        Just("X"),
        Just("sr"),
        Just("3foo"),
        Just("1X"),
        Just("F"),
        Just("P"),
        Just("R"),
        Just("K"),
        Just("A"),
        Just("_"),
        Just("Dp"),
        Just("DT"),
        Just("cv"),
        Just("Ul"),
        Just("Z"),
        Just("v"),
        Just("i"),
        Just("C1"),
        Just("D2"),
        Just("pl"),
        Just("cl"),
        Just("fp_"),
        Just("fl"),
        Just("sZ"),
        Just("sp"),
        Just("tl"),
        Just("nw"),
        Just("Q"),
        Just("99999999999"),
        Just("M"),
        Just("Dv"),
        Just("4294967295_"),
        Just("ä"),
        Just(".cold"),
        Just("TV"),
        Just("Th"),
        Just("B1a"),
        Just("on"),
        Just("li"),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| format!("_Z{}", pieces.concat()))
}

proptest! {
    #[test]
    fn whatever_a_name_is_made_of_it_is_shown_or_refused(name in pieces()) {
        let mut text = String::new();
        let _ = demangle(&name, &mut text);
    }

    #[test]
    fn deep_names_are_refused_or_shown(piece in "(P|R|K|A_|F|N|I|1XI|sr|DT|ng|cl|X|L|Z|Ul|M|Dp|cv|srX|1fIX|dt|qu|Dv|T|J)", depth in 0_usize..5000) {
        let name = format!("_Z1f{}i", piece.repeat(depth));
        let mut text = String::new();
        let _ = demangle(&name, &mut text);
    }
}
