//! When what a process holds came, and when what it held went, by eras.

use std::collections::BTreeMap;
use std::mem;

use super::{Process, blocks::Block};
use crate::live::books::{Books, Held};
use crate::live::holdings::Holding;
use crate::live::kind::Kind;
use crate::live::lifetimes::{Births, Life, Scene};

impl Process {
    /// From here on it is the era of this scene.
    pub(in crate::live) fn begin_era(&mut self, scene: Scene) {
        self.scene = scene;
    }

    /// Every two eras become one. Of blocks this is seen as their births are read.
    pub(in crate::live) fn halve_eras(&mut self) {
        self.forked_in /= 2;
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

    /// What is live, by holding and by the era in which it came.
    ///
    /// To a forked child, all that it inherited came with the fork. So it is what its holdings have beyond the blocks that came
    /// since, and these alone are looked at: a child that lives for a moment does not pay for what its parent holds.
    pub(super) fn births(&mut self, all: &Books) -> Births {
        let mut births: Births = self
            .folded
            .iter()
            .map(|(of, amount)| (*of, *amount))
            .collect();
        let mut add = |holder, born, held| births.entry((holder, born)).or_default().add(held);
        let birth = |block: &Block| block.birth.era(self.scene).max(self.forked_in);
        match self.blocks.set_since_fork() {
            Some(own) => {
                let mut since: BTreeMap<u32, Held> = BTreeMap::new();
                for (address, block) in own {
                    let held = block.weigh(address);
                    add(block.holder, birth(&block), held);
                    *since.entry(block.holder).or_default() += held;
                }
                let of_blocks = self.holdings.iter().zip(0..);
                for (holding, holder) in of_blocks.filter(|(of, _)| of.kind == Kind::Heap) {
                    let mut inherited = holding.now;
                    inherited -= since.get(&holder).copied().unwrap_or_default();
                    if inherited.blocks > 0 {
                        add(holder, self.forked_in, inherited);
                    }
                }
            }
            None => {
                for (address, block) in self.blocks.iter() {
                    add(block.holder, birth(&block), block.weigh(address));
                }
            }
        }
        for piece in self.mappings.iter() {
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
