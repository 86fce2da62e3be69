//! Names within a mangled name.

use super::parse::Parser;
use super::tree::{Id, Node, Part, Qualifiers};

/// What is known of a name besides itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Named {
    pub(super) ends_with_arguments: bool,
    /// A constructor, destructor or conversion: nothing is returned.
    pub(super) returns_nothing: bool,
    pub(super) qualifiers: Qualifiers,
}

impl<'name> Parser<'name> {
    pub(super) fn name(&mut self) -> Option<(Id, Named)> {
        match self.peek() {
            b'N' => return self.deeper(Self::nested),
            b'Z' => return self.deeper(Self::local),
            _ => {}
        }
        let mut named = Named::default();
        let is_said = self.peek() == b'S' && self.peek_at(1) != b't';
        let name = if is_said {
            self.substitution()?
        } else {
            let in_std = self.take("St");
            let name = self.unqualified(None, &mut named)?;
            match in_std {
                true => {
                    let std = self.known("std")?;
                    self.node(Node::Nested(std, name))?
                }
                false => name,
            }
        };
        if self.peek() != b'I' {
            return Some((name, named));
        }
        if !is_said {
            self.say(name);
        }
        let arguments = self.arguments()?;
        named.ends_with_arguments = true;
        Some((self.node(Node::Template(name, arguments))?, named))
    }

    pub(super) fn qualifiers(&mut self) -> Qualifiers {
        Qualifiers {
            restrict: self.take("r"),
            volatile: self.take("V"),
            constant: self.take("K"),
            reference: "",
        }
    }

    pub(super) fn nested(&mut self) -> Option<(Id, Named)> {
        self.take("N").then_some(())?;
        let mut named = Named {
            // An explicit object parameter.
            qualifiers: if self.take("H") {
                Qualifiers::default()
            } else {
                self.qualifiers()
            },
            ..Named::default()
        };
        if self.take("O") {
            named.qualifiers.reference = "&&";
        } else if self.take("R") {
            named.qualifiers.reference = "&";
        }
        let mut so_far: Option<Id> = None;
        while !self.take("E") {
            if self.peek() == b'I' {
                let arguments = self.arguments()?;
                let template = self.node(Node::Template(so_far?, arguments))?;
                so_far = Some(self.say(template));
                named.ends_with_arguments = true;
                continue;
            }
            named.ends_with_arguments = false;
            named.returns_nothing = false;
            if so_far.is_none() {
                if self.take("St") {
                    so_far = Some(self.known("std")?);
                    continue;
                }
                let begins = match (self.peek(), self.peek_at(1)) {
                    (b'S', _) => {
                        // It is among what was said already.
                        so_far = Some(self.substitution()?);
                        continue;
                    }
                    (b'T', _) => Some(self.template_parameter()?),
                    (b'D', b't' | b'T') => Some(self.decltype()?),
                    _ => None,
                };
                if let Some(begins) = begins {
                    so_far = Some(self.say(begins));
                    continue;
                }
            }
            // A data member whose initializer has a lambda.
            if self.take("M") {
                continue;
            }
            let own = self.unqualified(so_far, &mut named)?;
            let whole = match so_far {
                Some(scope) => self.node(Node::Nested(scope, own))?,
                None => own,
            };
            so_far = Some(self.say(whole));
        }
        // Not the whole: that is no prefix of anything.
        self.said.pop()?;
        Some((so_far?, named))
    }

    pub(super) fn local(&mut self) -> Option<(Id, Named)> {
        self.take("Z").then_some(())?;
        let function = self.encoding()?;
        self.take("E").then_some(())?;
        if self.take("s") {
            self.discriminator();
            let literal = self.known("string literal")?;
            return Some((self.node(Node::Local(function, literal))?, Named::default()));
        }
        if self.take("d") {
            // In a default argument, counted from the last parameter.
            self.counted()?;
        }
        let (name, named) = self.name()?;
        self.discriminator();
        Some((self.node(Node::Local(function, name))?, named))
    }

    pub(super) fn discriminator(&mut self) {
        let start = self.at;
        if self.take("__") {
            if self.number().is_none() || !self.take("_") {
                self.at = start;
            }
        } else if self.peek() == b'_' && self.peek_at(1).is_ascii_digit() {
            self.at += 2;
        }
    }

    pub(super) fn unqualified(&mut self, scope: Option<Id>, named: &mut Named) -> Option<Id> {
        while self.take("L") || self.take("F") {}
        let mut name = match (self.peek(), self.peek_at(1)) {
            (b'0'..=b'9', _) => self.word()?,
            (b'U', b't') => {
                self.at += 2;
                let number = self.counted()?;
                self.node(Node::Unnamed(number + 1))?
            }
            (b'U', b'l') => self.lambda()?,
            (b'D', b'C') => {
                self.at += 2;
                let names = self.many(Self::word)?;
                self.row(vec![Part::Text("["), Part::List(names), Part::Text("]")])?
            }
            (b'C', b'1'..=b'5' | b'I') | (b'D', b'0'..=b'5') => {
                let destroys = self.next()? == b'D';
                let inherits = self.take("I");
                self.next()?;
                // An inherited one has the name of the class that has it.
                let class = if inherits { self.kind()? } else { scope? };
                named.returns_nothing = true;
                self.node(Node::Constructor { class, destroys })?
            }
            _ => self.operator(named)?,
        };
        while self.take("B") {
            let tag = self.source_name()?;
            name = self.node(Node::Tagged(name, tag))?;
        }
        Some(name)
    }

    pub(super) fn source_name(&mut self) -> Option<&'name str> {
        let length = self.number().filter(|&length| length > 0)?;
        let end = self.at.checked_add(length)?;
        let word = str::from_utf8(self.text.get(self.at..end)?).ok()?;
        self.at = end;
        Some(word)
    }

    pub(super) fn word(&mut self) -> Option<Id> {
        let word = self.source_name()?;
        if word.len() >= 10 && word.starts_with("_GLOBAL_") && word.as_bytes()[9] == b'N' {
            return self.known("(anonymous namespace)");
        }
        self.node(Node::Word(word))
    }

    pub(super) fn lambda(&mut self) -> Option<Id> {
        self.take("Ul").then_some(())?;
        // Template parameters that it declares itself.
        while self.peek() == b'T' && matches!(self.peek_at(1), b'y' | b'n' | b't' | b'p' | b'k') {
            self.declared_parameter()?;
        }
        let parameters = match self.take("v") {
            true => self.take("E").then(Vec::new),
            false => self.many(Self::kind),
        };
        let parameters = parameters?;
        let number = self.counted()?;
        self.node(Node::Lambda(parameters, number + 1))
    }

    pub(super) fn declared_parameter(&mut self) -> Option<()> {
        self.take("T").then_some(())?;
        match self.next()? {
            b'y' => {}
            b'n' => drop(self.kind()?),
            b'p' => self.deeper(Self::declared_parameter)?,
            b'k' => {
                self.name()?;
            }
            b't' => {
                while !self.take("E") {
                    self.deeper(Self::declared_parameter)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    pub(super) fn operator(&mut self, named: &mut Named) -> Option<Id> {
        if self.take("cv") {
            named.returns_nothing = true;
            let outer = std::mem::replace(&mut self.in_conversion, true);
            let to = self.kind();
            self.in_conversion = outer;
            return self.row(vec![Part::Text("operator "), Part::Node(to?)]);
        }
        if self.take("li") {
            let suffix = self.word()?;
            return self.row(vec![Part::Text("operator\"\" "), Part::Node(suffix)]);
        }
        let (_, sign, ..) = *super::operators::operator_at(&self.text[self.at..])?;
        self.at += 2;
        let begins_with_letter = sign.starts_with(|c: char| c.is_ascii_alphabetic());
        let operator = if begins_with_letter {
            "operator "
        } else {
            "operator"
        };
        self.row(vec![Part::Text(operator), Part::Text(sign)])
    }
}
