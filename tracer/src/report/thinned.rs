//! Some of many: what came in the course of time, thinned out so that there is never much of it.

/// So many are kept of the whole time.
const MOST: usize = 512;

/// One in so many of what was pushed, evenly over the whole time; the first is among them.
#[derive(Debug)]
pub(super) struct Thinned<T> {
    kept: Vec<T>,
    one_in: u64,
    seen: u64,
}

impl<T> Default for Thinned<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            one_in: 1,
            seen: 0,
        }
    }
}

impl<T> Thinned<T> {
    /// Keeps one in `one_in`; twice as few from when there are too many.
    pub(super) fn push(&mut self, one: T) {
        if self.seen.is_multiple_of(self.one_in) {
            if self.kept.len() == MOST {
                let mut keep = false;
                self.kept.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.one_in *= 2;
            }
            self.kept.push(one);
        }
        self.seen += 1;
    }

    pub(super) fn kept(&self) -> &[T] {
        &self.kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_even_over_the_whole_time(many in 0_u64..5000) {
            let mut thinned = Thinned::default();
            (0..many).for_each(|one| thinned.push(one));
            let kept = thinned.kept();
            prop_assert!(kept.len() <= MOST && kept.len() as u64 >= many.min(MOST as u64 / 2));
            let steps: Vec<u64> = kept.windows(2).map(|pair| pair[1] - pair[0]).collect();
            prop_assert!(steps.windows(2).all(|pair| pair[0] == pair[1]), "{:?}", kept);
            prop_assert_eq!(kept.first().copied(), (many > 0).then_some(0));
        }
    }
}
