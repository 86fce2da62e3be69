//! When what a process holds came, and when what it held went, by eras.

use std::mem;

use super::{Process, blocks::Block};
use crate::event::Address;
use crate::live::books::{Books, Held};
use crate::live::holdings::Holding;
use crate::live::lifetimes::{Births, Life, Scene};

impl Process {
    /// From here on it is the era of this scene.
    pub(in crate::live) fn begin_era(&mut self, scene: Scene) {
        self.scene = scene;
    }

    /// Every two eras become one. Of blocks this is seen as their births are read.
    pub(in crate::live) fn halve_eras(&mut self) {
        self.mappings.born(|born| born / 2);
        if let Some(ledger) = &mut self.ledger {
            ledger.halve();
        }
        for ((holder, born), amount) in mem::take(&mut self.folded) {
            let of = self.folded.entry((holder, born / 2)).or_default();
            of.bytes = of.bytes.saturating_add(amount.bytes);
            of.blocks = of.blocks.saturating_add(amount.blocks);
        }
    }

    /// When what each holding holds and has held came and went.
    pub(in crate::live) fn lives(&mut self, all: &Books) -> Vec<(&Holding, Vec<Life>)> {
        let born = self.births(all);
        let mut lives = vec![Vec::new(); self.holdings.iter().count()];
        if let Some(ledger) = &self.ledger {
            ledger.lives(born, &mut lives);
        }
        self.holdings.iter().zip(lives).collect()
    }

    /// What the process answers for, by holding and by the era in which it came.
    ///
    /// All that a forked child came to answer for since the fork is among what it set since: these blocks alone are looked
    /// at, and a child that lives for a moment does not pay for what its parent holds.
    pub(super) fn births(&mut self, all: &Books) -> Births {
        let mut births: Births = self
            .folded
            .iter()
            .map(|(of, amount)| (*of, *amount))
            .collect();
        let mut add = |holder, born, held| births.entry((holder, born)).or_default().add(held);
        let mut add_block = |(address, block): (Address, Block)| {
            if !self.kin.may_share(block.stretch()) || self.kin.answers(address, block) {
                let held = block.weigh(address);
                add(block.holder, self.born(address, block), held);
            }
        };
        match self.blocks.set_since_fork() {
            Some(since) if self.kin.answers_for_its_own_alone() => since.for_each(&mut add_block),
            _ => self.blocks.iter().for_each(&mut add_block),
        }
        for piece in self.mappings.answered() {
            let Some(kind) = piece.value.kind() else {
                continue;
            };
            let asker = piece.value.asker;
            let holder = self.holdings.of_ranges(asker, kind, &self.books, all);
            let of = births.entry((holder, piece.value.born)).or_default();
            of.add(Held::block(piece.span.length()));
        }
        births
    }
}
