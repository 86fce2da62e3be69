//! Operators and built-in types, as they are mangled.

/// How an operator is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Prefix,
    Postfix,
    Binary,
    Ternary,
    Call,
    Index,
    New,
    Delete,
    /// `sizeof (type)`
    OfType,
    /// `sizeof (value)`
    OfValue,
    /// `static_cast<type>(value)`
    Cast,
    /// No operator of expressions.
    NameOnly,
}

type Operator = (&'static str, &'static str, Form);

const OPERATORS: [Operator; 66] = [
    ("aN", "&=", Form::Binary),
    ("aS", "=", Form::Binary),
    ("aa", "&&", Form::Binary),
    ("ad", "&", Form::Prefix),
    ("an", "&", Form::Binary),
    ("at", "alignof ", Form::OfType),
    ("aw", "co_await", Form::Prefix),
    ("az", "alignof ", Form::OfValue),
    ("cc", "const_cast", Form::Cast),
    ("cl", "()", Form::Call),
    ("cm", ",", Form::Binary),
    ("co", "~", Form::Prefix),
    ("dV", "/=", Form::Binary),
    ("da", "delete[]", Form::Delete),
    ("dc", "dynamic_cast", Form::Cast),
    ("de", "*", Form::Prefix),
    ("dl", "delete", Form::Delete),
    ("ds", ".*", Form::Binary),
    ("dt", ".", Form::Binary),
    ("dv", "/", Form::Binary),
    ("eO", "^=", Form::Binary),
    ("eo", "^", Form::Binary),
    ("eq", "==", Form::Binary),
    ("ge", ">=", Form::Binary),
    ("gt", ">", Form::Binary),
    ("ix", "[]", Form::Index),
    ("lS", "<<=", Form::Binary),
    ("le", "<=", Form::Binary),
    ("ls", "<<", Form::Binary),
    ("lt", "<", Form::Binary),
    ("mI", "-=", Form::Binary),
    ("mL", "*=", Form::Binary),
    ("mi", "-", Form::Binary),
    ("ml", "*", Form::Binary),
    ("mm", "--", Form::Postfix),
    ("na", "new[]", Form::New),
    ("ne", "!=", Form::Binary),
    ("ng", "-", Form::Prefix),
    ("nt", "!", Form::Prefix),
    ("nw", "new", Form::New),
    ("oR", "|=", Form::Binary),
    ("oo", "||", Form::Binary),
    ("or", "|", Form::Binary),
    ("pL", "+=", Form::Binary),
    ("pl", "+", Form::Binary),
    ("pm", "->*", Form::Binary),
    ("pp", "++", Form::Postfix),
    ("ps", "+", Form::Prefix),
    ("pt", "->", Form::Binary),
    ("qu", "?", Form::Ternary),
    ("rM", "%=", Form::Binary),
    ("rS", ">>=", Form::Binary),
    ("rc", "reinterpret_cast", Form::Cast),
    ("rm", "%", Form::Binary),
    ("rs", ">>", Form::Binary),
    ("sc", "static_cast", Form::Cast),
    ("ss", "<=>", Form::Binary),
    ("st", "sizeof ", Form::OfType),
    ("sz", "sizeof ", Form::OfValue),
    ("te", "typeid ", Form::OfValue),
    ("ti", "typeid ", Form::OfType),
    ("nx", "noexcept", Form::OfValue),
    ("tw", "throw ", Form::Prefix),
    ("v1", "", Form::NameOnly),
    ("sP", "sizeof...", Form::NameOnly),
    ("sZ", "sizeof...", Form::NameOnly),
];

/// The operator that a text begins with.
pub(super) fn operator_at(text: &[u8]) -> Option<&'static Operator> {
    OPERATORS
        .iter()
        .find(|(code, ..)| text.starts_with(code.as_bytes()))
}

pub(super) fn builtin(code: u8) -> Option<&'static str> {
    Some(match code {
        b'v' => "void",
        b'w' => "wchar_t",
        b'b' => "bool",
        b'c' => "char",
        b'a' => "signed char",
        b'h' => "unsigned char",
        b's' => "short",
        b't' => "unsigned short",
        b'i' => "int",
        b'j' => "unsigned int",
        b'l' => "long",
        b'm' => "unsigned long",
        b'x' => "long long",
        b'y' => "unsigned long long",
        b'n' => "__int128",
        b'o' => "unsigned __int128",
        b'f' => "float",
        b'd' => "double",
        b'e' => "long double",
        b'g' => "__float128",
        b'z' => "...",
        _ => return None,
    })
}

pub(super) fn builtin_of_d(code: u8) -> Option<&'static str> {
    Some(match code {
        b'a' => "auto",
        b'c' => "decltype(auto)",
        b'n' => "decltype(nullptr)",
        b'i' => "char32_t",
        b's' => "char16_t",
        b'u' => "char8_t",
        b'd' => "decimal64",
        b'e' => "decimal128",
        b'f' => "decimal32",
        b'h' => "_Float16",
        _ => return None,
    })
}
