//! What goes over from one process of a family to another, so that it counts once. `process/kin.rs` has the rules.

use std::collections::BTreeMap;

use super::LiveSet;
use super::books::Shift;
use super::families::Stretch;
use super::mappings::Share;
use super::process::{Block, Estate, Old, add};
use super::ranges::{Piece, Span};
use crate::event::{Address, Call, Event, Mapping, Nanos, Tid};

/// For so many stretches at a time it is kept who may hold what came in them.
const MOST_STRETCHES: usize = 64;

impl LiveSet {
    /// A process with relatives is about to make a call: what it takes from the process and others hold too goes over to them. Says
    /// whether the process answers for the block that the call puts back, if it does.
    pub(super) fn before(&mut self, index: usize, event: &Event) -> bool {
        let process = &self.processes[index];
        if let Call::Mapping(mapping) = event.call {
            self.before_mapping(index, event.thread, mapping);
        } else if let Some((address, block)) = process.gives_up(event.thread, &event.call) {
            self.hand_over(index, address, block);
        } else if let Some((address, block)) = process.puts_back(event.thread, &event.call) {
            return self.another_holder(index, address, block).is_none();
        }
        true
    }

    /// The first of its relatives that holds this block too.
    fn another_holder(&self, index: usize, address: Address, block: Block) -> Option<usize> {
        let mut holder = None;
        let id = self.processes[index].id;
        self.families.ask(id, block.stretch(), |relative| {
            holder = self.index_of.get(&relative).copied();
            holder = holder.filter(|&at| self.processes[at].same(address, block).is_some());
            holder.is_some()
        });
        holder
    }

    /// All of its relatives that may hold what came in this stretch.
    fn relatives(&self, index: usize, stretch: Stretch) -> Vec<usize> {
        let mut relatives = Vec::new();
        self.families
            .ask(self.processes[index].id, stretch, |relative| {
                relatives.extend(self.index_of.get(&relative));
                false
            });
        relatives
    }

    fn hand_over(&mut self, from: usize, address: Address, block: Block) {
        if let Some(to) = self.another_holder(from, address, block) {
            self.processes[from].hand_over(&mut self.all, address, block);
            self.fetch_movements(from);
            self.processes[to].take_over(&mut self.all, address);
            self.fetch_movements(to);
        }
    }

    fn before_mapping(&mut self, index: usize, thread: Tid, mapping: Mapping) {
        let process = &self.processes[index];
        let before = process.kin.shared_below;
        let given_up = process.mappings.gives_up(mapping, before);
        let put_back = process.mappings.puts_back(thread, mapping);
        for piece in given_up {
            self.hand_range_over(index, piece);
        }
        for piece in put_back {
            let elsewhere = self.other_holders(index, piece);
            let mappings = &mut self.processes[index].mappings;
            mappings.will_answer(thread, piece.span, true);
            for (_, span) in elsewhere {
                mappings.will_answer(thread, span, false);
            }
        }
    }

    /// Which of its relatives hold parts of this piece too: of each part the first.
    fn other_holders(&self, index: usize, piece: Piece<Share>) -> Vec<(usize, Span)> {
        let mut holders = Vec::new();
        let mut left = vec![piece];
        let id = self.processes[index].id;
        self.families.ask(id, piece.value.stretch, |relative| {
            let Some(&at) = self.index_of.get(&relative) else {
                return false;
            };
            for wanted in std::mem::take(&mut left) {
                let held = self.processes[at].mappings.same(wanted);
                let mut rest = vec![wanted];
                for span in held {
                    holders.push((at, span));
                    rest = rest.iter().flat_map(|rest| rest.without(span)).collect();
                }
                left.extend(rest);
            }
            left.is_empty()
        });
        holders
    }

    fn hand_range_over(&mut self, from: usize, piece: Piece<Share>) {
        for (to, span) in self.other_holders(from, piece) {
            let all = &mut self.all;
            let lost = self.processes[from].hand_ranges_over(all, &[span]);
            let taken = self.processes[to].take_ranges_over(all, &[span]);
            // Bytes are as many as before. Ranges may be more, or fewer.
            let mut shift = Shift::default();
            shift += self.processes[from].of_the_level(&lost);
            shift += self.processes[to].of_the_level(&taken);
            all.shrink(shift);
            for (at, shifts) in [(from, lost), (to, taken)] {
                self.processes[at].shift_answers(&self.all, &shifts);
                self.fetch_movements(at);
            }
        }
    }

    /// A process is about to end: what others hold too goes over to them.
    pub(super) fn hand_all_over(&mut self, index: usize) {
        let process = &self.processes[index];
        let ranges = process.mappings.gives_all_up(process.kin.shared_below);
        for piece in ranges {
            self.hand_range_over(index, piece);
        }
        self.leave_blocks(index);
    }

    /// There may be millions of blocks: what goes over is summed up by heir and holding first. A block costs a look into the table of each
    /// relative, up to the first that holds it, and no more if the heir answers for all of its blocks then.
    fn leave_blocks(&mut self, index: usize) {
        let blocks = self.processes[index].lend_blocks();
        let mut estates: BTreeMap<usize, Estate> = BTreeMap::new();
        let mut left = Vec::new();
        let mut relatives: BTreeMap<Stretch, Vec<usize>> = BTreeMap::new();
        for (address, block) in self.processes[index].shared_blocks(&blocks) {
            let stretch = block.stretch();
            if relatives.len() == MOST_STRETCHES && !relatives.contains_key(&stretch) {
                relatives.clear();
            }
            let relatives = relatives.entry(stretch);
            let relatives = relatives.or_insert_with(|| self.relatives(index, stretch));
            let heir = relatives.iter().find_map(|&at| {
                let same = self.processes[at].same(address, block)?;
                Some((at, same))
            });
            if let Some((heir, same)) = heir {
                estates.entry(heir).or_default().add(address, same);
                add(&mut left, block.holder, block.weigh(address));
            }
        }
        self.processes[index].return_blocks(blocks);
        if !estates.is_empty() {
            self.all.leave_peak();
            self.processes[index].leave(&self.all, &left);
            self.fetch_movements(index);
        }
        for (heir, estate) in estates {
            self.processes[heir].take_estate(&self.all, &estate);
            self.fetch_movements(heir);
        }
    }

    /// A process has ended: its relatives may have none any more.
    pub(super) fn leave_family(&mut self, index: usize) {
        let mut concerned = Vec::new();
        let id = self.processes[index].id;
        self.families.end(id, |relative| concerned.push(relative));
        for relative in concerned {
            if let Some(&index) = self.index_of.get(&relative) {
                self.look_at_family(index);
            }
        }
    }

    fn look_at_family(&mut self, index: usize) {
        let process = &mut self.processes[index];
        let forked_until = self.families.forked_until(process.id).unwrap_or_default();
        process.kin.lives = self.families.has_kin(process.id);
        process.kin.shared_below = forked_until.max(process.kin.first);
        if !process.kin.lives {
            process.mappings.will_answer_for_all();
        }
    }

    /// A process forked another one, to which nothing has happened yet.
    pub(super) fn inherit(&mut self, parent: usize, child: usize, at: Nanos) {
        let stretch: Stretch = self.processes[parent].kin.stretch;
        let (id, of_child) = (self.processes[parent].id, self.processes[child].id);
        let fork = self.families.fork(id, stretch, of_child);
        let legacy = self.processes[parent].legacy();
        let first = fork.map(|fork| fork.child);
        let resizes = self.processes[child].inherit(&mut self.all, at, legacy, first);
        if let Some(fork) = fork {
            self.processes[parent].enter(fork.parent);
        }
        self.look_at_family(parent);
        self.look_at_family(child);
        for resize in resizes {
            let holder = match resize.old {
                Old::Known(block) => self.another_holder(child, resize.address, block),
                Old::Unmatched(_) => None,
            };
            let answers = holder.is_none();
            self.processes[child].inherit_resize(&mut self.all, at, resize, answers);
        }
    }
}
