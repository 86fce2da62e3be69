//! Reads a mangled name: <https://itanium-cxx-abi.github.io/cxx-abi/abi.html#mangling>.

use super::tree::{Id, Node, Part, Tree};

/// Deepest nesting of types and expressions.
const DEEPEST: usize = 192;
/// Most nodes of a tree.
const MOST_NODES: usize = 1 << 16;

pub(super) struct Parser<'name> {
    pub(super) text: &'name [u8],
    pub(super) at: usize,
    pub(super) tree: Tree<'name>,
    /// What was said before and may be referred to.
    pub(super) said: Vec<Id>,
    depth: usize,
    /// In the type that a conversion converts to: arguments behind it are the conversion's own.
    pub(super) in_conversion: bool,
}

impl<'name> Parser<'name> {
    pub(super) fn new(text: &'name str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            tree: Tree::default(),
            said: Vec::new(),
            depth: 0,
            in_conversion: false,
        }
    }

    pub(super) fn node(&mut self, node: Node<'name>) -> Option<Id> {
        self.tree.nodes.push(node);
        (self.tree.nodes.len() <= MOST_NODES).then_some(self.tree.nodes.len() - 1)
    }

    pub(super) fn known(&mut self, text: &'static str) -> Option<Id> {
        self.node(Node::Known(text))
    }

    pub(super) fn row(&mut self, parts: Vec<Part>) -> Option<Id> {
        self.node(Node::Row(parts))
    }

    pub(super) fn peek(&self) -> u8 {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, offset: usize) -> u8 {
        self.text.get(self.at + offset).copied().unwrap_or(0)
    }

    pub(super) fn take(&mut self, prefix: &str) -> bool {
        let is_next = self.text[self.at..].starts_with(prefix.as_bytes());
        if is_next {
            self.at += prefix.len();
        }
        is_next
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Reads as many of `one` as there are before `E`.
    pub(super) fn many(&mut self, one: fn(&mut Self) -> Option<Id>) -> Option<Vec<Id>> {
        let mut all = Vec::new();
        while !self.take("E") {
            all.push(one(self)?);
        }
        Some(all)
    }

    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let got = if self.depth < DEEPEST {
            read(self)
        } else {
            None
        };
        self.depth -= 1;
        got
    }

    pub(super) fn number(&mut self) -> Option<usize> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        let number: u32 = str::from_utf8(&self.text[start..self.at])
            .ok()?
            .parse()
            .ok()?;
        usize::try_from(number).ok()
    }

    /// `_` is 0, `0_` is 1.
    pub(super) fn counted(&mut self) -> Option<usize> {
        if self.take("_") {
            return Some(0);
        }
        let number = self.number()?.checked_add(1)?;
        self.take("_").then_some(number)
    }

    /// What [`Parser::said`] has at a number in base 36.
    pub(super) fn sequence(&mut self) -> Option<usize> {
        if self.take("_") {
            return Some(0);
        }
        let mut number = 0_usize;
        loop {
            let byte = self.next()?;
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'A'..=b'Z' => byte - b'A' + 10,
                b'_' => return number.checked_add(1),
                _ => return None,
            };
            number = number.checked_mul(36)?.checked_add(digit.into())?;
        }
    }

    pub(super) fn say(&mut self, id: Id) -> Id {
        self.said.push(id);
        id
    }

    /// A whole mangled name, behind `_Z`.
    pub(super) fn encoding(&mut self) -> Option<Id> {
        self.deeper(Self::any_encoding)
    }

    pub(super) fn any_encoding(&mut self) -> Option<Id> {
        if matches!(self.peek(), b'T' | b'G') {
            return self.special();
        }
        let outer = std::mem::replace(&mut self.in_conversion, false);
        let (name, named) = self.name()?;
        self.in_conversion = outer;
        if self.at_end_of_encoding() {
            return Some(name);
        }
        let returns = (named.ends_with_arguments && !named.returns_nothing)
            .then(|| self.kind())
            .map_or(Some(None), |returns| returns.map(Some))?;
        let mut parameters = Vec::new();
        if !self.take("v") {
            while !self.at_end_of_encoding() {
                parameters.push(self.kind()?);
            }
        }
        // A requirement of a template.
        if self.take("Q") {
            self.expression()?;
        }
        self.node(Node::Encoding {
            returns,
            name,
            parameters,
            qualifiers: named.qualifiers,
        })
    }

    pub(super) fn at_end_of_encoding(&self) -> bool {
        matches!(self.peek(), 0 | b'E' | b'.' | b'_' | b'Q')
    }

    pub(super) fn special(&mut self) -> Option<Id> {
        const OF_TYPES: [(&str, &str); 4] = [
            ("TV", "vtable for "),
            ("TT", "VTT for "),
            ("TI", "typeinfo for "),
            ("TS", "typeinfo name for "),
        ];
        const OF_NAMES: [(&str, &str); 5] = [
            ("GV", "guard variable for "),
            ("TW", "TLS wrapper function for "),
            ("TH", "TLS init function for "),
            ("GA", "hidden alias for "),
            ("GTt", "transaction clone for "),
        ];
        if let Some((_, said)) = OF_TYPES.into_iter().find(|(code, _)| self.take(code)) {
            let of = self.kind()?;
            return self.row(vec![Part::Text(said), Part::Node(of)]);
        }
        if self.take("GTt") || self.take("GTn") {
            let of = self.encoding()?;
            return self.row(vec![Part::Text("transaction clone for "), Part::Node(of)]);
        }
        if let Some((_, said)) = OF_NAMES.into_iter().find(|(code, _)| self.take(code)) {
            let (of, _) = self.name()?;
            return self.row(vec![Part::Text(said), Part::Node(of)]);
        }
        if self.take("GR") {
            let (of, _) = self.name()?;
            // Which of them.
            let _ = self.sequence();
            return self.row(vec![Part::Text("reference temporary for "), Part::Node(of)]);
        }
        if self.take("TC") {
            let first = self.kind()?;
            self.number()?;
            self.take("_").then_some(())?;
            let second = self.kind()?;
            return self.row(vec![
                Part::Text("construction vtable for "),
                Part::Node(second),
                Part::Text("-in-"),
                Part::Node(first),
            ]);
        }
        let said = match (self.next()?, self.peek()) {
            (b'T', b'h') => "non-virtual thunk to ",
            (b'T', b'v') => "virtual thunk to ",
            (b'T', b'c') => {
                self.at += 1;
                self.offset()?;
                "covariant return thunk to "
            }
            _ => return None,
        };
        self.offset()?;
        let of = self.encoding()?;
        self.row(vec![Part::Text(said), Part::Node(of)])
    }

    /// How far a thunk moves `this`.
    pub(super) fn offset(&mut self) -> Option<()> {
        let twice = match self.next()? {
            b'h' => false,
            b'v' => true,
            _ => return None,
        };
        for _ in 0..=usize::from(twice) {
            self.take("n");
            self.number()?;
            self.take("_").then_some(())?;
        }
        Some(())
    }
}
