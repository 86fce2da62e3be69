//! Python functions told apart: by file, name and first line, however often they were compiled.

use std::collections::HashMap;

/// Most bytes that their names take; those of Django and all that it comes with take some 3 MiB.
const MOST_BYTES: usize = 32 << 20;
/// What a function takes beside the text of its names, bytes.
const BYTES_BESIDE: usize = size_of::<(Key, u32)>();

type Key = (Option<String>, String, u32);

/// All functions so far. Frames refer to them to the end of the recording, so none is ever dropped.
#[derive(Debug)]
pub(super) struct Functions {
    known: HashMap<Key, u32>,
    /// What they take, bytes.
    bytes: usize,
    most_bytes: usize,
}

impl Default for Functions {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            bytes: 0,
            most_bytes: MOST_BYTES,
        }
    }
}

impl Functions {
    /// The number of a function, counted from 1; `None`: it is new, and there is no room for it.
    pub(super) fn number(
        &mut self,
        file: Option<&str>,
        name: &str,
        first_line: u32,
    ) -> Option<u32> {
        let key = (file.map(str::to_owned), name.to_owned(), first_line);
        if let Some(&number) = self.known.get(&key) {
            return Some(number);
        }
        let bytes = self.bytes + BYTES_BESIDE + file.map_or(0, str::len) + name.len();
        if bytes > self.most_bytes {
            return None;
        }
        self.bytes = bytes;
        let number = self.known.len() as u32 + 1;
        self.known.insert(key, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_keeps_its_number() {
        let mut functions = Functions::default();
        assert_eq!(functions.number(Some("a.py"), "f", 1), Some(1));
        assert_eq!(functions.number(Some("a.py"), "f", 9), Some(2));
        assert_eq!(functions.number(None, "f", 1), Some(3));
        assert_eq!(functions.number(Some("a.py"), "f", 1), Some(1));
    }

    #[test]
    fn functions_beyond_the_room_for_their_names_have_no_number() {
        let name = "f".repeat(1000);
        let mut functions = Functions {
            most_bytes: 10_000,
            ..Functions::default()
        };
        let numbers: Vec<Option<u32>> = (0..20)
            .map(|line| functions.number(Some("a.py"), &name, line))
            .collect();
        assert_eq!(numbers[..9], (1..10).map(Some).collect::<Vec<_>>());
        assert_eq!(numbers[9..], [None; 11]);
        // Those that are known stay so.
        assert_eq!(functions.number(Some("a.py"), &name, 3), Some(4));
    }
}
