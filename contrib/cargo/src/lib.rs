//! Something with a budget.

/// So many rows of a kibibyte.
pub fn rows(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|row| vec![row as u8; 1024]).collect()
}
