use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use proptest::prelude::*;

use super::*;

type Map = ForkMap<u32, u32, FixedState>;

#[derive(Clone, Copy, Debug)]
enum Step {
    Insert(usize, u32, u32),
    Remove(usize, u32),
    Double(usize, u32),
    Toggle(usize, u32),
    Fork(usize),
    End(usize),
}

/// What happens to the tables of up to eight processes.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..8_usize;
    let key = 0..40_u32;
    let step = prop_oneof![
        12 => (which.clone(), key.clone(), any::<u32>()).prop_map(|(of, key, value)| Step::Insert(of, key, value)),
        8 => (which.clone(), key.clone()).prop_map(|(of, key)| Step::Remove(of, key)),
        4 => (which.clone(), key.clone()).prop_map(|(of, key)| Step::Double(of, key)),
        4 => (which.clone(), key).prop_map(|(of, key)| Step::Toggle(of, key)),
        3 => which.clone().prop_map(Step::Fork),
        2 => which.prop_map(Step::End),
    ];
    prop::collection::vec(step, 0..400)
}

impl Map {
    fn layers(&self) -> usize {
        Layer::chain(self.below.as_deref()).count()
    }

    fn assert_sound(&self) {
        let mut entries = 0;
        let layers: Vec<_> = Layer::chain(self.below.as_deref()).collect();
        for layer in layers.into_iter().rev() {
            for (key, value) in &layer.changed {
                let inherited = layer.below.as_ref().and_then(|below| below.get(key));
                assert!(value.is_some() || inherited.is_some());
            }
            entries += layer.changed.len();
            assert_eq!(layer.entries, entries);
        }
        for (key, value) in &self.own {
            assert!(value.is_some() || self.inherited(key).is_some());
        }
    }
}

proptest! {
    #[test]
    fn each_table_is_what_a_full_copy_at_each_fork_would_be(steps in steps()) {
        let mut tables: Vec<(Map, BTreeMap<u32, u32>)> = vec![Default::default()];
        for step in steps {
            match step {
                Step::Insert(of, key, value) => {
                    let of = of % tables.len();
                    let (map, twin) = &mut tables[of];
                    prop_assert_eq!(map.insert(key, value), twin.insert(key, value));
                }
                Step::Remove(of, key) => {
                    let of = of % tables.len();
                    let (map, twin) = &mut tables[of];
                    prop_assert_eq!(map.remove(&key), twin.remove(&key));
                }
                Step::Double(of, key) => {
                    let of = of % tables.len();
                    let (map, twin) = &mut tables[of];
                    map.update(key, |value| *value = value.map(|value| value.wrapping_mul(2)));
                    twin.entry(key).and_modify(|value| *value = value.wrapping_mul(2));
                }
                Step::Toggle(of, key) => {
                    let of = of % tables.len();
                    let (map, twin) = &mut tables[of];
                    let was_there = map.update(key, |value| {
                        let was_there = value.is_some();
                        *value = if was_there { None } else { Some(7) };
                        was_there
                    });
                    prop_assert_eq!(was_there, twin.remove(&key).is_some());
                    if !was_there {
                        twin.insert(key, 7);
                    }
                }
                Step::Fork(of) if tables.len() < 8 => {
                    let of = of % tables.len();
                    let (map, twin) = &mut tables[of];
                    let child = (map.fork(), twin.clone());
                    tables.push(child);
                }
                Step::End(of) if tables.len() > 1 => {
                    let of = of % tables.len();
                    tables.swap_remove(of);
                }
                Step::Fork(_) | Step::End(_) => {}
            }
            for (map, twin) in &tables {
                map.assert_sound();
                let mut all: Vec<_> = map.iter().collect();
                all.sort_unstable();
                prop_assert_eq!(all, twin.clone().into_iter().collect::<Vec<_>>());
                for key in 0..40 {
                    prop_assert_eq!(map.get(&key), twin.get(&key).copied());
                }
            }
        }
    }
}

fn filled(keys: u32) -> Map {
    let mut map = Map::default();
    for key in 0..keys {
        map.insert(key, key);
    }
    map
}

#[test]
fn a_fork_shares_the_table_and_each_keeps_only_what_it_changes() {
    let mut parent = filled(10_000);
    let mut child = parent.fork();
    child.remove(&5);
    child.insert(20_000, 1);
    parent.insert(6, 0);
    assert!(Arc::ptr_eq(
        parent.below.as_ref().expect("it is shared"),
        child.below.as_ref().expect("it is shared")
    ));
    assert_eq!((parent.own.len(), child.own.len()), (1, 2));
    assert_eq!((parent.get(&5), child.get(&5)), (Some(5), None));
    assert_eq!((parent.get(&6), child.get(&6)), (Some(0), Some(6)));
}

#[test]
fn a_long_line_of_forks_that_all_live_has_few_layers() {
    let mut generations = vec![filled(100_000)];
    for generation in 1..2_000_u32 {
        let parent = generations.last_mut().expect("there is one");
        let mut child = parent.fork();
        for change in 0..50 {
            child.insert(generation * 50 + change, 0);
            child.remove(&(200_000 - change));
        }
        let lowest = Layer::chain(child.below.as_deref()).last();
        let lowest = lowest.expect("it was forked").changed.len();
        let most = 1 + (lowest / SMALLEST).ilog(RATIO) as usize;
        assert!(child.layers() <= most, "{} layers", child.layers());
        generations.push(child);
    }
}

#[test]
fn a_parent_whose_children_have_ended_has_one_table_again() {
    let mut parent = filled(1_000);
    for key in 0..1_000 {
        let child = parent.fork();
        parent.insert(key, 0);
        drop(child);
    }
    assert_eq!(parent.layers(), 1, "one, which the last child shared");
    for key in 0..32 {
        parent.insert(1_000 + key, 0);
    }
    assert_eq!(parent.layers(), 0);
    assert_eq!(parent.iter().count(), 1_032);
}

#[test]
fn what_outgrows_the_shared_table_leaves_it() {
    let mut parent = filled(1_000);
    let mut child = parent.fork();
    for key in 0..1_000 {
        child.remove(&key);
    }
    assert_eq!(child.layers(), 0);
    assert_eq!((child.own.len(), parent.iter().count()), (0, 1_000));
    let shared = parent.below.as_ref().expect("it was frozen");
    assert_eq!(Arc::strong_count(shared), 1, "the parent's alone");
}

#[test]
fn a_table_is_freed_with_its_last_holder() {
    let mut parent = filled(1_000);
    let mut child = parent.fork();
    let grandchild = child.fork();
    let shared = Arc::downgrade(parent.below.as_ref().expect("it was frozen"));
    drop(parent);
    drop(child);
    assert!(shared.upgrade().is_some());
    drop(grandchild);
    assert!(shared.upgrade().is_none());
}

#[test]
fn what_comes_and_goes_after_a_fork_leaves_nothing_behind() {
    let mut parent = filled(1_000);
    let _child = parent.fork();
    for key in 1_000..100_000 {
        parent.insert(key, 0);
        parent.remove(&key);
        parent.update(key, |value| *value = Some(1));
        parent.update(key, |value| *value = None);
    }
    assert_eq!((parent.own.len(), parent.layers()), (0, 1));
}
