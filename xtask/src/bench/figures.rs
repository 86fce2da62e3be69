//! What is made of many measurements: medians, and numbers as they are read.

/// The one in the middle; of two in the middle, their mean. Nothing of nothing.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The median of what each round says of two things measured in it: what slowed one round slowed both.
pub(super) fn median_ratio(numerators: &[f64], denominators: &[f64]) -> Option<f64> {
    let pairs = numerators.iter().zip(denominators);
    median(
        pairs
            .filter(|(_, below)| **below > 0.0)
            .map(|(above, below)| above / below),
    )
}

/// Whole, with spaces between thousands.
pub(super) fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A Markdown table, numbers to the right of the first column.
pub(super) fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head);
    text += "|---|";
    text += &"---:|".repeat(head.len().saturating_sub(1));
    text.push('\n');
    for row in rows {
        text += &line(row);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 20.0]), Some(3.0));
        assert_eq!(median([4.0, 1.0, 2.0, 20.0]), Some(3.0));
        assert_eq!(median([]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // The second round was ten times slower for both.
        assert_eq!(
            median_ratio(&[2.0, 20.0, 2.0], &[1.0, 10.0, 1.0]),
            Some(2.0)
        );
        assert_eq!(median_ratio(&[2.0], &[0.0]), None);
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(whole(999.6), "1 000");
        assert_eq!(whole(1_234_567.0), "1 234 567");
        assert_eq!(whole(12.0), "12");
    }
}
