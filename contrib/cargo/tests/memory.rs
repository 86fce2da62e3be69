//! The budget of this program is in `.cargo/config.toml`.

fn main() {
    // ROWS=16384 goes over the budget.
    let count = std::env::var("ROWS").map_or(1024, |count| count.parse().expect("a number"));
    assert_eq!(rows::rows(count).len(), count);
}
