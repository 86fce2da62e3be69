//! Rules told apart, once.

use hashbrown::HashMap;
use highwater_common::unwind::{CFA_END, CFA_UNKNOWN, CFA_UNSUPPORTED, MAX_RULES, Rule};

/// The index of the rule [`CFA_UNKNOWN`].
pub(super) const UNKNOWN: u32 = 0;
/// The index of the rule [`CFA_END`].
pub(super) const END: u32 = 1;
/// The index of the rule [`CFA_UNSUPPORTED`].
pub(super) const UNSUPPORTED: u32 = 2;

/// A rule of this kind that needs no more words.
pub(super) fn bare(cfa: u8) -> Rule {
    Rule {
        cfa,
        ..Rule::default()
    }
}

/// Distinct rules, each with an index. The first three are [`CFA_UNKNOWN`], [`CFA_END`] and [`CFA_UNSUPPORTED`].
#[derive(Clone, Debug)]
pub(super) struct Distinct {
    rules: Vec<Rule>,
    indices: HashMap<Rule, u32, foldhash::fast::RandomState>,
}

impl Distinct {
    pub(super) fn new() -> Self {
        let mut distinct = Self {
            rules: Vec::new(),
            indices: HashMap::default(),
        };
        for cfa in [CFA_UNKNOWN, CFA_END, CFA_UNSUPPORTED] {
            distinct.index(bare(cfa), usize::MAX);
        }
        distinct
    }

    /// The index of a rule; `None`: it is new, and there are `most` already.
    pub(super) fn index(&mut self, rule: Rule, most: usize) -> Option<u32> {
        if let Some(&index) = self.indices.get(&rule) {
            return Some(index);
        }
        if self.rules.len() >= most {
            return None;
        }
        let index = u32::try_from(self.rules.len()).ok()?;
        self.rules.push(rule);
        self.indices.insert(rule, index);
        Some(index)
    }

    pub(super) fn into_rules(self) -> Vec<Rule> {
        self.rules
    }
}

/// The rules of all tables, told apart once: the index is [`Row::rule`](highwater_common::unwind::Row::rule).
///
/// Index 0 is [`CFA_UNKNOWN`], 1 [`CFA_END`], 2 [`CFA_UNSUPPORTED`]. There are at most [`MAX_RULES`].
#[derive(Clone, Debug)]
pub struct RuleBook {
    rules: Distinct,
    folded: u64,
}

impl Default for RuleBook {
    fn default() -> Self {
        Self::new()
    }
}

impl RuleBook {
    /// A book with the first three rules.
    pub fn new() -> Self {
        Self {
            rules: Distinct::new(),
            folded: 0,
        }
    }

    /// The index of a rule, a new one if need be; that of [`CFA_UNSUPPORTED`] where the book is full.
    pub fn intern(&mut self, rule: Rule) -> u32 {
        self.rules
            .index(rule, MAX_RULES as usize)
            .unwrap_or_else(|| {
                self.folded += 1;
                UNSUPPORTED
            })
    }

    /// All rules so far, by index. Only ever grows.
    pub fn rules(&self) -> &[Rule] {
        &self.rules.rules
    }

    /// How many rules of files found the book full.
    pub fn folded(&self) -> u64 {
        self.folded
    }
}

#[cfg(test)]
mod tests {
    use highwater_common::unwind::CFA_REGISTER;

    use super::*;

    fn rule(offset: i32) -> Rule {
        Rule {
            cfa: CFA_REGISTER,
            offset,
            ..Rule::default()
        }
    }

    #[test]
    fn the_first_three_rules_have_their_own_indices() {
        let mut book = RuleBook::new();
        assert_eq!(book.rules()[0], Rule::default());
        assert_eq!(book.intern(bare(CFA_UNKNOWN)), UNKNOWN);
        assert_eq!(book.intern(bare(CFA_END)), 1);
        assert_eq!(book.intern(bare(CFA_UNSUPPORTED)), UNSUPPORTED);
        assert_eq!(book.rules().len(), 3);
    }

    #[test]
    fn equal_rules_share_an_index() {
        let mut book = RuleBook::new();
        let (one, other) = (book.intern(rule(8)), book.intern(rule(16)));
        assert_ne!(one, other);
        assert_eq!(book.intern(rule(8)), one);
        assert_eq!(book.rules()[other as usize], rule(16));
    }

    #[test]
    fn a_full_book_says_unsupported_and_counts() {
        let mut book = RuleBook::new();
        for offset in 0..MAX_RULES as i32 - 3 {
            book.intern(rule(offset));
        }
        assert_eq!(book.rules().len(), MAX_RULES as usize);
        assert_eq!(book.folded(), 0);
        assert_eq!(book.intern(rule(-1)), UNSUPPORTED);
        assert_eq!(book.intern(rule(0)), 3);
        assert_eq!(book.folded(), 1);
    }
}
