//! Expressions, which types and arguments of templates may have in them.

use super::operators::{Form, operator_at};
use super::parse::Parser;
use super::tree::{Id, Node, Part, Qualifiers};

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Option<Id> {
        self.deeper(Self::any_expression)
    }

    pub(super) fn any_expression(&mut self) -> Option<Id> {
        let global = self.take("gs");
        match (self.peek(), self.peek_at(1)) {
            (b'L', _) => return self.literal(),
            (b'T', b'0'..=b'9' | b'_' | b'L') => return self.template_parameter(),
            (b'f', b'L') if !self.peek_at(2).is_ascii_digit() => return self.fold(),
            (b'f', b'p' | b'L') => return self.function_parameter(),
            (b'f', b'l' | b'r' | b'R') => return self.fold(),
            (b's', b'r') => return self.of_scope(),
            (b'o', b'n') | (b'0'..=b'9', _) => return self.base_name(),
            (b's', b'p') => {
                self.at += 2;
                let of = self.expression()?;
                return self.node(Node::Expansion(of));
            }
            (b's', b'Z' | b'P') => {
                self.at += 2;
                let of = match self.text[self.at - 1] {
                    b'P' => {
                        let all = self.many(|parser| parser.deeper(Self::argument))?;
                        self.node(Node::ArgumentPack(all))?
                    }
                    _ => self.expression()?,
                };
                let all = self.node(Node::Expansion(of))?;
                return self.row(vec![
                    Part::Text("sizeof...("),
                    Part::Node(all),
                    Part::Text(")"),
                ]);
            }
            (b't', b'l') | (b'i', b'l') => {
                let of = match self.next_two() == *b"tl" {
                    true => Some(self.kind()?),
                    false => None,
                };
                let values = self.many(Self::braced)?;
                let mut parts: Vec<Part> = of.map(Part::Node).into_iter().collect();
                parts.extend([Part::Text("{"), Part::List(values), Part::Text("}")]);
                return self.row(parts);
            }
            (b't', b'r') => {
                self.at += 2;
                return self.known("throw");
            }
            (b'c', b'v') => {
                self.at += 2;
                let to = self.kind()?;
                let values = match self.take("_") {
                    true => self.many(Self::expression)?,
                    false => vec![self.expression()?],
                };
                return self.row(vec![
                    Part::Text("("),
                    Part::Node(to),
                    Part::Text(")("),
                    Part::List(values),
                    Part::Text(")"),
                ]);
            }
            (b'r', b'q' | b'Q') => return None,
            (b'u', _) => {
                self.at += 1;
                let name = self.word()?;
                let arguments = self.many(|parser| parser.deeper(Self::argument))?;
                return self.row(vec![
                    Part::Node(name),
                    Part::Text("("),
                    Part::List(arguments),
                    Part::Text(")"),
                ]);
            }
            _ => {}
        }
        let &(_, sign, form) = operator_at(&self.text[self.at..])?;
        self.at += 2;
        self.operation(sign, form, global)
    }

    pub(super) fn next_two(&mut self) -> [u8; 2] {
        let two = [self.peek(), self.peek_at(1)];
        self.at = (self.at + 2).min(self.text.len());
        two
    }

    pub(super) fn operation(&mut self, sign: &'static str, form: Form, global: bool) -> Option<Id> {
        let parts = match form {
            Form::Prefix => {
                let of = self.expression()?;
                // `&function`, without its parameters.
                if let (
                    Node::Encoding {
                        name, qualifiers, ..
                    },
                    "&",
                ) = (&self.tree.nodes[of], sign)
                    && *qualifiers == Qualifiers::default()
                    && matches!(self.tree.nodes[*name], Node::Nested(..))
                {
                    let name = *name;
                    return self.row(vec![Part::Text("&"), Part::Node(name)]);
                }
                vec![Part::Text(sign), Part::Node(self.bracketed(of)?)]
            }
            Form::Postfix => {
                let is_prefix = self.take("_");
                let of = self.expression()?;
                let of = Part::Node(self.bracketed(of)?);
                match is_prefix {
                    true => vec![Part::Text(sign), of],
                    false => vec![of, Part::Text(sign)],
                }
            }
            Form::Binary => {
                let left = self.expression()?;
                let right = match sign {
                    "." | "->" => return self.member(left, sign),
                    _ => self.expression()?,
                };
                let (left, right) = (self.bracketed(left)?, self.bracketed(right)?);
                let row = vec![Part::Node(left), Part::Text(sign), Part::Node(right)];
                match sign {
                    // It would close the arguments that it stands in.
                    ">" => [vec![Part::Text("(")], row, vec![Part::Text(")")]].concat(),
                    _ => row,
                }
            }
            Form::Ternary => {
                let mut parts = Vec::new();
                for sign in ["", "?", " : "] {
                    let of = self.expression()?;
                    parts.extend([Part::Text(sign), Part::Node(self.bracketed(of)?)]);
                }
                parts
            }
            Form::Call => {
                let called = self.expression()?;
                let called = self.bracketed(called)?;
                let values = self.many(Self::expression)?;
                vec![
                    Part::Node(called),
                    Part::Text("("),
                    Part::List(values),
                    Part::Text(")"),
                ]
            }
            Form::Index => {
                let of = self.expression()?;
                let of = self.bracketed(of)?;
                let at = self.expression()?;
                vec![
                    Part::Node(of),
                    Part::Text("["),
                    Part::Node(at),
                    Part::Text("]"),
                ]
            }
            Form::Cast => {
                let to = self.kind()?;
                let of = self.expression()?;
                vec![
                    Part::Text(sign),
                    Part::Text("<"),
                    Part::Node(to),
                    Part::Text(">("),
                    Part::Node(of),
                    Part::Text(")"),
                ]
            }
            Form::OfType | Form::OfValue => {
                let of = match form {
                    Form::OfType => self.kind()?,
                    _ => self.expression()?,
                };
                vec![
                    Part::Text(sign),
                    Part::Text("("),
                    Part::Node(of),
                    Part::Text(")"),
                ]
            }
            Form::New => return self.new_expression(sign, global),
            Form::Delete => {
                let of = self.expression()?;
                let sign_of = if global { "::" } else { "" };
                vec![
                    Part::Text(sign_of),
                    Part::Text(sign),
                    Part::Text(" "),
                    Part::Node(of),
                ]
            }
            Form::NameOnly => return None,
        };
        self.row(parts)
    }

    pub(super) fn member(&mut self, of: Id, sign: &'static str) -> Option<Id> {
        let member = self.expression()?;
        let of = self.bracketed(of)?;
        self.row(vec![Part::Node(of), Part::Text(sign), Part::Node(member)])
    }

    pub(super) fn new_expression(&mut self, sign: &'static str, global: bool) -> Option<Id> {
        let mut place = Vec::new();
        while !self.take("_") {
            place.push(self.expression()?);
        }
        let of = self.kind()?;
        let mut parts = vec![
            Part::Text(if global { "::" } else { "" }),
            Part::Text(sign),
            Part::Text(" "),
        ];
        if !place.is_empty() {
            parts.extend([Part::Text("("), Part::List(place), Part::Text(") ")]);
        }
        parts.push(Part::Node(of));
        if self.take("pi") {
            let values = self.many(Self::expression)?;
            parts.extend([Part::Text("("), Part::List(values), Part::Text(")")]);
        } else if self.peek() == b'i' {
            parts.push(Part::Node(self.expression()?));
        } else {
            self.take("E").then_some(())?;
        }
        self.row(parts)
    }

    /// With brackets around it, unless it is a word.
    pub(super) fn bracketed(&mut self, of: Id) -> Option<Id> {
        let is_plain = match &self.tree.nodes[of] {
            Node::Row(parts) => {
                matches!(
                    parts[..],
                    [Part::Text("{parm#"), ..] | [Part::Node(_), Part::Text("::" | "{"), ..]
                )
            }
            Node::Word(_) | Node::Known("this") => true,
            _ => false,
        };
        match is_plain {
            true => Some(of),
            false => self.row(vec![Part::Text("("), Part::Node(of), Part::Text(")")]),
        }
    }

    pub(super) fn function_parameter(&mut self) -> Option<Id> {
        if self.take("fpT") {
            return self.known("this");
        }
        if self.take("fL") {
            self.number()?;
            self.take("p").then_some(())?;
        } else {
            self.take("fp").then_some(())?;
        }
        while matches!(self.peek(), b'r' | b'V' | b'K') {
            self.at += 1;
        }
        let number = self.counted()? + 1;
        let number = self.node(Node::Unnamed(number))?;
        self.row(vec![
            Part::Text("{parm#"),
            Part::Node(number),
            Part::Text("}"),
        ])
    }

    pub(super) fn fold(&mut self) -> Option<Id> {
        self.take("f").then_some(())?;
        let direction = self.peek();
        self.at += 1;
        let &(_, sign, _) = operator_at(&self.text[self.at..])?;
        self.at += 2;
        let first = self.expression()?;
        let first = self.bracketed(first)?;
        let mut parts = vec![Part::Text("(")];
        match direction {
            b'l' => parts.extend([Part::Text("..."), Part::Text(sign), Part::Node(first)]),
            b'r' => parts.extend([Part::Node(first), Part::Text(sign), Part::Text("...")]),
            // `fL` and `fR`, with a value to begin with.
            _ => {
                let second = self.expression()?;
                let second = self.bracketed(second)?;
                parts.extend([
                    Part::Node(first),
                    Part::Text(sign),
                    Part::Text("..."),
                    Part::Text(sign),
                    Part::Node(second),
                ]);
            }
        }
        parts.push(Part::Text(")"));
        self.row(parts)
    }

    /// `type::name`. Compilers write the type in two ways; both are types.
    pub(super) fn of_scope(&mut self) -> Option<Id> {
        self.take("sr").then_some(())?;
        let start = self.at;
        // clang's way: `3stdE`, to which nothing refers back.
        let mut scope = match self.peek().is_ascii_digit() {
            true => self.base_name(),
            false => None,
        };
        if scope.is_none() || !self.take("E") {
            self.at = start;
            scope = Some(self.kind()?);
            self.take("E");
        }
        let scope = scope?;
        let name = self.base_name()?;
        self.row(vec![Part::Node(scope), Part::Text("::"), Part::Node(name)])
    }

    pub(super) fn base_name(&mut self) -> Option<Id> {
        self.take("on");
        let name = match self.peek().is_ascii_digit() {
            true => self.word()?,
            false => {
                let &(_, sign, _) = operator_at(&self.text[self.at..])?;
                self.at += 2;
                self.row(vec![Part::Text("operator"), Part::Text(sign)])?
            }
        };
        if self.peek() != b'I' {
            return Some(name);
        }
        let arguments = self.arguments()?;
        self.node(Node::Template(name, arguments))
    }

    pub(super) fn braced(&mut self) -> Option<Id> {
        self.deeper(|parser| {
            if parser.take("di") {
                let field = parser.word()?;
                let value = parser.braced()?;
                return parser.row(vec![
                    Part::Text("."),
                    Part::Node(field),
                    Part::Text("="),
                    Part::Node(value),
                ]);
            }
            parser.expression()
        })
    }
}
