use std::collections::BTreeMap;

#[inline(never)]
fn load(count: u32) -> Vec<String> {
    (0..count).map(|i| format!("order {i} {:60}", "")).collect()
}

#[inline(never)]
fn index(orders: &[String]) -> BTreeMap<String, usize> {
    orders
        .iter()
        .enumerate()
        .map(|(at, order)| (order.clone(), at))
        .collect()
}

fn main() {
    let orders = load(50_000);
    println!("{}", index(&orders).len());
}
