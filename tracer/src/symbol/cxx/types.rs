//! Types, arguments of templates, and what refers back to what was said.

use super::parse::Parser;
use super::tree::{Id, Node, Part, Qualifiers, STANDARD};

impl<'name> Parser<'name> {
    pub(super) fn arguments(&mut self) -> Option<Vec<Id>> {
        self.take("I").then_some(())?;
        let mut arguments = Vec::new();
        while !self.take("E") {
            if self.take("Q") {
                self.expression()?;
                continue;
            }
            arguments.push(self.deeper(Self::argument)?);
        }
        Some(arguments)
    }

    pub(super) fn argument(&mut self) -> Option<Id> {
        if self.take("X") {
            let value = self.expression()?;
            return self.take("E").then_some(value);
        }
        if self.take("J") {
            let all = self.many(|parser| parser.deeper(Self::argument))?;
            return self.node(Node::ArgumentPack(all));
        }
        match (self.peek(), self.peek_at(1)) {
            (b'L', _) => self.literal(),
            (b'T', b'n' | b't' | b'p' | b'y' | b'k') => {
                self.declared_parameter()?;
                self.argument()
            }
            _ => self.kind(),
        }
    }

    pub(super) fn literal(&mut self) -> Option<Id> {
        self.take("L").then_some(())?;
        if self.take("_Z") || self.take("Z") {
            let value = self.encoding()?;
            return self.take("E").then_some(value);
        }
        let kind = self.kind()?;
        let start = self.at;
        while self.peek() != b'E' {
            self.next()?;
        }
        let value = str::from_utf8(&self.text[start..self.at]).ok()?;
        self.at += 1;
        self.node(Node::Literal(kind, value))
    }

    pub(super) fn template_parameter(&mut self) -> Option<Id> {
        self.take("T").then_some(())?;
        if self.take("L") {
            // Of an outer level, which only lambdas have.
            self.counted()?;
        }
        let index = self.counted()?;
        self.node(Node::Parameter(index))
    }

    pub(super) fn substitution(&mut self) -> Option<Id> {
        self.take("S").then_some(())?;
        if let Some(standard) = STANDARD
            .iter()
            .find(|standard| standard.code == self.peek())
        {
            self.at += 1;
            let mut id = self.node(Node::Standard(standard))?;
            let is_tagged = self.peek() == b'B';
            while self.take("B") {
                let tag = self.source_name()?;
                id = self.node(Node::Tagged(id, tag))?;
            }
            return Some(if is_tagged { self.say(id) } else { id });
        }
        let index = self.sequence()?;
        self.said.get(index).copied()
    }

    pub(super) fn decltype(&mut self) -> Option<Id> {
        self.take("D").then_some(())?;
        self.next()?;
        let of = self.expression()?;
        self.take("E").then_some(())?;
        self.row(vec![
            Part::Text("decltype ("),
            Part::Node(of),
            Part::Text(")"),
        ])
    }

    /// Reads a type, and gives its node.
    pub(super) fn kind(&mut self) -> Option<Id> {
        self.deeper(Self::any_kind)
    }

    pub(super) fn any_kind(&mut self) -> Option<Id> {
        if let Some(word) = super::operators::builtin(self.peek()) {
            self.at += 1;
            return self.known(word);
        }
        let kind = match (self.peek(), self.peek_at(1)) {
            (b'r' | b'V' | b'K', _) => {
                let qualifiers = self.qualifiers();
                if self.peek() == b'F'
                    || (self.peek() == b'D' && matches!(self.peek_at(1), b'o' | b'O' | b'w' | b'x'))
                {
                    self.function(qualifiers)?
                } else {
                    let of = self.kind()?;
                    self.node(Node::Qualified(of, qualifiers))?
                }
            }
            (b'P', _) => {
                self.at += 1;
                let to = self.kind()?;
                self.node(Node::Pointer(to))?
            }
            (b'R' | b'O', _) => {
                let moves = self.next()? == b'O';
                let to = self.kind()?;
                self.node(Node::Reference(to, moves))?
            }
            (b'C' | b'G', _) => {
                let said = if self.next()? == b'C' {
                    " _Complex"
                } else {
                    " _Imaginary"
                };
                let of = self.kind()?;
                self.row(vec![Part::Node(of), Part::Text(said)])?
            }
            (b'F', _) | (b'D', b'o' | b'O' | b'w' | b'x') => self.function(Qualifiers::default())?,
            (b'A', _) => self.array()?,
            (b'M', _) => {
                self.at += 1;
                let class = self.kind()?;
                let member = self.kind()?;
                self.node(Node::MemberPointer(class, member))?
            }
            (b'u', _) => {
                self.at += 1;
                let name = self.word()?;
                return Some(self.say(name));
            }
            (b'U', b't' | b'l') => self.name()?.0,
            (b'U', _) => {
                self.at += 1;
                let qualifier = self.word()?;
                let arguments = (self.peek() == b'I').then(|| self.arguments());
                let qualifier = match arguments {
                    Some(arguments) => {
                        let arguments = arguments?;
                        self.node(Node::Template(qualifier, arguments))?
                    }
                    None => qualifier,
                };
                let of = self.kind()?;
                self.row(vec![Part::Node(of), Part::Text(" "), Part::Node(qualifier)])?
            }
            (b'D', b't' | b'T') => self.decltype()?,
            (b'D', b'p') => {
                self.at += 2;
                let of = self.kind()?;
                self.node(Node::Expansion(of))?
            }
            (b'D', b'v') => self.vector()?,
            (b'D', b'F') => return self.float(),
            (b'D', second) => {
                let word = super::operators::builtin_of_d(second)?;
                self.at += 2;
                return self.known(word);
            }
            (b'T', b's' | b'u' | b'e') => {
                self.at += 2;
                self.name()?.0
            }
            (b'T', _) => {
                let parameter = self.template_parameter()?;
                if self.peek() == b'I' && !self.in_conversion {
                    self.say(parameter);
                    let arguments = self.arguments()?;
                    self.node(Node::Template(parameter, arguments))?
                } else {
                    parameter
                }
            }
            (b'S', second) if second != b't' => {
                let said = self.substitution()?;
                if self.peek() != b'I' {
                    return Some(said);
                }
                let arguments = self.arguments()?;
                self.node(Node::Template(said, arguments))?
            }
            _ => self.name()?.0,
        };
        Some(self.say(kind))
    }

    pub(super) fn function(&mut self, mut qualifiers: Qualifiers) -> Option<Id> {
        let mut noexcept = false;
        if self.take("Do") {
            noexcept = true;
        } else if self.take("DO") {
            self.expression()?;
            self.take("E").then_some(())?;
            noexcept = true;
        } else if self.take("Dw") {
            self.many(Self::kind)?;
        } else {
            self.take("Dx");
        }
        self.take("F").then_some(())?;
        self.take("Y");
        let returns = Some(self.kind()?);
        let mut parameters = Vec::new();
        loop {
            if self.take("E") {
                break;
            }
            if self.take("v") {
                continue;
            }
            if self.take("RE") || self.take("OE") {
                qualifiers.reference = if self.text[self.at - 2] == b'R' {
                    "&"
                } else {
                    "&&"
                };
                break;
            }
            parameters.push(self.kind()?);
        }
        self.node(Node::Function {
            returns,
            parameters,
            qualifiers,
            noexcept,
        })
    }

    pub(super) fn array(&mut self) -> Option<Id> {
        self.take("A").then_some(())?;
        let start = self.at;
        let size = if self.peek().is_ascii_digit() {
            self.number()?;
            let digits = str::from_utf8(&self.text[start..self.at]).ok()?;
            Some(self.node(Node::Word(digits))?)
        } else if self.peek() == b'_' {
            None
        } else {
            Some(self.expression()?)
        };
        self.take("_").then_some(())?;
        let of = self.kind()?;
        self.node(Node::Array(of, size))
    }

    pub(super) fn vector(&mut self) -> Option<Id> {
        self.take("Dv").then_some(())?;
        let start = self.at;
        let size = if self.peek().is_ascii_digit() {
            self.number()?;
            let digits = str::from_utf8(&self.text[start..self.at]).ok()?;
            self.node(Node::Word(digits))?
        } else {
            self.take("_");
            self.expression()?
        };
        self.take("_").then_some(())?;
        let of = self.kind()?;
        self.row(vec![
            Part::Node(of),
            Part::Text(" __vector("),
            Part::Node(size),
            Part::Text(")"),
        ])
    }

    pub(super) fn float(&mut self) -> Option<Id> {
        self.take("DF").then_some(())?;
        let start = self.at;
        self.number()?;
        let bits = str::from_utf8(&self.text[start..self.at]).ok()?;
        let bits = self.node(Node::Word(bits))?;
        let ending = match self.next()? {
            b'_' => "",
            b'x' => "x",
            b'b' => "",
            _ => return None,
        };
        let begins = if self.text[self.at - 1] == b'b' {
            "std::bfloat"
        } else {
            "_Float"
        };
        let ending = if begins == "_Float" { ending } else { "_t" };
        self.row(vec![
            Part::Text(begins),
            Part::Node(bits),
            Part::Text(ending),
        ])
    }
}
