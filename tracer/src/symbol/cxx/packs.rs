//! What template parameters stand for where the tree is written, and packs of arguments.

use std::fmt;

use super::print::Printer;
use super::tree::{Id, Node, Part};

impl<'tree> Printer<'tree, '_> {
    /// What a node stands for.
    pub(super) fn seen(&self, id: Id) -> Id {
        match &self.tree.nodes[id] {
            Node::Parameter(index) if !self.in_lambda => self.argument(*index).unwrap_or(id),
            _ => id,
        }
    }

    /// What a template parameter stands for: an argument, of a pack the one whose turn it is.
    pub(super) fn argument(&self, index: usize) -> Option<Id> {
        let arguments = self.arguments.get(self.level.checked_sub(1)?)?;
        let argument = *arguments.get(index)?;
        match (&self.tree.nodes[argument], self.pack) {
            (Node::ArgumentPack(all), Some(pack)) => all.get(pack).copied().or(Some(argument)),
            _ => Some(argument),
        }
    }

    /// Writes what a template parameter stands for, in which others are those of the function around.
    pub(super) fn parameter(
        &mut self,
        index: usize,
        write: fn(&mut Self, Id) -> fmt::Result,
    ) -> Option<fmt::Result> {
        let argument = (!self.in_lambda).then(|| self.argument(index))??;
        let (level, pack) = (self.level, self.pack);
        self.level -= 1;
        self.pack = None;
        let wrote = write(self, argument);
        (self.level, self.pack) = (level, pack);
        Some(wrote)
    }

    /// Writes what belongs to a function of that name.
    pub(super) fn within(
        &mut self,
        name: Id,
        write: impl FnOnce(&mut Self) -> fmt::Result,
    ) -> fmt::Result {
        let Some(arguments) = self.arguments_of(name, 0) else {
            return write(self);
        };
        let (level, in_lambda, pack) = (self.level, self.in_lambda, self.pack.take());
        self.arguments.truncate(level);
        self.arguments.push(arguments);
        self.level = level + 1;
        self.in_lambda = false;
        let wrote = write(self);
        (self.level, self.in_lambda, self.pack) = (level, in_lambda, pack);
        wrote
    }

    pub(super) fn arguments_of(&self, name: Id, depth: usize) -> Option<&'tree [Id]> {
        if depth > 64 {
            return None;
        }
        match &self.tree.nodes[name] {
            Node::Template(_, arguments) => Some(arguments),
            Node::Nested(scope, name) => self
                .arguments_of(*name, depth + 1)
                .or_else(|| self.arguments_of(*scope, depth + 1)),
            Node::Local(_, name) | Node::Tagged(name, _) => self.arguments_of(*name, depth + 1),
            _ => None,
        }
    }

    pub(super) fn is_empty(&self, id: Id, depth: usize) -> bool {
        match &self.tree.nodes[id] {
            Node::ArgumentPack(all) => {
                depth < 32
                    && self.visit().is_ok()
                    && all.iter().all(|&one| self.is_empty(one, depth + 1))
            }
            Node::Expansion(pattern) => self.pack_length(*pattern, 0) == Some(0),
            _ => false,
        }
    }

    /// How many arguments the first pack within has.
    pub(super) fn pack_length(&self, id: Id, depth: usize) -> Option<usize> {
        if depth > 32 || self.visit().is_err() {
            return None;
        }
        let of = |id: &Id| self.pack_length(*id, depth + 1);
        match &self.tree.nodes[id] {
            Node::Nested(one, other) | Node::MemberPointer(one, other) => {
                of(one).or_else(|| of(other))
            }
            Node::Template(name, all) => of(name).or_else(|| all.iter().find_map(of)),
            Node::Pointer(of_it)
            | Node::Reference(of_it, _)
            | Node::Qualified(of_it, _)
            | Node::Array(of_it, _) => of(of_it),
            Node::Function {
                returns,
                parameters,
                ..
            } => returns.iter().chain(parameters).find_map(of),
            Node::Row(parts) => parts.iter().find_map(|part| match part {
                Part::Node(id) => of(id),
                Part::List(all) => all.iter().find_map(of),
                Part::Text(_) => None,
            }),
            Node::Parameter(index) if !self.in_lambda => {
                let arguments = self.arguments.get(self.level.checked_sub(1)?)?;
                match &self.tree.nodes[*arguments.get(*index)?] {
                    Node::ArgumentPack(all) => Some(all.len()),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn expansion(&mut self, pattern: Id) -> fmt::Result {
        let outer = self.pack;
        let length = self.pack_length(pattern, 0);
        let wrote = match length {
            None => self.whole(pattern).and_then(|()| self.text("...")),
            Some(length) => (0..length).try_for_each(|index| {
                self.pack = Some(index);
                if index > 0 {
                    self.text(", ")?;
                }
                self.whole(pattern)
            }),
        };
        self.pack = outer;
        wrote
    }
}
