//! Which of the targets hold.

use serde_json::{Value, json};

use super::figures;

/// A figure and what it should be.
pub(super) struct Verdict {
    pub(super) what: String,
    pub(super) limit: Limit,
    /// Nothing if it could not be measured.
    pub(super) found: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Verdict {
    fn holds(&self) -> Option<bool> {
        self.found.map(|found| match self.limit {
            Limit::AtMost(most) => found <= most,
            Limit::AtLeast(least) => found >= least,
        })
    }

    pub(super) fn json(&self) -> Value {
        let (Limit::AtMost(limit) | Limit::AtLeast(limit)) = self.limit;
        json!({
            "what": self.what,
            "at_least": matches!(self.limit, Limit::AtLeast(_)),
            "limit": limit,
            "found": self.found,
            "holds": self.holds(),
        })
    }
}

pub(super) fn markdown(verdicts: &[Verdict]) -> String {
    let head = ["", "target", "found", "holds"].map(str::to_owned);
    let rows: Vec<Vec<String>> = verdicts
        .iter()
        .map(|verdict| {
            let limit = match verdict.limit {
                Limit::AtMost(most) => format!("≤ {}", number(most)),
                Limit::AtLeast(least) => format!("≥ {}", number(least)),
            };
            let holds = match verdict.holds() {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "not measured",
            };
            let found = verdict.found.map_or_else(|| "–".to_owned(), number);
            vec![verdict.what.clone(), limit, found, holds.to_owned()]
        })
        .collect();
    figures::table(&head, &rows)
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        figures::whole(value)
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_neither_holds_nor_fails() {
        let holds = |limit, found| {
            let what = String::new();
            Verdict { what, limit, found }.holds()
        };
        assert_eq!(holds(Limit::AtMost(1.3), Some(1.2)), Some(true));
        assert_eq!(holds(Limit::AtMost(1.3), Some(1.4)), Some(false));
        assert_eq!(holds(Limit::AtLeast(10.0), Some(9.0)), Some(false));
        assert_eq!(holds(Limit::AtMost(1.3), None), None);
    }
}
