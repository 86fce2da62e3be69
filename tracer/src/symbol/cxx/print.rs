//! Writes the tree as people write it.

use std::cell::Cell;
use std::fmt::{self, Write};

use super::tree::{Id, Node, Part, Qualifiers, Tree};

/// Most nodes visited: names refer back to parts of themselves, and may stand for terabytes, or for nothing terribly often.
const MOST_VISITS: usize = 1 << 16;
/// Deepest nesting, where template parameters lead back into what they stand in.
const DEEPEST: usize = 256;

pub(super) struct Printer<'tree, 'out> {
    pub(super) tree: &'tree Tree<'tree>,
    pub(super) out: &'out mut dyn Write,
    /// The last character written.
    pub(super) last: char,
    pub(super) visits: Cell<usize>,
    pub(super) depth: usize,
    /// Which argument of a pack is written, within an expansion.
    pub(super) pack: Option<usize>,
    /// Arguments of the templates that are written, outermost first.
    pub(super) arguments: Vec<&'tree [Id]>,
    /// How many of those hold here.
    pub(super) level: usize,
    /// In the parameters of a lambda.
    pub(super) in_lambda: bool,
}

impl<'tree, 'out> Printer<'tree, 'out> {
    pub(super) fn new(tree: &'tree Tree<'tree>, out: &'out mut dyn Write) -> Self {
        Self {
            tree,
            out,
            last: ' ',
            visits: Cell::new(0),
            depth: 0,
            pack: None,
            arguments: Vec::new(),
            level: 0,
            in_lambda: false,
        }
    }

    pub(super) fn text(&mut self, text: &str) -> fmt::Result {
        self.last = text.chars().next_back().unwrap_or(self.last);
        self.out.write_str(text)
    }

    pub(super) fn whole(&mut self, id: Id) -> fmt::Result {
        self.left(id)?;
        self.right(id)
    }

    pub(super) fn visit(&self) -> fmt::Result {
        self.visits.set(self.visits.get() + 1);
        let may_go_on = self.visits.get() <= MOST_VISITS && self.depth <= DEEPEST;
        may_go_on.then_some(()).ok_or(fmt::Error)
    }

    /// What stands before a declared name.
    pub(super) fn left(&mut self, id: Id) -> fmt::Result {
        self.depth += 1;
        let wrote = self.visit().and_then(|()| self.any_left(id));
        self.depth -= 1;
        wrote
    }

    pub(super) fn any_left(&mut self, id: Id) -> fmt::Result {
        let tree = self.tree;
        match &tree.nodes[id] {
            Node::Word(word) => self.text(word),
            Node::Known(word) => self.text(word),
            Node::Standard(standard) => self.text(standard.shown),
            Node::Nested(scope, name) => {
                let full = match (&tree.nodes[*scope], &tree.nodes[*name]) {
                    (Node::Standard(standard), Node::Constructor { .. }) => Some(standard.full),
                    _ => None,
                };
                match full {
                    Some(full) => self.text(full)?,
                    None => self.whole(*scope)?,
                }
                self.text("::")?;
                self.whole(*name)
            }
            Node::Local(function, name) => {
                match &tree.nodes[*function] {
                    // What it returns is left out.
                    Node::Encoding {
                        name,
                        parameters,
                        qualifiers,
                        ..
                    } => self.within(*name, |printer| {
                        printer.whole(*name)?;
                        printer.parameters(parameters)?;
                        printer.qualifiers(*qualifiers)
                    })?,
                    _ => self.whole(*function)?,
                }
                self.text("::")?;
                self.whole(*name)
            }
            Node::Template(name, arguments) => {
                self.whole(*name)?;
                // `operator< <int>`
                self.text(if self.last == '<' { " <" } else { "<" })?;
                self.list(arguments)?;
                self.text(if self.last == '>' { " >" } else { ">" })
            }
            Node::ArgumentPack(all) => self.list(all),
            Node::Expansion(pattern) => self.expansion(*pattern),
            Node::Constructor { class, destroys } => {
                if *destroys {
                    self.text("~")?;
                }
                self.last_word(*class)
            }
            Node::Tagged(name, tag) => {
                self.whole(*name)?;
                self.text("[abi:")?;
                self.text(tag)?;
                self.text("]")
            }
            Node::Pointer(to) => {
                let to = self.seen(*to);
                self.declarator(to)?;
                self.text("*")
            }
            Node::Reference(to, moves) => {
                let (to, moves) = self.collapsed(*to, *moves);
                self.declarator(to)?;
                self.text(if moves { "&&" } else { "&" })
            }
            Node::Qualified(of, qualifiers) => {
                self.left(*of)?;
                self.qualifiers(*qualifiers)
            }
            Node::Function { returns, .. } => match returns {
                Some(returns) => {
                    self.left(*returns)?;
                    self.text(" ")
                }
                None => Ok(()),
            },
            Node::Array(of, _) => self.left(*of),
            Node::MemberPointer(class, member) => {
                let member = self.seen(*member);
                self.left(member)?;
                self.text(if self.is_function(member) { "(" } else { " " })?;
                self.whole(*class)?;
                self.text("::*")
            }
            Node::Encoding { returns, name, .. } => self.within(*name, |printer| {
                if let Some(returns) = returns {
                    printer.left(*returns)?;
                    if !printer.has_right(*returns) {
                        printer.text(" ")?;
                    }
                }
                printer.whole(*name)
            }),
            Node::Lambda(parameters, number) => {
                self.text("{lambda")?;
                let outer = std::mem::replace(&mut self.in_lambda, true);
                self.parameters(parameters)?;
                self.in_lambda = outer;
                self.text("#")?;
                self.text(&number.to_string())?;
                self.text("}")
            }
            Node::Unnamed(number) => self.text(&format!("{{unnamed type#{number}}}")),
            Node::Literal(kind, value) => self.literal(*kind, value),
            Node::Row(parts) => self.parts(parts),
            Node::Parameter(index) => match self.parameter(*index, Self::left) {
                Some(wrote) => wrote,
                None => self.text(&format!("auto:{}", index + 1)),
            },
        }
    }

    /// What stands behind a declared name.
    pub(super) fn right(&mut self, id: Id) -> fmt::Result {
        self.depth += 1;
        let wrote = self.visit().and_then(|()| self.any_right(id));
        self.depth -= 1;
        wrote
    }

    pub(super) fn any_right(&mut self, id: Id) -> fmt::Result {
        let tree = self.tree;
        match &tree.nodes[id] {
            Node::Pointer(to) => {
                let to = self.seen(*to);
                self.declarator_end(to)
            }
            Node::Reference(to, moves) => {
                let (to, _) = self.collapsed(*to, *moves);
                self.declarator_end(to)
            }
            Node::MemberPointer(_, member) => {
                let member = self.seen(*member);
                if self.is_function(member) {
                    self.text(")")?;
                }
                self.right(member)
            }
            Node::Qualified(of, _) => self.right(*of),
            Node::Function {
                returns,
                parameters,
                qualifiers,
                noexcept,
            } => {
                self.parameters(parameters)?;
                if let Some(returns) = returns {
                    self.right(*returns)?;
                }
                self.qualifiers(*qualifiers)?;
                if *noexcept {
                    self.text(" noexcept")?;
                }
                Ok(())
            }
            Node::Array(of, size) => {
                if self.last != ']' {
                    self.text(" ")?;
                }
                self.text("[")?;
                if let Some(size) = size {
                    self.whole(*size)?;
                }
                self.text("]")?;
                self.right(*of)
            }
            Node::Encoding {
                returns,
                parameters,
                qualifiers,
                name,
            } => self.within(*name, |printer| {
                printer.parameters(parameters)?;
                if let Some(returns) = returns {
                    printer.right(*returns)?;
                }
                printer.qualifiers(*qualifiers)
            }),
            Node::Parameter(index) => self.parameter(*index, Self::right).unwrap_or(Ok(())),
            _ => Ok(()),
        }
    }

    pub(super) fn is_function(&self, id: Id) -> bool {
        match &self.tree.nodes[self.seen(id)] {
            Node::Function { .. } => true,
            Node::Qualified(of, _) => {
                matches!(self.tree.nodes[self.seen(*of)], Node::Function { .. })
            }
            _ => false,
        }
    }

    pub(super) fn is_array(&self, id: Id) -> bool {
        match &self.tree.nodes[self.seen(id)] {
            Node::Array(..) => true,
            Node::Qualified(of, _) => matches!(self.tree.nodes[self.seen(*of)], Node::Array(..)),
            _ => false,
        }
    }

    pub(super) fn has_right(&self, id: Id) -> bool {
        let mut id = self.seen(id);
        for _ in 0..64 {
            id = match &self.tree.nodes[id] {
                Node::Function { .. } | Node::Array(..) => return true,
                Node::Pointer(of)
                | Node::Reference(of, _)
                | Node::Qualified(of, _)
                | Node::MemberPointer(_, of) => self.seen(*of),
                _ => return false,
            };
        }
        false
    }

    pub(super) fn declarator(&mut self, to: Id) -> fmt::Result {
        self.left(to)?;
        match (self.is_array(to), self.is_function(to)) {
            (true, _) => self.text(" ("),
            (_, true) => self.text("("),
            _ => Ok(()),
        }
    }

    pub(super) fn declarator_end(&mut self, to: Id) -> fmt::Result {
        if self.is_array(to) || self.is_function(to) {
            self.text(")")?;
        }
        self.right(to)
    }

    /// `int& &&` is `int&`.
    pub(super) fn collapsed(&self, to: Id, moves: bool) -> (Id, bool) {
        let (mut to, mut moves) = (self.seen(to), moves);
        for _ in 0..64 {
            let Node::Reference(inner, inner_moves) = &self.tree.nodes[to] else {
                break;
            };
            moves &= inner_moves;
            to = self.seen(*inner);
        }
        (to, moves)
    }

    pub(super) fn qualifiers(&mut self, qualifiers: Qualifiers) -> fmt::Result {
        for (is, word) in [
            (qualifiers.constant, " const"),
            (qualifiers.volatile, " volatile"),
            (qualifiers.restrict, " restrict"),
        ] {
            if is {
                self.text(word)?;
            }
        }
        if !qualifiers.reference.is_empty() {
            self.text(" ")?;
            self.text(qualifiers.reference)?;
        }
        Ok(())
    }

    pub(super) fn parameters(&mut self, parameters: &[Id]) -> fmt::Result {
        self.text("(")?;
        self.list(parameters)?;
        self.text(")")
    }

    /// Separated by commas; what is empty takes none.
    pub(super) fn list(&mut self, all: &[Id]) -> fmt::Result {
        let mut is_first = true;
        for &one in all {
            if self.is_empty(one, 0) {
                continue;
            }
            if !is_first {
                self.text(", ")?;
            }
            is_first = false;
            self.whole(one)?;
        }
        Ok(())
    }

    /// The name of a class as its constructor has it.
    pub(super) fn last_word(&mut self, class: Id) -> fmt::Result {
        let mut id = class;
        for _ in 0..64 {
            id = match &self.tree.nodes[id] {
                Node::Nested(_, name) | Node::Local(_, name) => *name,
                Node::Template(name, _) | Node::Tagged(name, _) => *name,
                Node::Standard(standard) => return self.text(standard.last),
                _ => break,
            };
        }
        self.whole(id)
    }

    pub(super) fn literal(&mut self, kind: Id, value: &str) -> fmt::Result {
        let known = match &self.tree.nodes[kind] {
            Node::Known(word) => *word,
            _ => "",
        };
        let (minus, digits) = match value.strip_prefix('n') {
            Some(digits) => ("-", digits),
            None => ("", value),
        };
        let ending = match known {
            "bool" if value == "0" => return self.text("false"),
            "bool" if value == "1" => return self.text("true"),
            "int" => "",
            "unsigned int" => "u",
            "long" => "l",
            "unsigned long" => "ul",
            "long long" => "ll",
            "unsigned long long" => "ull",
            _ => {
                self.text("(")?;
                self.whole(kind)?;
                self.text(")")?;
                let is_float = matches!(known, "float" | "double" | "long double");
                if is_float {
                    self.text("[")?;
                }
                self.text(minus)?;
                self.text(digits)?;
                return if is_float { self.text("]") } else { Ok(()) };
            }
        };
        self.text(minus)?;
        self.text(digits)?;
        self.text(ending)
    }

    pub(super) fn parts(&mut self, parts: &[Part]) -> fmt::Result {
        // `{parm#1}` has its number as an unnamed node.
        let is_parameter = matches!(parts.first(), Some(Part::Text("{parm#")));
        for part in parts {
            match part {
                Part::Text(text) => self.text(text)?,
                Part::Node(id) => match &self.tree.nodes[*id] {
                    Node::Unnamed(number) if is_parameter => self.text(&number.to_string())?,
                    _ => self.whole(*id)?,
                },
                Part::List(all) => self.list(all)?,
            }
        }
        Ok(())
    }
}
