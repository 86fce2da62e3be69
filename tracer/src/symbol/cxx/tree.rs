//! What a mangled name of C++ says, as a tree.

/// Where a node is among [`Tree::nodes`].
pub(super) type Id = usize;

/// `const`, `volatile`, `restrict` and `&`, `&&` behind a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Qualifiers {
    pub(super) restrict: bool,
    pub(super) volatile: bool,
    pub(super) constant: bool,
    /// `""`, `&` or `&&`.
    pub(super) reference: &'static str,
}

/// A piece of what is printed.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Text(&'static str),
    Node(Id),
    /// Separated by commas.
    List(Vec<Id>),
}

/// One construct of the language.
#[derive(Clone, Debug)]
pub(super) enum Node<'name> {
    /// A word of the name itself.
    Word(&'name str),
    /// A word of ours.
    Known(&'static str),
    /// `std::string` and the like: as it is shown, in full, and its last word.
    Standard(&'static Standard),
    /// `scope::name`
    Nested(Id, Id),
    /// `function()::name`
    Local(Id, Id),
    /// `name<arguments>`
    Template(Id, Vec<Id>),
    /// Arguments that stand for one parameter.
    ArgumentPack(Vec<Id>),
    /// `pattern...`
    Expansion(Id),
    /// A constructor or destructor of a class.
    Constructor {
        class: Id,
        destroys: bool,
    },
    /// `name[abi:tag]`
    Tagged(Id, &'name str),
    Pointer(Id),
    /// `&`, or `&&` where true.
    Reference(Id, bool),
    Qualified(Id, Qualifiers),
    Function {
        returns: Option<Id>,
        parameters: Vec<Id>,
        qualifiers: Qualifiers,
        noexcept: bool,
    },
    Array(Id, Option<Id>),
    /// The class, and the type of the member.
    MemberPointer(Id, Id),
    /// A function with its parameters.
    Encoding {
        returns: Option<Id>,
        name: Id,
        parameters: Vec<Id>,
        qualifiers: Qualifiers,
    },
    /// `{lambda(parameters)#number}`
    Lambda(Vec<Id>, usize),
    /// `{unnamed type#number}`
    Unnamed(usize),
    /// A literal of a type; a leading `n` is a minus.
    Literal(Id, &'name str),
    /// Anything that is its pieces in a row.
    Row(Vec<Part>),
    /// A template parameter, by its index: the argument of the function that it stands in, or `auto:index` in a lambda.
    Parameter(usize),
}

/// A name that mangling abbreviates.
#[derive(Debug)]
pub(super) struct Standard {
    pub(super) code: u8,
    pub(super) shown: &'static str,
    /// In full, where its constructor follows.
    pub(super) full: &'static str,
    pub(super) last: &'static str,
}

pub(super) const STANDARD: [Standard; 6] = [
    Standard {
        code: b'a',
        shown: "std::allocator",
        full: "std::allocator",
        last: "allocator",
    },
    Standard {
        code: b'b',
        shown: "std::basic_string",
        full: "std::basic_string",
        last: "basic_string",
    },
    Standard {
        code: b's',
        shown: "std::string",
        full: "std::basic_string<char, std::char_traits<char>, std::allocator<char> >",
        last: "basic_string",
    },
    Standard {
        code: b'i',
        shown: "std::istream",
        full: "std::basic_istream<char, std::char_traits<char> >",
        last: "basic_istream",
    },
    Standard {
        code: b'o',
        shown: "std::ostream",
        full: "std::basic_ostream<char, std::char_traits<char> >",
        last: "basic_ostream",
    },
    Standard {
        code: b'd',
        shown: "std::iostream",
        full: "std::basic_iostream<char, std::char_traits<char> >",
        last: "basic_iostream",
    },
];

/// The nodes of a name; each refers to those before it.
#[derive(Debug, Default)]
pub(super) struct Tree<'name> {
    pub(super) nodes: Vec<Node<'name>>,
}
